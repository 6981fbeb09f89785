//! Tests of the set of foreign servers: what is shared, and what is taken over by a new configuration.

use super::*;
use crate::{
    tests::cluster::{cluster, host, plain},
    upstream::{
        Upstream,
        balance::{Affinity, Tried},
        pool::Asker,
    },
};
use common::config::{Backend, BackendAddress, HealthCheck, HealthQuestion, Rule, Strategy};
use std::{cell::Cell, rc::Rc, time::Instant};
use tokio::net::TcpListener;

fn rule(hosts: &[&str], health_check: Option<HealthCheck>) -> HttpProxy {
    let backends = hosts.iter().map(|host| Backend {
        at: BackendAddress::Host { host: (*host).to_owned(), port: 8080 },
        protocol: BackendProtocol::Http1,
        tls: false,
        backup: false,
        weight: 50,
    });
    HttpProxy { backends: backends.collect(), health_check, ..HttpProxy::default() }
}

fn servers(rules: &[&HttpProxy], before: Option<&ForeignServers>) -> ForeignServers {
    let action = |rule: &&HttpProxy| config::Action::HttpProxy(Box::new((*rule).clone()));
    let rules = rules.iter().map(|it| Rule {
        regexp: None,
        condition: None,
        cache: true,
        compression: true,
        action: action(it),
    });
    let host = config::Host { dispatch: rules.collect(), ..host("") };
    ForeignServers::new(
        (&cluster("web-tier", Vec::new(), vec![host]), &"web-a".into()),
        plain().key(),
        before,
    )
    .unwrap()
}

#[test]
fn rules_that_say_the_same_share_their_backends() {
    let (one, other) = (rule(&["10.0.0.1", "10.0.0.2"], None), rule(&["10.0.0.1"], None));
    let servers = servers(&[&one, &other, &one], None);
    assert_eq!(servers.pools.len(), 2);
    assert_eq!(servers.pool(&other).unwrap().members().backends.len(), 1);
    assert!(servers.pool(&rule(&["10.0.0.3"], None)).is_none());
    let balanced: Vec<_> = servers.pool(&one).unwrap().members().balanced(&one).collect();
    assert_eq!((balanced[1].id.as_str(), balanced[1].weight), ("10.0.0.2:8080", 50));
}

#[test]
fn a_new_configuration_keeps_what_is_known_of_rules_that_stay() {
    let (stays, goes) = (rule(&["10.0.0.1"], Some(HealthCheck::default())), rule(&["10.0.0.2"], None));
    let before = servers(&[&goes, &stays], None);
    before.pool(&stays).unwrap().members().backends[0].up.store(false, Ordering::Relaxed);
    let after = servers(&[&stays], Some(&before));
    assert_eq!(
        after.pool(&stays).unwrap().members().backends[0].state(),
        BackendState { up: false, moved: 0 }
    );
    assert!(after.pool(&goes).is_none());
    let news = before.news();
    after.news.send_replace(());
    assert!(news.has_changed().unwrap(), "workers that listen to the old one hear the new one");
}

#[test]
fn of_a_rule_that_has_changed_the_backends_that_stay_keep_what_is_known_of_them() {
    let check =
        |path: &str| Some(HealthCheck { question: HealthQuestion::get(path), ..HealthCheck::default() });
    let former = rule(&["10.0.0.1", "10.0.0.2"], check("/a"));
    let before = servers(&[&former], None);
    let members = before.pools[0].members();
    let known = &members.backends;
    let mut grown = rule(&["10.0.0.3", "10.0.0.2"], check("/a"));
    grown.backends[1].weight = 1;
    let after = servers(&[&grown], Some(&before));
    assert!(Arc::ptr_eq(&after.pools[0].members().backends[1], &known[1]));
    assert!(!known.iter().any(|it| Arc::ptr_eq(it, &after.pools[0].members().backends[0])));
    let (checked, elsewhere) = (rule(&["10.0.0.1"], check("/b")), rule(&["10.0.0.1"], check("/a")));
    let after = servers(&[&checked, &elsewhere, &former], Some(&before));
    assert!(Arc::ptr_eq(&after.pools[2], &before.pools[0]), "the rule is there still");
    assert!(!Arc::ptr_eq(&after.pools[1].members().backends[0], &known[0]), "a backend belongs to one rule");
    let after = servers(&[&checked, &elsewhere], Some(&before));
    assert!(
        !Arc::ptr_eq(&after.pools[0].members().backends[0], &known[0]),
        "it is checked in another way now"
    );
    assert!(Arc::ptr_eq(&after.pools[1].members().backends[0], &known[0]));
}

#[tokio::test]
async fn backends_that_stay_are_looked_after_without_a_break() {
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let named = |hosts: &[&str]| rule(hosts, Some(HealthCheck::default()));
            let before = servers(&[&named(&["one.invalid", "two.invalid"])], None);
            let mut watch = ForeignWatch::default();
            watch.go_by(&before);
            let tasks = |watch: &ForeignWatch| watch.tasks();
            assert_eq!(tasks(&watch).len(), 4, "a name and a check each");
            let first = tasks(&watch);
            let after = servers(&[&named(&["two.invalid", "three.invalid"])], Some(&before));
            watch.go_by(&after);
            let second = tasks(&watch);
            assert_eq!((second.len(), second.iter().filter(|it| first.contains(it)).count()), (4, 2));
            watch.go_by(&servers(&[], Some(&after)));
            assert!(tasks(&watch).is_empty());
        })
        .await;
}

#[test]
fn the_report_has_every_backend() {
    let check = HealthCheck { rise: 4, fall: 5, ..HealthCheck::default() };
    let servers = servers(&[&rule(&["10.0.0.1"], None), &rule(&["::1", "site.test"], Some(check))], None);
    let report = servers.report();
    let named: Vec<_> = report.iter().map(|it| (it.rule, it.backend.as_str(), it.addresses.len())).collect();
    assert_eq!(named, [(0, "10.0.0.1:8080", 1), (1, "[::1]:8080", 1), (1, "site.test:8080", 0)]);
    assert!(report.iter().all(|it| it.up && it.since.is_none() && it.last.is_none()));
    assert_eq!((report[0].against, report[1].against), ((0, 0), (0, 5)));
}

#[tokio::test]
async fn a_worker_takes_over_what_checks_and_look_ups_say() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut rule = rule(&["127.0.0.1"], None);
    let port = listener.local_addr().unwrap().port();
    rule.backends[0].at = BackendAddress::Host { host: "127.0.0.1".to_owned(), port };
    let servers = servers(&[&rule], None);
    let pool = servers.pool(&rule).unwrap();
    let members = pool.members();
    let (backend, upstream) = (&members.backends[0], Rc::new(Upstream::foreign(pool, 1)));
    let lease =
        || upstream.lease(Instant::now(), Affinity::None, Strategy::RoundRobin, Tried::default()).is_some();
    assert!(lease());
    upstream
        .server(0)
        .pool
        .take(None, (false, None), &Asker::anybody(), &Cell::new(false))
        .await
        .unwrap()
        .socket()
        .give_back();
    let reused = async || {
        upstream.foreign_changed();
        let socket = upstream
            .server(0)
            .pool
            .take(None, (false, None), &Asker::anybody(), &Cell::new(false))
            .await
            .unwrap()
            .socket();
        let reused = socket.reused();
        socket.give_back();
        reused
    };
    assert!(reused().await);
    backend.moved.fetch_add(1, Ordering::Relaxed);
    assert!(!reused().await, "it is to an address that the name does not have any more");
    assert!(reused().await);
    backend.up.store(false, Ordering::Relaxed);
    assert!(!reused().await && !lease(), "the backend is down");
    let other = Rc::new(Upstream::foreign(pool, 1));
    let none = other.lease(Instant::now(), Affinity::None, Strategy::RoundRobin, Tried::default());
    assert!(none.is_none() && other.is_like(&upstream), "a worker that begins later knows it from the start");
    backend.up.store(true, Ordering::Relaxed);
    upstream.foreign_changed();
    assert!(lease());
}
