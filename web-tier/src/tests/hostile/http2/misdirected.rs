//! Hosts that the certificate of a shared connection is not for: 421, on their stream alone.

use super::{
    cluster,
    wire::{HEADERS, PREFACE, SETTINGS, block, frame, headers, read_frame},
};
use crate::tests::{
    certified::{Certified, connect},
    cluster::Cluster,
    hostile::recorder::Recorder,
};
use common::config::HttpListener;
use rustls::pki_types::CertificateDer;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

/// A cluster behind a certificate for `shop.example` and `*.api.example`.
async fn secured() -> (Cluster, Recorder, CertificateDer<'static>) {
    let files = Certified::of(&["shop.example", "*.api.example"]);
    let certificate = files.renew();
    let (recorder, backend) = Recorder::start();
    let cluster = cluster(backend, |config| {
        let listener = HttpListener { tls: Some(files.tls()), ..HttpListener::plain("127.0.0.1", 0) };
        config.clusters[1].servers[0].http = vec![listener];
    })
    .await;
    (cluster, recorder, certificate)
}

#[tokio::test]
async fn in_http_2() {
    let (cluster, recorder, root) = secured().await;
    let authority = |name| vec![(":authority", name)];
    let cases = [
        (authority("shop.example"), 200),
        (authority("SHOP.example:443"), 200),
        (authority("a.api.example"), 200),
        (authority("other.example"), 421),
        (authority("api.example"), 421),
        (authority("a.b.api.example"), 421),
        (authority("shop.example.evil"), 421),
        (authority("127.0.0.1"), 421),
        (authority("[::1]"), 421),
        (vec![("host", "shop.example")], 200),
        (vec![("host", "other.example")], 421),
        (vec![(":authority", "shop.example"), ("host", "other.example")], 400),
    ];
    let mut stream = connect(&cluster, &root, "shop.example", b"h2").await;
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0])].concat()).await.unwrap();
    for (number, (host, status)) in (0..).zip(cases) {
        recorder.forget();
        let mut fields = vec![(":method", "GET"), (":scheme", "https"), (":path", "/")];
        fields.extend(&host);
        let id = 2 * number + 1;
        stream.write_all(&headers(id, true, &block(&fields))).await.unwrap();
        let heard = loop {
            let mut frame = read_frame(&mut stream).await.expect("the connection goes on");
            if frame.kind == HEADERS && frame.stream == id {
                // The first block says that the table is empty now.
                frame.payload.drain(..frame.payload.iter().take_while(|it| **it == 0x20).count());
                break frame.status();
            }
        };
        assert_eq!(heard, status, "{host:?}");
        assert_eq!(recorder.requests().len(), usize::from(status == 200), "{host:?}");
    }
}

#[tokio::test]
async fn in_http_1() {
    let (cluster, recorder, root) = secured().await;
    for (host, status) in [
        ("shop.example", "200"),
        ("shop.example.:443", "200"),
        ("a.api.example", "200"),
        ("other.example", "421"),
        ("a.b.api.example", "421"),
        ("127.0.0.1", "421"),
    ] {
        recorder.forget();
        let mut stream = connect(&cluster, &root, "shop.example", b"http/1.1").await;
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = Vec::new();
        let _ = timeout(Duration::from_secs(20), stream.read_to_end(&mut text)).await.expect("an end");
        assert_eq!(std::str::from_utf8(&text[9..12]).unwrap(), status, "{host}");
        assert_eq!(recorder.requests().len(), usize::from(status == "200"), "{host}");
    }
}
