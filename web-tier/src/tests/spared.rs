//! A server that answers 503 is spared, and a cluster that fails is not given much more than it is asked.

use super::{
    backend::{OnConnection, http},
    cluster::Cluster,
};
use http_body_util::Full;
use hyper::{Response, StatusCode};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Answers all with `status`, and counts them.
fn counting(status: StatusCode) -> (OnConnection, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let backend = http(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        async move { response }
    });
    (backend, count)
}

#[tokio::test]
async fn visitors_are_kept_from_a_server_that_answers_503_and_its_own_users_are_not() {
    let (busy, asked) = counting(StatusCode::SERVICE_UNAVAILABLE);
    let (well, _) = counting(StatusCode::OK);
    let cluster = Cluster::start([busy, well]).await;
    let mut client = cluster.client().await;
    for _ in 0..10 {
        assert_eq!(client.ask("GET /", "").await.status, 200, "tried again on the other one");
    }
    let before = asked.load(Ordering::SeqCst);
    assert!(before <= 2, "{before}: once, and a probe if a second has passed");
    assert_eq!(client.ask("POST /", "Cookie: JSESSIONID=aaX\r\nContent-Length: 0\r\n").await.status, 503);
    assert_eq!(asked.load(Ordering::SeqCst), before + 1);
}

#[tokio::test]
async fn a_cluster_that_fails_is_not_given_all_requests_twice() {
    let ((one, asked_one), (two, asked_two)) =
        (counting(StatusCode::SERVICE_UNAVAILABLE), counting(StatusCode::SERVICE_UNAVAILABLE));
    let cluster = Cluster::start([one, two]).await;
    let mut client = cluster.client().await;
    for _ in 0..200 {
        assert_eq!(client.ask("GET /", "").await.status, 503);
    }
    let asked = asked_one.load(Ordering::SeqCst) + asked_two.load(Ordering::SeqCst);
    assert!((230..=240).contains(&asked), "{asked} for 200: a fifth more, or the floor of thirty");
    assert_eq!(cluster.web.totals().retries as usize, asked - 200);
}
