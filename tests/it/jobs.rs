//! Jobs of whole servers: of each time one run, and no two at once, whatever is killed or stopped.

use crate::{
    cluster::PATIENCE,
    daemons::{Local, start_script},
    queues::{APP, handled, lines, local, until},
    tell::tell,
    tokens::deploying,
    tool::tool_as,
};
use hyper::Method;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

const OFTEN: &str = "jobs: [{name: often, path: /jobs/often, every: 200ms, retry: {delay: 50ms}}]";

/// The times for which it was run to its end, in order, each with how often that was.
fn runs(lines: &[Value]) -> BTreeMap<u64, usize> {
    let mut runs = BTreeMap::new();
    for line in lines {
        *runs.entry(line["headers"]["x-copal-due"].as_str().unwrap().parse().unwrap()).or_default() += 1;
    }
    runs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_each_time_one_run_though_servers_die() {
    let Some((mut cluster, out)) = start_script(APP, 3, OFTEN, |_| {}).await else { return };
    let first = &handled(&out, 2).await[0];
    let headers = &first["headers"];
    assert_eq!((&headers["x-copal-delivery"], &headers["x-copal-source"]), (&json!("job"), &json!("often")));
    assert_eq!((&first["path"], &first["message"]["job"]), (&json!("/jobs/often"), &json!("often")));
    let seed = rand::random::<u64>();
    tell(&format!("faults of a job's servers by the seed {seed}"));
    let mut dice = StdRng::seed_from_u64(seed);
    for fault in 0..4 {
        let ids = cluster.configuration.app_servers();
        let victim = if fault == 0 {
            cluster.hub().leader(PATIENCE).await.unwrap().to_string()
        } else {
            ids[dice.random_range(0..ids.len())].clone()
        };
        match fault % 2 {
            0 => cluster.kill(&victim).await,
            _ => drop(cluster.stop(&victim).await),
        }
        let done = lines(&out, "end").len();
        handled(&out, done + 4).await;
        cluster.start_one(&victim).await;
    }
    let (begun, ended) = (lines(&out, "begin"), lines(&out, "end"));
    let runs = runs(&ended);
    let again = runs.values().filter(|it| **it > 1).count();
    tell(&format!("{} times were run to the end, {again} of them more than once", runs.len()));
    // A second run to the end is of one whose server died before it had said so: each of the two kills explains one.
    assert!(again <= 2, "seed {seed}: {runs:?}");
    let times: Vec<u64> = runs.keys().copied().collect();
    assert!(times.windows(2).all(|it| (it[1] - it[0]).is_multiple_of(200)), "seed {seed}: it keeps its beat");
    // Begin and end by turns: those that were killed have begun and not ended.
    let mut spans: Vec<(f64, f64)> = Vec::new();
    for begin in &begun {
        let is_its = |end: &&Value| {
            end["server"] == begin["server"]
                && end["headers"]["x-copal-delivery-token"] == begin["headers"]["x-copal-delivery-token"]
        };
        let from = begin["ms"].as_f64().unwrap();
        let to = ended.iter().find(is_its).map_or(from, |it| it["ms"].as_f64().unwrap());
        spans.push((from, to));
    }
    spans.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert!(spans.windows(2).all(|it| it[0].1 <= it[1].0), "seed {seed}: two at once");
    assert_eq!(cluster.configuration.app_servers().len(), 3);
    let mut app = local(&out, "app-a").await;
    let (_, job) = app.call(Method::GET, "/v1/jobs/often", "").await;
    assert_eq!(
        (&job["every-ms"], &job["declared"], &job["paused"]),
        (&json!(200), &json!(true), &json!(false))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apps_make_jobs_that_publish_messages() {
    let lines_of_app = "queues: [{name: reports, path: /on/report}]";
    let Some((cluster, out)) = start_script(APP, 2, lines_of_app, |_| {}).await else { return };
    let [mut a, mut b] = Local::of_each_server(&cluster).await;
    let soon = json!({"in": "100ms", "queue": "reports", "message": {"json": {"n": 1}, "correlation": "c"}});
    let (status, made) = a.call(Method::PUT, "/v1/jobs/soon", &soon.to_string()).await;
    assert_eq!((status, &made["queue"]), (201, &json!("reports")), "{made}");
    let line = &handled(&out, 1).await[0];
    assert_eq!((&line["message"]["n"], &line["headers"]["x-copal-correlation"]), (&json!(1), &json!("c")));
    assert_eq!(line["headers"]["x-copal-meta-due"].as_str().unwrap().len(), 13);
    // It is over.
    assert_eq!(b.call(Method::GET, "/v1/jobs/soon", "").await.0, 404);
    let yearly = json!({"cron": "0 0 1 1 *", "timezone": "Europe/Berlin", "queue": "reports", "message": {"json": {"n": 2}}});
    assert_eq!(a.call(Method::PUT, "/v1/jobs/yearly", &yearly.to_string()).await.0, 201);
    assert_eq!(b.call(Method::PUT, "/v1/jobs/yearly", &yearly.to_string()).await.0, 200);
    let (_, seen) = b.call(Method::GET, "/v1/jobs/yearly", "").await;
    assert!(seen["next"].as_str().unwrap().ends_with("-12-31T23:00:00Z"), "{seen}");
    assert_eq!(b.call(Method::POST, "/v1/jobs/yearly/run", "").await, (202, json!({"runs-already": false})));
    assert_eq!(handled(&out, 2).await[1]["message"]["n"], 2);
    let (_, all) = a.call(Method::GET, "/v1/jobs", "").await;
    assert_eq!(all["jobs"].as_array().unwrap().len(), 1);
    assert_eq!(a.call(Method::DELETE, "/v1/jobs/yearly", "").await.0, 204);
    assert_eq!(a.call(Method::DELETE, "/v1/jobs/yearly", "").await.0, 404);
    assert_eq!(a.call(Method::POST, "/v1/jobs/yearly/run", "").await.0, 404);
    for (body, said) in
        [("{", "no JSON"), ("{\"every\": \"1s\"}", "job.queue is missing"), ("[]", "no object")]
    {
        let (status, problem) = a.call(Method::PUT, "/v1/jobs/wrong", body).await;
        assert!(status == 400 && problem["detail"].as_str().unwrap().contains(said), "{body}: {problem}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_see_jobs_and_pause_and_run_them() {
    let daily = "jobs: [{name: daily, path: /jobs/daily, cron: \"0 3 * * *\"}]";
    let Some((cluster, out)) = start_script(APP, 1, daily, deploying).await else { return };
    let mut app = Local::of_some_server(&cluster).await;
    let target = format!("http://{}/admin", cluster.web());
    let tool = async |words: &str| tool_as(&target, "ops", "password", words).await;
    let declared = async {
        loop {
            let listed = tool("job list").await.succeeds();
            if listed.contains("daily") {
                return listed;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let listed = tokio::time::timeout(PATIENCE, declared).await.expect("the app's job is known");
    assert!(listed.contains("0 3 * * *") && listed.contains("T03:00:00"), "{listed}");
    // It can run as soon as its app takes calls.
    until(&mut app, "job:daily", |it| it["consumers"].as_array().is_some_and(|it| !it.is_empty())).await;
    assert_eq!(tool("job run daily").await.succeeds().trim(), "daily runs");
    handled(&out, 1).await;
    assert_eq!(tool("job pause daily").await.succeeds().trim(), "daily is paused");
    assert!(tool("job list").await.succeeds().contains("paused"));
    assert_eq!(tool("job resume daily").await.succeeds().trim(), "daily is due as it says");
    let refused = tool("job run weekly").await;
    assert!(refused.code == Some(1) && refused.stderr.contains("there is no job"), "{}", refused.stderr);
    let refused = tool_as(&target, "eve", "password", "job run daily").await;
    assert!(refused.stderr.contains("needs `operate`"), "{}", refused.stderr);
    assert!(tool("audit").await.succeeds().contains("run-job"));
}
