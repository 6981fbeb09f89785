//! A real browser, steered over the WebDriver protocol (W3C Recommendation "WebDriver"): Chromium, by Debian's chromium-driver.

use crate::{client::connect, cluster::PATIENCE};
use base64ct::{Base64, Encoding};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, header::HOST};
use serde_json::{Value, json};
use std::{io::Write, net::TcpStream, path::Path, process::Stdio, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// The key of an element's reference, by the protocol.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A running driver, and its port; `Some(None)`: it has ended. What it printed is added to `said`.
async fn driver(said: &mut Vec<String>) -> Option<Option<(Child, String)>> {
    let mut driver = Command::new("chromedriver")
        .args(["--port=0", "--log-level=SEVERE"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    let listening = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some((_, port)) = line.split_once("successfully on port ") {
                return Some(port.trim_end_matches('.').to_owned());
            }
            said.push(line);
        }
        None
    };
    let port = timeout(PATIENCE, listening).await.expect("chromedriver does not say its port");
    Some(port.map(|port| (driver, port)))
}

/// A browser with one window.
#[derive(Debug)]
pub(super) struct Browser {
    address: String,
    session: String,
    _driver: Child,
    _profile: TempDir,
}

impl Browser {
    /// Starts it; `None`: it is not installed.
    pub(super) async fn start() -> Option<Self> {
        // It takes a port for both families of addresses, and ends if another process has taken the second one meanwhile.
        let mut said = Vec::new();
        for _ in 0..5 {
            if let Some((driver, port)) = driver(&mut said).await? {
                return Some(Self::begin(driver, port).await);
            }
        }
        panic!("chromedriver does not stay: {said:?}");
    }

    async fn begin(driver: Child, port: String) -> Self {
        let profile = tempfile::Builder::new().prefix("copal-browser-").tempdir().unwrap();
        let folder = format!("--user-data-dir={}", profile.path().display());
        // By the pipe the browser ends when the driver does, however that ends.
        let flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"];
        let flags = flags.into_iter().chain(["--remote-debugging-pipe", "--no-first-run", &folder]);
        let options = json!({"args": flags.collect::<Vec<_>>()});
        let wanted = json!({"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}});
        let mut browser = Self {
            address: format!("127.0.0.1:{port}"),
            session: String::new(),
            _driver: driver,
            _profile: profile,
        };
        let begun = browser.call(Method::POST, "", json!({"capabilities": {"alwaysMatch": wanted}})).await;
        begun["sessionId"].as_str().unwrap().clone_into(&mut browser.session);
        browser
    }

    /// One command; `path` is below the session's.
    async fn call(&self, method: Method, path: &str, body: Value) -> Value {
        let slash = if self.session.is_empty() { "" } else { "/" };
        let uri = format!("/session{slash}{}{path}", self.session);
        let body = if method == Method::GET { Bytes::new() } else { body.to_string().into() };
        let request = Request::builder().method(method).uri(&uri).header(HOST, &self.address);
        let request = request.body(Full::new(body)).unwrap();
        let mut connection = connect(&self.address).await;
        let asked = async {
            let answer = connection.send_request(request).await.unwrap();
            let is_done = answer.status().is_success();
            (is_done, answer.into_body().collect().await.unwrap().to_bytes())
        };
        let (is_done, answer) = timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("{uri} hangs"));
        let mut answer: Value = serde_json::from_slice(&answer).unwrap();
        assert!(is_done, "{path}: {}", answer["value"]["message"]);
        answer["value"].take()
    }

    pub(super) async fn open(&self, url: &str) {
        self.call(Method::POST, "/url", json!({"url": url})).await;
    }

    /// Runs the body of a function with these arguments, and returns what it returns.
    pub(super) async fn run(&self, script: &str, arguments: &[Value]) -> Value {
        self.call(Method::POST, "/execute/sync", json!({"script": script, "args": arguments})).await
    }

    /// The same of one that calls its last argument with what it has found.
    pub(super) async fn run_async(&self, script: &str) -> Value {
        self.call(Method::POST, "/execute/async", json!({"script": script, "args": []})).await
    }

    /// Waits until an expression is true.
    pub(super) async fn until(&self, expression: &str) {
        let script = format!("return Boolean({expression})");
        let asking = async { while self.run(&script, &[]).await != Value::Bool(true) {} };
        if timeout(PATIENCE, asking).await.is_err() {
            let text = self.run("return location.href + '\\n' + document.body.innerText", &[]).await;
            panic!("never so: {expression}\n{}", text.as_str().unwrap_or_default());
        }
    }

    async fn element(&self, selector: &str) -> String {
        let found =
            self.call(Method::POST, "/element", json!({"using": "css selector", "value": selector})).await;
        found[ELEMENT].as_str().unwrap_or_else(|| panic!("no {selector}: {found}")).to_owned()
    }

    /// Clicks on the first element of a CSS selector, as a user does: it has to be visible, with nothing before it.
    pub(super) async fn click(&self, selector: &str) {
        let id = self.element(selector).await;
        self.call(Method::POST, &format!("/element/{id}/click"), json!({})).await;
    }

    /// Types into it; for a field that takes a file, its path.
    pub(super) async fn type_into(&self, selector: &str, text: &str) {
        let id = self.element(selector).await;
        self.call(Method::POST, &format!("/element/{id}/value"), json!({"text": text})).await;
    }

    /// Sizes the page as a device of this width and height would, light or dark.
    pub(super) async fn look(&self, (width, height): (u32, u32), scheme: &str) {
        let mobile = width < 600;
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.tell("Emulation.setDeviceMetricsOverride", metrics).await;
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.tell("Emulation.setEmulatedMedia", features).await;
    }

    /// A command of the browser's own protocol.
    async fn tell(&self, command: &str, parameters: Value) -> Value {
        self.call(Method::POST, "/goog/cdp/execute", json!({"cmd": command, "params": parameters})).await
    }

    /// Keeps what is seen as a PNG file.
    pub(super) async fn screenshot(&self, file: &Path) {
        let picture = self.call(Method::GET, "/screenshot", Value::Null).await;
        let picture = Base64::decode_vec(picture.as_str().unwrap()).unwrap();
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, picture).unwrap();
    }

    /// What the browser's console has had to say since it was asked last, of errors.
    pub(super) async fn errors(&self) -> Vec<String> {
        let lines = self.call(Method::POST, "/se/log", json!({"type": "browser"})).await;
        let lines = lines.as_array().unwrap().iter().filter(|it| it["level"] == "SEVERE");
        lines.map(|it| it["message"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // So that it ends in order; the driver is killed afterwards.
        let Ok(mut stream) = TcpStream::connect(&self.address) else { return };
        let Self { session, address, .. } = self;
        let _late = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let asked = write!(
            stream,
            "DELETE /session/{session} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
        );
        let _ended = asked.and_then(|()| std::io::copy(&mut stream, &mut std::io::sink()));
    }
}
