//! Requests that pass.

use super::{
    backend::{echo, raw},
    cluster::Cluster,
};
use std::sync::atomic::Ordering;
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn a_request_reaches_a_server_and_its_answer_comes_back() {
    let cluster = Cluster::start([echo("a")]).await;
    let answer = cluster.ask("GET /x?y=1", "").await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.starts_with("a\nGET /x?y=1\n"), "{}", answer.body);
    assert!(answer.has("via: 1.1 copal"), "{}", answer.head);
}

#[tokio::test]
async fn many_requests_use_one_connection_on_both_sides() {
    let cluster = Cluster::start([echo("a")]).await;
    let mut client = cluster.client().await;
    for n in 0..50 {
        let answer = client.ask(&format!("GET /{n}"), "").await;
        assert!(answer.body.starts_with(&format!("a\nGET /{n}\n")), "{}", answer.body);
    }
    let body = client.ask("POST /form", "Content-Length: 5\r\n\r\nhello").await;
    assert!(body.body.ends_with("hello"));
    assert_eq!(cluster.backends[0].as_ref().unwrap().connections.load(Ordering::SeqCst), 1);
    let totals = cluster.web.totals();
    assert_eq!((totals.requests, totals.answers[2], totals.connections, totals.retries), (51, 51, 1, 0));
}

#[tokio::test]
async fn an_answer_that_comes_byte_by_byte_is_an_answer() {
    let slow = raw(|_, mut stream| async move {
        for byte in b"HTTP/1.1 200 OK\r\nx-a: b\r\ncontent-length: 2\r\n\r\nok" {
            let _ = stream.write_all(&[*byte]).await;
            tokio::task::yield_now().await;
        }
    });
    let cluster = Cluster::start([slow]).await;
    let answer = cluster.ask("POST /", "Content-Length: 0\r\n").await;
    assert!(answer.status == 200 && answer.has("x-a: b") && answer.body == "ok", "{}", answer.head);
}
