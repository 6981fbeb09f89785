//! The story of `examples/cluster-demo`, in Rust and in Python: the server with the daemon is killed again and again, and everything goes on where it was.

use crate::{
    cluster::{Cluster, PATIENCE, copal},
    tell::tell,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// What its page says.
#[derive(Debug, Clone, Copy)]
struct Page {
    sent: u64,
    received: u64,
    jobs: u64,
}

async fn page(cluster: &Cluster) -> Option<Page> {
    let answer = cluster.user().request(hyper::Method::GET, "/").await.ok()?;
    let words: Vec<&str> = answer.body.split_whitespace().collect();
    let [sent, "messages", "sent,", received, "received,", jobs, "jobs", "run"] = words[..] else {
        return None;
    };
    let [sent, received, jobs] = [sent, received, jobs].map(|it| it.parse().unwrap());
    Some(Page { sent, received, jobs })
}

/// Waits until the page says so.
async fn until(cluster: &Cluster, what: &str, is_so: impl Fn(&Page) -> bool) -> Page {
    let found = async {
        loop {
            if let Some(page) = page(cluster).await {
                assert!(page.received <= page.sent, "a message was counted twice: {page:?}");
                if is_so(&page) {
                    return page;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// The server that runs the daemon now.
async fn holder(cluster: &Cluster) -> String {
    let mut watch = cluster.hub().watch();
    let held = watch
        .leases
        .wait_for(|all| all.as_ref().is_some_and(|all| all.keys().any(|(_, name)| name == "counter")));
    let held = tokio::time::timeout(PATIENCE, held).await.expect("someone runs the daemon").unwrap();
    let lease = held.as_ref().unwrap().iter().find(|((_, name), _)| name == "counter").unwrap().1;
    lease.server.clone()
}

async fn story(command: &[&str], lines: &str) {
    let mut cluster = Cluster::prepare(3, |_| {});
    cluster.configuration.command = command.iter().map(|it| (*it).to_owned()).collect();
    cluster.configuration.app =
        vec!["health: {path: /healthz, interval: 1s, start-timeout: 30s}".to_owned(), lines.to_owned()];
    cluster.write();
    cluster.start_all().await;
    let seed = rand::random::<u64>();
    tell(&format!("the cluster-demo's servers are killed by the seed {seed}"));
    let mut dice = StdRng::seed_from_u64(seed);
    let mut user = cluster.user();
    assert_eq!(user.get("/count").await.body, "count 1\n");
    let mut before = until(&cluster, "it runs", |it| it.received >= 3 && it.jobs >= 1).await;
    for count in 2..4 {
        tokio::time::sleep(Duration::from_millis(dice.random_range(0..200))).await;
        let victim = holder(&cluster).await;
        cluster.kill(&victim).await;
        // Another goes on with the numbers where they were.
        let after = until(&cluster, "another server goes on", |it| {
            it.received >= before.received + 5 && it.jobs > before.jobs
        });
        let after = after.await;
        tell(&format!("killed {victim} at {before:?}; then {after:?}"));
        before = after;
        assert_eq!(user.get("/count").await.body, format!("count {count}\n"), "seed {seed}");
        let squares = user.get("/squares").await.body;
        assert!(squares.starts_with("squared 1 to 100: their sum is 338350, "), "seed {seed}: {squares}");
        cluster.start_one(&victim).await;
    }
    // What was sent is received, but for a number that was counted and whose server died before it could send it.
    until(&cluster, "all that was sent is received", |it| it.sent - it.received <= 2).await;
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

/// What `app.yaml` of an example declares, with a job that comes more often.
fn declared(example: &str) -> String {
    let text = std::fs::read_to_string(self::example(example).join("app.yaml")).unwrap();
    let lines = text.split_once("\nqueues:").unwrap().1;
    assert!(["\npipelines:", "\njobs:", "\ndaemons:"].iter().all(|key| lines.contains(key)), "{text}");
    let lines = format!("queues:{lines}").replace("every: 20s", "every: 300ms, retry: {delay: 50ms}");
    // Tests are less patient than the demo.
    lines
        .replace("concurrency: 4}", "concurrency: 4, retry: {delay: 50ms}}")
        .replace("stop}]", "stop, lease: 2s}]")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cluster_demo_goes_on_whichever_server_dies() {
    let copal = copal();
    let example = std::fs::read_to_string(example("cluster-demo").join("app.yaml")).unwrap();
    assert!(example.contains("\ndeclare-at-start: true\n"), "{example}");
    let lines = "declare-at-start: true";
    story(&[copal.to_str().unwrap(), "cluster-demo-app"], lines).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_so_does_the_one_in_python() {
    let python = ["/usr/bin/python3", "/usr/local/bin/python3"].into_iter().find(|it| Path::new(it).exists());
    let Some(python) = python else {
        tell("skipped the cluster-demo in Python: there is no python3 in /usr");
        return;
    };
    let example = example("cluster-demo-python").join("app.py");
    let script = std::fs::canonicalize(example).unwrap();
    story(&[python, "-B", script.to_str().unwrap()], &declared("cluster-demo-python")).await;
}
