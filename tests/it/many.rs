//! Ten thousand connections that say nothing, a thousand that say little: others are served.

use crate::{
    cluster::{Cluster, PATIENCE},
    tell::tell,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

const IDLE: usize = 10_000;
const SLOW: usize = 1_000;

/// Files that this process has open besides: the other tests'.
const OTHER_FILES: usize = 3_000;

/// As many connections as may be had, up to `wanted`; says so when that is less.
fn affordable(wanted: usize) -> usize {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = maximum.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let count = limit.saturating_sub(OTHER_FILES + SLOW).min(limit / 2).min(wanted);
    if count < wanted {
        tell(&format!(
            "{count} idle connections in place of {wanted}: a process may have {limit} files open here"
        ));
    }
    count
}

async fn open(address: &str) -> TcpStream {
    timeout(PATIENCE, TcpStream::connect(address)).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_clients_and_a_thousand_slow_ones_leave_room_for_others() {
    let idle = affordable(IDLE);
    let cluster = Cluster::start_with(1, |it| {
        it.server.push("request-header-timeout: 120s".into());
        it.server.push("keepalive-timeout: 120s".into());
    })
    .await;
    let (web, mut user) = (cluster.web(), cluster.user());
    user.count().await;
    let before = cluster.process("web-a").memory();
    let mut silent = Vec::with_capacity(idle);
    for _ in 0..idle {
        silent.push(open(&web).await);
    }
    let mut slow = Vec::with_capacity(SLOW);
    for _ in 0..SLOW {
        let mut stream = open(&web).await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: slow\r\nX-Slow: ").await.unwrap();
        slow.push(stream);
    }
    for wanted in 2..30 {
        assert_eq!(user.count().await.0, wanted, "served, and by its session");
        for stream in slow.iter_mut().skip(wanted as usize).step_by(30) {
            stream.write_all(b"x").await.unwrap();
        }
    }
    let grown = cluster.process("web-a").memory().saturating_sub(before);
    tell(&format!("{idle} idle and {SLOW} slow clients: the web tier grew by {} MB", grown >> 20));
    // Bounded by what each may hold: a buffer for the slow ones, next to nothing for the others.
    assert!(grown < 100 << 20, "{grown} bytes");
    let mut last = slow.pop().unwrap();
    last.write_all(b"\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    let reading = tokio::io::AsyncReadExt::read_to_string(&mut last, &mut answer);
    timeout(PATIENCE, reading).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "a slow one is served when it has asked: {answer}");
}
