//! What a webhook gets, over TLS too, and whom it is kept from.

use super::*;
use common::{
    clock::SystemClock,
    config::{LoadOptions, load_str},
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use std::path::Path;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

fn webhook(text: &str) -> Webhook {
    let file = format!(
        "clusters: [{{id: c, servers: [{{id: a, address: 127.0.0.1}}]}}]\nhealth: {{webhooks: [{{{text}, retries: 0}}]}}\n"
    );
    let loaded = load_str(&file, Path::new("copal.yaml"), &LoadOptions::default());
    loaded.unwrap_or_else(|errors| panic!("{errors}")).config.health.webhooks.remove(0)
}

fn word() -> Word {
    let body = Bytes::from_static(b"{\"event\":\"begins\"}");
    Word { event: "begins", delivery: "d-1".to_owned(), key: "down a fault".to_owned(), body }
}

/// An https server for one connection: what it got, if the client spoke to it at all.
async fn receive(certified: &CertifiedKey<rcgen::KeyPair>) -> (u16, tokio::task::JoinHandle<Option<String>>) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let config =
        builder.with_no_client_auth().with_single_cert(vec![certified.cert.der().clone()], key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let got = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await.ok()?;
        let mut text = Vec::new();
        while !text.ends_with(b"}") {
            let mut piece = [0; 4096];
            let count = stream.read(&mut piece).await.ok().filter(|it| *it > 0)?;
            text.extend_from_slice(&piece[..count]);
        }
        stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await.ok()?;
        stream.flush().await.ok()?;
        String::from_utf8(text).ok()
    });
    (port, got)
}

#[tokio::test]
async fn a_word_goes_over_tls_to_whom_the_authority_vouches_for_and_to_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let certified = || generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (right, other) = (certified(), certified());
    for (name, it) in [("right.pem", &right), ("other.pem", &other)] {
        std::fs::write(folder.path().join(name), it.cert.pem()).unwrap();
    }
    for (ca, host, reaches) in [
        ("right.pem", "localhost", true),
        ("other.pem", "localhost", false),
        ("right.pem", "127.0.0.1", false),
    ] {
        let (port, got) = receive(&right).await;
        let ca = folder.path().join(ca);
        let text = format!(
            "webhook-url: 'https://{host}:{port}/x?y', secret: a secret of 16 bytes, ca: '{}'",
            ca.display()
        );
        let outcome = deliver(&webhook(&text), &word(), &SystemClock).await;
        let got = got.await.unwrap();
        assert_eq!((outcome.is_ok(), got.is_some()), (reaches, reaches), "{ca:?} {host}: {outcome:?}");
        if let Some(got) = got {
            assert!(got.starts_with("POST /x?y HTTP/1.1\r\n"), "{got}");
            assert!(
                got.contains("x-copal-signature: sha256=") && got.contains("x-copal-delivery: d-1"),
                "{got}"
            );
        }
    }
}

#[tokio::test]
async fn who_is_not_there_is_told_as_such() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let text = format!("webhook-url: 'http://{nobody}/', secret: a secret of 16 bytes");
    let why = deliver(&webhook(&text), &word(), &SystemClock).await.unwrap_err();
    assert!(why.contains("refused"), "{why}");
}

/// One that never answers keeps a hundred words waiting, and no more.
#[tokio::test]
async fn words_that_nobody_takes_are_bounded_and_dropped_ones_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let text = format!(
        "webhook-url: 'http://{}/', secret: a secret of 16 bytes, timeout: 60s",
        listener.local_addr().unwrap()
    );
    let (hook, view) = (webhook(&text), HealthView::default());
    let mut webhooks =
        Webhooks::new(view.clone(), Arc::new(SystemClock), Arc::new(|_: String, _: &Word, _: String| {}));
    for _ in 0..QUEUE + 20 {
        webhooks.tell(&hook, &word());
    }
    view.set(Some(Vec::new()));
    assert_eq!(view.report().unwrap().webhooks_dropped, 20, "the worker has not begun yet");
    assert_eq!(webhooks.workers.len(), 1);
    webhooks.keep(&[]);
    assert!(webhooks.workers.is_empty());
}

/// As `printf '%s' '1700000000.{}' | openssl dgst -sha256 -hmac 'a secret of 16 bytes'` prints it.
#[test]
fn a_word_is_signed_with_its_time() {
    let secret = Secret::from(&b"a secret of 16 bytes"[..]);
    assert_eq!(
        signature(&secret, 1_700_000_000, b"{}"),
        "sha256=be6c8db43050f8312cbbf22fdde34a49242627e04211fb556f9e9c5866500a29"
    );
    assert_ne!(signature(&secret, 1_700_000_001, b"{}"), signature(&secret, 1_700_000_000, b"{}"));
}

#[test]
fn what_would_be_refused_again_is_not_tried_again() {
    for (status, last) in
        [(400, true), (404, true), (301, true), (408, false), (429, false), (500, false), (503, false)]
    {
        assert_eq!(is_final(StatusCode::from_u16(status).unwrap()), last, "{status}");
    }
}
