//! Servers behind encrypted cluster ports: what passes on a bare socket passes there.

use super::{
    backend::{OnConnection, echo, http, raw},
    cluster::Cluster,
};
use bytes::Bytes;
use cluster_port::Stream;
use common::config::ClusterEncryption;
use http::Response;
use http_body_util::Full;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
};

/// More than the sockets' buffers and TLS's own hold.
const LARGE: usize = 24 << 20;

async fn encrypted(backends: impl IntoIterator<Item = OnConnection>) -> Cluster {
    Cluster::start_with(backends, |config| config.cluster_encryption = ClusterEncryption::Always).await
}

#[tokio::test]
async fn requests_go_over_one_encrypted_connection_after_the_other() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    let backend: OnConnection = Arc::new(move |stream: Stream| {
        assert!(stream.is_encrypted());
        count.fetch_add(1, Ordering::SeqCst);
        echo("a")(stream)
    });
    let cluster = encrypted([backend]).await;
    let mut client = cluster.client().await;
    for _ in 0..3 {
        let answer = client.ask("GET /page", "Cookie: JSESSIONID=aaSecret\r\n").await;
        assert!(answer.body.contains("GET /page") && answer.body.contains("aaSecret"), "{}", answer.body);
    }
    assert_eq!(seen.load(Ordering::SeqCst), 1, "the connection was used again");
}

#[tokio::test]
async fn a_pooled_connection_that_its_server_has_closed_is_not_used() {
    let cluster = encrypted([raw(|_, mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        let _ = stream.shutdown().await;
    })])
    .await;
    for _ in 0..3 {
        // A POST is not sent again: each must have found a connection that works.
        let answer = cluster.ask("POST /", "Content-Length: 0\r\n").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    }
}

/// The server reads nothing until all that can be sent is under way: the last piece waits inside of TLS then, and has to follow
/// without another request behind it.
#[tokio::test]
async fn large_bodies_pass_both_ways() {
    let (go, wait) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (opened, waits) = (go.clone(), wait.clone());
    let cluster = encrypted([raw(move |head, mut stream| {
        let (go, wait) = (opened.clone(), waits.clone());
        async move {
            assert!(head.to_ascii_lowercase().contains(&format!("content-length: {LARGE}")), "{head}");
            wait.notify_one();
            go.notified().await;
            let mut body = vec![0; LARGE];
            stream.read_exact(&mut body).await.unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&body).await.unwrap();
            stream.flush().await.unwrap();
            let _ = stream.read_u8().await;
        }
    })])
    .await;
    let mut client = cluster.client().await;
    client.send(&format!("POST /up HTTP/1.1\r\nHost: h\r\nContent-Length: {LARGE}\r\n\r\n")).await;
    let (mut reading, mut writing) = client.0.split();
    let writes = async {
        writing.write_all(&vec![b'u'; LARGE]).await.unwrap();
    };
    let reads = async {
        wait.notified().await;
        go.notify_one();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(reading.read_u8().await.unwrap());
        }
        let mut body = vec![0; LARGE];
        reading.read_exact(&mut body).await.unwrap();
        assert!(body.iter().all(|byte| *byte == b'u'));
    };
    tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(writes, reads) }).await.unwrap();
}

#[tokio::test]
async fn an_upgraded_connection_passes_bytes_both_ways_and_each_side_can_end() {
    let cluster = encrypted([raw(|_, mut stream| async move {
        let yes =
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello ";
        stream.write_all(yes).await.unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
        heard.reverse();
        stream.write_all(&heard).await.unwrap();
        stream.shutdown().await.unwrap();
    })])
    .await;
    let mut client = cluster.client().await;
    client.send("GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nabc").await;
    assert_eq!(client.answer().await.status, 101);
    client.send("def").await;
    client.0.shutdown().await.unwrap();
    assert_eq!(client.rest().await, "hello fedcba");
}

#[tokio::test]
async fn a_request_goes_elsewhere_when_its_server_dies() {
    let answers = |name: &'static str| {
        http(move |_| async move { Response::new(Full::from(Bytes::from_static(name.as_bytes()))) })
    };
    let mut cluster = encrypted([answers("a"), answers("b")]).await;
    for _ in 0..4 {
        cluster.ask("GET /", "").await;
    }
    cluster.kill(0).await;
    for _ in 0..4 {
        assert_eq!(cluster.ask("GET /", "").await.body, "b");
    }
}

/// Without the end that TLS announces, a body that ends with its connection may have been cut by somebody: it looks broken.
#[tokio::test]
async fn a_body_that_ends_with_its_connection_must_end_by_the_servers_word() {
    for (announced, whole) in [(true, true), (false, false)] {
        let cluster = encrypted([raw(move |_, mut stream| async move {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil the end").await.unwrap();
            stream.flush().await.unwrap();
            if announced {
                let _ = stream.shutdown().await;
            }
        })])
        .await;
        let mut client = cluster.client().await;
        client.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
        let text = client.rest().await;
        assert!(text.contains("until the end"), "{text}");
        assert_eq!(text.ends_with("0\r\n\r\n"), whole, "{text}");
    }
}
