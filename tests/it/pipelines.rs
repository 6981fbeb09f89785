//! Pipelines of whole servers: runs go from step to step, in parts and together again, and end once, whatever is killed.

use crate::{
    cluster::{Cluster, PATIENCE},
    daemons::{Local, connect, request, start_script},
    queues::{is_empty, lines, local, tool_metrics, until},
    tell::tell,
    tokens::deploying,
    tool::tool_as,
};
use hyper::Method;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// Squares numbers and sums them up, a step each; `/a` and `/b` do what their message says.
const APP: &str = r#"
import json, os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
out = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
me = os.environ["COPAL_SERVER"]
environment = json.dumps({"server": me, "api": os.environ["COPAL_API"], "token": os.environ["COPAL_TOKEN"]})
with open(f"{sys.argv[1]}.new.{me}", "w") as file:
    file.write(environment)
os.rename(f"{sys.argv[1]}.new.{me}", f"{sys.argv[1]}.{me}")
OUTCOME = {"content-type": "application/vnd.copal.outcome+json"}

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def reply(self, status, body, kind={"content-type": "application/json"}):
        body = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**kind, "content-length": len(body)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.reply(200, json.loads(environment))
    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        it = {"at": "begin", "server": me, "path": self.path, "headers": headers, "message": message}
        os.write(out, (json.dumps(it) + "\n").encode())
        if self.path == "/split":
            self.reply(200, {"fan-out": message["numbers"]}, OUTCOME)
        elif self.path == "/square":
            self.reply(200, message ** 2) if message >= 0 else self.reply(500, f"{message} is negative")
        elif self.path == "/sum":
            self.reply(200, sum(message))
        elif self.path == "/tell":
            self.reply(200, {"total": message})
        elif self.path == "/failed":
            self.reply(200, {"next": "square", "body": -message} if message > -100 else {"body": "too small"}, OUTCOME)
        else:
            do = message.get("do") if self.path == "/a" else None
            seen = {**message, "seen": message.get("seen", "") + self.path}
            if do == "halt":
                self.reply(200, {"halt": True, "body": seen}, OUTCOME)
            elif do == "jump":
                self.reply(200, {"next": "last"}, OUTCOME)
            elif do == "nowhere":
                self.reply(200, {"next": "nowhere"}, OUTCOME)
            elif do == "later":
                self.reply(202, None)
            elif self.path == "/b" and message.get("dead") and not os.path.exists(sys.argv[1] + ".mended"):
                self.reply(422, "not yet")
            else:
                self.reply(200, seen)
    def log_message(self, *_):
        pass
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

const PIPELINES: &str = r"pipelines:
  - name: squares
    concurrency: 4
    retry: {attempts: 2, delay: 20ms, factor: 1}
    on-error: /failed
    steps:
      - {name: split, path: /split}
      - {name: square, path: /square}
      - {name: sum, path: /sum, join: true}
      - {name: tell, path: /tell}
  - name: plain
    retry: {attempts: 2, delay: 20ms}
    steps: [{path: /a}, {name: b, path: /b}, {name: last, path: /c}]";

async fn start(apps: usize) -> Option<(Cluster, PathBuf)> {
    start_script(APP, apps, PIPELINES, |_| {}).await
}

async fn run(app: &mut Local, path: &str, body: &Value) -> (u16, Value) {
    app.call(Method::POST, &format!("/v1/pipelines/{path}"), &body.to_string()).await
}

/// Waits until a run has ended.
async fn ended(app: &mut Local, pipeline: &str, id: &str) -> (u16, Value) {
    let path = format!("/v1/pipelines/{pipeline}/runs/{id}");
    let limit = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answer = app.call(Method::GET, &path, "").await;
        if ![202, 503].contains(&answer.0) {
            return answer;
        }
        assert!(tokio::time::Instant::now() < limit, "{path}: {answer:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What a step was called with.
fn called(out: &std::path::Path, path: &str) -> Vec<Value> {
    lines(out, "begin").into_iter().filter(|it| it["path"] == path).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_fans_out_is_joined_and_goes_on_after_an_error() {
    let Some((cluster, out)) = start(2).await else { return };
    let [mut a, mut b] = Local::of_each_server(&cluster).await;
    let total = run(&mut a, "squares?wait=10s", &json!({"numbers": [1, 2, 3]})).await;
    assert_eq!(total, (200, json!({"total": 14})));
    let squares = called(&out, "/square");
    let mut parts: Vec<_> =
        squares.iter().map(|it| it["headers"]["x-copal-part"].as_str().unwrap()).collect();
    parts.sort_unstable();
    let headers = &squares[0]["headers"];
    assert_eq!(parts, ["0", "1", "2"]);
    for (name, value) in
        [("x-copal-delivery", "pipeline"), ("x-copal-source", "squares"), ("x-copal-step", "square")]
    {
        assert_eq!(headers[name], value, "{headers}");
    }
    assert_eq!(called(&out, "/sum")[0]["message"], json!([1, 4, 9]));
    // Whoever has not waited asks for it, of any server.
    let id = headers["x-copal-run"].as_str().unwrap();
    assert_eq!(ended(&mut b, "squares", id).await, (200, json!({"total": 14})));
    // A step that fails is tried again; then the step for errors has its message, and sends it on.
    let begun = b
        .request(
            Method::POST,
            "/v1/pipelines/squares",
            r#"{"numbers": [1, -2, 3]}"#,
            &[("idempotency-key", "k")],
        )
        .await;
    let answer: Value = serde_json::from_str(&begun.text).unwrap();
    let id = answer["id"].as_str().unwrap();
    let place = format!("/v1/pipelines/squares/runs/{id}");
    assert_eq!((begun.status, begun.header("location")), (202, Some(place.as_str())));
    assert_eq!(ended(&mut a, "squares", id).await, (200, json!({"total": 14})));
    let failed = &called(&out, "/failed")[0]["headers"];
    assert_eq!(failed["x-copal-error"], "500 Internal Server Error: \"-2 is negative\"");
    assert_eq!(
        (&failed["x-copal-failed-step"], &failed["x-copal-step"]),
        (&json!("square"), &json!("on-error"))
    );
    // It was begun once.
    let again = b
        .request(Method::POST, "/v1/pipelines/squares", r#"{"numbers": [7]}"#, &[("idempotency-key", "k")])
        .await;
    let again: Value = serde_json::from_str(&again.text).unwrap();
    assert_eq!((&again["id"], &again["repeated"]), (&answer["id"], &json!(true)));
    // The step for errors ends a run, if it says no more.
    let small = run(&mut a, "squares?wait=10s", &json!({"numbers": [1, -100, 3]})).await;
    assert_eq!(small, (410, json!("too small")));
    // Nothing to do is done at once.
    let none = run(&mut a, "squares?wait=10s", &json!({"numbers": []})).await;
    assert_eq!(none, (200, json!({"total": 0})));
    // At another step.
    let sum = run(&mut a, "squares?wait=10s&step=sum", &json!([1, 2])).await;
    assert_eq!(sum, (200, json!({"total": 3})));
    let (_, told) = a.call(Method::GET, "/v1/pipelines/squares", "").await;
    let steps: Vec<_> = told["steps"].as_array().unwrap().iter().map(|it| it["step"].clone()).collect();
    assert_eq!(steps, ["first", "on-error", "square", "sum", "tell"]);
    assert!(told["steps"].as_array().unwrap().iter().all(|it| is_empty(&it["queue"])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_says_where_a_run_goes() {
    let Some((cluster, out)) = start(1).await else { return };
    let mut a = Local::of_some_server(&cluster).await;
    let seen = run(&mut a, "plain?wait=10s", &json!({"n": 1})).await;
    assert_eq!(seen, (200, json!({"n": 1, "seen": "/a/b/c"})));
    let halted = run(&mut a, "plain?wait=10s", &json!({"do": "halt"})).await;
    assert_eq!(halted, (410, json!({"do": "halt", "seen": "/a"})));
    // Without a body the message itself goes on.
    let jumped = run(&mut a, "plain?wait=10s", &json!({"do": "jump"})).await;
    assert_eq!(jumped, (200, json!({"do": "jump", "seen": "/c"})));
    let (status, nowhere) = run(&mut a, "plain?wait=10s", &json!({"do": "nowhere"})).await;
    let why = nowhere["detail"].as_str().unwrap();
    assert!(why.contains("\"nowhere\" is no step of plain: expected step-1, b, last"), "{why}");
    assert_eq!((status, &nowhere["code"]), (502, &json!("failed")));
    // A step that is settled later goes on then.
    let (_, later) = run(&mut a, "plain", &json!({"do": "later"})).await;
    let limit = tokio::time::Instant::now() + PATIENCE;
    let token = loop {
        if let Some(it) = called(&out, "/a").iter().find(|it| it["message"]["do"] == "later") {
            break it["headers"]["x-copal-delivery-token"].as_str().unwrap().to_owned();
        }
        assert!(tokio::time::Instant::now() < limit);
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let settled = a.call(Method::DELETE, &format!("/v1/deliveries/{token}"), r#"{"by": "hand"}"#).await;
    assert_eq!(settled.0, 204, "{}", settled.1);
    let id = later["id"].as_str().unwrap();
    assert_eq!(ended(&mut a, "plain", id).await, (200, json!({"by": "hand", "seen": "/b/c"})));
    // One that is dead has failed, until it is replayed.
    let (status, failed) = run(&mut a, "plain?wait=10s", &json!({"dead": true})).await;
    let id = failed["id"].as_str().unwrap().to_owned();
    assert_eq!((status, ended(&mut a, "plain", &id).await.0), (502, 502));
    std::fs::write(format!("{}.mended", out.display()), "").unwrap();
    let replayed = a.call(Method::POST, "/v1/queues/pipe:plain:b/dead/replay", "{}").await;
    assert!(replayed.1["replayed"].as_u64().unwrap() > 0, "{replayed:?}");
    assert_eq!(ended(&mut a, "plain", &id).await, (200, json!({"dead": true, "seen": "/a/b/c"})));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_told_and_steps_are_nobody_elses() {
    let Some((cluster, out)) = start(1).await else { return };
    let mut a = Local::of_some_server(&cluster).await;
    for (method, path, headers, status, said) in [
        (Method::POST, "/v1/pipelines/A", &[][..], 400, "the pipeline's name is"),
        (Method::POST, "/v1/pipelines/squares?step=none", &[][..], 400, "expected split, square, sum, tell"),
        (Method::POST, "/v1/pipelines/elsewhere?step=a", &[][..], 400, "no app of this server declares"),
        (Method::POST, "/v1/pipelines/squares?wait=2h", &[][..], 400, "wait"),
        (Method::POST, "/v1/pipelines/squares?stepp=a", &[][..], 400, "expected wait, step"),
        (Method::POST, "/v1/pipelines/squares", &[("x-copal-group", "g")][..], 400, "X-Copal-Group"),
        (Method::PUT, "/v1/pipelines/squares", &[][..], 405, "expected GET, POST"),
        (Method::GET, "/v1/pipelines/squares/runs/1", &[][..], 404, "no such run"),
        (Method::GET, "/v1/pipelines/squares/runs/x", &[][..], 404, "no such run"),
        (Method::DELETE, "/v1/pipelines/squares/runs/1", &[][..], 405, "expected GET"),
        // No app gets at a step's queue.
        (Method::POST, "/v1/queues/pipe:squares:sum", &[][..], 400, "queue's name is"),
        (Method::POST, "/v1/queues/pipe:squares:sum/receive", &[][..], 400, "queue's name is"),
    ] {
        let answer = a.request(method.clone(), path, "{}", headers).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
        assert!(answer.text.contains(said), "{method} {path}: {}", answer.text);
    }
    // Another pipeline's run is none of this one.
    let (_, begun) = run(&mut a, "plain", &json!({})).await;
    let id = begun["id"].as_str().unwrap();
    assert_eq!(ended(&mut a, "squares", id).await.0, 404);
    // From without, steps are not there.
    for path in ["/split", "/square", "/failed", "/b"] {
        let mut calls = connect(&cluster.web()).await;
        let answer = request(&mut calls, Method::POST, path, "1", &[]).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(called(&out, path).iter().all(|it| it["headers"]["x-copal-step"].is_string()), "{path}");
    }
}

/// The program of docs/pipelines.md, as it stands there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_of_the_docs_runs() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/pipelines.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let block = |kind: &str| {
        let rest = docs.split_once(&format!("```{kind}\n")).unwrap().1;
        rest.split_once("\n```").unwrap().0.to_owned()
    };
    // The cluster of tests asks whether it is healthy.
    let healthy =
        "if self.path == \"/healthz\":\n            return self.answer(\"yes\")\n        self.answer(run(";
    let program = block("python").replacen("self.answer(run(", healthy, 1);
    let declared = block("yaml").split_once("pipelines:").unwrap().1.to_owned();
    let Some((cluster, _)) = start_script(&program, 1, &format!("pipelines:{declared}"), |_| {}).await else {
        return;
    };
    let mut calls = connect(&cluster.web()).await;
    let answer = request(&mut calls, Method::GET, "/", "", &[]).await;
    let index: Value = serde_json::from_str(&answer.text).unwrap();
    assert_eq!(index, json!({"index": ["small-a.jpg", "small-b.jpg", "small-c.jpg"]}));
}

/// The call of a step with such a message, once it has come.
async fn held(out: &std::path::Path, what: &str) -> Value {
    let limit = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(it) = called(out, "/a").into_iter().find(|it| it["message"]["what"] == what) {
            return it;
        }
        assert!(tokio::time::Instant::now() < limit, "no {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_list_runs_and_end_them() {
    let Some((cluster, out)) = start_script(APP, 1, PIPELINES, deploying).await else { return };
    let mut a = Local::of_some_server(&cluster).await;
    let target = format!("http://{}/admin", cluster.web());
    let tool = async |words: &str| tool_as(&target, "ops", "password", words).await;
    let mut ids = Vec::new();
    for message in [json!({"n": 1}), json!({"dead": true})] {
        let (_, begun) = run(&mut a, "plain", &message).await;
        ids.push(begun["id"].as_str().unwrap().to_owned());
        ended(&mut a, "plain", ids.last().unwrap()).await;
    }
    let mut waiting = Local::of_some_server(&cluster).await;
    let waiter = tokio::spawn(async move {
        run(&mut waiting, "plain?wait=30s", &json!({"do": "later", "what": "held"})).await
    });
    let held = held(&out, "held").await;
    let id = held["headers"]["x-copal-run"].as_str().unwrap();
    let listed = tool("pipeline list").await.succeeds();
    let line = listed.lines().find(|it| it.starts_with("plain ")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>()[1..5], ["1", "1", "0", "1"], "{listed}");
    assert!(line.contains("b 0/0/0/1") && line.contains("first 0/0/1/0"), "{listed}");
    let failed = tool("pipeline runs plain --which failed").await.succeeds();
    let line = failed.lines().nth(1).unwrap();
    assert!(line.starts_with(&ids[1]) && line.contains("at b, message "), "{failed}");
    let first = tool("pipeline runs plain --limit 1").await;
    assert!(first.stderr.contains(&format!("--after {}", ids[0])), "{}", first.stderr);
    assert!(first.code == Some(0) && first.stdout.lines().nth(1).unwrap().starts_with(&ids[0]));
    let after = tool(&format!("pipeline runs plain --after {} --json", ids[1])).await.succeeds();
    let after: Value = serde_json::from_str(&after).unwrap();
    assert_eq!((&after["runs"][0]["id"], &after["next"]), (&json!(id), &Value::Null), "{after}");
    let words = format!("pipeline end plain {id}");
    assert!(tool(&words).await.succeeds().contains("has ended: what is left of it is dropped"));
    assert_eq!(waiter.await.unwrap().0, 410);
    assert!(tool(&words).await.succeeds().contains("was over before"));
    // What its step answers takes it no further.
    let token = held["headers"]["x-copal-delivery-token"].as_str().unwrap();
    assert_eq!(a.call(Method::DELETE, &format!("/v1/deliveries/{token}"), "{}").await.0, 204);
    until(&mut a, "pipe:plain:first", |it| is_empty(it) && it["settled"] == 3).await;
    assert_eq!(ended(&mut a, "plain", id).await.0, 410);
    assert!(called(&out, "/b").iter().all(|it| it["message"]["what"] != "held"));
    for (words, said) in [
        ("pipeline runs nothing", "there is no pipeline \"nothing\""),
        ("pipeline runs plain --which some", "expected all, going-on"),
        ("pipeline end plain 999999", "there is no run \"999999\" of \"plain\""),
        ("pipeline end nothing 1", "there is no run"),
    ] {
        let refused = tool(words).await;
        assert!(refused.code == Some(1) && refused.stderr.contains(said), "{words}: {}", refused.stderr);
    }
    for words in ["pipeline runs plain", &words] {
        let refused = tool_as(&target, "eve", "password", words).await;
        assert!(refused.stderr.contains("needs `operate`"), "{}", refused.stderr);
    }
    let messages = tool("queue messages pipe:plain:b --json").await.succeeds();
    assert!(messages.contains(&format!("\"run\":\"{}\"", ids[1])), "{messages}");
    let audit = tool("audit").await.succeeds();
    assert!(audit.contains("end-run") && audit.contains(&format!("run {id}")), "{audit}");
    metrics_tell(&cluster, "copal_pipeline_runs{pipeline=\"plain\",state=\"halted\"} 1").await;
}

/// Waits until the metrics of the hub's leader have a line.
async fn metrics_tell(cluster: &Cluster, line: &str) {
    let limit = tokio::time::Instant::now() + PATIENCE;
    while !tool_metrics(cluster).await.contains(line) {
        assert!(tokio::time::Instant::now() < limit, "no {line}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs are begun on all servers while these are killed, paused and stopped, the hub's leader among them: each that was acknowledged ends, with the right sum.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_run_ends_whatever_becomes_of_the_servers() {
    let Some((mut cluster, out)) = start(3).await else { return };
    let seed = rand::random::<u64>();
    tell(&format!("faults of pipelines' servers by the seed {seed}"));
    let mut dice = StdRng::seed_from_u64(seed);
    let (mut begun, mut next) = (BTreeMap::<String, u64>::new(), 0_u64);
    for fault in 0..4 {
        let ids = cluster.configuration.app_servers();
        let victim = ids[dice.random_range(0..ids.len())].clone();
        let mut beginning = Vec::new();
        for id in &ids {
            let (mut app, numbers) = (local(&out, id).await, next..next + 15);
            next += 15;
            beginning.push(tokio::spawn(async move {
                let mut known = Vec::new();
                for n in numbers {
                    let body = json!({"numbers": [n, -1, 2]}).to_string();
                    match app.try_request(Method::POST, "/v1/pipelines/squares", &body).await {
                        Some(answer) if answer.status == 202 => {
                            let told: Value = serde_json::from_str(&answer.text).unwrap();
                            known.push((told["id"].as_str().unwrap().to_owned(), n));
                        }
                        Some(_) => {}
                        None => break,
                    }
                }
                known
            }));
        }
        tokio::time::sleep(Duration::from_millis(dice.random_range(0..60))).await;
        match fault % 3 {
            0 => cluster.kill(&victim).await,
            1 => cluster.process(&victim).signal(Signal::STOP),
            _ => drop(cluster.stop(&victim).await),
        }
        if fault % 3 == 1 {
            tokio::time::sleep(Duration::from_millis(dice.random_range(500..3000))).await;
            cluster.process(&victim).signal(Signal::CONT);
        }
        for it in beginning {
            begun.extend(it.await.unwrap());
        }
        if fault % 3 != 1 {
            cluster.start_one(&victim).await;
        }
    }
    let mut app = local(&out, "app-a").await;
    for (id, n) in &begun {
        let total = json!({"total": n * n + 1 + 4});
        assert_eq!(ended(&mut app, "squares", id).await, (200, total), "seed {seed}: run {id} of {n}");
    }
    for step in ["first", "square", "sum", "tell", "on-error"] {
        let queue = until(&mut app, &format!("pipe:squares:{step}"), is_empty).await;
        assert_eq!(queue["dead"], 0, "seed {seed}: {queue}");
    }
    tell(&format!("{} runs have ended, with {} calls", begun.len(), lines(&out, "begin").len()));
    assert!(begun.len() > 60, "seed {seed}: only {} were begun", begun.len());
}
