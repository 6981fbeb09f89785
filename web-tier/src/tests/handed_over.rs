//! Another web tier takes the sockets over.

use super::{
    backend::{echo, gated},
    client::Client,
    cluster::Cluster,
};
use crate::Inherited;
use std::{num::NonZeroUsize, time::Duration};

/// The sockets of a web tier, as another process would get them.
async fn copies(cluster: &Cluster) -> Inherited {
    let mut inherited = Inherited::default();
    for listener in cluster.web.listening_sockets().await.unwrap() {
        listener.sockets.iter().for_each(|it| inherited.add(it, Some(listener.asked)).unwrap());
    }
    inherited
}

async fn on(inherited: Inherited, workers: usize) -> Cluster {
    let workers = NonZeroUsize::new(workers);
    Cluster::start_on(inherited, [echo("app-a")], usize::MAX, |it| it.clusters[1].workers = workers).await
}

#[tokio::test]
async fn no_connection_is_refused_whoever_has_more_workers() {
    let mut web = on(Inherited::default(), 2).await;
    for workers in [1, 3, 2] {
        let next = on(copies(&web).await, workers).await;
        assert_eq!(next.address(), web.address());
        let (mut idle, address) = (web.client().await, web.address());
        // Answered: it has been accepted, by one of the two.
        assert_eq!(idle.ask("GET /", "").await.status, 200);
        let retiring = tokio::spawn(web.web.retire(Duration::from_secs(20)));
        for _ in 0..32 {
            let answer = Client::connect(address).await.ask("GET /", "Connection: close\r\n").await;
            assert_eq!(answer.status, 200);
        }
        // Whoever has it: it is not closed before it has been told so.
        assert_eq!(idle.ask("GET /", "Connection: close\r\n").await.status, 200);
        assert_eq!(retiring.await.unwrap(), 0, "nothing was cut");
        web = next;
    }
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut() {
    let (backend, _gate, mut was_asked) = gated();
    let cluster = Cluster::start([backend]).await;
    let mut client = cluster.client().await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    was_asked.recv().await.unwrap();
    assert_eq!(cluster.web.retire(Duration::ZERO).await, 1);
}
