//! Queues of whole servers: what was acknowledged is handled, whatever is killed, paused or cut off.

use crate::{
    cluster::{Cluster, PATIENCE},
    daemons::{Local, start_script},
    tell::tell,
    tokens::{OPS, curl, deploying},
    tool::tool_as,
};
use hyper::Method;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

/// Writes each message and job that it is called with as a line of JSON, when it begins and when it ends, and answers as the message's body says.
pub(crate) const APP: &str = r#"
import json, os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
out = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
me = os.environ["COPAL_SERVER"]
names = {"api": "COPAL_API", "hub": "COPAL_HUB", "token": "COPAL_TOKEN"}
environment = json.dumps({"server": me, **{key: os.environ[name] for key, name in names.items()}})
with open(f"{sys.argv[1]}.new.{me}", "w") as file:
    file.write(environment)
os.rename(f"{sys.argv[1]}.new.{me}", f"{sys.argv[1]}.{me}")

def write(it):
    it["ms"] = time.clock_gettime_ns(time.CLOCK_BOOTTIME) / 1e6
    os.write(out, (json.dumps(it) + "\n").encode())

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def reply(self, status, body, headers={}):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())
    def do_GET(self):
        self.reply(200, environment)
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        message = json.loads(body)
        headers = {name.lower(): value for name, value in self.headers.items()}
        is_mine = headers.get("authorization") == "Bearer " + os.environ["COPAL_TOKEN"]
        told = {"server": me, "path": self.path, "headers": headers, "message": message, "mine": is_mine}
        write({**told, "at": "begin"})
        attempt, do = int(headers.get("x-copal-attempt", "1")), message.get("do")
        status, text, more = 200, "", {}
        if message.get("sleep"):
            time.sleep(message["sleep"])
        if do == "fail" and attempt <= message.get("times", 99):
            status, text = 500, "no luck"
        elif do == "dead":
            status, text = 422, "nonsense"
        elif do == "later":
            status = 202
        elif do == "busy" and not os.path.exists(sys.argv[1] + ".room"):
            status, more = 429, {"retry-after": "0"}
        elif do == "square":
            text, more = str(message["n"] ** 2), {"content-type": "text/plain"}
        elif do == "outcome":
            text, more = json.dumps(message["outcome"]), {"content-type": "application/vnd.copal.outcome+json"}
        write({**told, "at": "end", "status": status})
        self.reply(status, text, more)
    def log_message(self, *_):
        pass
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

const QUEUES: &str = "queues:\n  - {name: work, path: /on/work, concurrency: 4, timeout: 20s, retry: {attempts: 3, delay: 50ms, factor: 1}}\n  - {name: next, path: /on/next}";

async fn start(apps: usize) -> Option<(Cluster, std::path::PathBuf)> {
    start_script(APP, apps, QUEUES, |_| {}).await
}

/// The app of a server, whether new users come to it yet or not.
pub(crate) async fn local(out: &Path, id: &str) -> Local {
    let text = fs::read_to_string(format!("{}.{id}", out.display())).unwrap();
    Local::of(&serde_json::from_str(&text).unwrap()).await
}

pub(crate) fn lines(out: &Path, at: &str) -> Vec<Value> {
    let text = fs::read_to_string(out).unwrap();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let all = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|it| it["at"] == at).collect()
}

/// Waits until so many were handled.
pub(crate) async fn handled(out: &Path, count: usize) -> Vec<Value> {
    let found = async {
        loop {
            let lines = lines(out, "end");
            if lines.len() >= count {
                return lines;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    found.unwrap_or_else(|_| panic!("{count} messages: {:#?}", lines(out, "begin")))
}

async fn publish(app: &mut Local, queue: &str, message: &Value) -> String {
    let (status, answer) = app.call(Method::POST, &format!("/v1/queues/{queue}"), &message.to_string()).await;
    assert_eq!(status, 201, "{answer}");
    answer["id"].as_str().unwrap().to_owned()
}

/// Waits until a queue is as it should be.
pub(crate) async fn until(app: &mut Local, queue: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let limit = tokio::time::Instant::now() + PATIENCE;
    loop {
        let (_, described) = app.call(Method::GET, &format!("/v1/queues/{queue}"), "").await;
        if is_so(&described) {
            return described;
        }
        assert!(tokio::time::Instant::now() < limit, "{described}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn is_empty(queue: &Value) -> bool {
    ["ready", "delayed", "assigned", "waiting"].iter().all(|it| queue[it] == 0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_what_was_published_and_the_answer_says_what_becomes_of_it() {
    let Some((cluster, out)) = start(2).await else { return };
    let [mut a, mut b] = Local::of_each_server(&cluster).await;
    let headers = [
        ("content-type", "application/json"),
        ("x-copal-correlation", "c-1"),
        ("x-copal-meta-from", "me"),
        ("x-copal-priority", "9"),
    ];
    let published = a.request(Method::POST, "/v1/queues/work", r#"{"n": 1}"#, &headers).await;
    assert_eq!(published.status, 201, "{}", published.text);
    let first = &handled(&out, 1).await[0];
    let found = &first["headers"];
    assert_eq!((&first["path"], &first["mine"]), (&json!("/on/work"), &json!(true)));
    for (name, value) in [
        ("content-type", "application/json"),
        ("x-copal-delivery", "queue"),
        ("x-copal-source", "work"),
        ("x-copal-attempt", "1"),
        ("x-copal-correlation", "c-1"),
        ("x-copal-meta-from", "me"),
    ] {
        assert_eq!(found[name], value, "{found}");
    }
    let id: Value = serde_json::from_str(&published.text).unwrap();
    assert_eq!(found["x-copal-message-id"], id["id"]);
    // Who fails is tried again, so often.
    publish(&mut b, "work", &json!({"do": "fail", "times": 2})).await;
    let lines = handled(&out, 4).await;
    assert_eq!(lines[3]["headers"]["x-copal-attempt"], "3");
    let dead = publish(&mut b, "work", &json!({"do": "fail"})).await;
    let nonsense = publish(&mut a, "work", &json!({"do": "dead"})).await;
    until(&mut a, "work", |it| it["dead"] == 2 && is_empty(it)).await;
    let (_, list) = b.call(Method::GET, "/v1/queues/work/dead", "").await;
    let find = |id: &str| list["messages"].as_array().unwrap().iter().find(|it| it["id"] == id).unwrap();
    assert_eq!(
        (&find(&dead)["why"], &find(&dead)["attempts"]),
        (&json!("500 Internal Server Error: no luck"), &json!(3))
    );
    assert_eq!(find(&nonsense)["why"], "422 Unprocessable Entity: nonsense");
    let replay = json!({"ids": [nonsense]}).to_string();
    let replayed = b.call(Method::POST, "/v1/queues/work/dead/replay", &replay).await;
    assert_eq!(replayed, (202, json!({"replayed": 1})));
    until(&mut a, "work", |it| it["dead"] == 2 && is_empty(it)).await;
    // A group is in order, though its first fails.
    for (n, failing) in [(1, "fail"), (2, "none"), (3, "none")] {
        let message = json!({"do": failing, "times": 2, "g": n}).to_string();
        let published = a.request(Method::POST, "/v1/queues/work", &message, &[("x-copal-group", "g")]).await;
        assert_eq!(published.status, 201);
    }
    until(&mut a, "work", is_empty).await;
    let order: Vec<_> = lines_of(&out, "g");
    assert_eq!(order, [1, 1, 1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_told() {
    let Some((cluster, _)) = start(1).await else { return };
    let mut a = Local::of_some_server(&cluster).await;
    for (path, headers, body, status) in [
        ("/v1/queues/A", &[][..], "x", 400),
        ("/v1/queues/work", &[("x-copal-priority", "high")][..], "x", 400),
        ("/v1/queues/work/batch", &[][..], r#"{"messages": []}"#, 400),
        ("/v1/queues/work/batch", &[][..], r#"{"messages": [{"value": "x", "ttl": "no"}]}"#, 400),
        ("/v1/queues/work?wait=2h", &[][..], "x", 400),
        ("/v1/queues/work/receive?max=0", &[][..], "", 400),
        ("/v1/queues/work/none", &[][..], "", 404),
    ] {
        let answer = a.request(Method::POST, path, body, headers).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
    }
    let large = "x".repeat((256 << 10) + 1);
    assert_eq!(a.request(Method::POST, "/v1/queues/work", &large, &[]).await.status, 413);
    assert_eq!(a.request(Method::DELETE, "/v1/queues/work", "", &[]).await.status, 405);
}

fn lines_of(out: &Path, key: &str) -> Vec<u64> {
    lines(out, "end").iter().filter_map(|it| it["message"][key].as_u64()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_is_answered_and_an_outcome_does_all_or_nothing() {
    let Some((cluster, out)) = start(2).await else { return };
    let [mut a, mut b] = Local::of_each_server(&cluster).await;
    for (app, n) in [(&mut a, 7), (&mut b, 9)] {
        let ask = json!({"do": "square", "n": n}).to_string();
        let reply = app.request(Method::POST, "/v1/queues/work?wait=20s", &ask, &[]).await;
        assert_eq!((reply.status, reply.text.as_str()), (200, (n * n).to_string().as_str()));
        assert_eq!(reply.header("content-type"), Some("text/plain"));
    }
    let failed = a.request(Method::POST, "/v1/queues/work?wait=20s", r#"{"do": "dead"}"#, &[]).await;
    assert!(failed.status == 502 && failed.text.contains("nonsense"), "{}", failed.text);
    let late = a.request(Method::POST, "/v1/queues/nobodys?wait=50ms", "{}", &[]).await;
    assert_eq!(late.status, 504);
    until(&mut a, "nobodys", |it| it["expired"] == 1 && is_empty(it)).await;
    let outcome = json!({
        "publish": [{"queue": "next", "json": {"n": 11}}],
        "cache": [{"cache": "sums", "key": "k", "increment": 11}, {"cache": "sums", "key": "l", "value": "x"}],
        "body": {"ok": true},
    });
    let ask = json!({"do": "outcome", "outcome": outcome}).to_string();
    let reply = b.request(Method::POST, "/v1/queues/work?wait=20s", &ask, &[]).await;
    assert_eq!((reply.status, reply.text.as_str()), (200, r#"{"ok":true}"#));
    let (_, sum) = a.call(Method::GET, "/v1/caches/sums/k", "").await;
    assert_eq!(sum, json!(11));
    until(&mut a, "next", |it| it["settled"] == 1).await;
    // One write of it can't be: nothing of it is.
    let outcome = json!({
        "publish": [{"queue": "next", "json": {"n": 12}}],
        "cache": [{"cache": "sums", "key": "k", "increment": 1}, {"cache": "sums", "key": "l", "increment": 1}],
    });
    publish(&mut a, "work", &json!({"do": "outcome", "outcome": outcome})).await;
    until(&mut a, "work", |it| it["dead"] == 2 && is_empty(it)).await;
    let (_, list) = b.call(Method::GET, "/v1/queues/work/dead", "").await;
    assert!(
        list.to_string().contains("a write to the cache sums: what is there is no whole number"),
        "{list}"
    );
    assert_eq!(a.call(Method::GET, "/v1/caches/sums/k", "").await.1, json!(11));
    assert_eq!(lines(&out, "end").iter().filter(|it| it["path"] == "/on/next").count(), 1);
    // The same key is the same message.
    let key = [("idempotency-key", "once")];
    let first = a.request(Method::POST, "/v1/queues/next", "{}", &key).await;
    let again = b.request(Method::POST, "/v1/queues/next", "{}", &key).await;
    assert_eq!((first.status, again.status), (201, 200));
    let id = |text: &str| serde_json::from_str::<Value>(text).unwrap()["id"].clone();
    assert_eq!(id(&first.text), id(&again.text));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_received_settled_later_and_left_alone() {
    let Some((cluster, out)) = start(2).await else { return };
    let [mut a, mut b] = Local::of_each_server(&cluster).await;
    let messages =
        json!({"messages": [{"value": "one"}, {"json": [2], "delay": "50ms"}, {"base64": "/w=="}]});
    let (status, came) = a.call(Method::POST, "/v1/queues/pulled/batch", &messages.to_string()).await;
    assert!(status == 201 && came["ids"].as_array().unwrap().len() == 3, "{came}");
    let mut got = BTreeMap::new();
    while got.len() < 3 {
        let (status, answer) = b.call(Method::POST, "/v1/queues/pulled/receive?wait=20s&max=10", "").await;
        assert_eq!(status, 200, "{answer}");
        for message in answer["messages"].as_array().unwrap() {
            got.insert(message["id"].as_str().unwrap().to_owned(), message.clone());
        }
    }
    let find = |key: &str| got.values().find(|it| it.get(key).is_some()).unwrap().clone();
    assert_eq!((&find("value")["value"], &find("json")["json"]), (&json!("one"), &json!([2])));
    let path = |key: &str| format!("/v1/deliveries/{}", find(key)["token"].as_str().unwrap());
    // It is of the server that it was handed to.
    assert_eq!(a.call(Method::DELETE, &path("value"), "").await.1["code"], "delivery-over");
    assert_eq!(b.call(Method::DELETE, &path("value"), "").await.0, 204);
    assert_eq!(b.call(Method::DELETE, &path("value"), "").await.1["code"], "delivery-over");
    assert_eq!(b.call(Method::PATCH, &path("json"), r#"{"extend": "1h"}"#).await.0, 204);
    let (_, left) = b.call(Method::GET, &path("json"), "").await;
    assert!(left["ttl-ms"].as_u64().unwrap() > 3_500_000, "{left}");
    assert_eq!(b.call(Method::PATCH, &path("json"), r#"{"dead": "no"}"#).await.0, 204);
    assert_eq!(b.call(Method::PATCH, &path("base64"), r#"{"retry": "10ms"}"#).await.0, 204);
    let (_, again) = a.call(Method::POST, "/v1/queues/pulled/receive?wait=20s", "").await;
    assert_eq!(
        (&again["messages"][0]["base64"], &again["messages"][0]["attempt"]),
        (&json!("/w=="), &json!(2))
    );
    let (_, none) = a.call(Method::POST, "/v1/queues/pulled/receive", "").await;
    assert_eq!(none, json!({"messages": []}));
    // 202: its token settles it.
    publish(&mut a, "work", &json!({"do": "later"})).await;
    let line = &handled(&out, 1).await[0];
    let token = line["headers"]["x-copal-delivery-token"].as_str().unwrap().to_owned();
    let described = until(&mut a, "work", |it| it["assigned"] == 1).await;
    assert_eq!(described["settled"], 0);
    let at = if line["server"] == "app-a" { &mut a } else { &mut b };
    assert_eq!(at.call(Method::DELETE, &format!("/v1/deliveries/{token}"), "").await.0, 204);
    until(&mut a, "work", |it| it["settled"] == 1 && is_empty(it)).await;
    // 429: it comes again, and none of it counts.
    publish(&mut a, "work", &json!({"do": "busy"})).await;
    handled(&out, 6).await;
    fs::write(format!("{}.room", out.display()), "").unwrap();
    let described = until(&mut a, "work", |it| it["settled"] == 2 && is_empty(it)).await;
    assert_eq!((&described["failed"], &described["dead"]), (&json!(0), &json!(0)));
    // Nobody outside gets to where messages are posted.
    let answer = reqwest_status(&cluster, "/on/work").await;
    assert_eq!(answer, 404);
}

async fn reqwest_status(cluster: &Cluster, path: &str) -> u16 {
    let mut calls = crate::daemons::connect(&cluster.web()).await;
    crate::daemons::request(&mut calls, Method::POST, path, "{}", &[]).await.status
}

/// Publishes a message a number; those that were acknowledged, and those of which nobody knows.
async fn publish_numbers(mut app: Local, numbers: std::ops::Range<u64>) -> (Vec<u64>, Vec<u64>) {
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for n in numbers {
        let message = json!({"n": n, "do": if n % 7 == 0 { "fail" } else { "" }, "times": 1}).to_string();
        match app.try_request(Method::POST, "/v1/queues/work", &message).await {
            Some(answer) if answer.status == 201 => known.push(n),
            // The hub has not answered in time.
            Some(_) => unknown.push(n),
            // Its server is no more.
            None => {
                unknown.push(n);
                break;
            }
        }
    }
    (known, unknown)
}

/// Publishers on all servers while these are killed, paused and stopped, the hub's leader among them: what was acknowledged was handled, and the rest is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_acknowledged_is_handled_whatever_becomes_of_the_servers() {
    let Some((mut cluster, out)) = start(3).await else { return };
    let seed = rand::random::<u64>();
    tell(&format!("faults of queues' servers by the seed {seed}"));
    let mut dice = StdRng::seed_from_u64(seed);
    let (mut next, mut acknowledged, mut unknown) = (0_u64, BTreeSet::new(), BTreeSet::new());
    for fault in 0..5 {
        let ids = cluster.configuration.app_servers();
        let victim = ids[dice.random_range(0..ids.len())].clone();
        let mut apps = Vec::new();
        for id in &ids {
            apps.push(local(&out, id).await);
        }
        let kind = if fault < 3 { fault } else { dice.random_range(0..3) };
        let first = next;
        next += 90;
        let publishing = apps.into_iter().zip(0_u64..).map(|(app, place)| {
            let start = first + 30 * place;
            tokio::spawn(publish_numbers(app, start..start + 30))
        });
        let publishing: Vec<_> = publishing.collect();
        tokio::time::sleep(Duration::from_millis(dice.random_range(0..30))).await;
        match kind {
            0 => cluster.kill(&victim).await,
            1 => cluster.process(&victim).signal(Signal::STOP),
            _ => drop(cluster.stop(&victim).await),
        }
        if kind == 1 {
            tokio::time::sleep(Duration::from_millis(dice.random_range(500..3000))).await;
            cluster.process(&victim).signal(Signal::CONT);
        }
        for publisher in publishing {
            let (known, not) = publisher.await.unwrap();
            acknowledged.extend(known);
            unknown.extend(not);
        }
        if kind != 1 {
            cluster.start_one(&victim).await;
        }
    }
    let mut app = local(&out, "app-a").await;
    let described = until(&mut app, "work", is_empty).await;
    let dead = &described["dead"];
    let (_, list) = app.call(Method::GET, "/v1/queues/work/dead", "").await;
    let died = list["messages"].as_array().unwrap().iter().map(|it| it["json"]["n"].as_u64().unwrap());
    let mut done = BTreeMap::<u64, u64>::new();
    for line in lines(&out, "end").iter().filter(|it| it["status"] == 200) {
        *done.entry(line["message"]["n"].as_u64().unwrap()).or_default() += 1;
    }
    let twice = done.values().filter(|it| **it > 1).count();
    let (known, not, handled) = (acknowledged.len(), unknown.len(), done.len());
    tell(&format!(
        "{known} were acknowledged, {not} not; {handled} handled, {twice} more than once, {dead} dead"
    ));
    let ended: BTreeSet<u64> = died.chain(done.keys().copied()).collect();
    let lost: Vec<_> = acknowledged.difference(&ended).collect();
    assert!(lost.is_empty(), "seed {seed}: {lost:?} were acknowledged and are nowhere");
    assert!(done.keys().all(|it| acknowledged.contains(it) || unknown.contains(it)));
    assert!(known > 100, "seed {seed}: only {known} were acknowledged");
}

/// All servers are killed at once while very many messages wait: each is there, in its order.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_messages_are_there_after_all_servers_were_killed() {
    const MESSAGES: usize = 100_000;
    let Some((mut cluster, out)) = start(3).await else { return };
    let mut app = Local::of_some_server(&cluster).await;
    for first in (0..MESSAGES).step_by(1000) {
        let messages: Vec<Value> = (first..first + 1000).map(|n| json!({"json": {"n": n}})).collect();
        let batch = json!({"messages": messages}).to_string();
        let (status, answer) = app.call(Method::POST, "/v1/queues/stock/batch", &batch).await;
        assert_eq!(status, 201, "{answer}");
    }
    let ids = [cluster.configuration.app_servers(), vec!["web-a".to_owned()]].concat();
    cluster.kill_all(&ids).await;
    let began = std::time::Instant::now();
    cluster.start_all().await;
    tell(&format!("{MESSAGES} messages were there {:?} after the start", began.elapsed()));
    let mut app = local(&out, "app-a").await;
    let described = until(&mut app, "stock", |it| it["ready"] == MESSAGES).await;
    assert_eq!((&described["dead"], &described["published"]), (&json!(0), &json!(MESSAGES)));
    let (_, got) = app.call(Method::POST, "/v1/queues/stock/receive?max=100&wait=20s", "").await;
    let numbers: Vec<_> = got["messages"].as_array().unwrap().iter().map(|it| &it["json"]["n"]).collect();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
}

/// Publishers flood while no consumer does anything: they are told that it is full, and the hub goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_and_loses_nothing() {
    let small = |configuration: &mut crate::cluster::Configuration| {
        configuration.lines.push("queue-memory-max: 16M".to_owned());
    };
    let Some((cluster, out)) = start_script(APP, 1, QUEUES, small).await else { return };
    let mut app = Local::of_some_server(&cluster).await;
    let large = format!("{{\"pad\": \"{}\"}}", "x".repeat(200_000));
    let mut count = 0;
    let refused = loop {
        let answer = app.request(Method::POST, "/v1/queues/flood", &large, &[]).await;
        if answer.status != 201 {
            break answer;
        }
        count += 1;
        assert!(count < 1000, "nothing is refused");
    };
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")), "{}", refused.text);
    assert!(
        refused.text.contains("\"full\"") && refused.text.contains("queue-memory-max"),
        "{}",
        refused.text
    );
    // Half of it is one app's.
    assert!((35..=42).contains(&count), "{count}");
    let described = until(&mut app, "flood", |it| it["ready"] == count).await;
    assert!(described["bytes"].as_u64().unwrap() <= 8 << 20, "{described}");
    // What is taken makes room.
    let (_, got) = app.call(Method::POST, "/v1/queues/flood/receive?max=5", "").await;
    for message in got["messages"].as_array().unwrap() {
        let path = format!("/v1/deliveries/{}", message["token"].as_str().unwrap());
        assert_eq!(app.call(Method::DELETE, &path, "").await.0, 204);
    }
    publish(&mut app, "work", &json!({"n": 1})).await;
    handled(&out, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_see_queues_and_pause_purge_and_replay_them() {
    let Some((cluster, out)) = start_script(APP, 1, QUEUES, deploying).await else { return };
    let mut app = Local::of_some_server(&cluster).await;
    let target = format!("http://{}/admin", cluster.web());
    let tool = async |words: &str| tool_as(&target, "ops", "password", words).await;
    publish(&mut app, "work", &json!({"do": "dead"})).await;
    until(&mut app, "work", |it| it["dead"] == 1 && is_empty(it)).await;
    let listed = tool("queue list").await.succeeds();
    let line = listed.lines().find(|it| it.starts_with("work ")).unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(
        (&words[1..7], words.last().unwrap()),
        (&["0", "0", "0", "0", "1", "0"][..], &"(4)"),
        "{listed}"
    );
    let messages = tool("queue messages work").await.succeeds();
    assert!(messages.contains("nonsense") && messages.contains("{\"do\":\"dead\"}"), "{messages}");
    assert_eq!(tool("queue pause work").await.succeeds().trim(), "work is paused: what someone has goes on");
    assert_eq!(tool("queue replay work").await.succeeds().trim(), "1 message of work ready again");
    publish(&mut app, "work", &json!({"n": 5})).await;
    let ready = tool("queue messages work --which ready --limit 1").await.succeeds();
    assert_eq!(ready.lines().count(), 2, "{ready}");
    assert!(tool("queue list").await.succeeds().contains("paused"));
    assert_eq!(tool("queue purge work").await.succeeds().trim(), "2 messages of work dropped");
    assert_eq!(tool("queue resume work").await.succeeds().trim(), "work hands out messages");
    publish(&mut app, "work", &json!({"n": 6})).await;
    until(&mut app, "work", |it| it["settled"] == 1).await;
    assert_eq!(lines_of(&out, "n"), [6]);
    for (words, said) in [
        ("queue pause nothing", "there is no queue"),
        ("queue messages nothing", "there is no queue"),
        ("queue messages work --which some", "expected ready, delayed"),
    ] {
        let refused = tool(words).await;
        assert!(refused.code == Some(1) && refused.stderr.contains(said), "{words}: {}", refused.stderr);
    }
    let refused = tool_as(&target, "eve", "password", "queue pause work").await;
    assert!(refused.stderr.contains("needs `operate`"), "{}", refused.stderr);
    let audit = tool("audit").await.succeeds();
    for action in ["pause-queue", "resume-queue", "purge-queue", "replay-queue"] {
        assert!(audit.contains(action), "{audit}");
    }
    let metrics = async {
        loop {
            let all = tool_metrics(&cluster).await;
            if all.contains("copal_queue_settled_total{queue=\"work\"} 1") {
                return all;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let metrics = tokio::time::timeout(PATIENCE, metrics).await.expect("metrics tell of queues");
    assert!(metrics.contains("copal_queue_messages{queue=\"work\",state=\"ready\"} 0"), "{metrics}");
}

/// Who is disabled gets no messages, and what it has ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_disabled_takes_nothing() {
    let Some((cluster, out)) = start_script(APP, 2, QUEUES, deploying).await else { return };
    let target = format!("http://{}/admin", cluster.web());
    let tool = async |words: &str| tool_as(&target, "ops", "password", words).await;
    let mut app = local(&out, "app-a").await;
    let takes = |queue: &Value| -> Vec<String> {
        let all = queue["consumers"].as_array().unwrap();
        all.iter()
            .filter(|it| it["window"] != 0)
            .map(|it| it["server"].as_str().unwrap().to_owned())
            .collect()
    };
    until(&mut app, "work", |it| takes(it) == ["app-a", "app-b"]).await;
    tool("server disable app-b").await.succeeds();
    until(&mut app, "work", |it| takes(it) == ["app-a"]).await;
    for n in 0..8 {
        publish(&mut app, "work", &json!({"n": n})).await;
    }
    let lines = handled(&out, 8).await;
    assert!(lines.iter().all(|it| it["server"] == "app-a"), "{lines:#?}");
    tool("server enable app-b").await.succeeds();
    until(&mut app, "work", |it| takes(it) == ["app-a", "app-b"]).await;
}

pub(crate) async fn tool_metrics(cluster: &Cluster) -> String {
    let (_, text) = curl(&cluster.web(), "GET /admin/metrics/app-a", OPS, "").await;
    text.as_str().unwrap_or_default().to_owned()
}
