//! A web-tier server is upgraded while users are there: another process takes its sockets over, and no request fails. Broken programs
//! and files change nothing.

mod service_manager;
mod traffic;

use crate::{
    cluster::{Cluster, Configuration, PATIENCE, copal},
    tool::Said,
};
use rustix::process::{Pid, Signal, kill_process};
use std::{fs, os::unix::fs::symlink, path::PathBuf, time::Instant};
use tokio::{process::Command, time::timeout};

/// A hub of one server, which has all apps, and a web-tier beside it.
fn apart(configuration: &mut Configuration) {
    configuration.lines.push("triad: [app-a]".into());
}

/// The process that is `web-a` by its data folder.
fn holder(cluster: &Cluster) -> i32 {
    let lock = fs::read_to_string(cluster.folder().join("data/web-a/lock")).unwrap();
    lock.trim().parse().unwrap()
}

/// `web-a`, whichever process that is.
fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Asks `web-a` to hand over and waits for the process that has taken over.
async fn hand_over(cluster: &Cluster) -> i32 {
    let before = holder(cluster);
    signal(before, Signal::USR2);
    until("another process takes over", async || holder(cluster) != before).await;
    holder(cluster)
}

/// Waits for what another process does.
async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// What `copal upgrade` says of a server.
async fn upgrade(cluster: &Cluster, id: &str) -> Said {
    let mut command = Command::new(copal());
    command.arg("upgrade").arg("--conf").arg(cluster.file()).args(["--server", id]);
    let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    Said {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The program that the cluster's servers are started by, to be exchanged.
fn program(cluster: &Cluster) -> PathBuf {
    cluster.folder().join("copal")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_or_a_file_that_is_broken_leaves_the_old_process_serving() {
    let mut cluster = Cluster::prepare(1, apart);
    let program = program(&cluster);
    symlink(copal(), &program).unwrap();
    cluster.configuration.program.clone_from(&program);
    cluster.start_all().await;
    let mut user = cluster.user();
    assert_eq!(user.count().await.0, 1);
    let old = holder(&cluster);

    fs::remove_file(&program).unwrap();
    let said = upgrade(&cluster, "web-a").await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.stderr.contains(&format!("process {old} goes on: {} can't be started", program.display())),
        "{said:?}"
    );
    symlink("/bin/false", &program).unwrap();
    let said = upgrade(&cluster, "web-a").await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.contains("the new process ended with exit status: 1"), "{said:?}");
    assert_eq!(user.count().await.0, 2);

    fs::remove_file(&program).unwrap();
    symlink(copal(), &program).unwrap();
    let right = fs::read_to_string(cluster.file()).unwrap();
    fs::write(cluster.file(), right.replace("workers: 2", "workers: two")).unwrap();
    let said = upgrade(&cluster, "web-a").await;
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.stderr.contains("workers"), "{said:?}");
    // The process is asked all the same, as by a service manager: its new one reads the same file.
    signal(old, Signal::USR2);
    let log = cluster.folder().join("web-a.log");
    let told = "not upgraded, this process goes on: the new process ended with exit status: 2";
    until("it says why", async || fs::read_to_string(&log).unwrap().contains(told)).await;
    // One whose new listener is somebody else's.
    let taken =
        format!("port: 8080}}, {{address: {}, port: 6800}}]", cluster.web().split(':').next().unwrap());
    fs::write(cluster.file(), right.replace("port: 8080}]", &taken)).unwrap();
    signal(old, Signal::USR2);
    let told = "not upgraded, this process goes on: the new process ended with exit status: 1";
    until("it says why", async || fs::read_to_string(&log).unwrap().contains(told)).await;
    assert_eq!((user.count().await.0, holder(&cluster)), (3, old));

    fs::write(cluster.file(), right).unwrap();
    let said = upgrade(&cluster, "web-a").await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let new = holder(&cluster);
    let expected =
        format!("web-a  process {new} has taken over from {old}, which ends when its connections have\n");
    assert_eq!((said.stdout, old == new), (expected, false));
    assert!(cluster.ended("web-a").await.success());
    assert_eq!(user.count().await.0, 4);
    let said = upgrade(&cluster, "app-a").await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.contains("has no public listener"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_the_hub_is_not_taken_over() {
    // Of two servers both are the hub's.
    let cluster = Cluster::start(1).await;
    let said = upgrade(&cluster, "web-a").await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.stderr.contains("is one of the hub's, which two processes can't share: restart it"),
        "{said:?}"
    );
    assert_eq!(cluster.user().count().await.0, 1);
}
