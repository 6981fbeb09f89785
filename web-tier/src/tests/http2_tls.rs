//! HTTP/2 over TLS.

use super::{
    backend::{OnConnection, echo, http},
    cluster::Cluster,
    http2::{ask, connect, get},
};
use common::config::{CertificateFiles, FilePath, HttpListener, ListenerTls, Location};
use http::{Request, Response};
use http_body_util::Full;
use rcgen::Certificate;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

const PATIENCE: Duration = Duration::from_secs(20);

/// A cluster with a certificate for `shop.example`.
async fn secured(backends: impl IntoIterator<Item = OnConnection>) -> (Cluster, Certificate) {
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["shop.example".to_owned()];
    let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let file = |name: &str, text: String| {
        std::fs::write(folder.path().join(name), text).unwrap();
        FilePath { path: folder.path().join(name), location: Location::default() }
    };
    let files =
        CertificateFiles { cert: file("c.pem", certificate.pem()), key: file("k.pem", key.serialize_pem()) };
    let tls = ListenerTls::of(vec![files]);
    let cluster = Cluster::start_with(backends, |config| {
        let listener = HttpListener { tls: Some(tls), ..HttpListener::plain("127.0.0.1", 0) };
        config.clusters[1].servers[0].http = vec![listener];
    })
    .await;
    (cluster, certificate)
}

/// A connection to it, with this protocol.
async fn dial(cluster: &Cluster, certificate: &Certificate, protocol: &[u8]) -> TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = config.unwrap().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(cluster.address()).await.unwrap();
    let name = "shop.example".try_into().unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

#[tokio::test]
async fn over_tls_alpn_decides_and_the_certificate_says_whose_connection_it_is() {
    let (cluster, certificate) = secured([echo("a")]).await;
    let mut client = connect(dial(&cluster, &certificate, b"h2").await).await;
    let (_, seen, _) = ask(&mut client, get("/").body(()).unwrap(), &[]).await.unwrap();
    assert!(seen.contains("x-forwarded-proto: https\n"), "{seen}");
    let other = Request::get("https://other.example/").body(()).unwrap();
    assert_eq!(ask(&mut client, other, &[]).await.unwrap().0.status(), 421);

    let mut stream = dial(&cluster, &certificate, b"http/1.1").await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    let _ = timeout(PATIENCE, stream.read_to_string(&mut text)).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("x-forwarded-proto: https\n"), "{text}");
    let totals = cluster.web.totals();
    assert_eq!((totals.handshakes, totals.handshakes_tls12, totals.connections_refused), (2, 0, 0));
}

#[tokio::test]
async fn long_answers_over_tls_arrive_whole_however_their_frames_are_put_together() {
    let text = |seed: &str| seed.repeat(20_000 / seed.len() * 20);
    let large = http(move |request| async move { Response::new(Full::from(text(request.uri().path()))) });
    let (cluster, certificate) = secured([large]).await;
    let client = connect(dial(&cluster, &certificate, b"h2").await).await;
    let asked = (0..20).map(|number| {
        let mut client = client.clone();
        tokio::spawn(async move {
            client = client.ready().await.unwrap();
            let path = format!("/{number}");
            let (_, seen, _) = ask(&mut client, get(&path).body(()).unwrap(), &[]).await.unwrap();
            assert!(seen == text(&path), "{path}: {} bytes", seen.len());
        })
    });
    for answer in asked.collect::<Vec<_>>() {
        answer.await.unwrap();
    }
}
