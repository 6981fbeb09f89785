//! Bytes that come early: behind a request to upgrade, and of a body that nobody waits for.

use super::{SMUGGLED, exchange, recorded, sentinel, verdict::Answers, wire};
use crate::tests::{backend::raw, client::Client, cluster::Cluster};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A frame of a WebSocket, "Hello" (RFC 6455 §5.7).
const FRAME: &str = "\u{81}\u{5}Hello";

#[tokio::test]
async fn an_upgrade_that_is_declined_opens_no_tunnel() {
    let (cluster, recorder) = recorded().await;
    for early in [FRAME, "\0\0\0\0", "SSH-2.0-x\r\n"] {
        recorder.forget();
        let sent = wire(&format!("{UPGRADE}{early}{SMUGGLED}"));
        let text = exchange(&cluster, &sent, 1).await.unwrap();
        let statuses = Answers::read(&text, false).unwrap().statuses();
        assert!(matches!(statuses[..], [200 | 400] | [200, 400]), "{early:?}: {statuses:?}");
        let seen = recorder.requests();
        assert!(seen.iter().all(|request| request.starts_with("get /chat ")), "{early:?}: {seen:?}");
        assert_eq!(recorder.partial(), 0, "{early:?}");
        sentinel(&cluster).await.unwrap();
    }
}

#[tokio::test]
async fn a_request_behind_a_declined_upgrade_is_a_request_or_nothing() {
    let (cluster, recorder) = recorded().await;
    let spoofing = "GET /next HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n";
    let text = exchange(&cluster, format!("{UPGRADE}{spoofing}").as_bytes(), 1).await.unwrap();
    let statuses = Answers::read(&text, false).unwrap().statuses();
    assert!(matches!(statuses[..], [200] | [200, 200]), "{statuses:?}");
    let seen = recorder.requests();
    assert_eq!(seen.len(), statuses.len(), "{seen:?}");
    for request in seen {
        assert!(request.contains("\nvia: 1.1 copal\n") && !request.contains("6.6.6.6"), "{request}");
    }
}

#[tokio::test]
async fn an_upgrade_of_a_request_with_a_body_opens_no_tunnel() {
    let (cluster, recorder) = recorded().await;
    let sent = UPGRADE.replace("GET", "POST").replace("Host: h\r\n", "Host: h\r\nContent-Length: 5\r\n");
    let text = exchange(&cluster, &wire(&format!("{sent}hello{FRAME}")), 1).await.unwrap();
    let statuses = Answers::read(&text, false).unwrap().statuses();
    assert!(matches!(statuses[..], [200 | 400] | [200, 400]), "{statuses:?}");
    assert!(recorder.requests().len() <= 1 && recorder.partial() == 0, "{recorder:?}");
}

#[tokio::test]
async fn bytes_behind_an_upgrade_wait_until_the_server_agrees() {
    let (early, mut was_early) = mpsc::unbounded_channel();
    let server = raw(move |head, mut stream| {
        let early = early.clone();
        async move {
            assert!(head.to_ascii_lowercase().contains("upgrade: websocket"), "{head}");
            early.send(!stream.is_quiet()).unwrap();
            let agreed =
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
            stream.write_all(agreed).await.unwrap();
            let mut frame = [0; 7];
            stream.read_exact(&mut frame).await.unwrap();
            stream.write_all(&frame).await.unwrap();
        }
    });
    let cluster = Cluster::start([server]).await;
    let mut client = cluster.client().await;
    client.0.write_all(&wire(&format!("{UPGRADE}{FRAME}"))).await.unwrap();
    let answer = client.answer().await;
    assert_eq!(answer.status, 101, "{}", answer.head);
    assert_eq!(was_early.recv().await, Some(false), "a byte came before the 101");
    let mut frame = [0; 7];
    client.0.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame.as_slice(), wire(FRAME));
}

#[tokio::test]
async fn the_body_of_a_refused_request_is_no_request() {
    let (cluster, recorder) = recorded().await;
    for (head, statuses) in [
        ("POST /%zz HTTP/1.1\r\nHost: h\r\n", &[400][..]),
        ("TRACE / HTTP/1.1\r\nHost: h\r\n", &[405]),
        ("POST / HTTP/1.1\r\nHost: h\r\nExpect: more\r\n", &[417]),
        ("POST / HTTP/1.1\r\nHost: a b\r\n", &[400]),
    ] {
        for count in [1, 10_000] {
            recorder.forget();
            let body = SMUGGLED.repeat(count);
            let sent = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
            let text = exchange(&cluster, sent.as_bytes(), 1).await.unwrap();
            Answers::read(&text, false).unwrap().one_refusal(statuses).unwrap();
            recorder.untouched().unwrap();
        }
    }
}

#[tokio::test]
async fn the_rest_of_a_body_that_was_answered_early_is_no_request() {
    let smuggled = Arc::new(AtomicUsize::new(0));
    let counted = smuggled.clone();
    let server = raw(move |head, mut stream| {
        counted.fetch_add(usize::from(head.contains("/smuggled")), Ordering::SeqCst);
        async move {
            let _ = stream
                .write_all(b"HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno")
                .await;
            let mut sink = Vec::new();
            let _ = stream.read_to_end(&mut sink).await;
        }
    });
    let cluster = Cluster::start([server]).await;
    for count in [1, 100, 200_000] {
        let body = SMUGGLED.repeat(count);
        let sent = format!(
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}\
             GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let text = exchange(&cluster, sent.as_bytes(), 1).await.unwrap();
        let statuses = Answers::read(&text, false).unwrap().statuses();
        assert!(matches!(statuses[..], [403] | [403, 403]), "{count}: {statuses:?}");
        assert_eq!(smuggled.load(Ordering::SeqCst), 0, "{count}");
    }
}

#[tokio::test]
async fn the_body_of_a_request_that_no_rule_covers_is_no_request() {
    let (recorder, server) = super::Recorder::start();
    let cluster = Cluster::start_with([server], |config| config.clusters[1].hosts.clear()).await;
    let sent = format!(
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{SMUGGLED}\
         GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        SMUGGLED.len()
    );
    let text = exchange(&cluster, sent.as_bytes(), 1).await.unwrap();
    let statuses = Answers::read(&text, false).unwrap().statuses();
    assert!(matches!(statuses[..], [404] | [404, 404]), "{statuses:?}");
    recorder.untouched().unwrap();
    assert_eq!(Client::connect(cluster.address()).await.ask("GET /", "").await.status, 404);
}

#[tokio::test]
async fn a_refusal_after_a_head_request_has_its_body() {
    let (cluster, _recorder) = recorded().await;
    let mut client = cluster.client().await;
    client.send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    client.send("GET / HTTP/1.1\r\nHost : h\r\n\r\n").await;
    let answer = client.answer().await;
    assert!(answer.status == 400 && answer.body.starts_with("400 "), "{answer:?}");
}
