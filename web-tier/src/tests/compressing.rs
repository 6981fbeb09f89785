//! Answers that are compressed for clients that take it, through a whole web tier.

use super::{
    backend::{OnConnection, http, raw},
    cluster::Cluster,
    foreign::{until, until_async},
};
use bytes::Bytes;
use common::config::{Compression, Config, ProxyCache};
use http::{HeaderMap, Request, Response, response::Parts};
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proto::web::v1::{PurgeCache, purge_cache::What};
use std::io::Read;
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::Mutex, sync::mpsc};

const ENCODINGS: [&str; 3] = ["zstd", "br", "gzip"];

/// Longer than a buffer, and not all the same.
fn text() -> String {
    (0..9000).map(|it: u32| format!("{} ", it.wrapping_mul(2_654_435_761) % 10_000)).collect()
}

fn decoded(encoding: Option<&str>, bytes: &[u8]) -> String {
    let mut reader: Box<dyn Read + '_> = match encoding {
        Some("zstd") => Box::new(zstd::stream::read::Decoder::new(bytes).unwrap()),
        Some("br") => Box::new(brotli::Decompressor::new(bytes, 4096)),
        Some("gzip") => Box::new(flate2::read::GzDecoder::new(bytes)),
        _ => Box::new(bytes),
    };
    let (mut out, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = reader.read(&mut piece) {
        out.extend_from_slice(&piece[..count]);
    }
    String::from_utf8(out).unwrap()
}

fn compressed(config: &mut Config) {
    config.clusters[1].compression = Some(Compression::default());
    config.clusters[1].servers[0].http[0].h2c = true;
}

fn and_cached(config: &mut Config) {
    compressed(config);
    config.clusters[1].proxy_cache = Some(ProxyCache::default());
}

/// A server of this text with these lines.
fn says(lines: &'static str) -> OnConnection {
    http(move |request| {
        let mut response = Response::builder();
        for line in lines.lines() {
            let (name, value) = line.split_once(": ").unwrap();
            response = response.header(name, value);
        }
        let body = if request.uri().path() == "/short" { "short".to_owned() } else { text() };
        std::future::ready(response.body(Full::new(Bytes::from(body))).unwrap())
    })
}

/// An answer to a request with these fields, in HTTP/1.1 or HTTP/2.
async fn ask(cluster: &Cluster, http2: bool, path: &str, fields: &[(&str, &str)]) -> (Parts, Bytes) {
    ask_as("GET", cluster, http2, path, fields).await
}

async fn ask_as(
    method: &str,
    cluster: &Cluster,
    http2: bool,
    path: &str,
    fields: &[(&str, &str)],
) -> (Parts, Bytes) {
    let stream = TokioIo::new(TcpStream::connect(cluster.address()).await.unwrap());
    let mut request = Request::builder().method(method);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let body = Empty::<Bytes>::new();
    let answer = if http2 {
        let (mut send, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        let request = request.uri(format!("http://shop.example{path}")).body(body).unwrap();
        send.send_request(request).await.unwrap()
    } else {
        let (mut send, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        send.send_request(request.uri(path).header("host", "shop.example").body(body).unwrap()).await.unwrap()
    };
    let (head, body) = answer.into_parts();
    (head, body.collect().await.unwrap().to_bytes())
}

fn field<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|it| it.to_str().unwrap())
}

const PAGE: &str =
    "Content-Type: text/html; charset=utf-8\nETag: \"a\"\nAccept-Ranges: bytes\nCache-Control: max-age=60";

#[tokio::test]
async fn what_is_worth_it_is_compressed_as_the_client_takes_it() {
    for (configure, is_cached) in [(compressed as fn(&mut Config), false), (and_cached, true)] {
        let cluster = Cluster::start_with([says(PAGE)], configure).await;
        for http2 in [false, true] {
            for encoding in ENCODINGS.map(Some).into_iter().chain([None]) {
                for _ in 0..3 {
                    let taken = encoding.map(|it| ("accept-encoding", it));
                    let (head, body) = ask(&cluster, http2, "/", taken.as_slice()).await;
                    assert_eq!(decoded(encoding, &body), text(), "{encoding:?} {http2} {is_cached}");
                    assert_eq!(field(&head.headers, "content-encoding"), encoding);
                    assert_eq!(field(&head.headers, "vary"), Some("Accept-Encoding"));
                    let tag = if encoding.is_some() { "W/\"a\"" } else { "\"a\"" };
                    assert_eq!(field(&head.headers, "etag"), Some(tag));
                    assert_eq!(head.headers.contains_key("accept-ranges"), encoding.is_none());
                    if encoding.is_some() {
                        assert!(body.len() < text().len() / 2, "{}", body.len());
                    }
                    let (same, body) = ask_as("HEAD", &cluster, http2, "/", taken.as_slice()).await;
                    assert_eq!(field(&same.headers, "content-encoding"), encoding);
                    assert_eq!(field(&same.headers, "etag"), Some(tag));
                    assert!(body.is_empty());
                }
            }
        }
    }
}

#[tokio::test]
async fn what_is_to_stay_as_it_is_stays_so() {
    let takes = ("accept-encoding", "gzip, br, zstd");
    type Lines<'a> = &'a [(&'a str, &'a str)];
    let cases: [(&str, &str, Lines<'_>); 6] = [
        ("Content-Type: image/png", "/", &[takes]),
        ("Content-Type: text/html\nCache-Control: no-transform", "/", &[takes]),
        ("Content-Type: text/html\nContent-MD5: abc", "/", &[takes]),
        ("Content-Type: text/html", "/short", &[takes]),
        ("Content-Type: text/html", "/", &[takes, ("cache-control", "no-transform")]),
        ("Content-Type: text/html", "/", &[("accept-encoding", "deflate, gzip;q=0")]),
    ];
    for (lines, path, fields) in cases {
        let cluster = Cluster::start_with([says(lines)], compressed).await;
        let (head, body) = ask(&cluster, false, path, fields).await;
        assert_eq!(field(&head.headers, "content-encoding"), None, "{lines} {fields:?}");
        assert_eq!(body, if path == "/short" { "short".to_owned() } else { text() });
    }
    // A rule against it, and HTTP/1.0.
    let cluster = Cluster::start_with([says("Content-Type: text/html")], |config| {
        compressed(config);
        config.clusters[1].hosts[0].dispatch[0].compression = false;
    })
    .await;
    let (head, _) = ask(&cluster, false, "/", &[takes]).await;
    assert!(!head.headers.contains_key("content-encoding") && !head.headers.contains_key("vary"));
    let cluster = Cluster::start_with([says("Content-Type: text/html")], compressed).await;
    let mut client = cluster.client().await;
    client.send("GET / HTTP/1.0\r\nHost: shop.example\r\nAccept-Encoding: gzip\r\n\r\n").await;
    let answer = client.rest().await;
    assert!(answer.contains("vary: Accept-Encoding") && answer.ends_with(&text()), "{}", &answer[..300]);
}

#[tokio::test]
async fn what_is_kept_is_compressed_once_and_parts_and_conditions_are_of_what_the_client_has() {
    let cluster = Cluster::start_with([says(PAGE)], and_cached).await;
    for encoding in ENCODINGS {
        let takes = ("accept-encoding", encoding);
        ask(&cluster, false, "/", &[takes]).await;
        // Its length is known when it has been compressed as a whole.
        let length = || async {
            let (head, body) = ask(&cluster, false, "/", &[takes]).await;
            assert_eq!(decoded(Some(encoding), &body), text());
            field(&head.headers, "content-length").map(|it| (it.parse::<usize>().unwrap(), body.len()))
        };
        until_async(async || length().await.is_some()).await;
        assert!(length().await.is_some_and(|(said, is)| said == is));
        let (head, body) = ask(&cluster, true, "/", &[takes, ("if-none-match", "W/\"a\"")]).await;
        assert_eq!((head.status.as_u16(), body.len()), (304, 0));
        let part = [takes, ("range", "bytes=0-4")];
        let (head, body) = ask(&cluster, false, "/", &part).await;
        assert_eq!((head.status.as_u16(), &body[..]), (206, &text().as_bytes()[..5]));
        assert!(!head.headers.contains_key("content-encoding"));
        let (head, _) = ask(&cluster, false, "/", &[part[0], part[1], ("if-range", "W/\"a\"")]).await;
        assert_eq!(head.status, 200);
    }
    assert!(cluster.web.totals().compression.answers > 6);
    // A purge takes the compressed bodies too.
    let view = cluster.web.view();
    let purge = PurgeCache { what: Some(What::Url("/".to_owned())), ..PurgeCache::default() };
    assert_eq!(view.purge(&purge).unwrap().count, 1);
    until_async(async || view.status().await.cache.unwrap().entries == 0).await;
}

#[tokio::test]
async fn what_is_purged_or_replaced_is_not_given_compressed() {
    let number = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = number.clone();
    let server = http(move |_| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let response =
            Response::builder().header("content-type", "text/plain").header("cache-control", "max-age=60");
        std::future::ready(response.body(Full::new(Bytes::from(format!("{number} {}", text())))).unwrap())
    });
    let cluster = Cluster::start_with([server], and_cached).await;
    let takes = [("accept-encoding", "br")];
    for round in 0..3 {
        until_async(async || {
            let (head, body) = ask(&cluster, false, "/", &takes).await;
            assert!(decoded(Some("br"), &body).starts_with(&format!("{round} ")));
            head.headers.contains_key("content-length")
        })
        .await;
        ask_as("DELETE", &cluster, false, "/", &[]).await;
        // That one was counted too.
        number.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}

#[tokio::test]
async fn pieces_are_with_the_client_before_the_next_is_made() {
    for (configure, http2) in
        [(compressed as fn(&mut Config), false), (compressed, true), (and_cached, false)]
    {
        let (next, wanted) = mpsc::unbounded_channel::<()>();
        let wanted = std::sync::Arc::new(Mutex::new(wanted));
        let server = raw(move |_, mut stream| {
            let wanted = wanted.clone();
            async move {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ntransfer-encoding: chunked\r\ncache-control: max-age=60\r\n\r\n";
                stream.write_all(head.as_bytes()).await.unwrap();
                for _ in 0..3 {
                    wanted.lock().await.recv().await.unwrap();
                    stream.write_all(b"5\r\npiece\r\n").await.unwrap();
                }
                stream.write_all(b"0\r\n\r\n").await.unwrap();
            }
        });
        let cluster = Cluster::start_with([server], configure).await;
        for encoding in ENCODINGS {
            next.send(()).unwrap();
            let stream = TokioIo::new(TcpStream::connect(cluster.address()).await.unwrap());
            let request = Request::builder().header("accept-encoding", encoding);
            let mut body = if http2 {
                let (mut send, connection) =
                    hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
                tokio::spawn(connection);
                let request = request
                    .uri(format!("http://shop.example/{encoding}"))
                    .body(Empty::<Bytes>::new())
                    .unwrap();
                send.send_request(request).await.unwrap().into_body()
            } else {
                let (mut send, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
                tokio::spawn(connection);
                let request = request
                    .uri(format!("/{encoding}"))
                    .header("host", "a")
                    .body(Empty::<Bytes>::new())
                    .unwrap();
                send.send_request(request).await.unwrap().into_body()
            };
            let mut got = Vec::new();
            for pieces in 1..4 {
                while decoded(Some(encoding), &got) != "piece".repeat(pieces) {
                    got.extend_from_slice(body.frame().await.unwrap().unwrap().data_ref().unwrap());
                }
                if pieces < 3 {
                    next.send(()).unwrap();
                }
            }
        }
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    for configure in [compressed as fn(&mut Config), and_cached] {
        let server = raw(|_, mut stream| async move {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 90000\r\ncache-control: max-age=60\r\n\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&text().as_bytes()[..30_000]).await.unwrap();
        });
        let cluster = Cluster::start_with([server], configure).await;
        let mut client = cluster.client().await;
        client.send("GET / HTTP/1.1\r\nHost: shop.example\r\nAccept-Encoding: br\r\n\r\n").await;
        let mut bytes = Vec::new();
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut client.0, &mut bytes).await;
        assert!(!bytes.ends_with(b"0\r\n\r\n"), "no last chunk");
        until(|| cluster.web.totals().requests_active == 0).await;
    }
}

#[tokio::test]
async fn files_are_compressed_too() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("small.css"), &text()[..5000]).unwrap();
    std::fs::write(folder.path().join("large.css"), text().repeat(8)).unwrap();
    let hosts = super::rules::hosts(folder.path(), "{dispatch: {}}");
    let cluster = Cluster::start_with([says(PAGE)], |config| {
        compressed(config);
        config.clusters[1].hosts = hosts;
    })
    .await;
    for (path, expected) in [("/small.css", text()[..5000].to_owned()), ("/large.css", text().repeat(8))] {
        for encoding in ENCODINGS {
            let (head, body) = ask(&cluster, true, path, &[("accept-encoding", encoding)]).await;
            assert_eq!(field(&head.headers, "content-encoding"), Some(encoding));
            assert!(decoded(Some(encoding), &body) == expected, "{path} {encoding}");
        }
    }
}
