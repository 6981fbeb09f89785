//! `forward-auth`: an authority is asked about each request.

use super::{
    backend::{Backend, OnConnection, echo, http, raw, says},
    cluster::Cluster,
    rules::hosts,
};
use bytes::Bytes;
use common::config::{Config, ProxyCache};
use http_body_util::{BodyExt, Full};
use hyper::Response;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What an authority was asked: method, target, and its fields as lines.
type Asked = Arc<Mutex<Vec<(String, String, String)>>>;

/// An authority that knows the user of the cookie `user`.
fn authority(asked: &Asked) -> OnConnection {
    let asked = asked.clone();
    http(move |request| {
        let asked = asked.clone();
        async move {
            let (head, body) = request.into_parts();
            let fields: String = head
                .headers
                .iter()
                .map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()))
                .collect();
            let user = fields.lines().find_map(|it| it.strip_prefix("cookie: user=")).map(str::to_owned);
            asked.lock().unwrap().push((head.method.to_string(), head.uri.to_string(), fields));
            assert!(body.collect().await.unwrap().to_bytes().is_empty());
            let answer = Response::builder();
            let answer = match user {
                Some(user) => answer.header("X-User", user).header("Set-Cookie", "renewed=1; Path=/"),
                None => answer.status(302).header("Location", "https://login.example/?from=here"),
            };
            answer.body(Full::new(Bytes::from_static(b"an authority's words"))).unwrap()
        }
    })
}

async fn before(authority: &Backend, more: &str, change: impl FnOnce(&mut Config)) -> Cluster {
    let folder = tempfile::tempdir().unwrap();
    let auth = format!(
        "{{forward-auth: {{regexp: '^/app', backends: [{{address: 'http://127.0.0.1:{}'}}], path: '/verify?a=1', copy-headers: [X-User, X-Groups]{more}}}}}, \
         {{load-balance: {{cluster: app-tier}}}}",
        authority.port
    );
    let hosts = hosts(folder.path(), &auth);
    Cluster::start_with([echo("a")], |config: &mut Config| {
        config.clusters[1].hosts = hosts;
        change(config);
    })
    .await
}

#[tokio::test]
async fn whom_the_authority_knows_passes_with_what_it_says() {
    let asked = Asked::default();
    let backend = Backend::plain(0, authority(&asked)).await;
    let cluster = before(&backend, "", |_| {}).await;
    let mut client = cluster.client().await;
    let answer = client
        .ask(
            "POST /app/buy?b=2",
            "Cookie: user=ann\r\nX-User: root\r\nX_User: root\r\nX-Groups: admins\r\nX-Forwarded-Method: GET\r\nX-Original-URL: /public\r\nX_Original_Method: HEAD\r\nConnection: X-User, X-Forwarded-Uri\r\nIf-None-Match: *\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nabc",
        )
        .await;
    assert!(answer.status == 200 && answer.has("set-cookie: renewed=1; Path=/"), "{}", answer.head);
    let body = &answer.body;
    assert!(
        body.contains("POST /app/buy?b=2") && body.contains("\nx-user: ann\n") && body.ends_with("abc"),
        "{body}"
    );
    assert!(
        !body.contains("root") && !body.contains("admins"),
        "what a client says of itself is gone: {body}"
    );
    assert!(body.contains("if-none-match: *"), "the request itself stays: {body}");
    let (method, target, fields) = asked.lock().unwrap().remove(0);
    assert_eq!((method.as_str(), target.as_str()), ("GET", "/verify?a=1"));
    for line in [
        "x-forwarded-method: POST",
        "x-forwarded-uri: /app/buy?b=2",
        "host: shop.example",
        "x-forwarded-host: shop.example",
        "x-forwarded-for: 127.0.0.1",
        "cookie: user=ann",
    ] {
        assert_eq!(fields.lines().filter(|it| *it == line).count(), 1, "{line} in {fields}");
    }
    for name in ["content-", "if-none-match", "expect", "x-original", "x_original"] {
        assert!(!fields.contains(name), "{name} in {fields}");
    }
    assert_eq!(client.ask("GET /free", "").await.status, 200, "another path is not asked about");
    assert!(asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn whom_it_does_not_know_gets_its_answer() {
    let backend = Backend::plain(0, authority(&Asked::default())).await;
    let cluster = before(&backend, "", |_| {}).await;
    for line in ["GET /app", "POST /app"] {
        let fields = if line.starts_with("POST") { "Content-Length: 3\r\n\r\nabc" } else { "" };
        let mut client = cluster.client().await;
        let answer = client.ask(line, fields).await;
        let location = answer.has("location: https://login.example/?from=here");
        assert!(answer.status == 302 && location, "{}", answer.head);
        assert_eq!(answer.body, "an authority's words");
        if line.starts_with("POST") {
            assert!(answer.has("connection: close"), "{}", answer.head);
            // What stands behind the head that was refused is no request.
            assert_eq!(client.rest().await, "");
        }
    }
    assert_eq!(cluster.ask("GET /app", "Cookie: a=b\r\n").await.status, 302);
}

#[tokio::test]
async fn an_authority_that_can_not_be_asked_lets_nobody_in() {
    let reached = Arc::new(AtomicUsize::new(0));
    let count = reached.clone();
    let silent: OnConnection = Arc::new(move |stream| {
        count.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let _open = stream;
            std::future::pending::<()>().await;
        })
    });
    let silent = Backend::plain(0, silent).await;
    let cluster = before(&silent, ", timeout: 100ms", |_| {}).await;
    assert_eq!(cluster.ask("GET /app", "").await.status, 504);
    assert_eq!(reached.load(Ordering::SeqCst), 1);
    let nonsense = Backend::plain(0, says("HTTP/1.1 2000 OK\r\n\r\n")).await;
    assert_eq!(before(&nonsense, "", |_| {}).await.ask("GET /app", "").await.status, 502);
    let gone = Backend::plain(0, echo("x")).await;
    let cluster = before(&gone, "", |_| {}).await;
    gone.kill().await;
    for _ in 0..3 {
        let answer = cluster.ask("GET /app", "Cookie: user=ann\r\n").await;
        assert!(answer.status == 503 && !answer.body.contains("app"), "{}", answer.body);
    }
}

#[tokio::test]
async fn what_is_said_of_one_user_is_not_kept_for_another() {
    let backend = Backend::plain(0, authority(&Asked::default())).await;
    let fresh = http(|request| async move {
        let user = request.headers().get("x-user").map(|it| it.to_str().unwrap().to_owned());
        let answer = Response::builder().header("Cache-Control", "max-age=60");
        answer.body(Full::from(format!("for {user:?}"))).unwrap()
    });
    let folder = tempfile::tempdir().unwrap();
    let auth = format!(
        "{{forward-auth: {{backends: [{{address: 'http://127.0.0.1:{}'}}], copy-headers: [X-User]}}}}, {{load-balance: {{cluster: app-tier}}}}",
        backend.port
    );
    let hosts = hosts(folder.path(), &auth);
    let cluster = Cluster::start_with([fresh], |config: &mut Config| {
        config.clusters[1].hosts = hosts;
        config.clusters[1].proxy_cache = Some(ProxyCache::default());
    })
    .await;
    for user in ["ann", "bob", "ann"] {
        let answer = cluster.ask("GET /page", &format!("Cookie: user={user}\r\n")).await;
        assert_eq!(answer.body, format!("for Some(\"{user}\")"));
    }
}

#[tokio::test]
async fn a_stale_answer_is_not_refreshed_with_what_one_user_is_given() {
    let backend = Backend::plain(0, authority(&Asked::default())).await;
    let app = http(|request| async move {
        let user = request.headers().get("x-user").map(|it| it.to_str().unwrap().to_owned());
        let fresh = if user.is_none() { "max-age=0, stale-while-revalidate=60" } else { "max-age=60" };
        Response::builder().header("Cache-Control", fresh).body(Full::from(format!("for {user:?}"))).unwrap()
    });
    let folder = tempfile::tempdir().unwrap();
    let auth = format!(
        "{{forward-auth: {{backends: [{{address: 'http://127.0.0.1:{}'}}], copy-headers: [X-User], if: {{cookie: user}}}}}}, {{load-balance: {{cluster: app-tier}}}}",
        backend.port
    );
    let hosts = hosts(folder.path(), &auth);
    let cluster = Cluster::start_with([app], |config: &mut Config| {
        config.clusters[1].hosts = hosts;
        config.clusters[1].proxy_cache = Some(ProxyCache::default());
    })
    .await;
    assert_eq!(cluster.ask("GET /page", "").await.body, "for None");
    for _ in 0..20 {
        cluster.ask("GET /page", "Cookie: user=ann\r\n").await;
        assert_eq!(cluster.ask("GET /page", "").await.body, "for None");
    }
}

#[tokio::test]
async fn trailers_can_not_say_what_the_authority_says() {
    let backend = Backend::plain(0, authority(&Asked::default())).await;
    let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let app = raw(move |_, mut stream| {
        let sender = sender.clone();
        async move {
            let mut body = Vec::new();
            while !body.ends_with(b"\r\n\r\n") {
                body.push(stream.read_u8().await.unwrap());
            }
            sender.send(String::from_utf8(body).unwrap()).unwrap();
            let _ =
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let auth = format!(
        "{{forward-auth: {{regexp: '^/in', backends: [{{address: 'http://127.0.0.1:{}'}}], copy-headers: [X-User]}}}}, {{load-balance: {{cluster: app-tier}}}}",
        backend.port
    );
    let hosts = hosts(folder.path(), &auth);
    let cluster = Cluster::start_with([app], |config: &mut Config| config.clusters[1].hosts = hosts).await;
    for (path, expected) in
        [("/in", "3\r\nabc\r\n0\r\n\r\n"), ("/out", "3\r\nabc\r\n0\r\nx-user: root\r\n\r\n")]
    {
        let fields =
            "Cookie: user=ann\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-User: root\r\n";
        assert_eq!(cluster.ask(&format!("POST {path}"), fields).await.status, 200);
        assert_eq!(seen.recv().await.unwrap().to_ascii_lowercase(), expected, "{path}");
    }
}
