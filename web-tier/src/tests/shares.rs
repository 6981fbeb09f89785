//! A server's sockets and slow clients: a short body is here before it takes one, and no client keeps others from theirs.

use super::{
    backend::{OnConnection, echo, raw},
    client::Client,
    cluster::Cluster,
    wire::{HEADERS, PREFACE, SETTINGS, block, frame, headers, read_frame, request},
};
use common::config::{Config, Server};
use std::{sync::atomic::Ordering, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};

/// Nothing takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

fn app(config: &mut Config) -> &mut Server {
    &mut config.clusters[0].servers[0]
}

/// One server with so many sockets. Each client says by `X-Forwarded-For` who it is.
async fn cluster(server: OnConnection, sockets: usize) -> Cluster {
    Cluster::start_with([server], |config| {
        (app(config).connection_max, app(config).queue_timeout) = (sockets, PATIENCE * 10);
        config.clusters[1].trusted_proxies.push("127.0.0.0/8".parse().unwrap());
        config.clusters[1].servers[0].http[0].h2c = true;
    })
    .await
}

/// A server that tells of each request, and answers it at its end.
fn tells() -> (OnConnection, UnboundedReceiver<String>) {
    let (asked, was_asked) = unbounded_channel();
    let server = raw(move |head, mut stream| {
        let asked = asked.clone();
        async move {
            let upload = head.starts_with("POST ");
            asked.send(head).unwrap();
            let mut end = Vec::new();
            while upload && !end.ends_with(b"0\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { return };
                end.push(byte);
            }
            let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
            let _ = stream.write_all(answer).await;
        }
    });
    (server, was_asked)
}

async fn next(was_asked: &mut UnboundedReceiver<String>) -> String {
    timeout(PATIENCE, was_asked.recv()).await.expect("asked in time").unwrap()
}

#[tokio::test]
async fn a_short_body_holds_no_socket_before_it_is_here() {
    let cluster = cluster(echo("a"), 1).await;
    let mut slow = Vec::new();
    for _ in 0..5 {
        let mut client = cluster.client().await;
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhe").await;
        slow.push(client);
    }
    assert_eq!(cluster.ask("GET /", "").await.status, 200);
    for client in &mut slow {
        client.send("llo").await;
        let answer = client.answer().await;
        assert!(answer.status == 200 && answer.body.ends_with("hello"), "{answer:?}");
    }
    let backend = cluster.backends[0].as_ref().unwrap();
    assert_eq!((backend.connections.load(Ordering::SeqCst), cluster.web.totals().retries), (1, 0));
}

#[tokio::test]
async fn a_client_that_waits_for_the_answer_is_not_waited_for() {
    let early = raw(|head, mut stream| async move {
        assert!(head.to_ascii_lowercase().contains("transfer-encoding: chunked"), "{head}");
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let cluster = cluster(early, 1).await;
    let mut client = cluster.client().await;
    client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200, "before the body has begun");
    let mut stream = TcpStream::connect(cluster.address()).await.unwrap();
    let fields = [&request("POST", "/")[..], &[("x-forwarded-for", "192.0.2.1")]].concat();
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
    stream.write_all(&headers(1, false, &block(&fields))).await.unwrap();
    assert_eq!(status(&mut stream).await, 200);
}

/// The next status on a connection in HTTP/2.
async fn status(stream: &mut TcpStream) -> u16 {
    loop {
        let frame = read_frame(stream).await.expect("the connection goes on");
        if frame.kind == HEADERS {
            return frame.status();
        }
    }
}

#[tokio::test]
async fn who_waits_gets_a_socket_of_who_is_slow_and_has_more() {
    let (server, mut was_asked) = tells();
    let cluster = cluster(server, 2).await;
    let mut uploads = Vec::new();
    for _ in 0..2 {
        let mut client = cluster.client().await;
        let head =
            "POST /slow HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 192.0.2.1\r\nTransfer-Encoding: chunked\r\n";
        client.send(&format!("{head}\r\n1\r\na\r\n")).await;
        assert!(next(&mut was_asked).await.starts_with("POST /slow "));
        uploads.push(client);
    }
    // His own do not make room for each other, and stand in the queue before the other's.
    let mut queued: Client = cluster.client().await;
    queued.send("GET /own HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n").await;
    let answer = cluster.ask("GET /other", "X-Forwarded-For: 192.0.2.2\r\n").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    assert_eq!(queued.answer().await.status, 200);
    assert_eq!(cluster.web.totals().places_taken_back, 1);
    let mut statuses = Vec::new();
    for upload in &mut uploads {
        // One has been told that it was late; the other goes on.
        let _ = upload.0.write_all(b"0\r\n\r\n").await;
        statuses.push(upload.answer().await.status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 408]);
}

#[tokio::test]
async fn streams_of_one_connection_have_one_clients_share() {
    let (server, mut was_asked) = tells();
    let cluster = cluster(server, 3).await;
    let mut stream = TcpStream::connect(cluster.address()).await.unwrap();
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
    let fields = [&request("POST", "/slow")[..], &[("x-forwarded-for", "2001:db8::1")]].concat();
    for number in [1, 3, 5] {
        stream.write_all(&headers(number, false, &block(&fields))).await.unwrap();
        next(&mut was_asked).await;
    }
    let answer = cluster.ask("GET /other", "X-Forwarded-For: 2001:db9::1\r\n").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    assert_eq!(status(&mut stream).await, 408);
    assert_eq!(cluster.web.totals().places_taken_back, 1);
}

#[tokio::test]
async fn who_takes_nothing_of_his_answers_gives_a_socket_back() {
    let server = raw(|head, mut stream| async move {
        // More than is read of an answer that nobody takes.
        let length = if head.starts_with("GET /big ") { 8 << 20 } else { 2 };
        let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        let _ = stream.write_all(&[head.as_bytes(), &vec![b'x'; length]].concat()).await;
    });
    let cluster = cluster(server, 2).await;
    let mut stream = TcpStream::connect(cluster.address()).await.unwrap();
    // SETTINGS_INITIAL_WINDOW_SIZE of 0.
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])].concat()).await.unwrap();
    let fields = [&request("GET", "/big")[..], &[("x-forwarded-for", "192.0.2.1")]].concat();
    for number in [1, 3] {
        stream.write_all(&headers(number, true, &block(&fields))).await.unwrap();
        assert_eq!(status(&mut stream).await, 200);
    }
    let answer = cluster.ask("GET /other", "X-Forwarded-For: 192.0.2.2\r\n").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "xx"));
    assert_eq!(cluster.web.totals().places_taken_back, 1);
}
