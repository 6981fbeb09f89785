//! `http-proxy`: plain HTTP servers behind a web tier, as they are, as they fail, and as clients stay with them.

use super::{
    backend::{Backend, OnConnection, echo, http, raw, says},
    client::Answer,
    cluster::{Cluster, config as file},
    http2,
};
use bytes::Bytes;
use common::config::{
    self, Action, BackendAddress, BackendProtocol, Config, CookieConfig, HealthCheck, HealthQuestion, Host,
    HttpProxy, Rule, StickyCookie, Strategy,
};
use http_body_util::Full;
use hyper::{Response, StatusCode};
use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    net::TcpSocket,
    time::{sleep, timeout},
};

/// Nothing takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// Backends at these ports, each in its turn.
pub(super) fn proxy(ports: &[u16]) -> HttpProxy {
    let backend = |port: &u16| config::Backend {
        at: BackendAddress::Host { host: "127.0.0.1".to_owned(), port: *port },
        protocol: BackendProtocol::Http1,
        tls: false,
        backup: false,
        weight: 100,
    };
    HttpProxy {
        backends: ports.iter().map(backend).collect(),
        strategy: Strategy::RoundRobin,
        ..HttpProxy::default()
    }
}

/// `insert-cookie`, with nothing said of its attributes.
pub(super) fn inserted(name: &str) -> StickyCookie {
    StickyCookie::Inserted { name: name.to_owned(), attributes: CookieConfig::default() }
}

pub(super) fn put(config: &mut Config, proxy: HttpProxy) {
    let rule = Rule {
        regexp: None,
        condition: None,
        cache: true,
        compression: true,
        action: Action::HttpProxy(Box::new(proxy)),
    };
    let host = config.clusters[1].hosts.remove(0);
    config.clusters[1].hosts.push(Host { dispatch: vec![rule], ..host });
}

/// A web tier before the backends of `proxy`.
async fn before(proxy: HttpProxy) -> Cluster {
    Cluster::start_with([], |config| put(config, proxy)).await
}

async fn plain(on_connection: OnConnection) -> Backend {
    Backend::plain(0, on_connection).await
}

/// A port where nobody listens, and nobody else will as long as the socket is there.
fn dead() -> (u16, TcpSocket) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    (socket.local_addr().unwrap().port(), socket)
}

/// The name that a backend of [`echo`] answers with.
fn by(answer: &Answer) -> &str {
    assert_eq!(answer.status, 200, "{}", answer.head);
    answer.body.lines().next().unwrap()
}

/// Asks again and again until it is so.
pub(super) async fn until(mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("in time");
}

/// The same of what has to be waited for.
pub(super) async fn until_async(is_so: impl AsyncFn() -> bool) {
    let waiting = async {
        while !is_so().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("in time");
}

#[tokio::test]
async fn a_plain_server_is_asked_as_the_client_asked_and_hears_nothing_of_our_own_matters() {
    let backend = plain(echo("legacy")).await;
    let cluster = before(proxy(&[backend.port])).await;
    let began = Instant::now();
    cluster.heard.note(began);
    let mut client = cluster.client().await;
    // With the worker's next tick it has heard the hub.
    while began.elapsed() < Duration::from_millis(250) {
        let answer = client.ask("GET /a?b=c", "Copal-Hub-Age: 1\r\nX-Forwarded-For: 6.6.6.6\r\n").await;
        assert_eq!(by(&answer), "legacy");
        assert!(answer.body.contains("\nGET /a?b=c\n"), "{}", answer.body);
        assert!(answer.body.contains("\nhost: shop.example\n"), "{}", answer.body);
        assert!(answer.body.contains("\nx-forwarded-for: 127.0.0.1\n"), "{}", answer.body);
        assert!(!answer.body.contains("copal-"), "{}", answer.body);
        assert!(!answer.head.contains("set-cookie"), "{}", answer.head);
    }
    assert_eq!(backend.connections.load(Ordering::SeqCst), 1, "the socket is used again");
}

#[tokio::test]
async fn what_only_our_servers_may_say_means_nothing() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let refusing = http(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        let answer = Response::builder().status(503).header("copal-not-processed", "1");
        let answer = answer.header("copal-hub-age", "3600000").header("x-session-id", "aaX");
        async move { answer.body(Full::<Bytes>::default()).unwrap() }
    });
    let (one, two) = (plain(refusing.clone()).await, plain(refusing).await);
    let cluster = before(proxy(&[one.port, two.port])).await;
    cluster.heard.note(Instant::now());
    let answer = cluster.ask("POST /", "Content-Length: 2\r\n\r\nhi").await;
    assert_eq!((answer.status, asked.load(Ordering::SeqCst)), (503, 1), "it may have acted on it");
    assert!(!answer.head.contains("copal-") && !answer.head.contains("x-session-id"), "{}", answer.head);
    let old = plain(says("HTTP/1.1 200 OK\r\ncopal-hub-age: 3600000\r\ncontent-length: 2\r\n\r\nok")).await;
    let cluster = before(proxy(&[old.port])).await;
    cluster.heard.note(Instant::now());
    assert_eq!(cluster.ask("GET /", "").await.status, 200, "it has no hub to be cut off from");
}

#[tokio::test]
async fn a_dead_backend_costs_no_client_an_answer() {
    let backend = plain(echo("alive")).await;
    let (dead, _socket) = dead();
    let cluster = before(proxy(&[dead, backend.port])).await;
    let mut client = cluster.client().await;
    for _ in 0..6 {
        let answer = client.ask("POST /", "Content-Length: 2\r\n\r\nhi").await;
        assert_eq!(by(&answer), "alive");
    }
    let failures = cluster.web.totals().upstream_failures;
    assert!((1..=2).contains(&failures), "{failures}: it is left alone for a second after the first");
}

#[tokio::test]
async fn without_a_backend_the_answer_is_503() {
    let ((one, _one), (two, _two)) = (dead(), dead());
    let cluster = before(proxy(&[one, two])).await;
    for _ in 0..3 {
        let answer = cluster.ask("GET /", "").await;
        assert_eq!(answer.status, 503);
        assert!(answer.has("retry-after: 1"), "{}", answer.head);
    }
}

#[tokio::test]
async fn a_silent_backend_is_waited_for_as_long_as_the_rule_says() {
    let silent = plain(raw(|_, stream| async move {
        sleep(PATIENCE).await;
        drop(stream);
    }));
    let silent = silent.await;
    let rule = HttpProxy { socket_timeout: Duration::from_millis(300), ..proxy(&[silent.port]) };
    let cluster = before(rule).await;
    let began = Instant::now();
    assert_eq!(cluster.ask("GET /", "").await.status, 504);
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_name_is_found_and_whichever_of_its_addresses_answers_is_used() {
    // Most machines know it as ::1 too, where nobody listens.
    let backend = plain(echo("here")).await;
    let mut rule = proxy(&[backend.port]);
    rule.backends[0].at = BackendAddress::Host { host: "localhost".to_owned(), port: backend.port };
    let cluster = before(rule).await;
    assert_eq!(by(&cluster.ask("POST /", "Content-Length: 0\r\n").await), "here");
    let addresses = cluster.web.health().remove(0).addresses;
    assert!(addresses.iter().any(|it| it.ip().to_string() == "127.0.0.1"), "{addresses:?}");
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_503_and_not_a_wait() {
    let mut rule = proxy(&[80]);
    rule.backends[0].at = BackendAddress::Host { host: "no-such-host.invalid".to_owned(), port: 80 };
    rule.connect_timeout = Duration::from_millis(500);
    let cluster = before(rule).await;
    assert_eq!(cluster.ask("GET /", "").await.status, 503);
    assert_eq!(cluster.web.health()[0].addresses, []);
}

/// Checks that are over in a moment.
fn quick() -> HealthCheck {
    let interval = Duration::from_millis(100);
    HealthCheck {
        question: HealthQuestion::get("/healthz"),
        port: None,
        interval,
        timeout: interval,
        rise: 2,
        fall: 2,
    }
}

/// A backend that answers checks with 200 while `well`, and everything else with its name.
fn checked(name: &'static str, well: &Arc<AtomicBool>) -> OnConnection {
    let well = well.clone();
    http(move |request| {
        let is_check = request.uri().path() == "/healthz";
        let agent = request.headers().get("user-agent").is_some_and(|it| it == "copal-health-check");
        assert_eq!(is_check, agent);
        let mut answer = Response::new(Full::from(name));
        if is_check && !well.load(Ordering::SeqCst) {
            *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        }
        async move { answer }
    })
}

#[tokio::test]
async fn checks_take_a_backend_out_and_bring_it_back() {
    let well = [Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true))];
    let (one, two) = (plain(checked("one", &well[0])).await, plain(checked("two", &well[1])).await);
    let cluster = before(HttpProxy { health_check: Some(quick()), ..proxy(&[one.port, two.port]) }).await;
    let mut client = cluster.client().await;
    let is_up = |index: usize| cluster.web.health()[index].up;
    until(|| cluster.web.health().iter().all(|it| it.last.is_some())).await;
    assert!(is_up(0) && is_up(1));
    well[0].store(false, Ordering::SeqCst);
    until(|| !is_up(0)).await;
    let report = cluster.web.health().remove(0);
    let last = report.last.unwrap();
    assert_eq!(last.result.unwrap_err().as_ref(), "status 500, expected 2xx or 3xx");
    assert!(last.at >= report.since.unwrap() && last.took <= quick().timeout);
    // The worker hears of it a moment later; then nobody is sent there, though it would answer.
    while by(&client.ask("GET /", "").await) == "one" {}
    for _ in 0..6 {
        assert_eq!(by(&client.ask("GET /", "").await), "two");
    }
    assert_eq!(cluster.web.totals().upstream_failures, 0, "no request found out");
    well[1].store(false, Ordering::SeqCst);
    until(|| !is_up(1)).await;
    while client.ask("GET /", "").await.status == 200 {}
    let refused = client.ask("GET /", "").await;
    assert!(refused.status == 503 && refused.has("retry-after: 1"), "{}", refused.head);
    well[0].store(true, Ordering::SeqCst);
    until(|| is_up(0)).await;
    let back = async {
        while client.ask("GET /", "").await.status != 200 {}
        by(&client.ask("GET /", "").await).to_owned()
    };
    assert_eq!(timeout(PATIENCE, back).await.unwrap(), "one");
}

#[tokio::test]
async fn a_backend_that_is_down_at_the_start_is_out_after_one_check() {
    let backend = plain(echo("alive")).await;
    let check = HealthCheck { fall: 1000, ..quick() };
    let (dead, _socket) = dead();
    let cluster = before(HttpProxy { health_check: Some(check), ..proxy(&[dead, backend.port]) }).await;
    until(|| !cluster.web.health()[0].up).await;
    let report = cluster.web.health();
    let why = report[0].last.clone().unwrap().result.unwrap_err();
    assert!(why.starts_with("no connection: 127.0.0.1:"), "{why}");
    assert!(report[1].up);
}

/// The cookies that an answer sets, as a browser sends them back.
pub(super) fn cookies(answer: &Answer) -> String {
    let set = answer.head.lines().filter_map(|line| line.strip_prefix("set-cookie: "));
    let pairs: Vec<_> = set.map(|it| it.split(';').next().unwrap()).collect();
    format!("Cookie: {}\r\n", pairs.join("; "))
}

#[tokio::test]
async fn an_inserted_cookie_keeps_a_client_at_its_backend_through_every_web_tier() {
    let backends = [plain(echo("one")).await, plain(echo("two")).await, plain(echo("three")).await];
    let ports = backends.each_ref().map(|it| it.port);
    let rule = HttpProxy { cookie: inserted("SRV"), ..proxy(&ports) };
    let (left, right) = (before(rule.clone()).await, before(rule).await);
    for _ in 0..3 {
        let first = left.ask("GET /", "").await;
        let cookie = cookies(&first);
        assert!(first.head.contains("; Path=/; HttpOnly; SameSite=Lax\r\n"), "{}", first.head);
        for web in [&right, &left, &right] {
            let next = web.ask("GET /", &cookie).await;
            assert_eq!(by(&next), by(&first));
            assert!(!next.head.contains("set-cookie"), "{}", next.head);
        }
    }
    let unknown = right.ask("GET /", "Cookie: SRV=AAAAAAAAAAAAAAAAAAAA\r\n").await;
    assert!(unknown.head.contains("set-cookie: SRV="), "a token that names nobody is replaced");
}

#[tokio::test]
async fn a_client_of_a_dead_backend_moves_and_stays_where_it_is() {
    let (one, two) = (plain(echo("one")).await, plain(echo("two")).await);
    let rule = proxy(&[one.port, two.port]);
    let rule = HttpProxy { cookie: inserted("SRV"), ..rule };
    let cluster = before(rule).await;
    let first = cluster.ask("GET /", "").await;
    assert_eq!(by(&first), "one");
    let port = one.kill().await;
    let moved = cluster.ask("GET /", &cookies(&first)).await;
    assert_eq!(by(&moved), "two");
    let _revived = Backend::plain(port, echo("one")).await;
    for _ in 0..3 {
        assert_eq!(
            by(&cluster.ask("GET /", &cookies(&moved)).await),
            "two",
            "it has a cookie of its new one"
        );
    }
}

#[tokio::test]
async fn a_backends_own_cookie_gets_a_companion_that_every_web_tier_knows() {
    let backend = |name: &'static str| {
        http(move |request| {
            let mut answer = Response::new(Full::from(name));
            if !request.headers().contains_key("cookie") {
                let session = format!("PHPSESSID=of-{name}; path=/app; HttpOnly");
                answer.headers_mut().append("set-cookie", "theme=dark".parse().unwrap());
                answer.headers_mut().append("set-cookie", session.parse().unwrap());
            }
            async move { answer }
        })
    };
    let backends = [plain(backend("one")).await, plain(backend("two")).await, plain(backend("three")).await];
    let ports = backends.each_ref().map(|it| it.port);
    let rule = HttpProxy { cookie: StickyCookie::Session("PHPSESSID".to_owned()), ..proxy(&ports) };
    let (left, right) = (before(rule.clone()).await, before(rule).await);
    for _ in 0..3 {
        let first = left.ask("GET /", "").await;
        assert!(first.head.contains("\r\nset-cookie: PHPSESSID.srv="), "{}", first.head);
        assert!(first.head.contains("; path=/app; HttpOnly\r\n"), "{}", first.head);
        for web in [&right, &left, &right] {
            let next = web.ask("GET /", &cookies(&first)).await;
            assert_eq!(by(&next), by(&first));
            assert!(!next.head.contains("set-cookie"), "{}", next.head);
        }
    }
    // A session that is older than the web tier: wherever it goes, it goes there always.
    let old = "Cookie: PHPSESSID=older\r\n";
    let chosen = by(&left.ask("GET /", old).await).to_owned();
    for web in [&left, &right, &right] {
        assert_eq!(by(&web.ask("GET /", old).await), chosen);
    }
}

#[tokio::test]
async fn a_cookie_is_secure_where_the_client_came_over_tls_to_a_proxy_that_is_trusted() {
    let backend = plain(echo("one")).await;
    let cookie = inserted("SRV");
    let rule = HttpProxy { cookie, ..proxy(&[backend.port]) };
    let set = async |trusts: bool| {
        let cluster = Cluster::start_with([], |config| {
            put(config, rule.clone());
            if trusts {
                config.clusters[1].trusted_proxies.push("127.0.0.0/8".parse().unwrap());
            }
        });
        cluster.await.ask("GET /", "X-Forwarded-Proto: https\r\n").await.head
    };
    let (trusted, stranger) = (set(true).await, set(false).await);
    assert!(trusted.contains("; Path=/; Secure; HttpOnly; SameSite=Lax\r\n"), "{trusted}");
    assert!(stranger.contains("; Path=/; HttpOnly; SameSite=Lax\r\n"), "{stranger}");
}

#[tokio::test]
async fn a_client_of_http2_gets_the_cookie_too() {
    let backend = plain(echo("one")).await;
    let cookie = inserted("SRV");
    let rule = HttpProxy { cookie, ..proxy(&[backend.port]) };
    let cluster = Cluster::start_with([], |config| {
        put(config, rule);
        config.clusters[1].servers[0].http[0].h2c = true;
    });
    let cluster = cluster.await;
    let mut client = http2::client(&cluster).await;
    let (answer, body, _) = http2::ask(&mut client, http2::get("/").body(()).unwrap(), &[]).await.unwrap();
    assert!(body.starts_with("one\nGET /\n"), "{body}");
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap();
    let again = http2::get("/").header("cookie", cookie).body(()).unwrap();
    let (answer, ..) = http2::ask(&mut client, again, &[]).await.unwrap();
    assert!(!answer.headers().contains_key("set-cookie"), "{answer:?}");
}

#[tokio::test]
async fn every_worker_hears_of_a_backend_that_is_down() {
    let well = [Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true))];
    let (one, two) = (plain(checked("one", &well[0])).await, plain(checked("two", &well[1])).await);
    let rule = HttpProxy { health_check: Some(quick()), ..proxy(&[one.port, two.port]) };
    let cluster = Cluster::start_with([], |config| {
        put(config, rule);
        config.clusters[1].workers = NonZeroUsize::new(3);
    });
    let cluster = cluster.await;
    well[0].store(false, Ordering::SeqCst);
    until(|| !cluster.web.health()[0].up).await;
    // The kernel spreads connections over the workers: of so many, each has some.
    let heard = async {
        let mut in_a_row = 0;
        while in_a_row < 60 {
            in_a_row = if by(&cluster.ask("GET /", "").await) == "two" { in_a_row + 1 } else { 0 };
        }
    };
    timeout(PATIENCE, heard).await.unwrap();
}

#[tokio::test]
async fn a_new_file_keeps_what_is_known_of_a_rule_that_stays_and_checks_one_that_comes() {
    let well = [Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true))];
    let (one, two) = (plain(checked("one", &well[0])).await, plain(checked("two", &well[1])).await);
    // The second check of a backend that stays is an hour away.
    let check = HealthCheck { interval: Duration::from_secs(3600), ..quick() };
    let rule = |ports: &[u16]| HttpProxy { health_check: Some(check.clone()), ..proxy(ports) };
    let mut cluster = before(rule(&[one.port, two.port])).await;
    until(|| cluster.web.health().iter().all(|it| it.last.is_some())).await;
    assert_eq!(by(&cluster.ask("GET /", "").await), "two");
    let sockets = two.connections.load(Ordering::SeqCst);
    let file = |change: &dyn Fn(&mut Config)| {
        let mut file = file(&[]);
        change(&mut file);
        Arc::new(file)
    };
    let same = file(&|config| {
        put(config, rule(&[one.port, two.port]));
        config.clusters[1].hosts[0].aliases.push("other".to_owned());
    });
    cluster.web.reload(same).await.unwrap();
    assert!(!cluster.web.health()[0].up, "it is still known");
    for _ in 0..4 {
        assert_eq!(by(&cluster.ask("GET /", "").await), "two");
    }
    let now = two.connections.load(Ordering::SeqCst);
    assert_eq!(now, sockets, "the socket for requests is used again, and nobody checks anew");
    let other = file(&|config| put(config, rule(&[two.port])));
    cluster.web.reload(other).await.unwrap();
    until(|| cluster.web.health()[0].last.is_some()).await;
    assert_eq!((cluster.web.health().len(), by(&cluster.ask("GET /", "").await)), (1, "two"));
    let none = file(&|_| {});
    cluster.web.reload(none).await.unwrap();
    assert_eq!((cluster.web.health(), cluster.ask("GET /", "").await.status), (Vec::new(), 503));
}
