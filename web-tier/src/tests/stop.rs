//! Stopping.

use super::{
    backend::{echo, gated as gated_backend},
    client::Client,
    cluster::Cluster,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    net::TcpStream,
    sync::{Semaphore, mpsc},
};

struct Gated {
    cluster: Cluster,
    gate: Arc<Semaphore>,
    was_asked: mpsc::UnboundedReceiver<()>,
}

/// A cluster whose server answers when the gate lets it.
async fn gated() -> Gated {
    let (backend, gate, was_asked) = gated_backend();
    Gated { cluster: Cluster::start([backend]).await, gate, was_asked }
}

async fn in_flight(gated: &mut Gated) -> Client {
    let mut client = gated.cluster.client().await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    gated.was_asked.recv().await.unwrap();
    client
}

#[tokio::test]
async fn a_stop_finishes_the_requests_in_flight() {
    let mut gated = gated().await;
    let mut client = in_flight(&mut gated).await;
    let mut idle = gated.cluster.client().await;
    let address = gated.cluster.address();
    let stopping = tokio::spawn(gated.cluster.web.stop(Duration::from_secs(20)));
    assert_eq!(idle.rest().await, "", "an idle connection is closed at once");
    // The idle one went after the listener.
    assert!(TcpStream::connect(address).await.is_err());
    gated.gate.add_permits(1);
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    assert!(answer.has("connection: close"), "{}", answer.head);
    assert_eq!(stopping.await.unwrap(), 0);
}

#[tokio::test]
async fn past_its_wait_a_stop_cuts_what_is_left() {
    let mut gated = gated().await;
    let mut client = in_flight(&mut gated).await;
    assert_eq!(gated.cluster.web.stop(Duration::from_millis(50)).await, 1);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn dropped_it_stops_at_once() {
    let mut gated = gated().await;
    let mut client = in_flight(&mut gated).await;
    drop(gated.cluster.web);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn clients_whose_request_came_just_before_a_stop_are_answered() {
    let cluster = Cluster::start([echo("a")]).await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut client = cluster.client().await;
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        clients.push(client);
    }
    let stopping = tokio::spawn(cluster.web.stop(Duration::from_secs(20)));
    for mut client in clients {
        assert_eq!(client.answer().await.status, 200);
        assert_eq!(client.rest().await, "");
    }
    assert_eq!(stopping.await.unwrap(), 0);
}
