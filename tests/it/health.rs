//! Health checks of a whole cluster: a problem that lasts is told of once, with a signature, whoever leads; what is wrong is on the page,
//! in the JSON and in the metrics.

use crate::{
    cluster::{Cluster, PATIENCE},
    tokens::{OPS, curl, deploying},
    tool::tool_as,
};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use std::collections::HashMap;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
    time::timeout,
};

const SECRET: &str = "what only the two of them know";

/// Where the file says the webhook is; its path is a secret as well.
const PATH: &str = "/hooks/T0PSECRET";

/// A request that came: its fields and body.
#[derive(Debug)]
struct Got {
    line: String,
    fields: HashMap<String, String>,
    body: String,
}

impl Got {
    fn word(&self) -> (String, String) {
        let body: Value = serde_json::from_str(&self.body).unwrap();
        let text = |it: &Value| it.as_str().unwrap().to_owned();
        (text(&body["event"]), text(&body["problem"]["key"]))
    }

    /// The signature is over the time and the body.
    fn is_signed(&self) -> bool {
        let signed = format!("{}.{}", self.fields["x-copal-timestamp"], self.body);
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(signed.as_bytes());
        let hex: String = mac.finalize().into_bytes().iter().map(|it| format!("{it:02x}")).collect();
        self.fields["x-copal-signature"] == format!("sha256={hex}")
    }
}

/// Answers each request with the next of these statuses, and with 200 when there are no more.
fn receive(listener: TcpListener, statuses: &'static [u16]) -> mpsc::UnboundedReceiver<Got> {
    let (sender, got) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut statuses = statuses.iter();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = Vec::new();
            let got = loop {
                let mut piece = [0; 4096];
                let count = stream.read(&mut piece).await.unwrap();
                text.extend_from_slice(&piece[..count]);
                let whole = String::from_utf8(text.clone()).unwrap();
                let Some((head, body)) = whole.split_once("\r\n\r\n") else { continue };
                let mut lines = head.split("\r\n");
                let line = lines.next().unwrap().to_owned();
                let fields: HashMap<_, _> = lines
                    .map(|it| it.split_once(": ").unwrap())
                    .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                    .collect();
                if body.len() >= fields["content-length"].parse().unwrap() {
                    break Got { line, fields, body: body.to_owned() };
                }
            };
            let status = statuses.next().unwrap_or(&200);
            let answer = format!("HTTP/1.1 {status} So\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _gone = stream.write_all(answer.as_bytes()).await;
            if sender.send(got).is_err() {
                return;
            }
        }
    });
    got
}

async fn next(got: &mut mpsc::UnboundedReceiver<Got>) -> Got {
    timeout(PATIENCE, got.recv()).await.expect("the webhook is told").unwrap()
}

/// Takes words until this one comes; all of them, this one last.
async fn until(got: &mut mpsc::UnboundedReceiver<Got>, event: &str, key: &str) -> Vec<(String, String)> {
    let mut words = Vec::new();
    loop {
        words.push(next(got).await.word());
        if words.last().is_some_and(|it| it.0 == event && it.1 == key) {
            return words;
        }
    }
}

async fn health(address: &str) -> Value {
    let asking = async {
        loop {
            if let (200, health) = curl(address, "GET /admin/api/v1/health", OPS, "").await {
                return health;
            }
        }
    };
    timeout(PATIENCE, asking).await.expect("an answer")
}

/// Asks until it is so.
async fn health_until(address: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let asking = async {
        loop {
            let found = health(address).await;
            if is_so(&found) {
                return found;
            }
        }
    };
    timeout(PATIENCE, asking).await.expect("it never is so")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_problem_is_told_of_once_with_a_signature_whoever_leads_the_hub() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // The first try of the first word fails.
    let mut got = receive(listener, &[503]);
    let mut cluster = Cluster::start_with(3, |configuration| {
        deploying(configuration);
        let hook =
            format!("{{webhook-url: 'http://127.0.0.1:{port}{PATH}', secret: {SECRET}, checks: [down]}}");
        configuration.health =
            format!("{{interval: 100ms, for: 300ms, load-max: 100000, webhooks: [{hook}]}}");
    })
    .await;
    let web = cluster.web();
    let well = health_until(&web, |it| it["watched_by"].is_string()).await;
    assert_eq!(well["webhooks"][0]["to"], format!("http://127.0.0.1:{port}"));
    assert!(!well.to_string().contains("T0PSECRET") && !well.to_string().contains(SECRET), "{well}");

    cluster.kill("app-b").await;
    let (first, again) = (next(&mut got).await, next(&mut got).await);
    assert_eq!(first.line, format!("POST {PATH} HTTP/1.1"));
    assert!(first.is_signed() && again.is_signed(), "{first:?}");
    assert_eq!(first.fields["x-copal-delivery"], again.fields["x-copal-delivery"], "the same, tried again");
    let begins = ("begins".to_owned(), "down app-b fault".to_owned());
    assert_eq!((first.word(), again.word()), (begins.clone(), begins));
    let body: Value = serde_json::from_str(&first.body).unwrap();
    assert_eq!(
        (&body["problem"]["severity"], &body["problem"]["what"]),
        (&"fault".into(), &"app-b is down".into())
    );

    let is_begun = |it: &Value| {
        let problems = it["problems"].as_array().unwrap();
        problems.iter().any(|it| it["check"] == "down" && it["begun"].is_string())
    };
    let found = health_until(&web, is_begun).await;
    let leader = found["watched_by"].as_str().unwrap().to_owned();
    let (_, metrics) = curl(&web, &format!("GET /admin/metrics/{leader}"), OPS, "").await;
    let sample = "copal_problem{check=\"down\",server=\"app-b\",subject=\"\",severity=\"fault\"} 1";
    assert!(metrics.as_str().unwrap().contains(sample), "{metrics}");

    // Another server watches from now on: it tells nothing again, and hears of the end.
    let other = if leader == "app-a" { "app-c" } else { "app-a" };
    let lead = format!("triad lead {other}");
    tool_as(&format!("http://{web}/admin"), "ops", "password", &lead).await.succeeds();
    health_until(&web, |it| it["watched_by"] == other && is_begun(it)).await;
    cluster.start_one("app-b").await;
    let words = until(&mut got, "ends", "down app-b fault").await;
    assert_eq!(words.len(), 1, "{words:?}");
    let done = |it: &Value, action: &str| {
        let actions = it["actions"].as_array().unwrap();
        actions
            .iter()
            .filter(|it| it["action"] == action)
            .map(|it| it["outcome"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let log = health_until(&web, |it| done(it, "webhook").len() == 2).await;
    assert_eq!(done(&log, "webhook"), ["delivered", "delivered"]);
    assert!(!log.to_string().contains("T0PSECRET"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_ends_soon_is_a_problem_and_its_end_a_metric() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let now = std::time::SystemTime::now();
    params.not_after = (now + std::time::Duration::from_secs(3 * 86_400 + 3600)).into();
    let cert = params.self_signed(&made.signing_key).unwrap();
    let mut cluster = Cluster::prepare(1, |configuration| {
        deploying(configuration);
        configuration.webs = 1;
        let tls = "{certs: [{cert: www.pem, key: www.key}]}";
        let ip = configuration.addresses[0];
        configuration.listener = Some(format!("{{address: {ip}, port: 8443, tls: {tls}}}"));
    });
    let folder = cluster.folder();
    std::fs::write(folder.join("www.pem"), cert.pem()).unwrap();
    std::fs::write(folder.join("www.key"), made.signing_key.serialize_pem()).unwrap();
    cluster.start_all().await;
    let web = cluster.web();
    let found = health(&web).await;
    let check = found["checks"].as_array().unwrap().iter().find(|it| it["check"] == "certificate").unwrap();
    assert_eq!(
        (&check["values"][0]["subject"], &check["values"][0]["value"], &check["values"][0]["wrong"]),
        (&"www.pem".into(), &"in 3 days".into(), &"warning".into()),
        "{found}"
    );
    let (_, metrics) = curl(&web, "GET /admin/metrics/web-a", OPS, "").await;
    assert!(
        metrics.as_str().unwrap().contains("copal_certificate_end_seconds{file=\"www.pem\"} "),
        "{metrics}"
    );
}
