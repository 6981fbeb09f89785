//! What is closed to others on the machine, and what strangers on the internet can't use up.

use crate::cluster::{Cluster, PATIENCE};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

/// The paths below `path`, itself too, that others than their owner may use.
fn open_to_others(path: &Path, found: &mut Vec<String>) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        found.push(format!("{} {mode:o}", path.display()));
    }
    // Nobody else can enter the folder of the sockets.
    if metadata.is_dir() && !path.ends_with("run") {
        for entry in fs::read_dir(path).unwrap() {
            open_to_others(&entry.unwrap().path(), found);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_data_of_a_running_cluster_is_its_users_alone() {
    let cluster = Cluster::start(3).await;
    let mut user = cluster.user();
    assert_eq!(user.count().await.0, 1);
    for id in ["app-a", "app-b", "app-c", "web-a"] {
        let mut found = Vec::new();
        open_to_others(&cluster.folder().join("data").join(id), &mut found);
        assert!(found.is_empty(), "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn visitors_without_a_cookie_are_served_when_the_hub_is_full_and_users_keep_their_sessions() {
    let mut cluster = Cluster::prepare(3, |_| {});
    let text = fs::read_to_string(cluster.file()).unwrap();
    fs::write(cluster.file(), format!("session-memory-max: 1M\n{text}")).unwrap();
    cluster.start_all().await;
    let mut user = cluster.user();
    assert_eq!(user.count().await.0, 1);
    let mut with_session = 0;
    loop {
        let mut visitor = cluster.user();
        assert_eq!(visitor.count().await.0, 1, "each is served");
        if visitor.cookie.is_none() {
            break;
        }
        with_session += 1;
        assert!(with_session < 1000, "three quarters of a megabyte are full");
    }
    assert!(with_session > 200, "{with_session}");
    assert_eq!(user.count().await.0, 2);
    // The same after a server has died; not the leader, whose end new sessions need not wait for.
    let leader = cluster.hub().leader(PATIENCE).await.unwrap();
    let other = ["app-a", "app-b"].into_iter().find(|id| *id != leader.as_str()).unwrap();
    cluster.kill(other).await;
    let mut visitor = cluster.user();
    assert_eq!(visitor.count().await.0, 1);
    assert_eq!(visitor.cookie, None);
    assert_eq!(user.count().await.0, 3);
}

/// A call of the app API whose message never comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_app_api_reads_nothing_of_whom_it_does_not_know() {
    let cluster = Cluster::start(1).await;
    let socket = cluster.folder().join("data/app-a/run/api.sock");
    let stream = tokio::net::UnixStream::connect(socket).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut calls, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let never =
        futures_util::stream::pending::<Result<hyper::body::Frame<bytes::Bytes>, std::convert::Infallible>>();
    let call = hyper::Request::post("http://app-a/copal.app.v1.Sessions/Update")
        .header("content-type", "application/grpc")
        .header("copal-token", "a guess")
        .body(http_body_util::StreamBody::new(never))
        .unwrap();
    let refused =
        tokio::time::timeout(PATIENCE, calls.send_request(call)).await.expect("it waits for the message");
    // UNAUTHENTICATED.
    assert_eq!(refused.unwrap().headers()["grpc-status"], "16");
}
