//! Tests of host and path to cluster.

use super::*;
use crate::route::rules::Decision;
use crate::tests::cluster::{cluster, config, host};
use crate::{access::Access, limit::LimitTables};
use common::{
    config::{Action, LoadBalance, Rule, StickyCookie, Strategy},
    id::ServerId,
};
use std::{net::Ipv4Addr, time::SystemTime};

fn to(regexp: &str, cluster: &str) -> Rule {
    let regexp = (!regexp.is_empty()).then(|| Regex::new(regexp).unwrap());
    let strategy = Strategy::Adaptive;
    let (sticky_sessions, session_url) = (true, false);
    Rule {
        regexp,
        condition: None,
        action: Action::LoadBalance(LoadBalance {
            hash_by: None,
            cluster: cluster.into(),
            strategy,
            sticky_sessions,
            session_url,
            cookie: StickyCookie::None,
        }),
        cache: true,
        compression: true,
    }
}

/// Asks where requests go, by the cluster's id.
fn routes(hosts: Vec<config::Host>, asked: &[(&str, &str)]) -> Vec<Option<String>> {
    let mut config = config(&[]);
    config.clusters.extend(["one", "two"].map(|id| cluster(id, Vec::new(), Vec::new())));
    config.clusters[1].hosts = hosts;
    let (me, credentials) = (ServerId::from("web-a"), crate::tests::cluster::plain());
    let breaks = crate::upstream::breaks::Breaks::new(&config);
    let mut upstreams = Upstreams::new(&config, &me, &credentials, 1, &breaks);
    let hosts =
        Hosts::new(&config.clusters[1], &mut upstreams, (&LimitTables::default(), &Access::default()));
    let places = [("one", upstreams.place(&"one".into())), ("two", upstreams.place(&"two".into()))];
    let name =
        |place: usize| places.iter().find(|(_, it)| *it == Some(place)).map(|(id, _)| (*id).to_owned());
    let headers = http::HeaderMap::new();
    let whither = |(host, path): &(&str, &str)| {
        let view = RequestView {
            method: "GET",
            path,
            query: None,
            host,
            headers: &headers,
            remote: Ipv4Addr::LOCALHOST.into(),
            secure: false,
            local_port: 80,
            now: SystemTime::UNIX_EPOCH,
        };
        match hosts.evaluate(&view).decision {
            Decision::Proxy(target) => name(target.upstream),
            _ => None,
        }
    };
    asked.iter().map(whither).collect()
}

fn some(ids: &[&str]) -> Vec<Option<String>> {
    ids.iter().map(|id| (!id.is_empty()).then(|| (*id).to_owned())).collect()
}

#[test]
fn the_first_rule_that_matches_is_taken() {
    let mut default = host("");
    default.dispatch = vec![to("^/foo", "one"), to(r"\.php$", "one"), to("^/b", "two")];
    let asked = [("h", "/foo/x"), ("h", "/b.php"), ("h", "/b"), ("h", "/x"), ("", "/foo")];
    assert_eq!(routes(vec![default], &asked), some(&["one", "one", "two", "", "one"]));
}

#[test]
fn names_come_before_patterns_and_patterns_before_the_default() {
    let mut named = host("shop.example");
    named.aliases = vec!["WWW.shop.example".to_owned()];
    named.dispatch = vec![to("", "one")];
    let mut pattern = host("any");
    pattern.regexp = Some(Regex::new(r"\.shop\.example$").unwrap());
    pattern.dispatch = vec![to("", "two")];
    let asked = [
        ("shop.example", "/"),
        ("SHOP.example:8080", "/"),
        ("shop.example.", "/"),
        ("www.SHOP.example", "/"),
        ("a.shop.example:1", "/"),
        ("other", "/"),
        ("[::1]:80", "/"),
    ];
    let expected = some(&["one", "one", "one", "one", "two", "", ""]);
    assert_eq!(routes(vec![named, pattern], &asked), expected);
}
