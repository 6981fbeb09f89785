//! A backend that speaks raw HTTP/1.1.

use super::*;
use crate::{
    body::{Request, empty},
    error::RequestError,
};
use http_body_util::BodyExt;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

const LIMIT: Duration = Duration::from_secs(20);

struct Raw {
    backend: Arc<Backend>,
    connections: mpsc::Receiver<TcpStream>,
}

async fn raw(pause: Duration) -> Raw {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::Tcp(listener.local_addr().unwrap());
    let (sender, connections) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if sender.send(stream).await.is_err() {
                return;
            }
        }
    });
    Raw { backend: Arc::new(Backend::new("shop", target, pause)), connections }
}

fn request(method: &str) -> Request {
    http::Request::builder().method(method).uri("/x").header("host", "a").body(empty()).unwrap()
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn reply(stream: &mut TcpStream, text: &str) -> String {
    let head = read_head(stream).await;
    stream.write_all(text.as_bytes()).await.unwrap();
    head
}

async fn body(response: http::Response<Answer>) -> Result<Vec<u8>, String> {
    let collected = tokio::time::timeout(LIMIT, response.into_body().collect()).await.unwrap();
    collected.map(|body| body.to_bytes().to_vec()).map_err(|cause| cause.to_string())
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn connections_are_reused() {
    let mut raw = raw(LIMIT).await;
    for _ in 0..3 {
        let serving = async {
            let mut stream = raw.connections.recv().await.unwrap();
            for _ in 0..3 {
                reply(&mut stream, OK).await;
            }
        };
        let asking = async {
            for turn in 0..3 {
                let response = raw.backend.send(request("GET")).await.unwrap();
                assert_eq!(body(response).await.unwrap(), b"ok");
                // The connection's task says when it can be used again; the last answer ends it.
                while turn < 2 && !raw.backend.has_ready() {
                    tokio::task::yield_now().await;
                }
            }
        };
        tokio::join!(serving, asking);
        assert!(raw.connections.try_recv().is_err(), "one connection is enough");
        // The stream is closed now: the next round finds a dead one in the pool and connects anew.
    }
}

#[tokio::test]
async fn a_request_that_may_have_been_seen_is_not_sent_again() {
    let mut raw = raw(LIMIT).await;
    let serving = async {
        let mut stream = raw.connections.recv().await.unwrap();
        read_head(&mut stream).await;
    };
    let (failed, ()) = tokio::join!(raw.backend.send(request("POST")), serving);
    assert!(matches!(failed, Err(RequestError::AppFailed { .. })), "{failed:?}");
    assert!(raw.connections.try_recv().is_err());
}

#[tokio::test]
async fn nobody_listens() {
    let raw = raw(LIMIT).await;
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let backend = Arc::new(Backend::new("shop", Target::Tcp(port), LIMIT));
    drop(raw);
    let failed = backend.send(request("GET")).await;
    assert!(matches!(failed, Err(RequestError::AppUnavailable { .. })), "{failed:?}");
}

#[tokio::test]
async fn answers_that_end_with_the_connection_and_those_that_break() {
    let mut raw = raw(LIMIT).await;
    for (text, expected) in [
        ("HTTP/1.0 200 OK\r\n\r\nold", Some(&b"old"[..])),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nclosed", Some(&b"closed"[..])),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", None),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", None),
    ] {
        let serving = async {
            let mut stream = raw.connections.recv().await.unwrap();
            reply(&mut stream, text).await;
        };
        let (response, ()) = tokio::join!(raw.backend.send(request("GET")), serving);
        assert_eq!(body(response.unwrap()).await.ok().as_deref(), expected, "{text}");
    }
}

#[tokio::test]
async fn answers_that_make_no_progress_end() {
    let mut raw = raw(Duration::from_millis(50)).await;
    let (failed, stream) = tokio::join!(raw.backend.send(request("GET")), raw.connections.recv());
    assert!(matches!(failed, Err(RequestError::AppTimeout { .. })), "{failed:?}");
    drop(stream);
    let serving = async {
        let mut stream = raw.connections.recv().await.unwrap();
        reply(&mut stream, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort").await;
        stream
    };
    let (response, _stalled) = tokio::join!(raw.backend.send(request("GET")), serving);
    assert_eq!(body(response.unwrap()).await.unwrap_err(), "the app's answer made no progress for 50ms");
}
