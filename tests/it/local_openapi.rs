//! What the local API says of itself, held against what servers answer, and against how they call an app.

use crate::{
    cluster::{Cluster, PATIENCE},
    daemons::{Answer, Local, connect, request, start_script},
    schema::wrong,
};
use hyper::Method;
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, path::Path, time::Duration};

/// Writes each call of its server as a line of JSON; at `/session` it calls for its user's session, and says what it was answered.
const APP: &str = r#"
import json, os, sys, urllib.error, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
out = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
token = "Bearer " + os.environ["COPAL_TOKEN"]

def copal(method, path, body, handle):
    headers = {"authorization": token, "x-copal-request": handle}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(os.environ["COPAL_API"] + path, data, headers, method=method)
    try:
        answer = urllib.request.urlopen(request)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        told = {"status": answer.status, "type": answer.headers.get("content-type"), "text": answer.read().decode()}
        return {"method": method, "path": path, "body": body, **told}

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def reply(self, status, body="", kind="text/plain"):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())
    def do_GET(self):
        mine = self.headers["x-copal-request"]
        if self.path == "/session":
            change = {"set": {"n": 1, "t": [None]}, "binary": {"b": "/w=="}, "remove": ["gone"]}
            calls = [("PATCH", "/v1/session", change, mine), ("GET", "/v1/session", None, mine), ("POST", "/v1/session/id", None, mine),
                ("PATCH", "/v1/session", {"set": 1}, mine), ("DELETE", "/v1/session", None, mine), ("GET", "/v1/session", None, "another's")]
            self.reply(200, json.dumps([copal(*call) for call in calls]))
        else:
            self.reply(200, json.dumps({"server": os.environ["COPAL_SERVER"], "api": os.environ["COPAL_API"], "token": os.environ["COPAL_TOKEN"]}))
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        mine = headers.pop("authorization", "") == token
        os.write(out, (json.dumps({"path": self.path, "headers": headers, "body": body, "mine": mine}) + "\n").encode())
        if self.path == "/one" and body == "parts":
            self.reply(200, json.dumps({"fan-out": [1]}), "application/vnd.copal.outcome+json")
        else:
            wrong = body == "dead" and self.path != "/failed"
            self.reply(422 if wrong else 200, "nonsense" if wrong else "done")
    def log_message(self, *_):
        pass
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

const DECLARED: &str = "queues: [{name: work, path: /on/work}]
topics: [{name: orders, path: /on/order}, {name: orders, path: /bill, durable: billing}]
jobs: [{name: often, path: /jobs/often, every: 200ms, missed: all}]
pipelines: [{name: steps, on-error: /failed, steps: [{name: one, path: /one, retry: {attempts: 1}}, {name: two, path: /two}]}]
daemons: [{name: counter, start: /d/start, stop: /d/stop, lease: 2s}]";

/// An app that calls, the document, and which operations were answered with a success.
struct Described {
    app: Local,
    document: Value,
    done: BTreeSet<String>,
}

/// A call: its method and path as they are described, and what stands for names of the path.
type Call<'a> = (&'a str, &'a [(&'a str, &'a str)]);

impl Described {
    async fn of(cluster: &Cluster) -> Self {
        let mut app = Local::of_some_server(cluster).await;
        let (status, document) = app.call(Method::GET, "/v1/openapi.json", "").await;
        assert_eq!((status, &document["openapi"]), (200, &json!("3.1.0")));
        Self { app, document, done: BTreeSet::from(["openapi".to_owned()]) }
    }

    fn pointed<'a>(&'a self, value: &'a Value) -> &'a Value {
        let pointer = value["$ref"].as_str().map(|it| it.trim_start_matches('#'));
        pointer.map_or(value, |it| self.document.pointer(it).unwrap())
    }

    /// An answer that is to be as it is described, by its status, its content type and its text.
    fn check(&mut self, call: &str, sent: &str, (status, kind, text): (u16, &str, &str)) -> Value {
        let (method, path) = call.split_once(' ').unwrap();
        let path = path.split('?').next().unwrap();
        let operation = &self.document["paths"][path][method.to_lowercase()];
        let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{call} is not described"));
        let answers = &operation["responses"];
        let answer = self.pointed(answers.get(status.to_string()).unwrap_or(&answers["default"]));
        let value: Value =
            if kind.ends_with("json") { serde_json::from_str(text).unwrap() } else { text.into() };
        if let Some(content) = answer["content"].as_object() {
            let content = content.get(kind).or_else(|| content.get("*/*"));
            let schema = &content.unwrap_or_else(|| panic!("{call} {status} has {kind}: {text}"))["schema"];
            let found = if schema.is_null() { Vec::new() } else { wrong(&self.document, schema, &value, id) };
            assert!(found.is_empty(), "{call} {status}: {found:#?}");
        } else {
            assert_eq!(text, "", "{call} {status}");
        }
        let wanted = &operation["requestBody"]["content"]["application/json"]["schema"];
        if (200..300).contains(&status) {
            if !wanted.is_null() && !sent.is_empty() {
                let found = wrong(&self.document, wanted, &serde_json::from_str(sent).unwrap(), "the body");
                assert!(found.is_empty(), "{call}: {found:#?}");
            }
            self.done.insert(id.to_owned());
        }
        value
    }

    /// The headers of an answer that are described.
    fn check_headers(&self, call: &str, answer: &Answer) {
        let (method, path) = call.split_once(' ').unwrap();
        let path = path.split('?').next().unwrap();
        let answers = &self.document["paths"][path][method.to_lowercase()]["responses"];
        let described = self.pointed(answers.get(answer.status.to_string()).unwrap_or(&answers["default"]));
        for (name, header) in described["headers"].as_object().into_iter().flatten() {
            let schema = &self.pointed(header)["schema"];
            let value = answer.header(&name.to_lowercase()).map(|it| of_header(schema, it));
            let found = value.map(|it| wrong(&self.document, schema, &it, name)).unwrap_or_default();
            assert!(found.is_empty(), "{call}: {found:#?}");
        }
    }

    async fn ask(
        &mut self,
        (call, names): Call<'_>,
        headers: &[(&str, &str)],
        body: &str,
        status: u16,
    ) -> Value {
        let real =
            names.iter().fold(call.to_owned(), |it, (name, value)| it.replace(&format!("{{{name}}}"), value));
        let (method, path) = real.split_once(' ').unwrap();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let answer = self.app.request(method.clone(), path, body, headers).await;
        assert_eq!(answer.status, status, "{real}: {}", answer.text);
        let kind = answer.header("content-type").unwrap_or_default();
        let kind = kind.split(';').next().unwrap().to_owned();
        let has_none = method == Method::HEAD || status == 304;
        assert!(!has_none || answer.text.is_empty());
        self.check_headers(call, &answer);
        self.check(call, body, (status, if has_none { "" } else { &kind }, &answer.text))
    }
}

/// The value of a header, as its schema has it.
fn of_header(schema: &Value, text: &str) -> Value {
    if schema["type"] == "integer" { text.parse::<u64>().unwrap().into() } else { text.into() }
}

async fn caches(it: &mut Described) {
    const ONE: &str = "/v1/caches/{cache}/{key}";
    let names = [("cache", "shop"), ("key", "a%2Fb")];
    let call = |method: &str, rest: &str| format!("{method} {ONE}{rest}");
    let text = [("content-type", "text/plain")];
    it.ask((&call("PUT", "?ttl=1h&idle=10m"), &names), &text, "one", 201).await;
    it.ask((&call("PUT", ""), &names), &text, "two", 204).await;
    let unmet = it.ask((&call("PUT", ""), &names), &[("if-none-match", "*")], "x", 412).await;
    assert!(unmet["version"].as_u64().unwrap() > 0);
    assert_eq!(it.ask((&call("GET", "?consistency=strong"), &names), &[], "", 200).await, "two");
    let version = format!("\"{}\"", unmet["version"]);
    it.ask((&call("GET", ""), &names), &[("if-none-match", &version)], "", 304).await;
    it.ask((&call("HEAD", ""), &names), &[], "", 200).await;
    it.ask((&call("GET", "?claim=0s"), &names), &[], "", 400).await;
    it.ask((&call("POST", "/increment"), &names), &[], "", 409).await;
    it.ask((&call("DELETE", ""), &names), &[("if-match", &version)], "", 204).await;
    it.ask((&call("DELETE", ""), &names), &[], "", 404).await;
    it.ask((&call("GET", "?claim=1s"), &names), &[], "", 404).await;
    let number = [("cache", "shop"), ("key", "n")];
    let by = r#"{"by": -2, "initial": 9, "ttl": "1h", "idle": "10m"}"#;
    assert_eq!(it.ask((&call("POST", "/increment"), &number), &[], by, 200).await, json!({"value": 7}));
    let stale = [("x-copal-fence", "nobodys=1")];
    it.ask((&call("POST", "/increment"), &number), &stale, "", 409).await;
    let entries = r#"{"entries": [{"key": "t", "value": "x", "ttl": "1h"}, {"key": "j", "json": null}, {"key": "b", "base64": "AA=="}]}"#;
    it.ask(("PATCH /v1/caches/{cache}", &names), &[], entries, 204).await;
    it.ask(("PATCH /v1/caches/{cache}", &names), &[], r#"{"entries": [{"key": "t"}]}"#, 400).await;
    it.ask(("GET /v1/caches/{cache}", &names), &[], "", 200).await;
    let all = it.ask(("GET /v1/caches", &[]), &[], "", 200).await;
    assert_eq!((&all["caches"][0]["name"], &all["caches"][0]["entries"]), (&json!("shop"), &json!(4)));
    it.ask(("DELETE /v1/caches/{cache}", &names), &[], "", 204).await;
}

async fn queues(it: &mut Described) {
    let work = [("queue", "work")];
    let pulled = [("queue", "pulled")];
    let publish = "POST /v1/queues/{queue}";
    let key = [("idempotency-key", "once"), ("x-copal-priority", "9"), ("x-copal-meta-from", "me")];
    it.ask((publish, &pulled), &key, "x", 201).await;
    it.ask((publish, &pulled), &key, "x", 200).await;
    it.ask((publish, &pulled), &[("x-copal-priority", "10")], "x", 400).await;
    it.ask((publish, &pulled), &[("x-copal-fence", "nobodys=1")], "x", 409).await;
    let reply = "POST /v1/queues/{queue}?wait=20s";
    assert_eq!(it.ask((reply, &work), &[], "x", 200).await, "done");
    it.ask((reply, &work), &[("x-copal-group", "g"), ("x-copal-correlation", "c")], "dead", 502).await;
    it.ask(("POST /v1/queues/{queue}?wait=1ms", &[("queue", "nobodys")]), &[], "x", 504).await;
    let messages = json!({"messages": [
        {"value": "x", "group": "g", "correlation": "c", "meta": {"from": "me"}, "priority": 0}, {"json": [1], "ttl": "1h", "unique": "u"}, {"base64": "/w==", "idempotency-key": "once"},
    ]});
    let came = it.ask(("POST /v1/queues/{queue}/batch", &pulled), &[], &messages.to_string(), 201).await;
    assert_eq!(came["repeated"], json!([2]));
    it.ask(("POST /v1/queues/{queue}/batch", &pulled), &[], r#"{"messages": []}"#, 400).await;
    let mut tokens = Vec::new();
    while tokens.len() < 3 {
        let receive = "POST /v1/queues/{queue}/receive?wait=20s&max=10&timeout=1m";
        let got = it.ask((receive, &pulled), &[], "", 200).await;
        tokens.extend(
            got["messages"].as_array().unwrap().iter().map(|it| it["token"].as_str().unwrap().to_owned()),
        );
    }
    let token = |index: usize| [("token", tokens[index].as_str())];
    let change = "PATCH /v1/deliveries/{token}";
    it.ask(("GET /v1/deliveries/{token}", &token(0)), &[], "", 200).await;
    it.ask((change, &token(0)), &[], r#"{"extend": "5m"}"#, 204).await;
    it.ask((change, &token(0)), &[], r#"{"extend": "5m", "dead": "x"}"#, 400).await;
    it.ask(("DELETE /v1/deliveries/{token}", &token(0)), &[], "the reply", 204).await;
    it.ask(("DELETE /v1/deliveries/{token}", &token(0)), &[], "", 409).await;
    it.ask((change, &token(1)), &[], r#"{"give-back": "1h"}"#, 204).await;
    it.ask((change, &token(2)), &[], r#"{"dead": "no use"}"#, 204).await;
    for queue in ["work", "pulled"] {
        let names = [("queue", queue)];
        let dead = it.ask(("GET /v1/queues/{queue}/dead?max=10&after=0", &names), &[], "", 200).await;
        let ids = json!({"ids": [dead["messages"][0]["id"]]}).to_string();
        it.ask(("POST /v1/queues/{queue}/dead/replay", &names), &[], &ids, 202).await;
    }
    for queue in ["pulled", "none", "job:often", "topic:orders:billing"] {
        it.ask(("GET /v1/queues/{queue}", &[("queue", queue)]), &[], "", 200).await;
    }
    it.ask(("GET /v1/queues", &[]), &[], "", 200).await;
}

async fn topics(it: &mut Described) {
    let names = [("topic", "news"), ("subscription", "mail")];
    let subscription = |method: &str, rest: &str| {
        format!("{method} /v1/topics/{{topic}}/subscriptions/{{subscription}}{rest}")
    };
    let publish = "POST /v1/topics/{topic}";
    it.ask((publish, &names), &[], "x", 202).await;
    it.ask((&subscription("PUT", ""), &names), &[], "", 204).await;
    it.ask((publish, &names), &[("content-type", "application/json")], "{\"n\": 1}", 201).await;
    let got = it.ask((&subscription("POST", "/receive?wait=20s"), &names), &[], "", 200).await;
    assert_eq!(got["messages"][0]["json"], json!({"n": 1}));
    it.ask((&subscription("DELETE", ""), &names), &[], "", 204).await;
    it.ask((&subscription("POST", "/receive"), &names), &[], "", 404).await;
    it.ask((publish, &[("topic", "News")]), &[], "x", 400).await;
}

async fn jobs_and_leases(it: &mut Described) {
    // The app has declared it as soon as the hub has heard so.
    let declared = async { while it.app.call(Method::GET, "/v1/jobs/often", "").await.0 != 200 {} };
    tokio::time::timeout(PATIENCE, declared).await.expect("the app's job is known");
    let yearly = [("job", "yearly")];
    let job = r#"{"cron": "0 0 1 1 *", "timezone": "Europe/Berlin", "until": "2099-01-01T00:00:00+01:00", "repeat": 9, "missed": "skip", "queue": "reports", "message": {"json": 1}}"#;
    it.ask(("PUT /v1/jobs/{job}", &yearly), &[], job, 201).await;
    it.ask(("PUT /v1/jobs/{job}", &yearly), &[], job, 200).await;
    it.ask(("PUT /v1/jobs/{job}", &[("job", "soon")]), &[], r#"{"in": "1h", "queue": "reports"}"#, 201).await;
    it.ask(("PUT /v1/jobs/{job}", &yearly), &[], r#"{"every": "1s"}"#, 400).await;
    it.ask(("PUT /v1/jobs/{job}", &[("job", "often")]), &[], job, 409).await;
    it.ask(("GET /v1/jobs/{job}", &yearly), &[], "", 200).await;
    let all = it.ask(("GET /v1/jobs", &[]), &[], "", 200).await;
    assert_eq!(all["jobs"].as_array().unwrap().len(), 3);
    it.ask(("POST /v1/jobs/{job}/run", &yearly), &[], "", 202).await;
    it.ask(("DELETE /v1/jobs/{job}", &yearly), &[], "", 204).await;
    it.ask(("GET /v1/jobs/{job}", &yearly), &[], "", 404).await;

    let report = [("lease", "report")];
    let lease = it.ask(("POST /v1/leases/{lease}?wait=0s", &report), &[], r#"{"ttl": "1h"}"#, 201).await;
    let held = it.ask(("POST /v1/leases/{lease}", &report), &[], "", 409).await;
    assert_eq!((&held["token"], &held["server"]), (&lease["token"], &json!("app-a")));
    it.ask(("POST /v1/leases/{lease}", &report), &[], r#"{"ttl": "1ms"}"#, 400).await;
    it.ask(("GET /v1/leases/{lease}", &report), &[], "", 200).await;
    it.ask(("GET /v1/leases/{lease}", &[("lease", "none")]), &[], "", 404).await;
    let token = lease["token"].to_string();
    let mine = [("lease", "report"), ("token", token.as_str())];
    for (method, status) in [("GET", 200), ("PUT", 200), ("DELETE", 204), ("GET", 409)] {
        it.ask((&format!("{method} /v1/leases/{{lease}}/{{token}}"), &mine), &[], "", status).await;
    }
}

/// A body, and a number, may be as great as it is described, and no greater.
async fn bounds(it: &mut Described, cluster: &Cluster) {
    let names =
        [("cache", "large"), ("key", "k"), ("topic", "large"), ("queue", "large"), ("pipeline", "large")];
    for (call, status) in [
        ("PUT /v1/caches/{cache}/{key}", 201),
        ("POST /v1/topics/{topic}", 202),
        ("POST /v1/queues/{queue}", 201),
        ("POST /v1/pipelines/{pipeline}", 202),
    ] {
        let (method, path) = call.split_once(' ').unwrap();
        let body = &it.document["paths"][path][method.to_lowercase()]["requestBody"];
        let max = body["content"]["*/*"]["schema"]["maxLength"].as_u64().unwrap();
        let body = "x".repeat(usize::try_from(max).unwrap());
        it.ask((call, &names), &[], &body, status).await;
        it.ask((call, &names), &[], &format!("{body}x"), 413).await;
        // It reads no further than it has to.
        it.app = Local::of_some_server(cluster).await;
    }
    for (call, at) in [
        ("POST /v1/queues/{queue}/receive", "/post/parameters/1"),
        ("GET /v1/queues/{queue}/dead", "/get/parameters/0"),
    ] {
        let item = &it.document["paths"][call.split_once(' ').unwrap().1];
        let parameter = item.pointer(at).unwrap();
        let max = parameter["schema"]["maximum"].as_u64().unwrap();
        assert_eq!(parameter["name"], "max");
        it.ask((&format!("{call}?max={max}"), &names), &[], "", 200).await;
        it.ask((&format!("{call}?max={}", max + 1), &names), &[], "", 400).await;
    }
}

async fn pipelines(it: &mut Described) {
    let steps = [("pipeline", "steps")];
    let begin = "POST /v1/pipelines/{pipeline}";
    let key = [("idempotency-key", "once"), ("x-copal-correlation", "c"), ("x-copal-meta-from", "me")];
    let first = it.ask((begin, &steps), &key, "x", 202).await;
    let again = it.ask((begin, &steps), &key, "x", 202).await;
    assert_eq!((&again["id"], &again["repeated"]), (&first["id"], &json!(true)));
    let end = "POST /v1/pipelines/{pipeline}?wait=20s&step=two";
    assert_eq!(it.ask((end, &steps), &[], "x", 200).await, "done");
    // The step for errors halts the run.
    assert_eq!(it.ask(("POST /v1/pipelines/{pipeline}?wait=20s", &steps), &[], "dead", 410).await, "done");
    let none = [("pipeline", "none")];
    it.ask(("POST /v1/pipelines/{pipeline}?wait=1ms", &none), &[], "x", 504).await;
    it.ask((begin, &steps), &[("x-copal-fence", "nobodys=1")], "x", 409).await;
    it.ask((begin, &steps), &[("x-copal-ttl", "1s")], "x", 400).await;
    let id = first["id"].as_str().unwrap();
    let run = "GET /v1/pipelines/{pipeline}/runs/{run}";
    let ended = async {
        let path = format!("/v1/pipelines/steps/runs/{id}");
        while it.app.call(Method::GET, &path, "").await.0 == 202 {}
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("the run ends");
    assert_eq!(it.ask((run, &[("pipeline", "steps"), ("run", id)]), &[], "", 200).await, "done");
    it.ask((run, &[("pipeline", "none"), ("run", id)]), &[], "", 404).await;
    it.ask(("GET /v1/pipelines/{pipeline}", &steps), &[], "", 200).await;
}

/// Of the request that is being answered: it is the app that calls.
async fn session(it: &mut Described, cluster: &Cluster) {
    let mut calls = connect(&cluster.web()).await;
    let told = request(&mut calls, Method::GET, "/session", "", &[]).await;
    let told: Value = serde_json::from_str(&told.text).unwrap();
    let told = told.as_array().unwrap();
    let statuses: Vec<_> = told.iter().map(|it| it["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [204, 200, 200, 400, 204, 409], "{told:#?}");
    for call in told {
        let text = |name: &str| call[name].as_str().unwrap_or_default();
        let sent = if call["body"].is_null() { String::new() } else { call["body"].to_string() };
        let status = u16::try_from(call["status"].as_u64().unwrap()).unwrap();
        it.check(
            &format!("{} {}", text("method"), text("path")),
            &sent,
            (status, text("type"), text("text")),
        );
    }
}

async fn events(it: &mut Described, cluster: &Cluster) {
    let data = |event: &str| serde_json::from_str::<Value>(event.split_once("data: ").unwrap().1).unwrap();
    for (path, id, publish, named) in [
        (
            "/v1/caches/ticks/events",
            "cacheEvents",
            (Method::PUT, "/v1/caches/ticks/a"),
            ("changed", "CacheChange"),
        ),
        (
            "/v1/topics/ticks/events",
            "topicEvents",
            (Method::POST, "/v1/topics/ticks"),
            ("message", "TopicMessage"),
        ),
    ] {
        let mut events = Local::of_some_server(cluster).await.events(path).await;
        assert_eq!(events.next().await, "event: ready data: {}");
        it.app
            .request(publish.0, publish.1, "x", &[("x-copal-correlation", "c"), ("x-copal-meta-a", "b")])
            .await;
        let event = events.next().await;
        assert!(event.starts_with(&format!("event: {}", named.0)), "{event}");
        let schema = &it.document["components"]["schemas"][named.1];
        assert_eq!(wrong(&it.document, schema, &data(&event), path), Vec::<String>::new());
        it.done.insert(id.to_owned());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_is_answered_as_the_description_says() {
    let Some((cluster, _)) = start_script(APP, 1, DECLARED, |_| {}).await else { return };
    let mut it = Described::of(&cluster).await;
    caches(&mut it).await;
    queues(&mut it).await;
    topics(&mut it).await;
    jobs_and_leases(&mut it).await;
    pipelines(&mut it).await;
    bounds(&mut it, &cluster).await;
    session(&mut it, &cluster).await;
    events(&mut it, &cluster).await;
    it.ask(("GET /v1/openapi.json?x=1", &[]), &[], "", 400).await;
    it.ask(("PUT /v1/app", &[]), &[], "{}", 409).await;
    // Its success is tests/it/declare.rs's.
    it.done.insert("declareApp".to_owned());
    let mut paths = it.document["paths"].as_object().unwrap().clone();
    for (path, item) in &mut paths {
        item.as_object_mut().unwrap().remove("parameters");
        // Whoever comes with another method is told of those that there are.
        let names =
            ["token", "lease", "job", "topic", "subscription", "queue", "cache", "key", "pipeline", "run"];
        let real = names.iter().fold(path.clone(), |path, name| path.replace(&format!("{{{name}}}"), "1"));
        let answer = it.app.request(Method::OPTIONS, &real, "", &[("accept", "text/event-stream")]).await;
        let allowed: BTreeSet<_> =
            answer.header("allow").unwrap_or_default().split(", ").map(str::to_lowercase).collect();
        let described: BTreeSet<_> = item.as_object().unwrap().keys().cloned().collect();
        assert_eq!((answer.status, allowed), (405, described), "{path}: {}", answer.text);
        for operation in item.as_object().unwrap().values() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(it.done.contains(id), "{id} was not called, or never with success");
        }
    }
    // The first counts.
    it.ask(("GET /v1/openapi.json", &[]), &[("authorization", "Bearer x")], "", 401).await;
}

/// The calls that the app has received.
fn received(out: &Path) -> Vec<Value> {
    let text = fs::read_to_string(out).unwrap();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The webhook that a call is.
fn webhook(headers: &Value) -> &'static str {
    match (headers["x-copal-delivery"].as_str().unwrap(), headers["x-copal-message-id"].is_string()) {
        ("queue", true) => "queue",
        ("job", true) => "job",
        ("pipeline", true) => "step",
        ("topic", true) => "durableTopic",
        ("topic", false) => "topic",
        ("daemon-start", false) => "daemonStart",
        ("daemon-stop", false) => "daemonStop",
        other => panic!("{other:?}: {headers}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_app_is_called_as_the_description_says() {
    let Some((mut cluster, out)) = start_script(APP, 1, DECLARED, |_| {}).await else { return };
    let mut it = Described::of(&cluster).await;
    let headers = [("x-copal-group", "g"), ("x-copal-correlation", "c"), ("x-copal-meta-from", "me")];
    let hooks: BTreeSet<_> = it.document["webhooks"].as_object().unwrap().keys().cloned().collect();
    let called = async {
        loop {
            // Who listens to a topic hears what is told from then on.
            it.app.request(Method::POST, "/v1/topics/orders", "x", &headers).await;
            it.app.request(Method::POST, "/v1/queues/work", "x", &headers).await;
            for body in ["parts", "dead"] {
                it.app.request(Method::POST, "/v1/pipelines/steps", body, &headers[1..]).await;
            }
            let seen: BTreeSet<_> =
                received(&out).iter().map(|it| webhook(&it["headers"]).to_owned()).collect();
            if seen.len() + 1 >= hooks.len() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, called).await.unwrap_or_else(|_| {
        let seen: BTreeSet<_> = received(&out).iter().map(|it| webhook(&it["headers"])).collect();
        panic!("not all calls have come: {seen:?}")
    });
    cluster.stop("app-a").await;
    let mut seen = BTreeSet::new();
    for call in received(&out) {
        let headers = &call["headers"];
        let name = webhook(headers);
        let hook = &it.document["webhooks"][name]["post"];
        assert_eq!(call["mine"], true, "{name}");
        let parameters: Vec<_> =
            hook["parameters"].as_array().unwrap().iter().map(|value| it.pointed(value)).collect();
        let named = |name: &str| {
            let name = if name.starts_with("x-copal-meta-") { "x-copal-meta-{name}" } else { name };
            parameters.iter().find(|it| it["name"].as_str().unwrap().eq_ignore_ascii_case(name))
        };
        for (header, value) in headers.as_object().unwrap().iter().filter(|it| it.0.starts_with("x-")) {
            let schema = &named(header).unwrap_or_else(|| panic!("{name} has {header}"))["schema"];
            let found = wrong(&it.document, schema, &of_header(schema, value.as_str().unwrap()), header);
            assert!(found.is_empty(), "{name}: {found:#?}");
        }
        for parameter in parameters.iter().filter(|it| it["required"] == true) {
            let needed = parameter["name"].as_str().unwrap().to_lowercase();
            assert!(headers[&needed].is_string(), "{name} is without {needed}");
        }
        let schema = &hook["requestBody"]["content"]["application/json"]["schema"];
        if !schema.is_null() {
            let body: Value = serde_json::from_str(call["body"].as_str().unwrap()).unwrap();
            assert_eq!(wrong(&it.document, schema, &body, name), Vec::<String>::new());
        }
        seen.insert(name.to_owned());
    }
    assert_eq!(seen, hooks);
}
