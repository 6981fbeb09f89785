//! `tcp-proxy`: what it reads, and what is said of what it can't.

use super::*;
use crate::config::{
    BackendProtocol, HealthQuestion, ProxyProtocolVersion, RequestKey, Strategy, TcpListener,
    limits_below_workers,
};
use std::time::Duration;

fn file(listener: &str) -> String {
    format!(
        "triad: [web-a]\nclusters:\n  - id: web-tier\n    servers:\n      - id: web-a\n        address: 127.0.0.1\n        tcp-proxy:\n          - {listener}\n"
    )
}

fn read(listener: &str) -> TcpListener {
    let loaded = load_text(&file(listener)).unwrap_or_else(|errors| panic!("{listener}\n{errors}"));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    loaded.config.clusters[0].servers[0].tcp[0].clone()
}

/// All that is wrong, without the places.
fn wrong(listener: &str) -> String {
    load_text(&file(listener)).expect_err(listener)
}

#[test]
fn a_listener_with_all_that_it_may_have() {
    let listener = read(
        "{port: 5432, address: '::1', allow: [10.0.0.0/8, '::1'], deny: 10.1.0.0/16, rate-limit: {rate: 10/s}, \
         connection-limit: [{max: 5, name: own}, {max: 100, by: all}], client-hello-timeout: 2s, \
         routes: [{server-name: [A.Test, '*.b.test'], alpn: h2, backends: [{address: 'tcp://[::1]:1'}]}, \
         {backends: [{address: 'tls://c.test:2', weight: 3}], tls: {verify: on}, hash-by: remote-addr, idle-timeout: 1h}], \
         backends: [{address: 'localhost:3'}, {address: '10.0.0.1:4', backup: true}], health-check: {port: 9}, send-proxy-protocol: v2, \
         strategy: round-robin, connection-max: 7, queue-timeout: 0s}",
    );
    assert_eq!((listener.name().as_str(), listener.allow.len(), listener.deny.len()), ("[::1]:5432", 2, 1));
    assert_eq!((listener.rate_limits[0].requests, listener.connection_limits[0].name.as_str()), (10, "own"));
    assert_eq!(listener.connection_limits[1].by, RequestKey::All);
    let [first, second] = &listener.routes[..] else { panic!("{:?}", listener.routes) };
    assert_eq!(
        (&first.server_names[..], &first.alpn[..]),
        (&["a.test".to_owned(), "*.b.test".to_owned()][..], &["h2".to_owned()][..])
    );
    let backend = &first.servers.backends[0];
    assert_eq!(
        (backend.name().as_str(), backend.protocol, backend.tls),
        ("[::1]:1", BackendProtocol::Tcp, false)
    );
    assert_eq!(first.servers.strategy, Strategy::LeastConnection);
    assert!(second.servers.backends[0].tls && second.servers.tls.is_some() && second.server_names.is_empty());
    assert_eq!(
        (&second.servers.hash_by, second.servers.socket_timeout),
        (&Some(RequestKey::RemoteAddr), Duration::from_secs(3600))
    );
    let default = listener.default.unwrap();
    assert!(
        default.backends[1].backup && default.connection_max == 7 && default.strategy == Strategy::RoundRobin
    );
    let check = default.health_check.unwrap();
    assert_eq!((check.question, check.port), (HealthQuestion::Connect, Some(9)));
    assert_eq!(default.socket_timeout, Duration::from_secs(600));
    assert_eq!(default.proxy_protocol, Some(ProxyProtocolVersion::V2));
}

#[test]
fn a_server_may_listen_without_hosts_and_be_asked_in_http() {
    let listener = read(
        "{port: 1, backends: [{address: 'a:1'}], health-check: {path: /primary, port: 8008, status: 200}}",
    );
    let question = listener.default.unwrap().health_check.unwrap().question;
    let HealthQuestion::Http(question) = question else { panic!("{question:?}") };
    assert_eq!(question.path, "/primary");
}

/// Listeners that are none, and what is said of them.
const WRONG: [(&str, &str); 26] = [
    ("{port: 1}", "needs `backends`, `routes` or both"),
    ("{backends: [{address: 'a:1'}]}", "a `tcp-proxy` listener has no `port`"),
    ("{port: 1, backends: []}", "`backends` is empty"),
    ("{port: 1, backends: [{}]}", "a backend of `tcp-proxy` has no `address`: give it as host:port"),
    (
        "{port: 1, backends: [{address: 'a'}]}",
        "expected host:port, found `a`: a `tcp-proxy` knows no usual port",
    ),
    (
        "{port: 1, backends: [{address: 'http://a:1'}]}",
        "expected host:port, with TLS tls://host:port, or unix:PATH of a socket, found `http://a:1`",
    ),
    ("{port: 1, backends: [{address: '0.0.0.0:1'}]}", "means every interface"),
    ("{port: 1, backends: [{address: 'a:1'}, {address: 'tcp://a:1'}]}", "the backend a:1 stands twice here"),
    ("{port: 1, backends: [{address: 'a:1', backup: true}]}", "every backend is a `backup`"),
    (
        "{port: 1, backends: [{address: 'a:1'}], tls: {verify: on}}",
        "`tls` has no effect: no backend's address begins with tls://",
    ),
    (
        "{port: 1, backends: [{address: 'a:1'}], strategy: adaptive, hash-by: remote-addr}",
        "`hash-by` chooses the server",
    ),
    ("{port: 1, backends: [{address: 'a:1'}], hash-by: path}", "expected `remote-addr`, found `path`"),
    (
        "{port: 1, routes: [{backends: [{address: 'a:1'}]}], idle-timeout: 1s}",
        "`idle-timeout` has no effect without `backends` beside it",
    ),
    ("{port: 1, routes: [{server-name: a.test}]}", "a route of `tcp-proxy` has no `backends`"),
    (
        "{port: 1, routes: [{server-name: '*', backends: [{address: 'a:1'}]}]}",
        "a route without `server-name` takes every name",
    ),
    (
        "{port: 1, routes: [{server-name: 'a.*.test', backends: [{address: 'a:1'}]}]}",
        "expected a name such as db.example.org or *.example.org",
    ),
    (
        "{port: 1, routes: [{server-name: a, backends: [{address: 'a:1'}]}, {server-name: A, backends: [{address: 'b:1'}]}]}",
        "an earlier route takes `a` already",
    ),
    (
        "{port: 1, routes: [{backends: [{address: 'a:1'}]}, {alpn: h2, backends: [{address: 'b:1'}]}]}",
        "an earlier route takes every name already",
    ),
    (
        "{port: 1, routes: [{alpn: 'h 2', backends: [{address: 'a:1'}]}]}",
        "expected the name of a protocol such as h2 or http/1.1",
    ),
    ("{port: 1, allow: nobody, backends: [{address: 'a:1'}]}", "found `nobody`"),
    (
        "{port: 1, rate-limit: {rate: 1/s, by: path}, backends: [{address: 'a:1'}]}",
        "connections are counted by `remote-addr` or `all`",
    ),
    (
        "{port: 1, health-check: {status: 200}, backends: [{address: 'a:1'}]}",
        "`status` is of a question in HTTP: give its `path` too",
    ),
    (
        "{port: 1, health-check: {grpc-service: ''}, backends: [{address: 'a:1'}]}",
        "`grpc-service` is of `http-proxy`",
    ),
    ("{port: 1, proxy-protocol: true, backends: [{address: 'a:1'}]}", "the cluster has no `trusted-proxies`"),
    ("{port: 1, backend: [{address: 'a:1'}]}", "did you mean `backends`?"),
    ("{port: 6800, address: 127.0.0.1, backends: [{address: 'a:1'}]}", "6800"),
];

#[test]
fn what_makes_no_sense_is_told_with_its_place() {
    for (listener, said) in WRONG {
        let found = wrong(listener);
        assert!(found.contains(said), "{listener}\n{found}");
        assert!(found.contains("cluster.yaml:") || found.contains(".yaml:"), "{found}");
    }
}

#[test]
fn too_few_connections_for_the_workers_are_told() {
    let text = file("{port: 1, connection-max: 1, backends: [{address: 'a:1'}]}");
    let config = load_text(&text).unwrap().config;
    let found = limits_below_workers(&config, &config.clusters[0], 2);
    assert_eq!(found, ["`connection-max: 1` of `tcp-proxy` to a:1"]);
}
