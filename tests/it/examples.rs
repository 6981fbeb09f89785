//! The apps of `examples/` that no other test runs.

use crate::cluster::Cluster;
use hyper::{Method, StatusCode};
use std::{fs, path::Path, process::Command};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_app_starts_counts_and_stops() {
    if Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: no python3");
        return;
    }
    let mut cluster = Cluster::prepare(1, |_| {});
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/python");
    for file in ["app.yaml", "app.py"] {
        fs::copy(example.join(file), cluster.folder().join("app").join(file)).unwrap();
    }
    cluster.start_all().await;
    let mut user = cluster.user();
    for visit in 1..=3 {
        let page = user.get("/").await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(page.body.contains(&format!("Visit {visit} on app-a")), "{page:?}");
    }
    let head = user.request(Method::HEAD, "/").await.unwrap();
    assert_eq!((head.status, head.body.as_str()), (StatusCode::OK, ""));
    assert_eq!(user.get("/missing").await.status, StatusCode::NOT_FOUND);
    assert_eq!(cluster.stop("app-a").await.code(), Some(0));
    let log = fs::read_to_string(cluster.folder().join("app-a.log")).unwrap();
    assert!(log.contains("listening on port"), "{log}");
    assert!(!log.contains("Traceback"), "{log}");
}
