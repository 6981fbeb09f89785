//! Apps whose process declares what it takes when it starts (`PUT /v1/app`), as whole servers have them.

use crate::{
    cluster::{Cluster, PATIENCE},
    daemons::{Local, call, connect},
    queues::{APP, handled},
    tell::tell,
};
use hyper::Method;
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// What the app declares.
fn declared() -> Value {
    json!({
        "queues": [{"name": "work", "path": "/on/work", "concurrency": 2, "retry": {"attempts": 3}}],
        "jobs": [{"name": "often", "path": "/on/often", "every": "1s"}],
        "topics": [{"name": "orders", "path": "/on/order"}],
        "pipelines": [{"name": "squares", "steps": [{"name": "square", "path": "/on/square"}]}],
        "daemons": [{"name": "sleeper", "command": ["/bin/sleep", "1000"]}],
        "caches": [{"name": "prices", "mode": "local"}],
    })
}

/// A server with the app of the queues, which has declared nothing yet: `lines` are in its app.yaml. None without Python.
fn launch(lines: &str, start_timeout: &str) -> Option<(Cluster, PathBuf)> {
    let python = ["/usr/bin/python3", "/usr/local/bin/python3"].into_iter().find(|it| Path::new(it).exists());
    let Some(python) = python else {
        tell("skipped a test of an app in Python: there is no python3 in /usr");
        return None;
    };
    let mut cluster = Cluster::prepare(1, |_| {});
    let (script, out) = (cluster.folder().join("app.py"), cluster.folder().join("out"));
    fs::write(&script, APP).unwrap();
    fs::write(&out, "").unwrap();
    let word = |path: &Path| path.to_str().unwrap().to_owned();
    cluster.configuration.command = [python, "-B", &word(&script), &word(&out)].map(str::to_owned).into();
    let health = format!("health: {{path: /healthz, start-timeout: {start_timeout}}}");
    cluster.configuration.app = vec![health, lines.to_owned()];
    cluster.write();
    for server in cluster.configuration.servers() {
        cluster.launch(&server);
    }
    Some((cluster, out))
}

/// The app's process, as it calls its server: it writes down how, when it starts.
async fn app(out: &Path) -> Local {
    let file = PathBuf::from(format!("{}.app-a", out.display()));
    let written = async {
        loop {
            match fs::read_to_string(&file) {
                Ok(text) => return serde_json::from_str::<Value>(&text).unwrap(),
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    Local::of(&tokio::time::timeout(PATIENCE, written).await.expect("the app starts")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_declares_what_it_takes_when_it_starts() {
    let Some((mut cluster, out)) = launch("declare-at-start: true", "30s") else { return };
    let mut app = app(&out).await;
    // What is wrong is said with its place, and changes nothing.
    for (wrong, expected) in [
        ("{\"queues\": [{\"name\": \"work\"}]}", "--> /v1/app:1:13"),
        ("{\n\t\"queue\": []}", "--> /v1/app:2:2"),
        ("{\"import\": \"/etc/passwd\"}", "`import`"),
        ("{\"jobs\": [{\"name\": \"a\", \"path\": \"/a\", \"cron\": \"1\"}]}", "cron"),
        ("[]", "no JSON object"),
        ("queues: []", "no JSON: "),
    ] {
        let (status, problem) = app.call(Method::PUT, "/v1/app", wrong).await;
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(status == 400 && detail.contains(expected), "{wrong}: {problem}");
    }
    let large = format!("{{\"queues\": [{}]}}", " ".repeat(100_000));
    assert_eq!(app.call(Method::PUT, "/v1/app", &large).await.0, 413);
    // Before that it takes no requests: its server does not even answer yet.
    let log = cluster.folder().join("app-a.log");
    assert!(!fs::read_to_string(&log).unwrap().contains("app healthy"));
    let answer = call(&mut connect(&cluster.web()).await, Method::POST, "/on/work", "{}", &[]).await;
    assert_eq!(answer.0, 503);
    assert_eq!(app.call(Method::PUT, "/v1/app", &declared().to_string()).await.0, 204);
    cluster.start_all().await;
    assert_eq!(app.call(Method::PUT, "/v1/app", &declared().to_string()).await.0, 204, "the same again");
    let mut turned = declared();
    turned["queues"].as_array_mut().unwrap().insert(0, json!({"name": "a", "path": "/on/a"}));
    let (status, problem) = app.call(Method::PUT, "/v1/app", &turned.to_string()).await;
    assert_eq!((status, &problem["code"]), (409, &json!("declared-otherwise")));

    let (status, answer) = app.call(Method::POST, "/v1/queues/work?wait=10s", "{}").await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(app.call(Method::POST, "/v1/topics/orders", "{}").await.0, 202);
    let run = json!({"do": "square", "n": 7}).to_string();
    let answer = app.request(Method::POST, "/v1/pipelines/squares?wait=10s", &run, &[]).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "49"));
    let mut seen = Vec::new();
    while !["/on/work", "/on/often", "/on/order", "/on/square"]
        .iter()
        .all(|it| seen.iter().any(|is| is == it))
    {
        let lines = handled(&out, seen.len() + 1).await;
        seen = lines.iter().map(|it| it["path"].as_str().unwrap().to_owned()).collect();
    }
    // No client gets there.
    let mut client = connect(&cluster.web()).await;
    for path in ["/on/work", "/on/often", "/on/order", "/on/square"] {
        assert_eq!(call(&mut client, Method::POST, path, "{}", &[]).await.0, 404, "{path}");
    }
    let begun = async {
        while !fs::read_to_string(&log).unwrap().contains("the daemon has started") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, begun).await.expect("its daemon runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_whose_file_declares_it_all_is_told_so() {
    let Some((mut cluster, out)) = launch("queues: [{name: work, path: /on/work}]", "30s") else { return };
    cluster.start_all().await;
    let mut app = app(&out).await;
    let (status, problem) = app.call(Method::PUT, "/v1/app", &declared().to_string()).await;
    assert_eq!((status, &problem["code"]), (409, &json!("not-at-start")));
    let (status, _) = app.call(Method::GET, "/v1/app", "").await;
    assert_eq!(status, 405);
}

/// One that never does is not healthy, and it is said why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_declares_nothing_is_not_healthy() {
    let Some((cluster, _)) = launch("declare-at-start: true", "300ms") else { return };
    let log = cluster.folder().join("app-a.log");
    let told = async {
        loop {
            let text = fs::read_to_string(&log).unwrap_or_default();
            if text.contains("it has not declared what it takes: PUT $COPAL_API/v1/app (`declare-at-start`)")
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("it is said");
}
