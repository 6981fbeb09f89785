//! Clients that send nothing, or take nothing.

use super::{
    client::{Client, PATIENCE, get},
    raw::{Outcome, Raw, frame, section},
    site::{HOST, start},
};
use crate::tests::backend::{echo, raw};
use common::config::{Config, Server};
use http::Request;
use std::time::Duration;
use tokio::{io::AsyncWriteExt, sync::mpsc, time::timeout};

/// What a client is given in these tests, and what nothing takes.
const SHORT: Duration = Duration::from_millis(300);

fn web(config: &mut Config) -> &mut Server {
    &mut config.clusters[1].servers[0]
}

#[tokio::test]
async fn a_head_that_does_not_come_to_its_end_is_answered_408() {
    let (cluster, certificate, _files) =
        start([echo("a")], |config| web(config).request_header_timeout = SHORT).await;
    let client = Raw::connect(cluster.address(), &certificate).await;
    let head =
        frame(1, &section(&[(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", "/")]));
    for cut in [1, head.len() - 1] {
        let (mut send, recv) = client.quic.open_bi().await.unwrap();
        send.write_all(&head[..cut]).await.unwrap();
        assert_eq!(client.outcome(recv).await, Outcome::Status(408), "{cut}");
    }
    assert_eq!(client.sends(&head).await, Outcome::Status(200), "the connection goes on");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_answered_408() {
    let (cluster, certificate, _files) =
        start([echo("a")], |config| web(config).socket_timeout = SHORT).await;
    let mut client = Client::connect(cluster.address(), &certificate).await;
    let post = Request::post(format!("https://{HOST}/")).header("content-length", "5").body(()).unwrap();
    let mut stream = client.h3.send_request(post).await.unwrap();
    let head = timeout(PATIENCE, stream.recv_response()).await.unwrap().unwrap();
    assert_eq!(head.status(), 408);
}

#[tokio::test]
async fn an_answer_that_nobody_takes_is_cut_off_and_its_server_hears_of_it() {
    let (ended, mut has_ended) = mpsc::unbounded_channel();
    let endless = raw(move |_, mut stream| {
        let ended = ended.clone();
        async move {
            let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            let mut bytes = 0_usize;
            while sent.is_ok() {
                sent = stream.write_all(&[b'x'; 65536]).await;
                bytes += 65536;
            }
            let _ = ended.send(bytes);
        }
    });
    let (cluster, certificate, _files) = start([endless], |config| web(config).socket_timeout = SHORT).await;
    let mut client = Client::connect(cluster.address(), &certificate).await;
    // Nothing is read of it: the client's window shuts.
    let mut stream = client.begin(get("/").body(()).unwrap(), &[]).await.unwrap();
    assert_eq!(stream.recv_response().await.unwrap().status(), 200);
    let bytes = timeout(PATIENCE, has_ended.recv()).await.expect("its server is told").unwrap();
    assert!(bytes < 24 << 20, "{bytes} bytes were read of an answer that nobody took");
}

#[tokio::test]
async fn a_connection_by_which_nobody_asks_ends_after_a_while() {
    let (cluster, certificate, _files) =
        start([echo("a")], |config| web(config).keepalive_timeout = SHORT).await;
    let mut client = Client::connect(cluster.address(), &certificate).await;
    assert_eq!(client.get("/").await.head.status(), 200);
    let why = timeout(PATIENCE, client.driver).await.expect("it ends").unwrap();
    assert!(why.contains("NO_ERROR"), "{why}");
}
