//! SIGHUP to a real server: the file is read again while users are there.

use crate::cluster::{Cluster, PATIENCE};
use rustix::process::Signal;
use std::{fs, time::Instant};

/// Sends SIGHUP and asks until the answer to `path` has this status.
async fn hang_up_until(cluster: &mut Cluster, user: &mut crate::client::User, path: &str, status: u16) {
    cluster.process("web-a").signal(Signal::HUP);
    let deadline = Instant::now() + PATIENCE;
    while user.get(path).await.status.as_u16() != status {
        assert!(Instant::now() < deadline, "{path} never answered {status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_change_under_a_user_who_goes_on_counting_and_a_bad_file_changes_nothing() {
    let mut cluster = Cluster::start(1).await;
    let mut user = cluster.user();
    assert_eq!(user.count().await.0, 1);
    let file = cluster.folder().join("copal.yaml");
    let before = fs::read_to_string(&file).unwrap();
    assert!(before.contains("dispatch:"), "{before}");
    let rule = "dispatch:\n          - forbidden: {regexp: '^/closed'}";
    let place = before.rfind("dispatch:").unwrap();
    let (head, tail) = before.split_at(place);
    fs::write(&file, format!("{head}{rule}{}", tail.strip_prefix("dispatch:").unwrap())).unwrap();
    hang_up_until(&mut cluster, &mut user, "/closed", 403).await;
    assert_eq!(user.count().await.0, 2);

    fs::write(&file, "clusters: [{id: 5, servers: maybe}]").unwrap();
    cluster.process("web-a").signal(Signal::HUP);
    fs::write(&file, &before).unwrap();
    hang_up_until(&mut cluster, &mut user, "/closed", 404).await;
    assert_eq!(user.count().await.0, 3);
    assert_eq!(cluster.stop("web-a").await.code(), Some(0));
}
