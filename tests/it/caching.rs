//! Answers that web-tiers keep, over real processes: a deployment makes them forgotten, a purge reaches all web-tiers, and says which it did not.

use crate::{
    client::connect,
    cluster::{Cluster, PATIENCE},
    tokens::{OPS, curl, deploying, rolled_out, tar},
    tool::tool_as,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, header::HOST};
use rustix::process::Signal;
use std::time::Duration;
use tokio::time::{sleep, timeout};

const TAG: &str = "production/webapp/default/site";

/// The body, and what `Cache-Status` says.
async fn get(address: &str, path: &str) -> (String, String) {
    let request = Request::get(path).header(HOST, "shop.example").body(Full::<Bytes>::default()).unwrap();
    let mut connection = connect(address).await;
    let asked = async {
        let answer = connection.send_request(request).await.unwrap();
        let status = answer.headers().get("cache-status").map(|it| it.to_str().unwrap().to_owned());
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (String::from_utf8_lossy(&body).into_owned(), status.unwrap_or_default())
    };
    timeout(PATIENCE, asked).await.expect("an answer")
}

async fn deploy(address: &str, text: &str) {
    let body = tar(&[("index.html", text.as_bytes()), ("page.html", text.as_bytes())]);
    let line = format!("PUT /admin/api/v1/apps/{TAG}/archive");
    let (status, answer) = curl(address, &line, OPS, body).await;
    assert!((200..300).contains(&status), "{status}: {answer}");
    rolled_out(address, TAG).await;
}

/// A cluster with two web-tiers that keep files for an hour, and the app `site`.
async fn start() -> (Cluster, [String; 2]) {
    start_with("").await
}

/// The same with more keys of `proxy-cache`.
async fn start_with(keys: &str) -> (Cluster, [String; 2]) {
    let cluster = Cluster::start_with(1, |configuration| {
        deploying(configuration);
        configuration.root = false;
        configuration.web_tier = vec![format!("proxy-cache: {{{keys}cache-mapping: [{{max-age: 1h}}]}}")];
    })
    .await;
    let webs = [cluster.web_of(0), cluster.web_of(1)];
    deploy(&webs[0], "one").await;
    kept(&webs, "one").await;
    (cluster, webs)
}

/// All have the page with this text.
async fn kept(webs: &[String], text: &str) {
    for web in webs {
        // What is told of the deployment may make it forgotten once more.
        let hit = async {
            while !get(web, "/site/page.html").await.1.contains("hit") {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, hit).await.expect("it is kept");
        assert_eq!(get(web, "/site/page.html").await.0, text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deployments_and_purges_make_web_tiers_forget() {
    let (_cluster, webs) = start().await;
    deploy(&webs[1], "two").await;
    let new = async {
        for web in &webs {
            while get(web, "/site/page.html").await.0 != "two" {
                sleep(Duration::from_millis(20)).await;
            }
        }
    };
    timeout(PATIENCE, new).await.expect("the old answers are forgotten");
    kept(&webs, "two").await;

    let tool = async |user: &str, line: &str| {
        tool_as(&format!("http://{}/admin", webs[0]), user, "password", line).await
    };
    let said = tool("ops", "cache purge http://shop.example/site/page.html").await.succeeds();
    assert_eq!(said, "web-a: 1 entry\nweb-b: 1 entry\n");
    for web in &webs {
        assert!(get(web, "/site/page.html").await.1.ends_with("stored"));
    }
    let table = tool("ops", "cache status").await.succeeds();
    assert!(
        table.starts_with("WEB-TIER") && table.lines().count() == 3 && table.contains("268.4 MB"),
        "{table}"
    );
    tool("eve", "cache purge --all").await.fails_with(1, &["operate"]);
    tool("ops", "cache purge").await.fails_with(2, &["--prefix"]);
    tool("ops", "cache purge --pattern (").await.fails_with(1, &["regular expression"]);
    let metrics = curl(&webs[0], "GET /admin/metrics", OPS, "").await.1.to_string();
    assert!(
        metrics.contains("copal_cache_requests_total") && metrics.contains("copal_cache_bytes"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_tier_that_was_not_there_is_named_and_catches_up() {
    let (mut cluster, webs) = start().await;
    let purge =
        async |line: &str| tool_as(&format!("http://{}/admin", webs[0]), "ops", "password", line).await;
    cluster.process("web-b").signal(Signal::STOP);
    let said = purge("cache purge --prefix /site").await;
    cluster.process("web-b").signal(Signal::CONT);
    assert_eq!((said.code, said.stdout.as_str()), (Some(1), "web-a: 1 entry\n"), "{said:?}");
    assert!(
        said.stderr.contains("web-b has not answered") && said.stderr.contains("hears the hub"),
        "{said:?}"
    );
    let caught_up = async {
        while !get(&webs[1], "/site/page.html").await.1.ends_with("stored") {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, caught_up).await.expect("it hears of the purge from the hub");
    // It is done once: what is kept since then stays.
    kept(&webs, "one").await;
    // It is written down behind the answer.
    let noted = async {
        loop {
            let audit = curl(&webs[0], "GET /admin/api/v1/audit", OPS, "").await.1.to_string();
            if audit.contains("purge") && audit.contains("no answer from web-b, which will hear of it") {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, noted).await.expect("the audit log says who has purged");
    // Without a hub (here these three), who is there forgets all the same.
    cluster.kill("app-a").await;
    cluster.kill("web-b").await;
    let said = purge("cache purge --all").await;
    assert_eq!((said.code, said.stdout.as_str()), (Some(1), "web-a: 1 entry\n"), "{said:?}");
    assert!(said.stderr.contains("the hub has not written it down"), "{said:?}");
}

/// What is kept on disk, by the page's numbers: entries, and answers that were found there.
async fn on_disk(web: &str, server: usize) -> (u64, u64) {
    let (_, cache) = curl(web, "GET /admin/api/v1/cache", OPS, "").await;
    let it = &cache["web_tiers"][server];
    (it["disk"]["entries"].as_u64().unwrap_or(0), it["from_disk"].as_u64().unwrap_or(0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_on_disk_survives_a_kill_and_no_deployment_or_purge_that_came_meanwhile() {
    let (mut cluster, webs) = start_with("disk-size: 64M, ").await;
    let reaches = async |wanted: fn((u64, u64)) -> bool| {
        let reached = async {
            while !wanted(on_disk(&webs[0], 1).await) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, reached).await.expect("it is on disk");
    };
    reaches(|(entries, _)| entries > 0).await;
    cluster.kill("web-b").await;
    cluster.start_one("web-b").await;
    kept(&webs, "one").await;
    reaches(|(_, found)| found > 0).await;
    // Purged while it was away.
    cluster.kill("web-b").await;
    let target = format!("http://{}/admin", webs[0]);
    tool_as(&target, "ops", "password", "cache purge http://shop.example/site/page.html").await;
    cluster.start_one("web-b").await;
    assert!(get(&webs[1], "/site/page.html").await.1.ends_with("stored"));
    kept(&webs, "one").await;
    reaches(|(entries, _)| entries > 0).await;
    // Another version was deployed while it was away.
    cluster.kill("web-b").await;
    deploy(&webs[0], "two").await;
    cluster.start_one("web-b").await;
    assert_eq!(get(&webs[1], "/site/page.html").await.0, "two");
}
