//! The app-tier as a whole: real processes, of this very test binary, behind a connection as a web-tier has it.

mod app;
mod connections;
mod short;

use crate::{AppTier, AppTierConfig, AppTierError};
use bytes::Bytes;
use cluster_port::{Peer, Protocol, Rights};
use common::{
    clock::SystemClock,
    config::{LoadOptions, load},
};
use http::{Request, Response, header, request::Builder};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use std::{fs, path::PathBuf, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(30);

/// An app-tier with one app.
struct Tier {
    tier: AppTier,
    data: PathBuf,
    _dir: tempfile::TempDir,
}

/// `health` and `more` are lines of `app.yaml`, `mode` is what the app does.
fn start(mode: &str, more: &str) -> Result<Tier, AppTierError> {
    let dir = tempfile::tempdir().unwrap();
    let (root, data) = (dir.path().join("app"), dir.path().join("data"));
    fs::create_dir_all(root.join("htdocs")).unwrap();
    fs::create_dir(&data).unwrap();
    fs::write(root.join("htdocs/hello.txt"), "static").unwrap();
    let this = std::env::current_exe().unwrap();
    let app_yaml = format!(
        "static: htdocs\ncommand: [{:?}, --exact, tests::app::app, --nocapture]\n\
         env: {{APP_MODE: {mode}}}\nstop-timeout: 5s\n{more}\n",
        this.to_str().unwrap()
    );
    fs::write(root.join("app.yaml"), app_yaml).unwrap();
    let conf = dir.path().join("copal.yaml");
    let text = format!(
        "clusters:\n  - id: app-tier\n    servers:\n      - {{id: app-a, address: 127.0.0.1, port: 6800, shutdown-wait-max: 2s}}\n    \
         hosts:\n      - id: \"\"\n        web-apps:\n          - {{id: \"\", root-directory: {root:?}}}\n"
    );
    fs::write(&conf, text).unwrap();
    let config = load(&conf, &LoadOptions::default()).unwrap_or_else(|errors| panic!("{errors}")).config;
    let tier = AppTier::start(
        AppTierConfig {
            deploy: None,
            traces: None,
            admin: None,
            config: Arc::new(config),
            me: "app-a".into(),
            data_dir: data.clone(),
            hub: None,
            leases: None,
            clock: Arc::new(SystemClock),
            launcher: None,
        },
        CancellationToken::new(),
    )?;
    Ok(Tier { tier, data, _dir: dir })
}

impl Tier {
    /// A connection as a web-tier has it.
    fn connection(&self) -> tokio::io::DuplexStream {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let tier = self.tier.clone();
        let peer = Peer { id: "web-a".into(), protocol: Protocol::Http1, rights: Rights::ALL };
        tokio::spawn(async move { tier.serve(far, peer).await });
        near
    }

    async fn connect(&self) -> SendRequest<Full<Bytes>> {
        let near = self.connection();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    async fn ask(&self, request: Builder, body: impl Into<Bytes>) -> Response<Incoming> {
        let mut sender = self.connect().await;
        let request = request.header("host", "example").body(Full::new(body.into())).unwrap();
        tokio::time::timeout(LIMIT, sender.send_request(request)).await.unwrap().unwrap()
    }

    async fn get(&self, path: &str) -> (u16, String) {
        text(self.ask(Request::get(path), "").await).await
    }

    /// Waits until other processes than `before` run, and are healthy.
    async fn restarted(&self, before: &[i32]) {
        let started = async {
            while self.pids().is_empty() || self.pids() == before {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, started).await.unwrap();
        self.tier.ready(LIMIT).await.unwrap();
    }

    fn pids(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.data.join("app.pids")).unwrap();
        text.lines().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect()
    }
}

async fn text(response: Response<Incoming>) -> (u16, String) {
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

fn cookie(response: &Response<Incoming>) -> String {
    let set = response.headers()[header::SET_COOKIE].to_str().unwrap();
    set.split(';').next().unwrap().to_owned()
}

const HEALTH: &str = "health: {path: /healthz, interval: 100ms, start-timeout: 20s}";

#[tokio::test]
async fn counts_in_a_session_over_the_app_api() {
    for listen in ["listen: tcp", "listen: unix"] {
        let tier = start("well", &format!("{HEALTH}\n{listen}")).unwrap();
        tier.tier.ready(LIMIT).await.unwrap();
        let first = tier.ask(Request::get("/count"), "").await;
        let cookie = cookie(&first);
        assert!(cookie.starts_with("JSESSIONID=aa"), "{cookie}");
        assert_eq!(text(first).await, (200, "count 1 on app-a\n".to_owned()));
        let again = tier.ask(Request::get("/count").header(header::COOKIE, &cookie), "").await;
        assert!(!again.headers().contains_key(header::SET_COOKIE));
        assert_eq!(text(again).await, (200, "count 2 on app-a\n".to_owned()));
        assert_eq!(tier.get("/hello.txt").await, (200, "static".to_owned()));
        assert_eq!(tier.tier.sessions()[0].held, 1);
        tier.tier.stop().await;
        assert_eq!(tier.pids(), [0; 0]);
    }
}

#[tokio::test]
async fn a_client_can_t_forge_what_is_the_tier_s() {
    let tier = start("well", HEALTH).unwrap();
    tier.tier.ready(LIMIT).await.unwrap();
    let forged = Request::get("/headers")
        .header("x-session-id", "forged")
        .header("x-copal-request", "forged")
        .header("connection", "x-secret")
        .header("x-secret", "1")
        .header("x-forwarded-for", "1.2.3.4");
    let response = tier.ask(forged, "").await;
    assert!(!response.headers().contains_key("copal-not-processed"), "an app's own word is not believed");
    let (_, seen) = text(response).await;
    assert!(seen.contains("x-forwarded-for: 1.2.3.4") && seen.contains("x-session-id: aa"), "{seen}");
    assert!(!seen.contains("forged") && !seen.contains("x-secret"), "{seen}");
    let (_, refused) = tier.get("/wrong-token").await;
    assert_eq!(refused, "Unauthenticated");
    tier.tier.stop().await;
}

#[tokio::test]
async fn bodies_stream_both_ways_and_break_when_the_app_breaks() {
    let tier = start("well", HEALTH).unwrap();
    tier.tier.ready(LIMIT).await.unwrap();
    let sent = vec![b'x'; 3_000_000];
    let echoed = tier.ask(Request::post("/echo"), sent.clone()).await;
    assert!(echoed.into_body().collect().await.unwrap().to_bytes() == sent);
    for path in ["/half", "/half-chunked"] {
        let before = tier.pids();
        let half = tier.ask(Request::get(path), "").await;
        assert_eq!(half.status(), 200);
        assert!(half.into_body().collect().await.is_err(), "{path}: never a short complete body");
        tier.restarted(&before).await;
    }
    tier.tier.stop().await;
}

#[tokio::test]
async fn an_app_that_dies_is_started_again() {
    let tier = start("well", HEALTH).unwrap();
    tier.tier.ready(LIMIT).await.unwrap();
    let before = tier.pids();
    assert_eq!(tier.get("/die").await.0, 502);
    tier.restarted(&before).await;
    assert_eq!(tier.get("/count").await.0, 200);
    tier.tier.stop().await;
}

#[tokio::test]
async fn an_app_that_never_gets_healthy_is_reported_with_its_log() {
    let tier = start("dies", HEALTH).unwrap();
    let error = tier.tier.ready(LIMIT).await.unwrap_err().to_string();
    for part in [
        "app default/ on server app-a",
        "expected GET /healthz to answer 2xx",
        "exit status: 7",
        "no database",
    ] {
        assert!(error.contains(part), "{part:?} is not in {error}");
    }
    tier.tier.stop().await;
    let tier = start("deaf", "health: {path: /healthz, interval: 100ms, start-timeout: 20s}").unwrap();
    let error = tier.tier.ready(Duration::from_millis(300)).await.unwrap_err().to_string();
    assert!(error.contains("but it is starting"), "{error}");
    let refused = tier.ask(Request::post("/"), "a body").await;
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (503, "1"));
    assert_eq!(refused.headers()["copal-not-processed"], "1");
    tier.tier.stop().await;
}

#[tokio::test]
async fn stop_lets_requests_end() {
    let tier = start("well", HEALTH).unwrap();
    tier.tier.ready(LIMIT).await.unwrap();
    let mut sender = tier.connect().await;
    let request = Request::get("/slow").header("host", "example").body(Full::default()).unwrap();
    let slow = tokio::spawn(async move { text(sender.send_request(request).await.unwrap()).await });
    let stopping = tier.tier.clone();
    // The request is in flight when the app has seen it: it says so in a file.
    let seen = tier.data.parent().unwrap().join("app/slow");
    while !seen.exists() {
        tokio::task::yield_now().await;
    }
    stopping.stop().await;
    assert_eq!(slow.await.unwrap(), (200, "slow\n".to_owned()));
    assert_eq!(tier.pids(), [0; 0]);
}

#[tokio::test]
async fn an_app_that_goes_into_the_background_is_told_so() {
    let tier = start("daemon", HEALTH).unwrap();
    let error = tier.tier.ready(LIMIT).await.unwrap_err().to_string();
    assert!(error.contains("the app must stay in the foreground"), "{error}");
    tier.tier.stop().await;
}
