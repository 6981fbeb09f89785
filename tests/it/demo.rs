//! `copal demo`, as a newcomer meets it.

use crate::cluster::{Cluster, PATIENCE, copal};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::BTreeSet,
    net::{TcpListener, UdpSocket},
    process::Stdio,
    sync::Mutex,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// A running demo.
struct Demo {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Demo {
    async fn start(more: &[&str]) -> (Self, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let offset = free_offset();
        let mut child = Command::new(copal())
            .args(["demo", "--port-offset", &offset.to_string(), "--data-dir"])
            .arg(folder.path())
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut demo = Self { child, lines, port: 8080 + offset, _folder: folder };
        let said = demo.until("Ctrl-C stops.").await;
        (demo, said)
    }

    async fn until(&mut self, end: &str) -> Vec<String> {
        let mut said = Vec::new();
        loop {
            let line = timeout(PATIENCE, self.lines.next_line()).await.expect("the demo speaks").unwrap();
            let Some(line) = line else { panic!("the demo ended: {said:?}") };
            let done = line.contains(end);
            said.push(line);
            if done {
                return said;
            }
        }
    }

    fn user(&self) -> crate::client::User {
        crate::client::User::new(format!("127.0.0.1:{}", self.port))
    }

    async fn interrupt(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        let status = timeout(PATIENCE, self.child.wait()).await.expect("the demo stops").unwrap();
        assert!(status.success(), "{status}");
    }
}

/// An offset at which all of the demo's ports are free, and will be: no other demo of this process is given one of them.
pub(crate) fn free_offset() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap();
    loop {
        let offset = 10_000 + rand::random::<u16>() % 10_000;
        let ports = [6800, 6801, 6802, 6803, 8080, 8443].map(|it| it + offset);
        // HTTP/3 is over UDP.
        let is_free = |port: &u16| {
            !given.contains(port)
                && TcpListener::bind(("127.0.0.1", *port)).is_ok()
                && UdpSocket::bind(("127.0.0.1", *port)).is_ok()
        };
        if ports.iter().all(is_free) {
            given.extend(ports);
            return offset;
        }
    }
}

#[tokio::test]
async fn in_one_process_it_counts_and_stops() {
    let (demo, said) = Demo::start(&[]).await;
    assert!(
        said.iter().any(|line| line.contains(&format!("web-a  http://127.0.0.1:{}/", demo.port))),
        "{said:?}"
    );
    let mut user = demo.user();
    assert!(user.get("/").await.body.contains(r#"href="count""#));
    for n in 1..=3 {
        assert_eq!(user.count().await.0, n);
    }
    demo.interrupt().await;
}

#[tokio::test]
async fn with_processes_a_user_kills_the_server_that_answered() {
    let (mut demo, said) = Demo::start(&["--processes", "--restart"]).await;
    let mut user = demo.user();
    user.count().await;
    let (count, server) = user.count().await;
    assert_eq!(count, 2);
    let line = said.iter().find(|line| line.starts_with(&server)).unwrap();
    let pid = line.rsplit("(pid ").next().unwrap().trim_end_matches(')').parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    let (count, other) = user.count().await;
    assert_eq!(count, 3);
    assert_ne!(other, server);
    demo.until("stopped").await;
    demo.until(&server).await;
    demo.interrupt().await;
}

#[test]
fn the_demos_file_is_valid() {
    let cluster = Cluster::prepare(1, |_| {});
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../conf/demo.yaml");
    let output = std::process::Command::new(copal())
        .args(["check", "--conf", file, "--data-dir"])
        .arg(cluster.folder())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
