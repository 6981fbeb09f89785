//! A plain HTTP server behind a real web-tier: it comes with a new file, is checked, dies, and comes back.

use crate::cluster::{Cluster, PATIENCE};
use hyper::StatusCode;
use rustix::process::Signal;
use std::{fs, net::SocketAddr, time::Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// A server that answers everything with `legacy`, one request a connection.
async fn legacy(port: u16) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let mut tasks = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            tasks.spawn(answer(stream));
        }
    });
    (address, serving)
}

async fn answer(mut stream: TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let _ = stream.write_all(b"HTTP/1.0 200 OK\r\ncontent-length: 6\r\n\r\nlegacy").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_server_is_put_into_the_file_checked_killed_and_brought_back() {
    let mut cluster = Cluster::start(1).await;
    let (address, serving) = legacy(0).await;
    let file = cluster.folder().join("copal.yaml");
    let before = fs::read_to_string(&file).unwrap();
    let (head, tail) = before.rsplit_once("dispatch:").unwrap();
    let rule = format!(
        "dispatch:\n          - http-proxy:\n              regexp: '^/legacy'\n              \
         backends: [{{address: 'http://{address}'}}]\n              \
         health-check: {{interval: 100ms, timeout: 100ms, rise: 1, fall: 1}}"
    );
    fs::write(&file, format!("{head}{rule}{tail}")).unwrap();
    cluster.process("web-a").signal(Signal::HUP);
    let mut user = cluster.user();
    let mut until = async |status: StatusCode| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = user.get("/legacy/page").await;
            if answer.status == status {
                return answer.body;
            }
            assert!(Instant::now() < deadline, "{answer:?}, never {status}");
        }
    };
    assert_eq!(until(StatusCode::OK).await, "legacy");
    serving.abort();
    let _ = serving.await;
    until(StatusCode::SERVICE_UNAVAILABLE).await;
    let (_, serving) = legacy(address.port()).await;
    assert_eq!(until(StatusCode::OK).await, "legacy");
    assert_eq!(cluster.user().count().await.0, 1, "the cluster goes on beside it");
    serving.abort();
    assert_eq!(cluster.stop("web-a").await.code(), Some(0));
}
