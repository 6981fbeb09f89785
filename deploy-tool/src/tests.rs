//! The client against servers that are as they should be, and that are not. tests/it/operating.rs has the real one.

use crate::{
    client,
    target::{SignIn, Target},
};
use http::Method;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use std::{fs, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::oneshot,
};
use tokio_rustls::TlsAcceptor;

fn target(port: u16) -> Target {
    Target {
        tls: false,
        host: "127.0.0.1".into(),
        port,
        path: "/admin".into(),
        sign_in: SignIn::Password { user: "Aladdin".into(), password: "open sesame".into() },
        ca_file: None,
    }
}

/// Answers one request with `answer`, and gives its head.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    String::from_utf8(head).unwrap()
}

/// What `ask` makes of an answer, and the request's head.
async fn asked(answer: &'static str) -> (anyhow::Result<client::Answer>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = target(listener.local_addr().unwrap().port());
    let (head, was_head) = oneshot::channel();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let _ = head.send(serve(stream, answer).await);
    });
    let answer = client::ask(&target, Method::POST, "/api/servers/a/disable", client::Body::none()).await;
    (answer, was_head.await.unwrap())
}

#[tokio::test]
async fn a_request_is_signed_and_a_good_answer_comes_as_it_is() {
    let (answer, head) =
        asked("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 8\r\n\r\n{\"a\":1}\n")
            .await;
    assert_eq!(answer.unwrap().text(), "{\"a\":1}");
    assert!(head.starts_with("POST /admin/api/servers/a/disable HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"), "{head}");
}

#[tokio::test]
async fn what_is_no_good_answer_is_told_in_words() {
    for (answer, words) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", "no administration of Copal"),
        ("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 4\r\n\r\n\x1b[1m", "502 Bad Gateway"),
        (
            "HTTP/1.1 302 Found\r\nlocation: https://h/admin\r\ncontent-length: 0\r\n\r\n",
            "--url https://h/admin",
        ),
        (
            "HTTP/1.1 409 Conflict\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n{\"error\":\"why\"}",
            "why (409)",
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nhalf", "may have been done"),
        ("what?\r\n\r\n", "gave no whole answer"),
    ] {
        let error = format!("{:#}", asked(answer).await.0.unwrap_err());
        assert!(
            error.contains(words) && !error.contains('\x1b') && !error.contains("sesame"),
            "{words}: {error}"
        );
    }
}

#[tokio::test]
async fn https_is_believed_by_the_given_authority_alone() {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    fs::write(&ca_file, cert.pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(stream) = acceptor.accept(stream).await {
                let answer =
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
                serve(stream, answer).await;
            }
        }
    });
    let good = Target { tls: true, ca_file: Some(ca_file), ..target(port) };
    assert_eq!(client::ask(&good, Method::GET, "", client::Body::none()).await.unwrap().text(), "{}");

    let CertifiedKey { cert: other, .. } = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let other_file = folder.path().join("other.pem");
    fs::write(&other_file, other.pem()).unwrap();
    for (file, words) in [(other_file, "--ca-file"), (folder.path().join("none.pem"), "can't be read")] {
        let bad = Target { ca_file: Some(file), ..good.clone() };
        let error =
            format!("{:#}", client::ask(&bad, Method::GET, "", client::Body::none()).await.unwrap_err());
        assert!(error.contains(words), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = target(listener.local_addr().unwrap().port());
    for tls in [false, true] {
        let target = Target { tls, ca_file: None, ..target.clone() };
        let error =
            format!("{:#}", client::ask(&target, Method::GET, "", client::Body::none()).await.unwrap_err());
        let expected =
            ["no answer within 30s", "no TLS handshake within 5s", "authorities", "no connection within 5s"];
        assert!(expected.iter().any(|words| error.contains(words)), "{error}");
    }
}
