//! As many connections as there may be: who only holds one makes room for others, who uses one does not.

use super::{
    backend::{echo, gated},
    client::Client,
    cluster::Cluster,
    http2,
};
use std::time::Duration;
use tokio::time::timeout;

/// So short that no time-out of a connection could have made room, and longer than what counts as idle.
const SOON: Duration = Duration::from_secs(8);

async fn is_served(cluster: &Cluster) -> Client {
    let mut client = cluster.client().await;
    let answer = timeout(SOON, client.ask("GET /", "")).await.expect("room is made");
    assert_eq!(answer.status, 200);
    client
}

#[tokio::test]
async fn clients_that_ask_nothing_do_not_keep_others_out() {
    let cluster = Cluster::start_limited([echo("a")], 4, |_| {}).await;
    let mut holding = Vec::new();
    for said in ["", "", "GET / HT", "GET / HTTP/1.1\r\nHost: h\r\n"] {
        let mut client = cluster.client().await;
        client.send(said).await;
        holding.push(client);
    }
    for _ in 0..3 {
        is_served(&cluster).await;
    }
    let totals = cluster.web.totals();
    assert!(totals.connections_shed >= 1 && totals.connections_held >= 1, "{totals:?}");
    assert!(totals.connections_open <= 4, "{totals:?}");
}

#[tokio::test]
async fn idle_connections_end_for_new_ones_in_both_protocols() {
    let cluster = Cluster::start_limited([echo("a")], 2, |config| {
        config.clusters[1].servers[0].http[0].h2c = true;
    })
    .await;
    let mut first = is_served(&cluster).await;
    let mut second = http2::client(&cluster).await;
    http2::ask(&mut second, http2::get("/").body(()).unwrap(), &[]).await.unwrap();
    let _stay = (is_served(&cluster).await, is_served(&cluster).await);
    assert_eq!(first.rest().await, "", "closed between requests");
    let gone = async {
        while second.clone().ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, gone).await.expect("it is told to go");
    assert!(cluster.web.totals().connections_shed >= 2);
}

#[tokio::test]
async fn a_connection_in_use_is_not_ended_and_others_wait_for_it() {
    let (backend, gate, mut was_asked) = gated();
    let cluster = Cluster::start_limited([backend], 1, |_| {}).await;
    let (mut first, mut second) = (cluster.client().await, cluster.client().await);
    let request = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    first.send(request).await;
    was_asked.recv().await.unwrap();
    second.send(request).await;
    // Longer than an idle one would be left alone.
    assert!(timeout(Duration::from_millis(1500), was_asked.recv()).await.is_err(), "it waits");
    assert_eq!(cluster.web.totals().connections_shed, 0);
    gate.add_permits(2);
    assert_eq!(first.answer().await.status, 200);
    assert_eq!(second.answer().await.status, 200);
    assert_eq!(first.rest().await, "", "idle now, it makes room");
}
