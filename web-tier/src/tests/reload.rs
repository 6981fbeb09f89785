//! A new configuration while connections are open.

use super::{
    backend::{Backend, echo, raw},
    client::Client,
    cluster::{Cluster, IDS, config, server},
};
use common::config::{AccessLog, AccessLogFormat, Config, HttpListener, SendError};
use std::{
    net::SocketAddr,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Semaphore, mpsc},
};

/// The file of a cluster, changed.
pub(super) fn file(cluster: &Cluster, change: impl FnOnce(&mut Config)) -> Arc<Config> {
    let ports: Vec<_> = cluster.backends.iter().flatten().map(|backend| backend.port).collect();
    let mut config = config(&ports);
    change(&mut config);
    Arc::new(config)
}

#[tokio::test]
async fn rules_and_limits_change_for_the_next_request_of_an_open_connection() {
    let mut cluster = Cluster::start([echo("a")]).await;
    let mut client = cluster.client().await;
    assert_eq!(client.ask("GET /x", "").await.status, 200);
    let teapot = file(&cluster, |config| {
        let rule = &mut config.clusters[1].hosts[0].dispatch[0];
        rule.action = common::config::Action::Error(SendError { code: 418, message: None });
        config.clusters[1].servers[0].request_limits.uri = 64;
    });
    assert_eq!(cluster.web.reload(teapot).await.unwrap().to_string(), "rules; limits and time-outs");
    assert_eq!(client.ask("GET /x", "").await.status, 418);
    assert_eq!(client.ask(&format!("GET /{}", "a".repeat(64)), "").await.status, 414);
    let before = file(&cluster, |_| {});
    assert!(!cluster.web.reload(before.clone()).await.unwrap().is_empty());
    assert!(cluster.web.reload(before).await.unwrap().is_empty());
    assert_eq!(cluster.ask("GET /x", "").await.status, 200);
    let without_me = file(&cluster, |config| config.clusters.truncate(1));
    assert!(cluster.web.reload(without_me).await.is_err());
    assert_eq!(cluster.ask("GET /x", "").await.status, 200, "nothing has changed");
}

#[tokio::test]
async fn a_request_in_flight_ends_as_it_began_and_an_unchanged_cluster_keeps_its_sockets() {
    let gate = Arc::new(Semaphore::new(0));
    let (asked, mut was_asked) = mpsc::unbounded_channel();
    let opened = gate.clone();
    let slow = raw(move |_, mut stream| {
        let (gate, asked) = (gate.clone(), asked.clone());
        async move {
            asked.send(()).unwrap();
            gate.acquire().await.unwrap().forget();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            let _ = stream.write_all(answer).await;
            // The next request on the same socket.
            let mut rest = [0; 1024];
            while stream.read(&mut rest).await.is_ok_and(|count| count > 0) {
                let _ = stream.write_all(answer).await;
            }
        }
    });
    let mut cluster = Cluster::start([slow]).await;
    let mut client = cluster.client().await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    was_asked.recv().await.unwrap();
    let other = file(&cluster, |config| config.clusters[1].hosts[0].aliases.push("x".to_owned()));
    cluster.web.reload(other).await.unwrap();
    opened.add_permits(1);
    assert_eq!(client.answer().await.body, "ok");
    assert_eq!(client.ask("GET /", "").await.body, "ok");
    let backend = cluster.backends[0].as_ref().unwrap();
    assert_eq!(backend.connections.load(Ordering::SeqCst), 1, "one socket served both");
}

#[tokio::test]
async fn a_server_that_joins_the_file_gets_requests() {
    let mut cluster = Cluster::start([echo("a")]).await;
    let joined = Backend::start(IDS[1], 0, echo("b")).await;
    let port = joined.port;
    let both = file(&cluster, |config| config.clusters[0].servers.push(server(IDS[1], 1, port)));
    assert_eq!(cluster.web.reload(both).await.unwrap().to_string(), "cluster app-tier: added app-b");
    let mut answered = String::new();
    for _ in 0..4 {
        answered.extend(cluster.ask("GET /", "").await.body.chars().next());
    }
    assert!(answered.contains('a') && answered.contains('b'), "{answered}");
}

/// Asks again and again, on connections that live as long as the web tier lets them; the first at `first`.
async fn user(first: SocketAddr, home: SocketAddr, enough: Arc<AtomicBool>, asked: Arc<AtomicUsize>) {
    let mut client = Client::connect(first).await;
    while !enough.load(Ordering::Relaxed) {
        let answer = client.ask("POST /", "Content-Length: 2\r\n\r\nhi").await;
        assert_eq!(answer.status, 200, "{}", answer.head);
        asked.fetch_add(1, Ordering::Relaxed);
        if answer.has("connection: close") {
            client = Client::connect(home).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_lose_no_request_however_often_the_file_changes() {
    let folder = tempfile::tempdir().unwrap();
    let two_workers = |config: &mut Config| config.clusters[1].workers = NonZeroUsize::new(2);
    let mut cluster = Cluster::start_with([echo("a"), echo("b")], two_workers).await;
    let (home, enough, asked) = (cluster.address(), Arc::new(AtomicBool::new(false)), Arc::default());
    let mut users: Vec<_> =
        (0..4).map(|_| tokio::spawn(user(home, home, enough.clone(), Arc::clone(&asked)))).collect();
    for round in 0..30_u32 {
        let with = file(&cluster, |config| {
            config.clusters[1].servers[0].http.push(HttpListener::plain("127.0.0.1", 0));
            config.clusters[0].servers[0].weight = 100 + round;
            let log = AccessLog::to_file(folder.path().join(format!("{}", round % 3)), AccessLogFormat::Json);
            config.clusters[1].access_log = Some(log);
        });
        cluster.web.reload(with).await.unwrap();
        let other = cluster.web.addresses()[1];
        users.push(tokio::spawn(user(other, home, enough.clone(), Arc::clone(&asked))));
        let goal = asked.load(Ordering::Relaxed) + 50;
        while asked.load(Ordering::Relaxed) < goal {
            assert!(users.iter().all(|user| !user.is_finished()), "a user failed");
            tokio::task::yield_now().await;
        }
        if round % 2 == 0 {
            cluster.web.reload(file(&cluster, |_| {})).await.unwrap();
        }
    }
    enough.store(true, Ordering::Relaxed);
    for user in users {
        user.await.unwrap();
    }
    let totals = cluster.web.totals();
    assert_eq!((totals.log_lines_lost, totals.upstream_failures), (0, 0), "{totals:?}");
}
