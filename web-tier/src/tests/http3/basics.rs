//! Requests and answers.

use super::{
    client::{Client, PATIENCE, answer, get, tls},
    site::{HOST, start},
};
use crate::tests::{
    backend::{echo, http},
    cluster::Cluster,
};
use bytes::Bytes;
use common::config::{AccessLog, AccessLogFormat, ProxyCache};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use rustls::pki_types::CertificateDer;
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

#[tokio::test]
async fn requests_of_one_connection_are_answered_as_those_of_http_1() {
    let (cluster, certificate, _files) = start([echo("a"), echo("b")], |_| {}).await;
    let mut client = Client::connect(cluster.address(), &certificate).await;
    let request =
        get("/x/../y?q=1").header("cookie", "a=1").header("cookie", "JSESSIONID=baX").body(()).unwrap();
    let answer = client.ask(request, &[]).await.unwrap();
    assert_eq!(answer.head.status(), StatusCode::OK);
    let fields = answer.head.headers();
    assert!(fields.contains_key("date") && fields["via"] == "1.1 copal", "{fields:?}");
    assert!(!fields.contains_key("alt-svc"), "it is here already");
    let seen = answer.text;
    assert!(seen.starts_with("b\nGET /y?q=1\n"), "{seen}");
    for line in
        ["host: shop.example", "via: 3.0 copal", "x-forwarded-proto: https", "cookie: a=1; JSESSIONID=baX"]
    {
        assert!(seen.lines().any(|it| it == line), "{line} in {seen}");
    }
    let post = |length: Option<u32>| {
        let request = Request::post(format!("https://{HOST}/"));
        match length {
            Some(length) => request.header("content-length", length),
            None => request,
        }
    };
    let seen = client.ask(post(Some(5)).body(()).unwrap(), &[b"he", b"llo"]).await.unwrap().text;
    assert!(seen.contains("content-length: 5\n") && seen.ends_with("\nhello"), "{seen}");
    let seen = client.ask(post(None).body(()).unwrap(), &[b"he", b"llo"]).await.unwrap().text;
    assert!(seen.contains("transfer-encoding: chunked\n") && seen.ends_with("\nhello"), "{seen}");
    let head = Request::head(format!("https://{HOST}/")).body(()).unwrap();
    let answer = client.ask(head, &[]).await.unwrap();
    assert!(answer.head.headers().contains_key("content-length") && answer.text.is_empty());
    let totals = cluster.web.totals();
    assert_eq!((totals.connections, totals.quic_connections, totals.requests), (1, 1, 4));
}

#[tokio::test]
async fn many_streams_at_once() {
    let (cluster, certificate, _files) = start([echo("a")], |_| {}).await;
    let client = Client::connect(cluster.address(), &certificate).await;
    let asked = (0..100).map(|number| {
        let mut h3 = client.h3.clone();
        tokio::spawn(async move {
            let mut stream = h3.send_request(get(&format!("/{number}")).body(()).unwrap()).await.unwrap();
            stream.finish().await.unwrap();
            let seen = answer(&mut stream).await.unwrap().text;
            assert!(seen.starts_with(&format!("a\nGET /{number}\n")), "{seen}");
        })
    });
    for answer in asked.collect::<Vec<_>>() {
        answer.await.unwrap();
    }
    assert_eq!((cluster.web.totals().requests, cluster.web.totals().connections), (100, 1));
}

#[tokio::test]
async fn errors_are_answers_and_the_connection_goes_on() {
    let (cluster, certificate, _files) = start([echo("a")], |config| {
        config.clusters[1].servers[0].request_limits.body = std::num::NonZeroU64::new(4);
    })
    .await;
    let mut client = Client::connect(cluster.address(), &certificate).await;
    for (request, status) in [
        (get("/%00"), 400),
        (get("/../x"), 400),
        (Request::builder().method(Method::TRACE).uri("https://shop.example/"), 405),
        (get("/").header("expect", "the-worst"), 417),
        ((0..100).fold(get("/"), |request, number| request.header(format!("x-{number}"), "y")), 431),
        (get(&format!("/{}", "x".repeat(20_000))), 414),
        (Request::get("https://other.example/"), 421),
    ] {
        let answer = client.ask(request.body(()).unwrap(), &[]).await.unwrap();
        assert_eq!(answer.head.status().as_u16(), status);
    }
    let post = Request::post(format!("https://{HOST}/")).header("content-length", "5").body(()).unwrap();
    assert_eq!(client.ask(post, &[b"hello"]).await.unwrap().head.status(), 413);
    assert_eq!(client.get("/").await.head.status(), 200);
}

#[tokio::test]
async fn what_is_kept_is_given_and_the_log_says_how_it_was_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let fresh = http(|_| async {
        Response::builder()
            .header("cache-control", "max-age=60")
            .body(Full::from(Bytes::from_static(b"kept")))
            .unwrap()
    });
    let (cluster, certificate, _files) = start([fresh], |config| {
        config.clusters[1].proxy_cache = Some(ProxyCache::default());
        config.clusters[1].access_log = Some(AccessLog::to_file(path.clone(), AccessLogFormat::Combined));
    })
    .await;
    let mut client = Client::connect(cluster.address(), &certificate).await;
    assert_eq!(client.get("/a").await.text, "kept");
    let again = client.get("/a").await;
    assert!(again.text == "kept" && again.head.headers().contains_key("age"), "{:?}", again.head);
    cluster.web.stop(PATIENCE).await;
    let lines = std::fs::read_to_string(path).unwrap();
    assert_eq!(lines.matches("\"GET /a HTTP/3.0\" 200 4 ").count(), 2, "{lines}");
    assert!(lines.starts_with("127.0.0.1 "), "{lines}");
}

#[tokio::test]
async fn answers_by_other_protocols_tell_of_it_and_a_servers_own_word_does_not_count() {
    let own = http(|_| async {
        Response::builder().header("alt-svc", "h2=\":1\"").body(Full::from(Bytes::from_static(b"x"))).unwrap()
    });
    let (cluster, certificate, _files) = start([own], |_| {}).await;
    let expected = "h3=\":443\"; ma=86400";
    for protocol in ["h2", "http/1.1"] {
        let stream = secured(&cluster, &certificate, protocol).await;
        let told: Vec<String> = if protocol == "h2" {
            let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            let (answer, _) = client.send_request(get("/").body(()).unwrap(), true).unwrap();
            let fields = answer.await.unwrap().headers().clone();
            fields.get_all("alt-svc").iter().map(|it| it.to_str().unwrap().to_owned()).collect()
        } else {
            let mut stream = stream;
            let asked = b"GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n";
            stream.write_all(asked).await.unwrap();
            let mut text = String::new();
            let _ = timeout(PATIENCE, stream.read_to_string(&mut text)).await.unwrap();
            text.lines().filter_map(|line| line.strip_prefix("alt-svc: ").map(str::to_owned)).collect()
        };
        assert_eq!(told, [expected], "{protocol}");
    }
}

/// A connection over TCP.
async fn secured(
    cluster: &Cluster,
    certificate: &CertificateDer<'static>,
    protocol: &str,
) -> TlsStream<TcpStream> {
    let mut config = tls(certificate);
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(cluster.address()).await.unwrap();
    let name = HOST.try_into().unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}
