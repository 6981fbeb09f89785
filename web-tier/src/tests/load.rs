//! Many clients at once, while servers come and go.

use super::{
    backend::{OnConnection, echo},
    client::Client,
    cluster::Cluster,
};
use std::net::SocketAddr;
use tokio::task::JoinSet;

const CLIENTS: usize = 32;
const REQUESTS: usize = 40;

fn three() -> [OnConnection; 3] {
    [echo("app-a"), echo("app-b"), echo("app-c")]
}

/// A user who asks on and on, a third of them at home on each server; the number of answers that were not 200.
async fn user(to: SocketAddr, number: usize) -> usize {
    let mut client = Client::connect(to).await;
    let cookie = format!("Cookie: JSESSIONID={}a{number}\r\n", ["a", "b", "c"][number % 3]);
    let mut failures = 0;
    for _ in 0..REQUESTS {
        failures += usize::from(client.ask("GET /count", &cookie).await.status != 200);
    }
    failures
}

#[tokio::test]
async fn a_server_that_is_killed_under_load_costs_no_safe_request() {
    let mut cluster = Cluster::start(three()).await;
    let mut users = JoinSet::new();
    for number in 0..CLIENTS {
        users.spawn(user(cluster.address(), number));
    }
    while cluster.web.totals().requests < (CLIENTS * REQUESTS / 4) as u64 {
        tokio::task::yield_now().await;
    }
    cluster.kill(1).await;
    let failures: usize = users.join_all().await.into_iter().sum();
    assert_eq!(failures, 0);
    let totals = cluster.web.totals();
    assert_eq!(totals.requests, (CLIENTS * REQUESTS) as u64);
    assert_eq!((totals.answers[2], totals.requests_active), (totals.requests, 0));
}

#[tokio::test]
async fn sockets_to_a_server_are_as_few_as_the_requests_at_once() {
    let cluster = Cluster::start_with(three(), |config| {
        for server in &mut config.clusters[0].servers {
            server.connection_max = 2;
        }
    })
    .await;
    let mut users = JoinSet::new();
    for number in 0..CLIENTS / 4 {
        users.spawn(user(cluster.address(), number));
    }
    assert_eq!(users.join_all().await.into_iter().sum::<usize>(), 0, "they queue, and all are served");
    for backend in cluster.backends.iter().flatten() {
        let connections = backend.connections.load(std::sync::atomic::Ordering::SeqCst);
        assert!((1..=2).contains(&connections), "{connections}");
    }
}
