//! `srv:` backends: the servers of a service, as DNS says, while they come and go. A start waits for the first answers, so that the name
//! server needs a thread beside it.

use super::{
    backend::{Backend, echo},
    client::Answer,
    cluster::Cluster,
    dns_server::DnsServer,
    foreign::{inserted, proxy, put, until, until_async},
    reload::file,
};
use common::config::{
    self, BackendAddress, BackendProtocol, Config, HealthCheck, HealthQuestion, HttpProxy, Strategy,
};
use std::{sync::atomic::Ordering, time::Duration};

/// The servers of a service that this name server knows, each in its turn.
fn service(dns: &DnsServer) -> HttpProxy {
    let backend = config::Backend {
        at: BackendAddress::Service("_http._tcp.shop.test".to_owned()),
        protocol: BackendProtocol::Http1,
        tls: false,
        backup: false,
        weight: 100,
    };
    HttpProxy { backends: vec![backend], resolver: vec![dns.address], ..proxy(&[]) }
}

async fn before(proxy: HttpProxy) -> Cluster {
    Cluster::start_with([], |config| put(config, proxy)).await
}

fn by(answer: &Answer) -> &str {
    assert_eq!(answer.status, 200, "{}", answer.head);
    answer.body.lines().next().unwrap()
}

/// Who answers some requests of one client, each once, in order.
async fn who(cluster: &Cluster) -> Vec<String> {
    let mut client = cluster.client().await;
    let mut seen = Vec::new();
    for _ in 0..6 {
        let name = by(&client.ask("POST /", "Content-Length: 2\r\n\r\nhi").await).to_owned();
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen.sort();
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_come_and_go_and_those_that_stay_keep_their_sockets() {
    let (a, b, c) = (
        Backend::plain(0, echo("a")).await,
        Backend::plain(0, echo("b")).await,
        Backend::plain(0, echo("c")).await,
    );
    let dns = DnsServer::start(&[(0, 0, a.port, "a.test"), (0, 0, b.port, "b.test")]).await;
    let cluster = before(service(&dns)).await;
    assert_eq!(who(&cluster).await, ["a", "b"], "they are known before the first request");
    dns.say(&[(0, 0, a.port, "a.test"), (0, 0, c.port, "c.test")]);
    until_async(async || who(&cluster).await == ["a", "c"]).await;
    assert_eq!(a.connections.load(Ordering::SeqCst), 1, "one socket, through all of it");
    let names: Vec<_> = cluster.web.health().into_iter().map(|it| it.backend).collect();
    assert_eq!(names, [format!("a.test:{}", a.port), format!("c.test:{}", c.port)]);
    let status = cluster.web.view().status().await;
    assert_eq!(status.upstreams[0].name, "srv:_http._tcp.shop.test");
    let ids: Vec<_> = status.upstreams[0].servers.iter().map(|it| it.id.clone()).collect();
    assert_eq!(ids, names);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_stay_with_a_server_as_long_as_it_is_in_the_answer() {
    let (a, b, c) = (
        Backend::plain(0, echo("a")).await,
        Backend::plain(0, echo("b")).await,
        Backend::plain(0, echo("c")).await,
    );
    let dns = DnsServer::start(&[(0, 0, a.port, "a.test"), (0, 0, b.port, "b.test")]).await;
    let cluster = before(HttpProxy { cookie: inserted("SRV"), ..service(&dns) }).await;
    let mut cookies = std::collections::HashMap::new();
    while cookies.len() < 2 {
        let answer = cluster.ask("GET /", "").await;
        let set = answer.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
        cookies.insert(by(&answer).to_owned(), format!("Cookie: {}\r\n", set.split(';').next().unwrap()));
    }
    // Before and behind it others come, in another order.
    dns.say(&[(0, 0, c.port, "a.a.test"), (0, 0, b.port, "b.test")]);
    until(|| !cluster.web.health().iter().any(|it| it.backend.starts_with("a.test"))).await;
    until_async(async || by(&cluster.ask("GET /", "").await) == "c").await;
    for _ in 0..4 {
        assert_eq!(by(&cluster.ask("GET /", &cookies["b"]).await), "b");
        let moved = cluster.ask("GET /", &cookies["a"]).await;
        assert!(by(&moved) != "a" && moved.head.contains("set-cookie: SRV="), "{}", moved.head);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_server_that_is_away_takes_no_server_along() {
    let (a, b) = (Backend::plain(0, echo("a")).await, Backend::plain(0, echo("b")).await);
    let dns = DnsServer::start(&[(0, 0, a.port, "a.test")]).await;
    let cluster = before(service(&dns)).await;
    assert_eq!(who(&cluster).await, ["a"]);
    for fails in [true, false] {
        // It says nothing at all, and then that there is no such name.
        dns.be_silent(fails);
        dns.say(&[]);
        let asked = dns.asked();
        until(|| dns.asked() > asked + 1).await;
        assert_eq!(who(&cluster).await, ["a"]);
    }
    dns.say(&[(0, 0, b.port, "b.test")]);
    until_async(async || who(&cluster).await == ["b"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_answer_there_are_no_servers_until_there_is_one() {
    let a = Backend::plain(0, echo("a")).await;
    let dns = DnsServer::start(&[]).await;
    let cluster = before(service(&dns)).await;
    let answer = cluster.ask("GET /", "").await;
    assert_eq!((answer.status, answer.has("retry-after: 1")), (503, true));
    let upstreams = cluster.web.view().status().await.upstreams;
    assert!(upstreams.iter().any(|it| it.name.starts_with("srv:") && it.servers.is_empty()), "{upstreams:?}");
    dns.say(&[(0, 0, a.port, "a.test")]);
    until_async(async || cluster.ask("GET /", "").await.status == 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_of_a_higher_number_are_backups_and_weights_are_shares() {
    let (a, b, c) = (
        Backend::plain(0, echo("a")).await,
        Backend::plain(0, echo("b")).await,
        Backend::plain(0, echo("c")).await,
    );
    let dns =
        DnsServer::start(&[(1, 3, a.port, "a.test"), (1, 1, b.port, "b.test"), (2, 0, c.port, "c.test")])
            .await;
    let cluster = before(service(&dns)).await;
    let mut client = cluster.client().await;
    let mut counts = std::collections::BTreeMap::new();
    for _ in 0..40 {
        *counts.entry(by(&client.ask("GET /", "").await).to_owned()).or_insert(0) += 1;
    }
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert!((28..=32).contains(&counts["a"]), "{counts:?}");
    a.kill().await;
    b.kill().await;
    until_async(async || cluster.ask("GET /", "").await.body.starts_with('c')).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_are_checked_like_others_and_share_the_rule_with_those_that_are_named() {
    let (a, b) = (Backend::plain(0, echo("a")).await, Backend::plain(0, echo("b")).await);
    let dns = DnsServer::start(&[(0, 0, b.port, "b.test")]).await;
    let check = HealthCheck {
        question: HealthQuestion::get("/"),
        port: None,
        interval: Duration::from_millis(50),
        timeout: Duration::from_millis(50),
        rise: 1,
        fall: 1,
    };
    let mut rule = HttpProxy { health_check: Some(check), ..service(&dns) };
    rule.backends.push(proxy(&[a.port]).backends.remove(0));
    let cluster = before(rule).await;
    assert_eq!(who(&cluster).await, ["a", "b"]);
    until(|| cluster.web.health().iter().all(|it| it.last.as_ref().is_some_and(|it| it.result.is_ok())))
        .await;
    b.kill().await;
    until(|| cluster.web.health().iter().any(|it| it.backend.starts_with("b.test") && !it.up)).await;
    assert_eq!(who(&cluster).await, ["a"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_goes_on_with_what_is_known_of_a_service() {
    let a = Backend::plain(0, echo("a")).await;
    let dns = DnsServer::start(&[(0, 0, a.port, "a.test")]).await;
    let rule = service(&dns);
    let mut cluster = before(rule.clone()).await;
    assert_eq!(who(&cluster).await, ["a"]);
    dns.be_silent(true);
    for strategy in [Strategy::RoundRobin, Strategy::LeastConnection] {
        let rule = HttpProxy { strategy, ..rule.clone() };
        let config = file(&cluster, move |config: &mut Config| put(config, rule));
        cluster.web.reload(config).await.unwrap();
        assert_eq!(who(&cluster).await, ["a"]);
    }
    let b = Backend::plain(0, echo("b")).await;
    dns.say(&[(0, 0, b.port, "b.test")]);
    dns.be_silent(false);
    until_async(async || who(&cluster).await == ["b"]).await;
}
