//! Connections that are passed on as they are.

use super::*;
use common::config::{HttpProxy, TcpListener};
use std::fmt::Write;

/// The listeners of a translation.
fn listeners(text: &str, name: &str) -> (Vec<TcpListener>, String) {
    let found = converted(text, name);
    let loaded = load_str(&found.yaml, Path::new("copal.yaml"), &LoadOptions::default());
    let loaded = loaded.unwrap_or_else(|errors| panic!("{errors}\n{}", found.yaml));
    (loaded.config.clusters[0].servers[0].tcp.clone(), lines(&found.left))
}

fn names(servers: &HttpProxy) -> String {
    servers.backends.iter().map(common::config::Backend::name).collect::<Vec<_>>().join(",")
}

/// What a listener does, in a line.
fn told(listener: &TcpListener) -> String {
    let mut out = listener.name();
    let list = |list: &[common::cidr::Cidr]| list.iter().map(|it| format!(" {it}")).collect::<String>();
    if !listener.allow.is_empty() {
        let _ = write!(out, " allow{}", list(&listener.allow));
    }
    if !listener.deny.is_empty() {
        let _ = write!(out, " deny{}", list(&listener.deny));
    }
    for route in &listener.routes {
        let _ = write!(out, " [{}", route.server_names.join(" "));
        if !route.alpn.is_empty() {
            let _ = write!(out, " {}", route.alpn.join("|"));
        }
        let _ = write!(out, " > {}]", names(&route.servers));
    }
    if let Some(default) = &listener.default {
        let _ = write!(out, " > {}", names(default));
    }
    out
}

/// A frontend at port 1 with these lines, and the backends `a`, `b`, `c` at `a:1`, `b:1`, `c:1`.
fn haproxy(frontend: &str) -> (Vec<String>, String) {
    let backends: String = ["a", "b", "c"].map(|it| format!("backend {it}\n server s {it}:1\n")).concat();
    let (found, left) = listeners(&format!("frontend f\n bind :1\n{frontend}\n{backends}"), "haproxy.cfg");
    (found.iter().map(told).collect(), left)
}

fn one(frontend: &str) -> String {
    let (found, left) = haproxy(frontend);
    assert_eq!(found.len(), 1, "{frontend}\n{left}");
    found[0].clone()
}

/// Why there is no listener.
fn none(frontend: &str) -> String {
    let (found, left) = haproxy(frontend);
    assert_eq!(found, Vec::<String>::new(), "{frontend}");
    left
}

#[test]
fn haproxy_passes_on_what_is_not_said_to_be_http() {
    assert_eq!(one("default_backend a"), "0.0.0.0:1 > a:1");
    let (found, left) = listeners(
        "listen x\n bind 127.0.0.1:1,[::1]:2\n server s db:5\n server t db:6 disabled",
        "haproxy.cfg",
    );
    assert_eq!(
        found.iter().map(told).collect::<Vec<_>>(),
        ["127.0.0.1:1 > db:5", "[::1]:2 > db:5"],
        "{left}"
    );
    assert!(none("").contains("nobody is let in there"));
    assert!(none("default_backend nobody").contains("there is no backend `nobody`"));
    assert!(none("use_backend %[req.ssl_sni]").contains("not made of variables"));
}

#[test]
fn the_first_line_that_fits_decides_though_copal_asks_for_the_closest_name() {
    // The wider name comes first, and has all.
    let found = one(
        "use_backend a if { req.ssl_sni -m end .x.org }\nuse_backend b if { req.ssl_sni y.x.org }\ndefault_backend c",
    );
    assert_eq!(found, "0.0.0.0:1 [*.x.org > a:1] > c:1");
    let found = one(
        "use_backend b if { req.ssl_sni Y.x.org }\nuse_backend a if { req_ssl_sni -i -m end .x.org }\ndefault_backend c",
    );
    assert_eq!(found, "0.0.0.0:1 [y.x.org > b:1] [*.x.org > a:1] > c:1");
    // A protocol goes before all names.
    let found = one(
        "use_backend a if { req.ssl_alpn h2 }\nuse_backend b if { req.ssl_sni y.x.org }\ndefault_backend c",
    );
    assert_eq!(found, "0.0.0.0:1 [y.x.org h2 > a:1] [y.x.org > b:1] [ h2 > a:1] > c:1");
    let found = one("use_backend a if { req.ssl_sni y.x.org } { req.ssl_alpn h2 }\ndefault_backend c");
    assert_eq!(found, "0.0.0.0:1 [y.x.org h2 > a:1] > c:1");
    // All but one.
    let found = one(
        "acl y req.ssl_sni y.x.org\nuse_backend a if { req.ssl_sni -m end .x.org } !y\ndefault_backend c",
    );
    assert_eq!(found, "0.0.0.0:1 [*.x.org > a:1] [y.x.org > c:1] > c:1");
    let found = one("use_backend a unless { req.ssl_sni y.x.org }\ndefault_backend c");
    assert_eq!(found, "0.0.0.0:1 [y.x.org > c:1] > a:1");
    let found = one("use_backend a if { req.ssl_sni -m reg ^(.+\\.)?x\\.org$ ^y\\.z$ }");
    assert_eq!(found, "0.0.0.0:1 [x.org y.z *.x.org > a:1]");
}

#[test]
fn what_is_not_tls_can_go_its_own_way() {
    let found = one("use_backend a if !{ req.ssl_hello_type 1 }\ndefault_backend b");
    assert_eq!(found, "0.0.0.0:1 [ > b:1] > a:1");
    let found = one(
        "tcp-request inspect-delay 5s\ntcp-request content accept if { req_ssl_hello_type 1 }\ntcp-request content reject\ndefault_backend b",
    );
    assert_eq!(found, "0.0.0.0:1 [ > b:1]");
    let found = one(
        "tcp-request content reject if { req.ssl_sni y.x.org }\nuse_backend b if { req.ssl_sni -m end .z }",
    );
    assert_eq!(found, "0.0.0.0:1 [*.z > b:1]");
}

#[test]
fn what_no_route_can_refuse_is_not_opened() {
    for closed in [
        // Another route would have it.
        "tcp-request content reject if { req.ssl_sni y.x.org }\ndefault_backend b",
        "tcp-request content reject if { req.ssl_sni y.x.org }\nuse_backend b if { req.ssl_sni -m end .x.org }",
        "use_backend a if !{ req.ssl_hello_type 1 }",
        "use_backend a if { req.ssl_sni y.x.org } { src 10.0.0.0/8 }\ndefault_backend b",
        "use_backend a if { req.ssl_sni -m sub admin }\ndefault_backend b",
        "use_backend nobody if { req.ssl_sni y.x.org }\ndefault_backend b",
        "tcp-request content reject if { payload(0,3) -m bin 535348 }\ndefault_backend b",
        "tcp-request content do-something\ndefault_backend b",
        "tcp-request connection reject if { src -f blocked.lst }\ndefault_backend b",
        "tcp-request connection reject if misc_nets\nacl misc_nets src -f blocked.lst\ndefault_backend b",
        "tcp-request connection reject if { src 10.0.0.0/8 } { dst_port 1 }\ndefault_backend b",
        "tcp-request connection reject if { src 10.0.0.0/33 }\ndefault_backend b",
        "tcp-request connection expect-proxy layer4\ndefault_backend b",
        "tcp-request connection reject\ndefault_backend b",
        "tcp-request session reject if { src -f blocked.lst }\ndefault_backend b",
    ] {
        assert!(none(closed).contains("left out"), "{closed}");
    }
    // Nobody else would have it.
    let (found, left) = haproxy(
        "use_backend a if { req.ssl_sni y.x.org } { src 10.0.0.0/8 }\nuse_backend b if { req.ssl_sni z }",
    );
    assert_eq!(found, ["0.0.0.0:1 [z > b:1]"]);
    assert!(left.contains("what it may be about is refused"), "{left}");
    for bind in [
        "bind :2 ssl crt a.pem",
        "bind :2 accept-proxy",
        "bind :2 interface eth0",
        "bind :2-9",
        "bind /run/x",
        "bind :1",
    ] {
        let (found, left) = haproxy(&format!("{bind}\ndefault_backend a"));
        assert_eq!(found, ["0.0.0.0:1 > a:1"], "{bind}");
        assert!(left.contains("haproxy.cfg:3: bind"), "{bind}: {left}");
    }
}

#[test]
fn a_backend_refuses_what_it_refuses_itself() {
    let text = "frontend f\n bind :1\n use_backend a if { req.ssl_sni x.y }\n default_backend b\n\
                backend a\n tcp-request content reject if { src 10.0.0.0/8 }\n server s a:1\nbackend b\n server s b:1";
    let (found, left) = listeners(text, "haproxy.cfg");
    assert!(found.is_empty() && left.contains("left out"), "{left}");
}

#[test]
fn addresses_are_let_in_as_the_lines_say_in_their_order() {
    let lets = |lines: &str| one(&format!("{lines}\ndefault_backend a"));
    assert_eq!(
        lets("tcp-request connection reject if { src 10.1.2.3/8 ::1 }"),
        "0.0.0.0:1 deny ::1/128 10.0.0.0/8 > a:1"
    );
    assert_eq!(
        lets("tcp-request connection reject if !{ src 10.0.0.0/8 }"),
        "0.0.0.0:1 allow 10.0.0.0/8 > a:1"
    );
    assert_eq!(
        lets("tcp-request connection reject unless LOCALHOST"),
        "0.0.0.0:1 allow ::1/128 127.0.0.0/8 > a:1"
    );
    assert_eq!(
        lets(
            "acl in src 10.0.0.0/8\nacl out src 10.9.0.0/16\ntcp-request connection reject if out\ntcp-request connection accept if in\ntcp-request connection reject"
        ),
        "0.0.0.0:1 allow 10.0.0.0/8 deny 10.9.0.0/16 > a:1"
    );
    // Those who are accepted at first are looked at again.
    assert_eq!(
        lets(
            "tcp-request connection accept if { src 10.0.0.0/8 }\ntcp-request content reject if { src 10.9.0.0/16 }"
        ),
        "0.0.0.0:1 deny 10.9.0.0/16 > a:1"
    );
    // How often somebody comes closes nothing.
    assert_eq!(
        lets("acl often src_conn_rate gt 10\ntcp-request connection reject if often || { src 10.9.0.0/16 }"),
        "0.0.0.0:1 deny 10.9.0.0/16 > a:1"
    );
    assert_eq!(lets("tcp-request connection reject if { sc0_conn_rate gt 10 }"), "0.0.0.0:1 > a:1");
}

#[test]
fn what_is_said_of_servers_goes_along() {
    let text = "defaults\n timeout connect 3s\n timeout client 1m\n timeout server 2m\nlisten x\n bind :1\n balance source\n \
                server s 10.0.0.1:1 check port 8008 inter 1ms maxconn 7 send-proxy weight 3\n \
                server t 10.0.0.2:1 check port 8008 send-proxy\n server u 10.0.0.3:1 backup send-proxy";
    let found = converted(text, "haproxy.cfg");
    let expected = "          - port: 1
            backends:
              - {address: '10.0.0.1:1', weight: 300}
              - {address: '10.0.0.2:1'}
              - {address: '10.0.0.3:1', backup: true}
            hash-by: remote-addr
            send-proxy-protocol: v1
            health-check: {interval: 100ms, port: 8008}
            connect-timeout: 3s
            idle-timeout: 60s
            connection-max: 7
";
    assert!(found.yaml.contains(expected) && found.left.is_empty(), "{}{}", found.yaml, lines(&found.left));
    let idle = |times: &str| {
        let (found, _) = listeners(&format!("listen x\n bind :1\n server s a:1\n{times}"), "haproxy.cfg");
        found[0].default.as_ref().map(|it| it.socket_timeout.as_secs()).unwrap()
    };
    assert_eq!(idle(" timeout client 9s\n timeout server 8s\n timeout tunnel 1h"), 3600);
    assert_eq!(idle(" timeout client 9s\n timeout server 8s"), 8);
    // For ever.
    assert_eq!(idle(""), 86_400);
    assert_eq!(idle(" timeout client 0\n timeout server 0"), 86_400);
    let (found, left) =
        listeners("listen x\n bind :1\n server s a:1 send-proxy\n server t b:1", "haproxy.cfg");
    assert!(found[0].default.as_ref().unwrap().proxy_protocol.is_none());
    assert!(left.contains("server send-proxy"), "{left}");
}

fn stream(text: &str) -> (Vec<String>, String) {
    let (found, left) = listeners(
        &format!("stream {{ upstream u {{ server a:1; }} upstream v {{ server b:1; }} {text} }}"),
        "nginx.conf",
    );
    (found.iter().map(told).collect(), left)
}

/// A router by names with these lines of its map.
fn map(lines: &str) -> (Vec<String>, String) {
    stream(&format!(
        "map $ssl_preread_server_name $x {{ {lines} }} server {{ listen 1; ssl_preread on; proxy_pass $x; }}"
    ))
}

#[test]
fn nginx_chooses_by_the_closest_name() {
    assert_eq!(map("x.org u; default v;").0, ["0.0.0.0:1 [x.org > a:1] > b:1"]);
    assert_eq!(
        map("hostnames; *.x.org u; .y.org u; c.x.org v;").0,
        ["0.0.0.0:1 [*.x.org y.org *.y.org > a:1] [c.x.org > b:1]"]
    );
    assert_eq!(
        map("~^(.+\\.)?x\\.org$ u; ~*\\.y\\.org$ v; default u;").0,
        ["0.0.0.0:1 [*.y.org > b:1] > a:1"]
    );
    // Without `hostnames` this is no mask.
    assert_eq!(map("*.x.org u; default v;").0, ["0.0.0.0:1 > b:1"]);
    // An empty value is refused, and so are those without a name then.
    assert_eq!(map("x.org u; y.org '';").0, ["0.0.0.0:1 [x.org > a:1]"]);
    for closed in [
        "y.org ''; default u;",
        "~x u; default v;",
        "hostnames; x.* u; default v;",
        "\"\" u; default v;",
        "x.org $y; default u;",
    ] {
        let (found, left) = map(closed);
        assert!(found.is_empty() && left.contains("left out"), "{closed}: {left}");
    }
    let text = "map $ssl_preread_protocol $x { \"\" u; default v; } server { listen 1; ssl_preread on; proxy_pass $x; }";
    assert_eq!(stream(text).0, ["0.0.0.0:1 [ > b:1] > a:1"]);
    // Nobody has looked.
    assert_eq!(stream(&text.replace("ssl_preread on;", "")).0, ["0.0.0.0:1 > a:1"]);
}

#[test]
fn nginx_lets_in_whom_the_first_line_does() {
    let lets = |lines: &str| stream(&format!("server {{ listen 1; {lines} proxy_pass u; }}"));
    assert_eq!(
        lets("deny 10.0.0.5; allow 10.0.0.0/8; deny all;").0,
        ["0.0.0.0:1 allow 10.0.0.0/8 deny 10.0.0.5/32 > a:1"]
    );
    assert_eq!(lets("deny 10.0.0.5; allow all;").0, ["0.0.0.0:1 deny 10.0.0.5/32 > a:1"]);
    for closed in ["deny all;", "deny office;", "js_access a.b;"] {
        let (found, left) = lets(closed);
        assert!(found.is_empty() && left.contains("left out"), "{closed}: {left}");
    }
    for listen in [
        "listen 2 ssl;",
        "listen 2 udp;",
        "listen 2 proxy_protocol;",
        "listen 2-9;",
        "listen unix:/run/x;",
        "listen 127.0.0.1:1;",
    ] {
        let (found, left) = lets(listen);
        assert_eq!(found, ["0.0.0.0:1 > a:1"], "{listen}");
        assert!(left.contains("listen: "), "{listen}: {left}");
    }
}

#[test]
fn a_port_is_one_listeners_alone() {
    let found = valid(
        "http { server { listen 80; listen 127.0.0.1:80; listen 6800; } } stream { server { listen 80; proxy_pass a:1; } server { listen [::]:80; proxy_pass a:1; } }",
        "nginx.conf",
    );
    assert_eq!(lines(&found.left).matches("has the port").count(), 2, "{}", lines(&found.left));
    assert!(found.yaml.contains("port: 6801\n"), "{}", found.yaml);
    let found = valid(
        "listen a\n bind :80\n server s a:1\nlisten b\n mode http\n bind 10.0.0.1:80\n server s a:1",
        "haproxy.cfg",
    );
    assert!(found.yaml.contains("tcp-proxy") && !found.yaml.contains("http:\n"), "{}", found.yaml);
}

#[test]
fn parts_of_a_stream_are_known() {
    let (found, _) = listeners("upstream u { server a:1; }\nserver { listen 1; proxy_pass u; }", "x.conf");
    assert_eq!(found.iter().map(told).collect::<Vec<_>>(), ["0.0.0.0:1 > a:1"]);
}

/// However much there is, it has an end, and is a file of ours.
#[test]
fn much_is_bounded() {
    let mut text = "listen x\n bind :1\n".to_owned();
    for n in 0..9000 {
        let _ = write!(
            text,
            " use_backend b if {{ req.ssl_sni n{n}.x.org }}\n server s{n} 10.0.{}.{}:1\n",
            n / 250,
            n % 250
        );
    }
    let (found, left) = listeners(&format!("{text}backend b\n server s b:1"), "haproxy.cfg");
    assert!(found.is_empty() && left.contains("more than 4096 names"), "{}", &left[..left.len().min(2000)]);
    let servers: String =
        (0..3000).map(|n| format!(" server s{n} 10.0.{}.{}:1\n", n / 250, n % 250)).collect();
    let routes: String = (0..3000)
        .map(|n| format!(" use_backend b if {{ req.ssl_sni n{n}.x.org }} {{ req.ssl_alpn p{n} }}\n"))
        .collect();
    let (found, left) =
        listeners(&format!("frontend f\n bind :1\n{routes}backend b\n{servers}"), "haproxy.cfg");
    assert!(found.is_empty() && left.contains("too many routes and backends"), "{left}");
    let binds: String = (0..100).map(|n| format!(" bind :{}\n", n + 1)).collect();
    let (found, left) = listeners(&format!("listen l\n{binds}{servers}"), "haproxy.cfg");
    assert!(!found.is_empty() && left.contains("too much for one file"));
    let fronts: String =
        (1..40).map(|n| format!("frontend f{n}\n bind :{n}\n default_backend b\n")).collect();
    let text = format!("backend b\n{servers}{fronts}");
    for mode in ["tcp", "http"] {
        let found = valid(&format!("defaults\n mode {mode}\n{text}"), "haproxy.cfg");
        assert!(lines(&found.left).contains("too much for one file"), "{mode}");
    }
}
