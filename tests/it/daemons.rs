//! Daemons and leases of whole servers: one holder at a time, whatever is killed, paused or cut off.

use crate::{
    cluster::{Cluster, Configuration, PATIENCE},
    tell::tell,
};
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Method, Request,
    body::{Bytes, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::net::TcpStream;

/// Writes `time server token` each 5 ms while it is the daemon, in nanoseconds of `CLOCK_BOOTTIME`; says at `/env` how it calls the local API.
const APP: &str = r#"
import json, os, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
out = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
me = os.environ["COPAL_SERVER"]
running = None

def write(line):
    os.write(out, (line + "\n").encode())

def run(fence, stop):
    while not stop.wait(0.005):
        write(f"{time.clock_gettime_ns(time.CLOCK_BOOTTIME)} {me} {fence.split('=')[1]}")

if len(sys.argv) > 2:
    run(os.environ["COPAL_FENCE"], threading.Event())

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        global running
        self.rfile.read(int(self.headers.get("content-length") or 0))
        body = "ok"
        fence = self.headers["x-copal-fence"]
        if self.path == "/start":
            if running: running.set()
            running = threading.Event()
            threading.Thread(target=run, args=(fence, running), daemon=True).start()
        elif self.path == "/stop" and running:
            running.set()
        elif self.path == "/slow":
            time.sleep(2)
            threading.Thread(target=run, args=(fence, threading.Event()), daemon=True).start()
        elif self.path == "/stubborn":
            time.sleep(3600)
        elif self.path == "/env":
            body = json.dumps({"server": me, "api": os.environ["COPAL_API"], "token": os.environ["COPAL_TOKEN"]})
        elif self.path == "/headers":
            body = json.dumps({name.lower(): value for name, value in self.headers.items()})
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())
    do_GET = do_POST = answer
    def log_message(self, *_):
        pass
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// A cluster whose app is the one above, with these lines in its `app.yaml`, and the file that its daemon writes to.
pub(crate) async fn start(apps: usize, lines: &str) -> Option<(Cluster, PathBuf)> {
    start_with(apps, lines, |_| {}).await
}

pub(crate) async fn start_with(
    apps: usize,
    lines: &str,
    configure: fn(&mut Configuration),
) -> Option<(Cluster, PathBuf)> {
    start_script(APP, apps, lines, configure).await
}

/// The same with another app in Python.
pub(crate) async fn start_script(
    script_text: &str,
    apps: usize,
    lines: &str,
    configure: fn(&mut Configuration),
) -> Option<(Cluster, PathBuf)> {
    let python = ["/usr/bin/python3", "/usr/local/bin/python3"].into_iter().find(|it| Path::new(it).exists());
    let Some(python) = python else {
        tell("skipped a test of an app in Python: there is no python3 in /usr");
        return None;
    };
    let mut cluster = Cluster::prepare(apps, configure);
    let (script, out) = (cluster.folder().join("app.py"), cluster.folder().join("out"));
    fs::write(&script, script_text).unwrap();
    fs::write(&out, "").unwrap();
    let word = |path: &Path| path.to_str().unwrap().to_owned();
    cluster.configuration.command = [python, "-B", &word(&script), &word(&out)].map(str::to_owned).into();
    let lines = lines.replace("SCRIPT", &format!("{python}, -B, {}, {}", word(&script), word(&out)));
    cluster.configuration.app.push(lines);
    cluster.write();
    cluster.start_all().await;
    Some((cluster, out))
}

/// What the daemon has written: when, where, by which token.
fn written(out: &Path) -> Vec<(u64, String, u64)> {
    let text = fs::read_to_string(out).unwrap();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let line = |line: &str| {
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap().to_owned();
        (word().parse().unwrap(), word(), word().parse().unwrap())
    };
    whole.lines().map(line).collect()
}

/// Waits until the daemon has written by a token after this one, and for a while by it.
pub(crate) async fn holder_after(out: &Path, token: u64) -> (String, u64) {
    let found = async {
        loop {
            let by_newer: Vec<_> = written(out).into_iter().filter(|it| it.2 > token).collect();
            if let Some((_, server, token)) = by_newer.last()
                && by_newer.iter().filter(|it| it.2 == *token).count() > 20
            {
                return (server.clone(), *token);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("the daemon runs somewhere")
}

/// No write by an older token after one by a newer; how long nobody wrote at each change, in milliseconds.
fn changes(out: &Path) -> Vec<u64> {
    let mut all = written(out);
    all.sort_unstable();
    let mut gaps = Vec::new();
    for pair in all.windows(2) {
        let ((before, server, token), (at, next, newer)) = (&pair[0], &pair[1]);
        assert!(newer >= token, "{next} wrote by {newer} at {at} after {server} by {token} at {before}");
        if newer > token {
            gaps.push((at - before) / 1_000_000);
        }
    }
    gaps
}

pub(crate) const CALLED: &str = "daemons: [{name: counter, start: /start, stop: /stop, lease: 2s}]";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_at_a_time_runs_a_daemon_whatever_becomes_of_it() {
    let Some((mut cluster, out)) = start(3, CALLED).await else { return };
    let seed = rand::random::<u64>();
    tell(&format!("faults of a daemon's servers by the seed {seed}"));
    let mut dice = StdRng::seed_from_u64(seed);
    let (mut holder, mut token) = holder_after(&out, 0).await;
    for fault in 0..6 {
        // Each kind once, then by chance.
        let kind = if fault < 4 { fault } else { dice.random_range(0..4) };
        let pid = rustix::process::Pid::from_raw(app_pid(&cluster, &holder)).unwrap();
        match kind {
            0 => cluster.kill(&holder).await,
            1 => cluster.process(&holder).signal(Signal::STOP),
            2 => drop(cluster.stop(&holder).await),
            _ => rustix::process::kill_process(pid, Signal::KILL).unwrap(),
        }
        let (next, newer) = holder_after(&out, token).await;
        match kind {
            1 => cluster.process(&holder).signal(Signal::CONT),
            3 => {}
            _ => cluster.start_one(&holder).await,
        }
        assert!(kind == 3 || next != holder, "{kind}: {next} had it before");
        (holder, token) = (next, newer);
    }
    let gaps = changes(&out);
    tell(&format!(
        "a daemon with a lease of 2 s was away for {gaps:?} ms when its server was killed, paused, stopped, its process killed"
    ));
}

/// What has begun nobody knows: the word to stop is not enough then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_takes_too_long_to_start_never_runs_without_its_lease() {
    let lines = "daemons: [{name: counter, start: /slow, stop: /stop, lease: 2s, start-timeout: 300ms}]";
    let Some((cluster, out)) = start(2, lines).await else { return };
    let log =
        |server: &str| fs::read_to_string(cluster.folder().join(format!("{server}.log"))).unwrap_or_default();
    let failed = async {
        while ["app-a", "app-b"].iter().map(|it| log(it).matches("(start-timeout)").count()).sum::<usize>()
            < 4
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, failed).await.expect("it is tried again and again");
    assert_eq!(written(&out), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_daemon_runs_without_its_guard() {
    let Some((cluster, out)) = start(1, CALLED).await else { return };
    let (_, mut token) = holder_after(&out, 0).await;
    for signal in [Signal::KILL, Signal::STOP] {
        let server = cluster.process("app-a").pid();
        let is_guard = |pid: &i32| {
            let read = |what: &str| fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap_or_default();
            let parent =
                read("stat").rsplit_once(')').and_then(|(_, it)| it.split_whitespace().nth(1)?.parse().ok());
            parent == Some(server) && read("cmdline").contains("guard-daemons")
        };
        let ids =
            fs::read_dir("/proc").unwrap().filter_map(|it| it.unwrap().file_name().to_str()?.parse().ok());
        let guard = ids.into_iter().find(is_guard).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(guard).unwrap(), signal).unwrap();
        (_, token) = holder_after(&out, token).await;
    }
    changes(&out);
}

/// Of the app's process on a server.
fn app_pid(cluster: &Cluster, server: &str) -> i32 {
    let file = cluster.folder().join("data").join(server).join("app.pids");
    fs::read_to_string(file).unwrap().split(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_the_hub_does_not_hear_runs_none() {
    let Some((mut cluster, out)) = start(3, CALLED).await else { return };
    let (holder, token) = holder_after(&out, 0).await;
    // Without a majority nobody may take over, and the holder can't know that.
    let others: Vec<String> =
        cluster.configuration.app_servers().into_iter().filter(|it| *it != holder).collect();
    cluster.kill_all(&others).await;
    // It writes until it is told to stop, at 80 % of 2 s.
    let quiet = async {
        loop {
            let before = written(&out).len();
            tokio::time::sleep(Duration::from_millis(300)).await;
            if written(&out).len() == before {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, quiet).await.expect("it stops");
    for id in &others {
        cluster.launch(id);
    }
    let (_, newer) = holder_after(&out, token).await;
    assert!(newer > token);
    changes(&out);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_does_not_stop_is_killed_and_one_of_its_own_is_started_again() {
    let lines =
        "daemons:\n  - {name: counter, start: /start, stop: /stubborn, lease: 2s, stop-timeout: 500ms}";
    let Some((mut cluster, out)) = start(2, lines).await else { return };
    let (holder, token) = holder_after(&out, 0).await;
    cluster.stop(&holder).await;
    holder_after(&out, token).await;
    changes(&out);
    drop(cluster);

    let lines = "daemons: [{name: counter, command: [SCRIPT, daemon], lease: 2s}]";
    let Some((mut cluster, out)) = start(2, lines).await else { return };
    let (holder, token) = holder_after(&out, 0).await;
    let file = cluster.folder().join("data").join(&holder).join("app.pids");
    let pids = fs::read_to_string(file).unwrap();
    let pids: Vec<i32> = pids.lines().map(|it| it.split(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(pids.len(), 2, "the app's process and the daemon's");
    let of_daemon = pids.into_iter().find(|pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
        environment.split(|it| *it == 0).any(|it| it == format!("COPAL_FENCE=counter={token}").as_bytes())
    });
    let pid = rustix::process::Pid::from_raw(of_daemon.unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    let (holder, token) = holder_after(&out, token).await;
    cluster.kill(&holder).await;
    let (next, _) = holder_after(&out, token).await;
    assert_ne!(next, holder);
    changes(&out);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_can_neither_start_a_daemon_nor_speak_for_the_server() {
    let Some((cluster, out)) = start(1, CALLED).await else { return };
    holder_after(&out, 0).await;
    let mut stream = connect(&cluster.web()).await;
    for path in
        ["/start", "/stop", "/start/", "//stop", "/%73tart", "/stop;x=1", "/x/../stop", "/START", "/stop?x"]
    {
        let (status, _) = call(&mut stream, Method::POST, path, "", &[]).await;
        assert!((400..500).contains(&status), "{path}: {status}");
    }
    let forged =
        [("x-copal-fence", "counter=9"), ("X-Copal-Delivery", "daemon-start"), ("x-copal-source", "a")];
    let (status, headers) = call(&mut stream, Method::GET, "/headers", "", &forged).await;
    let headers = headers.as_object().unwrap();
    let own = headers.keys().map(String::as_str).filter(|it| it.starts_with("x-copal-"));
    assert_eq!((status, own.collect::<Vec<_>>()), (200, vec!["x-copal-request"]));
}

pub(crate) type Calls = http1::SendRequest<Full<Bytes>>;

pub(crate) async fn connect(address: &str) -> Calls {
    let stream = TcpStream::connect(address).await.unwrap();
    let (calls, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    calls
}

pub(crate) async fn call(
    calls: &mut Calls,
    method: Method,
    path: &str,
    body: &str,
    headers: &[(&str, &str)],
) -> (u16, Value) {
    let answer = request(calls, method, path, body, headers).await;
    (answer.status, serde_json::from_str(&answer.text).unwrap_or_default())
}

pub(crate) async fn request(
    calls: &mut Calls,
    method: Method,
    path: &str,
    body: &str,
    headers: &[(&str, &str)],
) -> Answer {
    try_request(calls, method, path, body, headers).await.unwrap()
}

async fn try_request(
    calls: &mut Calls,
    method: Method,
    path: &str,
    body: &str,
    headers: &[(&str, &str)],
) -> hyper::Result<Answer> {
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    calls.ready().await?;
    let answer = calls.send_request(request.body(Full::from(body.to_owned())).unwrap()).await?;
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let body = answer.into_body().collect().await?.to_bytes();
    Ok(Answer { status, headers, text: String::from_utf8_lossy(&body).into_owned() })
}

/// An app, as it calls its own server's local API.
pub(crate) struct Local {
    calls: Calls,
    token: String,
}

impl Local {
    /// The app of the server that a new user comes to.
    pub(crate) async fn of_some_server(cluster: &Cluster) -> Self {
        Self::of(&Self::environment(cluster).await).await
    }

    /// That of each server, in the order of their ids.
    pub(crate) async fn of_each_server<const COUNT: usize>(cluster: &Cluster) -> [Self; COUNT] {
        let mut found = BTreeMap::new();
        while found.len() < COUNT {
            let environment = Self::environment(cluster).await;
            found.insert(environment["server"].as_str().unwrap().to_owned(), environment);
        }
        let apps = found.values().map(Self::of);
        futures_util::future::join_all(apps)
            .await
            .try_into()
            .unwrap_or_else(|_| unreachable!("as many as were found"))
    }

    async fn environment(cluster: &Cluster) -> Value {
        let (status, environment) =
            call(&mut connect(&cluster.web()).await, Method::GET, "/env", "", &[]).await;
        assert_eq!(status, 200);
        environment
    }

    /// The one whose environment this is, as `/env` says it.
    pub(crate) async fn of(environment: &Value) -> Self {
        let api = environment["api"].as_str().unwrap().strip_prefix("http://").unwrap();
        Self {
            calls: connect(api).await,
            token: format!("Bearer {}", environment["token"].as_str().unwrap()),
        }
    }

    pub(crate) async fn call(&mut self, method: Method, path: &str, body: &str) -> (u16, Value) {
        let answer = self.request(method, path, body, &[]).await;
        (answer.status, serde_json::from_str(&answer.text).unwrap_or_default())
    }

    pub(crate) async fn events(mut self, path: &str) -> Events {
        let request = Request::get(path)
            .header("host", "localhost")
            .header("accept", "text/event-stream")
            .header("authorization", &self.token)
            .body(Full::default())
            .unwrap();
        let answer = self.calls.send_request(request).await.unwrap();
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Events { body: answer.into_body(), text: String::new() }
    }

    pub(crate) async fn request(
        &mut self,
        method: Method,
        path: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> Answer {
        let token = self.token.clone();
        let headers: Vec<_> = headers.iter().copied().chain([("authorization", token.as_str())]).collect();
        request(&mut self.calls, method, path, body, &headers).await
    }

    /// The same where the server may be gone.
    pub(crate) async fn try_request(&mut self, method: Method, path: &str, body: &str) -> Option<Answer> {
        let token = self.token.clone();
        let headers = [("authorization", token.as_str())];
        try_request(&mut self.calls, method, path, body, &headers).await.ok()
    }
}

/// A stream of server-sent events.
pub(crate) struct Events {
    body: Incoming,
    text: String,
}

impl Events {
    /// The next one, in one line; what keeps the connection open is passed over.
    pub(crate) async fn next(&mut self) -> String {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let event: String = self.text.drain(..end + 2).collect();
                if !event.starts_with(':') {
                    return event.trim().replace('\n', " ");
                }
                continue;
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("events come");
            let bytes = frame.unwrap().unwrap().into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|it| it.to_str().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_over_http_has_one_holder_and_ends_in_its_time() {
    let Some((cluster, _)) = start(1, "").await else { return };
    let mut app = Local::of_some_server(&cluster).await;
    let (status, first) = app.call(Method::POST, "/v1/leases/report", r#"{"ttl":"4s"}"#).await;
    let (token, left) = (first["token"].as_u64().unwrap(), first["ttl-ms"].as_u64().unwrap());
    assert!(status == 201 && token > 0 && (1..=4000).contains(&left), "{first}");
    let (status, refused) = app.call(Method::POST, "/v1/leases/report", "").await;
    assert_eq!((status, &refused["code"], &refused["token"]), (409, &json!("lease-held"), &json!(token)));
    let of_token = format!("/v1/leases/report/{token}");
    // Held for longer than its time, as it is renewed.
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (status, renewed) = app.call(Method::PUT, &of_token, "").await;
        assert_eq!((status, &renewed["token"]), (200, &json!(token)), "{renewed}");
    }
    let (status, seen) = app.call(Method::GET, "/v1/leases/report", "").await;
    assert_eq!((status, &seen["server"], &seen["token"]), (200, &json!("app-a"), &json!(token)));
    // Whoever waits gets it when it is over.
    let (status, second) = app.call(Method::POST, "/v1/leases/report?wait=30s", r#"{"ttl":"30s"}"#).await;
    let newer = second["token"].as_u64().unwrap();
    assert!(status == 201 && newer > token, "{second}");
    for method in [Method::PUT, Method::GET, Method::DELETE] {
        let (status, refused) = app.call(method, &of_token, "").await;
        assert_eq!((status, &refused["code"]), (409, &json!("stale-fence")), "{refused}");
    }
    let of_newer = format!("/v1/leases/report/{newer}");
    assert_eq!(app.call(Method::DELETE, &of_newer, "").await.0, 204);
    assert_eq!(app.call(Method::DELETE, &of_newer, "").await.0, 409);
    let gone = async {
        while app.call(Method::GET, "/v1/leases/report", "").await.0 != 404 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_local_api_says_what_is_wrong() {
    let Some((cluster, _)) = start(1, "").await else { return };
    let mut app = Local::of_some_server(&cluster).await;
    let long = format!("/v1/leases/{}", "x".repeat(64));
    let large = format!(r#"{{"ttl":"{}"}}"#, "x".repeat(100_000));
    for (method, path, body, status, words) in [
        (Method::GET, "/", "", 404, "none of this API"),
        (Method::GET, "/v1/lease/a", "", 404, "none of this API"),
        (Method::POST, "/v1/leases/A", "", 400, "expected 1 to 63 of a-z"),
        (Method::POST, "/v1/leases/..", "", 400, "expected 1 to 63 of a-z"),
        (Method::POST, "/v1/leases/a%2fb", "", 400, "the lease's name is \"a%2fb\""),
        (Method::POST, &long, "", 400, "expected 1 to 63 of a-z"),
        (Method::POST, "/v1/leases/a", "{", 400, "the body is no JSON"),
        (Method::POST, "/v1/leases/a", "[]", 400, "no JSON object"),
        (Method::POST, "/v1/leases/a", r#"{"tll":"5s"}"#, 400, "the body has \"tll\": expected ttl"),
        (Method::POST, "/v1/leases/a", r#"{"ttl":5}"#, 400, "ttl is \"5\""),
        (Method::POST, "/v1/leases/a", r#"{"ttl":"5ms"}"#, 400, "ttl is \"5ms\": expected a time from 1s"),
        (Method::POST, "/v1/leases/a?wait=5m", "", 400, "wait is \"5m\""),
        (Method::POST, "/v1/leases/a?wit=5s", "", 400, "the query has \"wit\": expected wait"),
        (Method::POST, "/v1/leases/a", &large, 413, "longer than 65536 bytes"),
        (Method::PATCH, "/v1/leases/a", "", 405, "expected GET, POST"),
        (Method::PUT, "/v1/leases/a/x", "", 400, "the token is \"x\""),
        (Method::PUT, "/v1/leases/a/99", "", 409, "no lease with this token"),
        (Method::GET, "/v1/leases/a", "", 404, "nobody holds the lease a"),
    ] {
        let (found, problem) = app.call(method.clone(), path, body).await;
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(found == status && detail.contains(words), "{method} {path}: {found} {problem}");
        // It reads no further than it has to.
        app = if status == 413 { Local::of_some_server(&cluster).await } else { app };
    }
    for token in ["Bearer x", "Basic x", ""] {
        let headers = [("authorization", token)];
        let (status, problem) = call(&mut app.calls, Method::GET, "/v1/leases/a", "", &headers).await;
        assert_eq!((status, &problem["code"]), (401, &json!("unauthorized")), "{token}");
    }
}
