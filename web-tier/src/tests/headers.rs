//! Headers, as the server and the client see them.

use super::{
    backend::{echo, says},
    cluster::Cluster,
    trust::trusting,
};
use common::hub_age;
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

#[tokio::test]
async fn the_server_sees_the_proxys_word_and_not_the_clients() {
    let cluster = Cluster::start([echo("a")]).await;
    let spoof = "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Session-Id: x\r\n\
                 Connection: keep-alive, X-Secret\r\nX-Secret: 1\r\nX-Forwarded-Proto: https\r\n";
    let seen = cluster.ask("GET /", spoof).await.body;
    for line in [
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-host: shop.example",
        "x-forwarded-port: 80",
        "x-real-ip: 127.0.0.1",
    ] {
        assert!(seen.lines().any(|it| it == line), "{line} in {seen}");
    }
    for gone in ["6.6.6.6", "x-session-id", "x-secret", "connection", "https"] {
        assert!(!seen.contains(gone), "{gone} in {seen}");
    }
    assert!(seen.contains("host: shop.example\n") && seen.contains("via: 1.1 copal\n"), "{seen}");
}

#[tokio::test]
async fn address_and_port_are_those_of_the_clients_own_url_or_a_trusted_proxys_word() {
    let told = |seen: &str| {
        let one = |name: &str| {
            let mut lines = seen.lines().filter_map(|line| line.strip_prefix(name));
            let value = lines.next().unwrap_or_else(|| panic!("{name} in {seen}")).to_owned();
            assert_eq!(lines.next(), None, "{seen}");
            value
        };
        (one("x-real-ip: "), one("x-forwarded-port: "))
    };
    let says = "X-Real-IP: 6.6.6.6\r\nX_Real_IP: 6.6.6.6\r\nX-Forwarded-Port: 6666\r\n";
    let pair = |address: &str, port: &str| (address.to_owned(), port.to_owned());
    let ask = async |cluster: &Cluster, host: &str, more: &str| {
        let mut client = cluster.client().await;
        client.send(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n{more}\r\n")).await;
        told(&client.answer().await.body)
    };
    let cluster = Cluster::start([echo("a")]).await;
    for (host, port) in [("h", "80"), ("h:8443", "8443"), ("[::1]:81", "81"), ("[::1]", "80")] {
        assert_eq!(ask(&cluster, host, says).await, pair("127.0.0.1", port), "{host}");
    }
    let cluster = Cluster::start_with([echo("a")], trusting(&["127.0.0.0/8"])).await;
    let behind = "X-Forwarded-For: 198.51.100.7\r\nX-Real-IP: 6.6.6.6\r\n";
    for (more, port) in [
        ("", "81"),
        ("X-Forwarded-Proto: https\r\nX-Forwarded-Host: h\r\n", "443"),
        ("X-Forwarded-Host: h:444\r\n", "444"),
        ("X-Forwarded-Host: h:444\r\nX-Forwarded-Port: 445\r\n", "445"),
        ("X-Forwarded-Port: 0\r\n", "81"),
        ("X-Forwarded-Port: 80, 81\r\n", "81"),
    ] {
        let told = ask(&cluster, "h:81", &format!("{behind}{more}")).await;
        assert_eq!(told, pair("198.51.100.7", port), "{more}");
    }
}

#[tokio::test]
async fn the_server_is_told_when_the_hub_was_heard() {
    let cluster = Cluster::start([echo("a")]).await;
    let mut client = cluster.client().await;
    let told = |seen: &str| {
        let age = seen.lines().find_map(|line| line.strip_prefix("copal-hub-age: ").map(str::to_owned));
        age.map(|age| hub_age::parse(age.as_bytes()).unwrap())
    };
    assert_eq!(
        told(&client.ask("GET /", "Copal-Hub-Age: 7\r\n").await.body),
        None,
        "never, and a client can't say"
    );
    let began = Instant::now();
    cluster.heard.note(began);
    let age = loop {
        if let Some(age) = told(&client.ask("GET /", "Copal-Hub-Age: 77777777\r\n").await.body) {
            break age;
        }
    };
    // Both instants are cut to whole milliseconds.
    assert!(age <= began.elapsed() + Duration::from_millis(1), "{age:?}");
}

#[tokio::test]
async fn each_request_has_its_own_id() {
    let cluster = Cluster::start([echo("a")]).await;
    let mut client = cluster.client().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let seen = client.ask("GET /", "X-Request-Id: mine\r\n").await.body;
        ids.push(seen.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap().to_owned());
    }
    ids.dedup();
    assert!(ids.len() == 3 && ids.iter().all(|id| id.len() == 32), "{ids:?}");
}

#[tokio::test]
async fn a_valid_trace_goes_on_and_any_other_begins_anew() {
    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let cluster = Cluster::start([echo("a")]).await;
    let mut client = cluster.client().await;
    let mut seen = async |headers: &str| {
        let body = client.ask("GET /", headers).await.body;
        let all = |name: &str| {
            let lines =
                body.lines().filter_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned));
            lines.collect::<Vec<_>>()
        };
        (all("traceparent"), all("tracestate"))
    };
    let (parents, states) = seen(&format!(
        "TraceParent: {VALID}\r\nTracestate: a=1\r\nConnection: traceparent, tracestate\r\ntracestate: b=2\r\n"
    ))
    .await;
    assert_eq!((parents, states), (vec![VALID.to_owned()], vec!["a=1".to_owned(), "b=2".to_owned()]));
    let twice = format!("traceparent: {VALID}\r\ntraceparent: {VALID}\r\ntracestate: a=1\r\n");
    let zero = "traceparent: 00-00000000000000000000000000000000-00f067aa0ba902b7-01\r\ntracestate: a=1\r\n";
    let mut made = Vec::new();
    for headers in ["", "tracestate: a=1\r\n", zero, &twice] {
        let (parents, states) = seen(headers).await;
        assert_eq!((parents.len(), states.len()), (1, 0), "{headers}");
        assert!(parents[0].starts_with("00-") && parents[0].ends_with("-00"), "{parents:?}");
        assert!(!parents[0].contains("4bf92f3577b34da6"), "{parents:?}");
        made.extend(parents);
    }
    made.dedup();
    assert_eq!(made.len(), 4, "{made:?}");
}

#[tokio::test]
async fn the_client_sees_nothing_of_the_inside() {
    let inside = "HTTP/1.1 200 OK\r\ncopal-version: 7\r\nkeep-alive: timeout=9\r\nconnection: keep-alive\r\n\
                  set-cookie: a=1; Path=/\r\nset-cookie: b=2\r\ncontent-length: 0\r\n\r\n";
    let cluster = Cluster::start([says(inside)]).await;
    let answer = cluster.ask("GET /", "").await;
    assert!(answer.has("set-cookie: a=1; Path=/") && answer.has("set-cookie: b=2"), "{}", answer.head);
    assert!(answer.head.contains("date: "), "{}", answer.head);
    for gone in ["copal-version", "keep-alive", "timeout"] {
        assert!(!answer.head.contains(gone), "{gone} in {}", answer.head);
    }
}

#[tokio::test]
async fn trailers_are_asked_for_on_this_connection() {
    let cluster = Cluster::start([echo("a")]).await;
    let seen = cluster.ask("GET /", "TE: trailers, deflate\r\nConnection: TE\r\n").await.body;
    assert!(seen.contains("te: trailers\n") && seen.contains("connection: te\n"), "{seen}");
    assert!(!cluster.ask("GET /", "TE: deflate\r\nConnection: TE\r\n").await.body.contains("te: "));
}

#[tokio::test]
async fn options_go_as_far_as_they_say() {
    let cluster = Cluster::start([echo("a")]).await;
    let mut client = cluster.client().await;
    for target in ["*", "/a"] {
        let answer = client.ask(&format!("OPTIONS {target}"), "Max-Forwards: 0\r\n").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ""));
        assert!(
            answer.head.contains("allow: GET, HEAD, ") && !answer.head.contains("via: "),
            "{}",
            answer.head
        );
    }
    assert_eq!(cluster.backends[0].as_ref().unwrap().connections.load(Ordering::SeqCst), 0);
    let seen = client.ask("OPTIONS /a", "Max-Forwards: 3\r\n").await.body;
    assert!(seen.contains("max-forwards: 2\n"), "{seen}");
    let seen = client.ask("GET /a", "Max-Forwards: 0\r\n").await.body;
    assert!(seen.contains("max-forwards: 0\n"), "{seen}");
    assert_eq!(client.ask("TRACE /", "Max-Forwards: 0\r\n").await.status, 405);
}
