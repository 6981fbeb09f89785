//! Bounds: of time, of sockets, and of what a request may be.

use super::{
    backend::{echo, gated, raw, says},
    cluster::Cluster,
};
use common::config::{Config, RequestLimits};
use std::{
    num::NonZeroU64,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Semaphore, mpsc},
    time::timeout,
};

const SHORT: Duration = Duration::from_millis(300);

/// Nothing takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

fn web(config: &mut Config) -> &mut common::config::Server {
    &mut config.clusters[1].servers[0]
}

fn app(config: &mut Config) -> &mut common::config::Server {
    &mut config.clusters[0].servers[0]
}

#[tokio::test]
async fn one_socket_serves_requests_in_turn_and_the_queue_ends_in_503() {
    let (backend, opened, mut was_asked) = gated();
    let cluster = Cluster::start_with([backend], |config| {
        app(config).connection_max = 1;
        app(config).queue_timeout = SHORT;
    })
    .await;
    let (mut first, mut second, mut third) =
        (cluster.client().await, cluster.client().await, cluster.client().await);
    let request = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    first.send(request).await;
    was_asked.recv().await.unwrap();
    second.send(request).await;
    let answer = second.answer().await;
    assert_eq!(answer.status, 503);
    assert!(answer.has("retry-after: 1"));
    assert_eq!(cluster.web.totals().queue_refusals, 1);
    third.send(request).await;
    opened.add_permits(2);
    assert_eq!(first.answer().await.status, 200);
    assert_eq!(third.answer().await.status, 200);
    assert_eq!(cluster.backends[0].as_ref().unwrap().connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_head_that_does_not_end_is_a_408() {
    let cluster = Cluster::start_with([echo("a")], |config| web(config).request_header_timeout = SHORT).await;
    let mut client = cluster.client().await;
    client.send("GET / HTTP/1.1\r\nHost:").await;
    assert!(client.rest().await.starts_with("HTTP/1.1 408 "));
    let mut silent = cluster.client().await;
    assert!(silent.rest().await.starts_with("HTTP/1.1 408 "));
    let mut again = cluster.client().await;
    assert_eq!(again.ask("GET /", "").await.status, 200);
    again.send("GET /").await;
    assert!(again.rest().await.starts_with("HTTP/1.1 408 "), "the second request of a connection too");
}

#[tokio::test]
async fn an_idle_connection_is_closed_without_a_word() {
    let cluster = Cluster::start_with([echo("a")], |config| web(config).keepalive_timeout = SHORT).await;
    let mut client = cluster.client().await;
    assert_eq!(client.ask("GET /", "").await.status, 200);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_silent_server_is_a_504() {
    let silent = raw(|_, mut stream| async move {
        let _ = stream.read_u8().await;
    });
    let cluster = Cluster::start_with([silent], |config| app(config).balance_socket_timeout = SHORT).await;
    let mut client = cluster.client().await;
    assert_eq!(client.ask("POST /", "Content-Length: 0\r\n").await.status, 504);
    assert_eq!(client.ask("GET /", "").await.status, 504, "the connection goes on");
    assert_eq!(cluster.web.totals().upstream_failures, 2);
}

#[tokio::test]
async fn a_server_that_stops_in_the_middle_of_an_answer_breaks_it_off() {
    let stuck = raw(|_, mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
        let _ = stream.read_u8().await;
    });
    let cluster = Cluster::start_with([stuck], |config| app(config).balance_socket_timeout = SHORT).await;
    let mut client = cluster.client().await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let text = client.rest().await;
    assert!(text.contains("content-length: 10") && text.ends_with("half"), "{text}");
}

#[tokio::test]
async fn an_upload_that_stops_is_closed() {
    let cluster = Cluster::start_with([echo("a")], |config| web(config).socket_timeout = SHORT).await;
    let mut client = cluster.client().await;
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf").await;
    assert!(!client.rest().await.contains("200"));
}

#[tokio::test]
async fn what_is_no_valid_request_is_refused_and_the_connection_closed() {
    let cluster = Cluster::start([echo("a")]).await;
    let long = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(17_000));
    let big = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "a".repeat(40_000));
    let many = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: 1\r\n".repeat(101));
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
        ("GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n", "400"),
        ("GET /../etc/passwd HTTP/1.1\r\nHost: h\r\n\r\n", "400"),
        ("GET /a HTTP/1.1\r\nHost : h\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400"),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "400"),
        ("CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", "405"),
        ("TRACE / HTTP/1.1\r\nHost: h\r\n\r\n", "405"),
        ("POST / HTTP/1.1\r\nHost: h\r\nExpect: more\r\nContent-Length: 0\r\n\r\n", "417"),
        (long.as_str(), "414"),
        (big.as_str(), "431"),
        (many.as_str(), "431"),
    ] {
        let mut client = cluster.client().await;
        client.send(request).await;
        client.send("GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n").await;
        let text = client.rest().await;
        let shown = &request[..request.len().min(60)];
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?}: {text}");
        assert!(!text.contains("smuggled"), "{shown:?}: {text}");
    }
    assert_eq!(cluster.backends[0].as_ref().unwrap().connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn no_rule_is_a_404_and_the_connection_goes_on() {
    let cluster = Cluster::start_with([says("")], |config| config.clusters[1].hosts.clear()).await;
    let mut client = cluster.client().await;
    assert_eq!(client.ask("GET /a", "").await.status, 404);
    assert_eq!(client.ask("GET /b", "").await.status, 404);
}

#[tokio::test]
async fn what_a_request_may_be_is_configured() {
    let cluster = Cluster::start_with([echo("a")], |config| {
        config.clusters[1].servers[0].http[0].h2c = true;
        web(config).request_limits = RequestLimits {
            header_count: 3,
            header_bytes: 400,
            uri: 64,
            body: NonZeroU64::new(10),
            rate_min: None,
            keepalive: NonZeroU64::new(2),
        };
    })
    .await;
    let long = format!("GET /{}", "a".repeat(64));
    let body = |length: usize| format!("Content-Length: {length}\r\n\r\n{}", "b".repeat(length));
    for (line, headers, status) in [
        ("GET /", "A: 1\r\nB: 2\r\n", 200),
        ("GET /", "A: 1\r\nB: 2\r\nC: 3\r\n", 431),
        ("GET /", &format!("A: {}\r\n", "1".repeat(400)), 431),
        (&long, "", 414),
        ("POST /", &body(11), 413),
        ("POST /", "Transfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n0\r\n\r\n", 413),
    ] {
        assert_eq!(cluster.ask(line, headers).await.status, status, "{line} {headers}");
    }
    let mut client = cluster.client().await;
    assert!(!client.ask("GET /", "").await.has("connection: close"));
    assert!(client.ask("GET /", "").await.has("connection: close"));
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn who_leaves_the_queue_is_not_sent_to_a_server_when_his_turn_comes() {
    let gate = Arc::new(Semaphore::new(0));
    let (asked, mut was_asked) = mpsc::unbounded_channel();
    let opened = gate.clone();
    let gated = raw(move |head, mut stream| {
        let (gate, asked) = (gate.clone(), asked.clone());
        async move {
            asked.send(head.lines().next().unwrap_or_default().to_owned()).unwrap();
            gate.acquire().await.unwrap().forget();
            let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
            let _ = stream.write_all(answer).await;
        }
    });
    let cluster = Cluster::start_with([gated], |config| {
        app(config).connection_max = 2;
        app(config).queue_timeout = PATIENCE * 10;
    })
    .await;
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
    let mut served = Vec::new();
    for _ in 0..2 {
        let mut client = cluster.client().await;
        client.send(&request("/served")).await;
        assert_eq!(was_asked.recv().await.unwrap(), "GET /served HTTP/1.1");
        served.push(client);
    }
    // Both places are taken: these wait, and go.
    let length = "Content-Length: 5\r\n\r\nhalf";
    for (count, gone) in (3..).zip([request("/gone"), format!("POST /gone HTTP/1.1\r\nHost: h\r\n{length}")])
    {
        let mut client = cluster.client().await;
        client.send(&gone).await;
        totals(&cluster, |totals| totals.requests == count).await;
        drop(client);
        totals(&cluster, |totals| totals.requests_active == 2).await;
    }
    // What has come of a body before its turn is not lost.
    let mut last = cluster.client().await;
    last.send("POST /last HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhe").await;
    totals(&cluster, |totals| totals.requests_active == 3).await;
    last.send("llo").await;
    opened.add_permits(3);
    assert_eq!(was_asked.recv().await.unwrap(), "POST /last HTTP/1.1");
    assert_eq!(last.answer().await.status, 200);
    drop(served);
}

/// Waits until the counters are as `are` wants them.
async fn totals(cluster: &Cluster, are: impl Fn(&crate::Totals) -> bool) {
    let waiting = async {
        while !are(&cluster.web.totals()) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("what is waited for comes in time");
}
