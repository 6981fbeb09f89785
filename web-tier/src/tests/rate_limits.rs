//! `rate-limit` and `connection-limit`, as clients meet them.

use super::{
    backend::{echo, gated},
    cluster::Cluster,
    rules::hosts,
};
use crate::LimitReport;
use common::config::{Config, HttpListener};
use std::sync::Arc;

async fn cluster(dispatch: &str) -> Cluster {
    let folder = tempfile::tempdir().unwrap();
    let hosts = hosts(folder.path(), dispatch);
    Cluster::start_with([echo("a")], |config: &mut Config| config.clusters[1].hosts = hosts).await
}

fn limits(cluster: &Cluster) -> Vec<LimitReport> {
    cluster.web.limits()
}

#[tokio::test]
async fn who_asks_more_often_is_told_when_to_come_back() {
    let cluster = cluster("{rate-limit: {rate: 2/h, name: shop}}, {load-balance: {cluster: app-tier}}").await;
    let mut client = cluster.client().await;
    let first = client.ask("GET /", "").await;
    assert!(first.status == 200 && first.has("ratelimit-policy: \"shop\";q=2;w=3600"), "{}", first.head);
    assert!(first.has("ratelimit: \"shop\";r=1;t=1800"), "{}", first.head);
    assert_eq!(client.ask("GET /", "").await.status, 200);
    let refused = client.ask("POST /", "Content-Length: 3\r\n\r\nabc").await;
    assert!(refused.status == 429 && refused.has("retry-after: 1800"), "{}", refused.head);
    assert!(refused.has("ratelimit: \"shop\";r=0;t=3600"), "{}", refused.head);
    // Over another connection, and on this one, which stays open.
    assert_eq!(cluster.ask("GET /", "").await.status, 429);
    assert_eq!(client.ask("GET /", "").await.status, 429);
    let report = limits(&cluster).remove(0);
    assert_eq!((report.name.as_str(), report.passed, report.refused, report.keys), ("shop", 2, 3, 1));
    assert_eq!((report.allows.as_str(), report.kind), ("2/h, burst 2", "rate-limit"));
    assert_eq!(report.most_refused, [("127.0.0.1".to_owned(), 3)]);
}

#[tokio::test]
async fn keys_rules_and_conditions_have_limits_of_their_own() {
    let cluster = cluster(
        "{rate-limit: {rate: 1/h, by: {header: X-Key}, regexp: '^/api'}}, \
         {rate-limit: {rate: 1/h, by: path, if: {method: POST}}}, {load-balance: {cluster: app-tier}}",
    )
    .await;
    let status = async |line: &str, fields: &str| cluster.ask(line, fields).await.status;
    assert_eq!(status("GET /api", "X-Key: one\r\n").await, 200);
    assert_eq!(status("GET /api", "X-Key: one\r\n").await, 429);
    assert_eq!(status("GET /api", "X-Key: two\r\n").await, 200);
    for _ in 0..3 {
        assert_eq!(status("GET /api", "").await, 200, "without the header nothing is counted");
        assert_eq!(status("GET /other", "X-Key: one\r\n").await, 200, "it is another path");
    }
    assert_eq!(status("POST /other", "Content-Length: 0\r\n").await, 200);
    assert_eq!(status("POST /other", "Content-Length: 0\r\n").await, 429);
    assert_eq!(status("POST /others", "Content-Length: 0\r\n").await, 200);
    let both = cluster.ask("POST /api/x", "X-Key: three\r\nContent-Length: 0\r\n").await;
    let policy = "ratelimit-policy: \"rate-limit\";q=1;w=3600, \"rate-limit-2\";q=1;w=3600";
    assert!(both.status == 200 && both.has(policy), "{}", both.head);
}

#[tokio::test]
async fn so_many_requests_at_a_time() {
    let (backend, gate, mut asked) = gated();
    let folder = tempfile::tempdir().unwrap();
    let hosts = hosts(folder.path(), "{connection-limit: {max: 2}}, {load-balance: {cluster: app-tier}}");
    let cluster = Cluster::start_with([backend], |config| config.clusters[1].hosts = hosts).await;
    let (mut one, mut two) = (cluster.client().await, cluster.client().await);
    one.send("GET /1 HTTP/1.1\r\nHost: h\r\n\r\n").await;
    two.send("GET /2 HTTP/1.1\r\nHost: h\r\n\r\n").await;
    asked.recv().await.unwrap();
    asked.recv().await.unwrap();
    let refused = cluster.ask("GET /3", "").await;
    assert!(refused.status == 429 && refused.has("retry-after: 1"), "{}", refused.head);
    assert_eq!(limits(&cluster)[0].keys, 1);
    gate.add_permits(3);
    assert_eq!((one.answer().await.status, two.answer().await.status), (200, 200));
    // A client that has its answer may ask again at once: its request has ended by then.
    assert_eq!(one.ask("GET /4", "").await.status, 200);
    // One that leaves is none any more.
    two.send("GET /5 HTTP/1.1\r\nHost: h\r\n\r\n").await;
    asked.recv().await.unwrap();
    asked.recv().await.unwrap();
    two.reset();
    while limits(&cluster)[0].keys > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_reload_goes_on_counting_and_workers_count_together() {
    let folder = tempfile::tempdir().unwrap();
    let rules = "{rate-limit: {rate: 4/h}}, {load-balance: {cluster: app-tier}}";
    let hosts = hosts(folder.path(), rules);
    let mut made = None;
    let mut cluster = Cluster::start_with([echo("a")], |config: &mut Config| {
        config.clusters[1].hosts = hosts;
        config.clusters[1].workers = std::num::NonZeroUsize::new(3);
        made = Some(config.clone());
    })
    .await;
    let mut passed = 0;
    for _ in 0..3 {
        passed += usize::from(cluster.ask("GET /", "").await.status == 200);
    }
    let mut config = made.unwrap();
    config.clusters[1].servers[0].http = vec![HttpListener::plain("127.0.0.1", 0)];
    cluster.web.reload(Arc::new(config)).await.unwrap();
    for _ in 0..5 {
        passed += usize::from(cluster.ask("GET /", "").await.status == 200);
    }
    assert_eq!(passed, 4);
}

#[tokio::test]
async fn no_spelling_of_a_path_is_another_one() {
    let cluster = cluster(
        "{rate-limit: {rate: 1/h, regexp: '\\.login$'}}, {rate-limit: {rate: 1/h, by: path, regexp: '^/path'}}, {load-balance: {cluster: app-tier}}",
    )
    .await;
    for (path, expected) in
        [("/x;y.login", 200), ("/x.login", 429), ("/path/a", 200), ("/path/a;x=1", 429), ("/path/%61", 429)]
    {
        assert_eq!(cluster.ask(&format!("GET {path}"), "").await.status, expected, "{path}");
    }
}
