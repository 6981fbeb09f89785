//! HTTP/2 over TLS.

use super::{
    backend::{OnConnection, echo, http},
    certified::{Certified, connect as dial},
    cluster::Cluster,
    http2::{ask, connect, get},
};
use common::config::HttpListener;
use http::{Request, Response};
use http_body_util::Full;
use rustls::pki_types::CertificateDer;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A cluster with a certificate for `shop.example`.
async fn secured(backends: impl IntoIterator<Item = OnConnection>) -> (Cluster, CertificateDer<'static>) {
    let files = Certified::of(&["shop.example"]);
    let certificate = files.renew();
    let cluster = Cluster::start_with(backends, |config| {
        let listener = HttpListener { tls: Some(files.tls()), ..HttpListener::plain("127.0.0.1", 0) };
        config.clusters[1].servers[0].http = vec![listener];
    })
    .await;
    (cluster, certificate)
}

#[tokio::test]
async fn over_tls_alpn_decides_and_the_certificate_says_whose_connection_it_is() {
    let (cluster, certificate) = secured([echo("a")]).await;
    let mut client = connect(dial(&cluster, &certificate, "shop.example", b"h2").await).await;
    let (_, seen, _) = ask(&mut client, get("/").body(()).unwrap(), &[]).await.unwrap();
    assert!(seen.contains("x-forwarded-proto: https\n"), "{seen}");
    let other = Request::get("https://other.example/").body(()).unwrap();
    assert_eq!(ask(&mut client, other, &[]).await.unwrap().0.status(), 421);

    let mut stream = dial(&cluster, &certificate, "shop.example", b"http/1.1").await;
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
    let client = connect(dial(&cluster, &certificate, "shop.example", b"h2").await).await;
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
