//! Requests that fail are kept with Copal's own reason, and those that don't are not.

use super::{
    backend::{OnConnection, echo, raw, says},
    cluster::Cluster,
};
use proto::requests::v1::NotableRequest;
use std::{collections::HashSet, time::Duration};
use tokio::io::AsyncWriteExt;

async fn failed(cluster: &Cluster) -> Vec<NotableRequest> {
    cluster.web.view().notable().await.failed
}

/// The last failure: status, reason and server.
async fn last(cluster: &Cluster) -> (u32, String, String) {
    let failed = failed(cluster).await;
    let last = failed.first().unwrap_or_else(|| panic!("nothing has failed"));
    (last.status, last.why.clone(), last.server.clone())
}

async fn one(backend: OnConnection, line: &str) -> (u16, Cluster) {
    let cluster = Cluster::start([backend]).await;
    let status = cluster.ask(line, "Content-Length: 0\r\n").await.status;
    (status, cluster)
}

#[tokio::test]
async fn a_server_that_breaks_off_answers_nonsense_or_fails_is_told_as_that() {
    for (answer, expected, why) in [
        ("", 502, "the server broke off before it answered"),
        ("NONSENSE\r\n\r\n", 502, "the server's answer is not valid"),
        ("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", 500, "the server answers so"),
        (
            "HTTP/1.1 503 Oh\r\nContent-Length: 0\r\ncopal-not-processed: stopped\r\n\r\n",
            503,
            "the app is stopped",
        ),
    ] {
        let (status, cluster) = one(says(answer), "POST /pay;jsessionid=aaSecret?card=4111").await;
        assert_eq!(status, expected, "{why}");
        assert_eq!(last(&cluster).await, (expected.into(), why.to_owned(), "app-a".to_owned()));
        let request = failed(&cluster).await.remove(0);
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/pay;jsessionid=***"));
        assert!(request.id.len() == 32 && request.time_ms > 0, "{request:?}");
    }
}

#[tokio::test]
async fn without_a_server_the_web_tier_says_so() {
    let mut cluster = Cluster::start([echo("a")]).await;
    cluster.kill(0).await;
    assert_eq!(cluster.ask("GET /", "").await.status, 503);
    let (status, why, _) = last(&cluster).await;
    assert_eq!((status, why.as_str()), (503, "no server can take the request now"));
}

#[tokio::test]
async fn an_answer_that_breaks_off_in_the_middle_has_failed_too() {
    let cluster = Cluster::start([says("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")]).await;
    let mut client = cluster.client().await;
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n").await;
    assert!(client.rest().await.contains("abc"));
    let why = "the server broke off in the middle of its answer".to_owned();
    assert_eq!(last(&cluster).await, (200, why, "app-a".to_owned()));
}

#[tokio::test]
async fn a_server_that_falls_silent_in_the_middle_has_failed_and_a_client_that_does_has_not() {
    let silent = raw(|_, mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc").await;
        std::future::pending::<()>().await;
    });
    let short = Duration::from_millis(100);
    let cluster = Cluster::start_with([silent], |config| {
        config.clusters[0].servers[0].balance_socket_timeout = short;
    })
    .await;
    let mut client = cluster.client().await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(client.rest().await.contains("abc"));
    let why = "the server fell silent in the middle of its answer".to_owned();
    assert_eq!(last(&cluster).await, (200, why, "app-a".to_owned()));
    // Here it is the client who does not send.
    let cluster = Cluster::start_with([echo("a")], |config| {
        config.clusters[1].servers[0].socket_timeout = short;
    })
    .await;
    let mut client = cluster.client().await;
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nabc").await;
    client.rest().await;
    assert!(failed(&cluster).await.is_empty());
}

#[tokio::test]
async fn the_histogram_has_examples() {
    let cluster = Cluster::start([echo("a")]).await;
    for _ in 0..10 {
        assert_eq!(cluster.ask("GET /", "").await.status, 200);
    }
    let status = cluster.web.view().status().await;
    let latency = status.total.unwrap().latency.unwrap();
    assert!(!latency.exemplars.is_empty());
    let (mut buckets, known) = (HashSet::new(), cluster.web.view().notable().await.slow);
    for it in &latency.exemplars {
        let bound = |bucket: u32| latency.bounds_us.get(bucket as usize).copied().unwrap_or(u64::MAX);
        let above = it.bucket.checked_sub(1).is_none_or(|below| bound(below) < it.taken_us);
        assert!(buckets.insert(it.bucket) && above && it.taken_us <= bound(it.bucket), "{it:?}");
        assert!(known.iter().any(|slow| (&slow.id, slow.taken_us) == (&it.request_id, it.taken_us)));
    }
}

#[tokio::test]
async fn what_went_well_or_is_the_clients_doing_has_not_failed() {
    let (status, cluster) = one(echo("a"), "GET /").await;
    assert_eq!(status, 200);
    assert_eq!(cluster.ask("GET /a b", "").await.status, 400);
    let mut client = cluster.client().await;
    client.send("GET / HTTP/9.0\r\nHost: h\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 505);
    let notable = cluster.web.view().notable().await;
    assert!(notable.failed.is_empty(), "{notable:?}");
    assert_eq!((notable.slow.len(), notable.slow[0].path.as_str()), (1, "/"), "{notable:?}");
}
