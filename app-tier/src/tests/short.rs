//! This server is out of file descriptors: no app is blamed for it.

use super::{HEALTH, LIMIT, start};
use crate::{
    error::NOT_PROCESSED,
    health::{CheckError, check},
    proxy::Target,
};
use http::Request;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{fs::File, process::Command};

/// More than the test below has open.
const FILES: u64 = 200;

/// Set in the process of its own that the test below starts for itself.
const IN_A_CHILD: &str = "COPAL_TEST_SHORT_OF_FILES";

/// Runs the test below where its low limit hits no other test.
fn in_a_child() {
    let name = "tests::short::out_of_file_descriptors_an_app_stays_in_service_and_is_not_blamed";
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
async fn out_of_file_descriptors_an_app_stays_in_service_and_is_not_blamed() {
    if std::env::var_os(IN_A_CHILD).is_none() {
        return in_a_child();
    }
    let tier = start("well", HEALTH).unwrap();
    tier.tier.ready(LIMIT).await.unwrap();
    let listens = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let files = all_files();
    assert!(!files.is_empty());
    let target = Target::Tcp(listens.local_addr().unwrap());
    for path in [None, Some("/healthz")] {
        let checked = check(&target, path, LIMIT).await;
        assert!(matches!(checked, Err(CheckError::Short(_))), "{checked:?}: nothing is known of the app");
    }
    for path in ["/count", "/hello.txt"] {
        let answer = tier.ask(Request::get(path), "").await;
        assert_eq!(answer.status().as_u16(), 503, "{path}");
        assert_eq!(answer.headers()[NOT_PROCESSED], "short", "{path}");
    }
    drop(files);
    for (path, status) in [("/count", 200), ("/hello.txt", 200)] {
        assert_eq!(tier.get(path).await.0, status, "{path}: at once");
    }
    tier.tier.stop().await;
}
