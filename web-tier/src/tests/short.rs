//! This machine is short of something: no server is blamed for it.

use super::{backend::http, cluster::Cluster};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    fs::File,
    process::Command,
    sync::{Arc, atomic::Ordering},
};
use tokio::sync::{Semaphore, mpsc};

/// More than the test below has open.
const FILES: u64 = 200;

/// Set in the process of its own that the test below starts for itself.
const IN_A_CHILD: &str = "COPAL_TEST_SHORT_OF_FILES";

/// Runs the test below where its low limit hits no other test.
fn in_a_child() {
    let name = "tests::short::out_of_file_descriptors_servers_keep_their_sockets_and_their_good_name";
    let this = std::env::current_exe().unwrap();
    let run = Command::new(this).args(["--exact", name]).env(IN_A_CHILD, "1").output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success() && out.contains("1 passed"), "{out}{err}");
}

/// Opens files until no more can be.
fn all_files() -> Vec<File> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(FILES), maximum }).unwrap();
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

#[tokio::test]
async fn out_of_file_descriptors_servers_keep_their_sockets_and_their_good_name() {
    if std::env::var_os(IN_A_CHILD).is_none() {
        return in_a_child();
    }
    let gate = Arc::new(Semaphore::new(0));
    let (asked, mut was_asked) = mpsc::unbounded_channel();
    let opened = gate.clone();
    let backend = http(move |request| {
        let (gate, asked) = (opened.clone(), asked.clone());
        async move {
            if request.uri().path() == "/slow" {
                asked.send(()).unwrap();
                gate.acquire().await.unwrap().forget();
            }
            Response::new(Full::from(Bytes::from("ok")))
        }
    });
    let cluster = Cluster::start([backend]).await;
    let (mut slow, mut other) = (cluster.client().await, cluster.client().await);
    assert_eq!(other.ask("GET /", "").await.status, 200);
    slow.send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n").await;
    was_asked.recv().await.unwrap();
    let files = all_files();
    assert!(!files.is_empty());
    // The only socket is in use.
    for _ in 0..3 {
        assert_eq!(other.ask("GET /", "").await.status, 503);
    }
    let totals = cluster.web.totals();
    assert_eq!((totals.dials_short, totals.upstream_failures), (3, 0));
    gate.add_permits(1);
    assert_eq!(slow.answer().await.status, 200);
    assert_eq!(other.ask("GET /", "").await.status, 200, "by the socket that is idle now");
    drop(files);
    slow.send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n").await;
    was_asked.recv().await.unwrap();
    assert_eq!(other.ask("GET /", "").await.status, 200, "by a new one, at once");
    assert_eq!(cluster.backends[0].as_ref().unwrap().connections.load(Ordering::SeqCst), 2);
}
