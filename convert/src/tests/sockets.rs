//! Backends behind Unix sockets, and what they are told of clients.

use super::*;

#[test]
fn nginx_sends_to_sockets() {
    let found = nginx("location / { proxy_pass http://unix:/run/app.sock; }");
    let expected = "- set-request-header: {name: Host, value: localhost}\n\
                    - http-proxy: {backends: [{address: 'unix:/run/app.sock'}], socket-timeout: 60s}\n";
    assert_eq!(found, expected);
    assert!(
        nginx("location /a/ { proxy_pass http://unix:/run/app.sock:/a/; }").contains("unix:/run/app.sock'")
    );
    assert!(nginx("location /a/ { proxy_pass http://unix:/run/app.sock:/b/; }").contains("code: 501"));
    assert!(nginx("location /a/ { proxy_pass http://unix:/run/app.sock:; }").contains("unix:/run/app.sock'"));
    for pass in ["grpc_pass unix:/run/g;", "grpc_pass grpc://unix:/run/g;"] {
        assert!(nginx(&format!("location / {{ {pass} }}")).contains("address: 'h2c+unix:/run/g'"), "{pass}");
    }
    let long = format!("unix:/{}", "x".repeat(107));
    for wrong in ["unix:run/a", "unix:", "unix:/run/", long.as_str()] {
        assert!(
            nginx(&format!("location / {{ proxy_pass http://{wrong}; }}")).contains("code: 501"),
            "{wrong}"
        );
    }
    assert!(nginx("location / { proxy_pass https://unix:/run/app.sock; }").contains("code: 501"));
    let found = valid(
        "upstream u { server unix:/run/a max_conns=9; server unix://run/b max_conns=9; } server { listen 80; location / { proxy_pass http://u; } }",
        "nginx.conf",
    );
    assert!(
        found.yaml.contains("backends: [{address: 'unix:/run/a'}, {address: 'unix:/run/b'}]"),
        "{}",
        found.yaml
    );
    assert!(found.yaml.contains("connection-max: 9") && found.left.is_empty(), "{}", lines(&found.left));
}

/// The rule to a backend with these servers.
fn backend(servers: &str) -> (String, String) {
    let found = valid(
        &format!("frontend f\n mode http\n bind :80\n default_backend x\nbackend x\n mode http\n{servers}"),
        "haproxy.cfg",
    );
    (rules(&found.yaml), lines(&found.left))
}

#[test]
fn haproxy_sends_to_sockets() {
    let (found, left) = backend(" server s unix@/run/a\n server t /run/b backup");
    assert!(found.contains("[{address: 'unix:/run/a'}, {address: 'unix:/run/b', backup: true}]"), "{found}");
    assert_eq!(left, "");
    assert!(backend(" server s /run/a proto h2").0.contains("h2c+unix:/run/a"));
    for wrong in [" server s abns@a", " server s unix@a", " server s /run/a ssl verify none"] {
        let (found, left) = backend(wrong);
        assert!(found.contains("code: 501") && left.contains("server "), "{wrong}: {found}");
    }
}

#[test]
fn backends_are_told_of_clients_if_all_of_them_are() {
    assert!(backend(" server s a:1 send-proxy\n server t b:1 send-proxy").0.contains("proxy-protocol: v1"));
    assert!(
        backend(" default-server send-proxy-v2\n server s a:1\n server t b:1")
            .0
            .contains("proxy-protocol: v2")
    );
    for some in [
        " server s a:1 send-proxy\n server t b:1",
        " server s a:1 send-proxy\n server t b:1 send-proxy-v2",
        " server s a:1 send-proxy proto h2",
    ] {
        let (found, left) = backend(some);
        assert!(!found.contains("proxy-protocol") && left.contains("server send-proxy"), "{some}: {left}");
    }
}

#[test]
fn checks_ask_what_they_are_told_to() {
    let check = |lines: &str| backend(&format!(" option httpchk\n{lines}\n server s a:1 check")).0;
    let expected =
        "health-check: {path: /up, method: HEAD, host: a.b, status: [200-299, 404], interval: 3600s}";
    let found = check(
        " http-check send meth HEAD uri /up hdr Host a.b\n http-check expect status 200-299,404\n default-server inter 1d",
    );
    assert!(found.replace('\'', "").contains(&expected.replace("3600s", "1h")), "{found}");
    assert!(!check(" http-check expect status 100").contains("status: 100"));
    assert!(backend(" option httpchk GET /a\\#b\n server s a:1 check").0.contains("path: /,"));
}

#[test]
fn what_counts_closes_nothing_and_what_it_stands_beside_stays_closed() {
    let found = haproxy(" acl misc_nets src -f list\n http-request deny if misc_nets");
    assert!(found.contains("- send-error: {code: 501"), "{found}");
    let found =
        haproxy(" acl often sc_http_req_rate(0) gt 10\n http-request deny if often || { path_beg /a }");
    assert!(found.contains("- send-error: {regexp: '^/a', code: 501"), "{found}");
    let found = haproxy(" acl often sc_http_req_rate(0) gt 10\n http-request deny if often");
    assert!(!found.contains("501"), "{found}");
}

#[test]
fn connections_that_are_rejected_are_requests_that_are_refused() {
    let found =
        haproxy(" tcp-request connection reject if !{ src 10.0.0.0/8 }\n tcp-request inspect-delay 5s");
    assert!(
        found.starts_with("- forbidden: {if: {not: {remote-addr: '10.0.0.0/8'}}}\n- http-proxy"),
        "{found}"
    );
    for closed in [
        "connection reject if { src -f list }",
        "content reject if { src 10.0.0.1/8 }",
        "connection expect-proxy layer4",
        "session do-something",
    ] {
        assert!(haproxy(&format!(" tcp-request {closed}")).contains("- send-error: {code: 501"), "{closed}");
    }
    let found =
        haproxy(" tcp-request connection accept if { src 10.0.0.0/8 }\n tcp-request connection reject");
    assert!(found.contains("501") && found.contains("- forbidden: {}"), "{found}");
    let found =
        haproxy(" tcp-request content accept if HTTP\n tcp-request connection reject if { src 10.0.0.1 }");
    assert!(!found.contains("501"), "{found}");
    for open in
        ["content accept if HTTP", "connection track-sc0 src", "connection reject if { src_conn_rate gt 9 }"]
    {
        assert!(!haproxy(&format!(" tcp-request {open}")).contains("501"), "{open}");
    }
}

#[test]
fn expressions_keep_their_backslashes() {
    assert!(haproxy(" http-request deny if { path_reg ^/a\\.b$ }").contains(r"'^/a\.b$'"));
    assert!(haproxy(" http-request deny if { path_reg \"^/a\\.b$\" }").contains(r"'^/a\.b$'"));
}

#[test]
fn http_3_is_beside_tls() {
    let tls = "ssl_certificate a.pem; ssl_certificate_key a.key;";
    let found =
        valid(&format!("server {{ listen 443 quic reuseport; listen 443 ssl; {tls} }}"), "nginx.conf");
    assert!(found.yaml.contains("http3: true") && found.left.is_empty(), "{}", found.yaml);
    let found = valid(&format!("server {{ listen 444 quic; listen 443 ssl; {tls} }}"), "nginx.conf");
    assert!(!found.yaml.contains("  http3: true") && lines(&found.left).contains("write `http3: true`"));
}
