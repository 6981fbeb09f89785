//! Clusters that a reload has replaced while requests still use them.

use super::{
    backend::{echo, gated, raw},
    cluster::Cluster,
    reload::file,
};
use common::config::Config;
use proto::hub::v1::MemberState;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Another setting of all servers, so that the cluster is replaced.
fn other(config: &mut Config) {
    for server in &mut config.clusters[0].servers {
        server.weight = 50;
    }
}

#[tokio::test]
async fn a_request_in_flight_hears_that_its_server_is_gone_after_a_reload_too() {
    let (asked, mut was_asked) = mpsc::unbounded_channel();
    let frozen = raw(move |_, mut stream| {
        let asked = asked.clone();
        async move {
            asked.send(()).unwrap();
            let _ = stream.read_u8().await;
        }
    });
    let mut cluster = Cluster::start([frozen, echo("b")]).await;
    let mut client = cluster.client().await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\nCookie: JSESSIONID=aaX\r\n\r\n").await;
    was_asked.recv().await.unwrap();
    // Twice: it is not the last configuration alone that hears.
    let config = file(&cluster, other);
    let changes = cluster.web.reload(config).await.unwrap();
    assert_eq!(changes.to_string(), "cluster app-tier: changed app-a, app-b");
    let config = file(&cluster, |_| {});
    cluster.web.reload(config).await.unwrap();
    cluster.member(0, MemberState::Down, 1);
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.body.lines().next()), (200, Some("b")));
}

#[tokio::test]
async fn a_server_that_has_not_changed_keeps_its_sockets_when_another_one_has() {
    let mut cluster = Cluster::start([echo("a"), echo("b")]).await;
    let mut client = cluster.client().await;
    let config = file(&cluster, |config| config.clusters[0].servers[1].weight = 50);
    for reload in [Some(config), None] {
        for id in ["aaX", "baX"] {
            assert_eq!(client.ask("GET /", &format!("Cookie: JSESSIONID={id}\r\n")).await.status, 200);
        }
        if let Some(config) = reload {
            let changes = cluster.web.reload(config).await.unwrap();
            assert_eq!(changes.to_string(), "cluster app-tier: changed app-b");
        }
    }
    let connections = |index: usize| {
        cluster.backends[index].as_ref().unwrap().connections.load(std::sync::atomic::Ordering::SeqCst)
    };
    assert_eq!((connections(0), connections(1)), (1, 2));
}

#[tokio::test]
async fn a_request_that_queues_for_a_server_hears_of_its_end_after_a_reload_too() {
    let (asked, mut was_asked) = mpsc::unbounded_channel();
    let frozen = raw(move |_, mut stream| {
        let asked = asked.clone();
        async move {
            asked.send(()).unwrap();
            let _ = stream.read_u8().await;
        }
    });
    let mut cluster = Cluster::start_with([frozen, echo("b")], |config| {
        let server = &mut config.clusters[0].servers[0];
        (server.connection_max, server.queue_timeout) = (1, Duration::from_secs(600));
    })
    .await;
    let (mut first, mut second) = (cluster.client().await, cluster.client().await);
    let post = "POST / HTTP/1.1\r\nHost: h\r\nCookie: JSESSIONID=aaX\r\nContent-Length: 0\r\n\r\n";
    first.send(post).await;
    was_asked.recv().await.unwrap();
    second.send(post).await;
    // Both are there: one has the only socket, the other one queues.
    let both = async {
        while cluster.web.totals().requests_active < 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, both).await.unwrap();
    let config = file(&cluster, other);
    cluster.web.reload(config).await.unwrap();
    cluster.member(0, MemberState::Down, 1);
    assert_eq!(first.answer().await.status, 502);
    let answer = second.answer().await;
    assert_eq!((answer.status, answer.body.lines().next()), (200, Some("b")), "it never left");
}

#[tokio::test]
async fn idle_sockets_of_a_cluster_that_was_replaced_are_closed_though_a_request_still_uses_it() {
    let (slow, gate, mut was_asked) = gated();
    let (closed, mut was_closed) = mpsc::unbounded_channel();
    let kept = raw(move |_, mut stream| {
        let closed = closed.clone();
        async move {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            let ended = stream.read(&mut [0]).await;
            closed.send(ended.is_ok_and(|count| count == 0)).unwrap();
        }
    });
    let quick = |config: &mut Config| {
        for server in &mut config.clusters[0].servers {
            server.balance_idle_time = Duration::from_millis(300);
        }
    };
    let mut cluster = Cluster::start_with([slow, kept], quick).await;
    let (mut waits, mut done) = (cluster.client().await, cluster.client().await);
    waits.send("GET / HTTP/1.1\r\nHost: h\r\nCookie: JSESSIONID=aaX\r\n\r\n").await;
    was_asked.recv().await.unwrap();
    assert_eq!(done.ask("GET /", "Cookie: JSESSIONID=baX\r\n").await.body, "ok");
    let config = file(&cluster, |config| {
        config.clusters[0].servers.truncate(1);
    });
    let changes = cluster.web.reload(config).await.unwrap().to_string();
    assert!(changes.contains("removed app-b"), "{changes}");
    assert_eq!(timeout(PATIENCE, was_closed.recv()).await.expect("closed in bounded time"), Some(true));
    gate.add_permits(1);
    assert_eq!(waits.answer().await.body, "ok");
}
