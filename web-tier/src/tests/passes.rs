//! Requests that pass.

use super::{backend::echo, cluster::Cluster};
use std::sync::atomic::Ordering;

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
