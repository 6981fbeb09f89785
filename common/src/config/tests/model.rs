//! What files come to: defaults, places, ports, the triad, topology.

use super::*;
use crate::id::{ServerId, ServerIndex};
use std::time::Duration;

/// One server, everything by default.
const SMALLEST: &str = "clusters: [{id: c, servers: [{id: a, address: 127.0.0.1}]}]";

#[test]
fn the_smallest_file_has_every_default() {
    let loaded = load_text(SMALLEST).unwrap();
    assert_eq!(loaded.warnings, []);
    let config = loaded.config;
    assert_eq!(config.data_dir, Path::new("/var/lib/copal"));
    assert_eq!(config.heartbeat_interval, Duration::from_secs(10));
    assert_eq!(config.dependency_check_interval, None);
    let memory = SessionMemory { max: None, app_max: None, first_timeout: Duration::from_secs(120) };
    assert_eq!(config.session_memory, memory);
    assert_eq!(config.triad, [ServerId::from("a")]);
    assert!(config.cluster_key.bytes().is_empty());
    let (cluster, server) = config.server(&"a".into()).unwrap();
    assert_eq!((cluster.session_cookie.as_str(), cluster.workers), ("JSESSIONID", None));
    assert_eq!((server.index, server.port, server.weight), (ServerIndex(0), 6800, 100));
    assert_eq!((server.connection_max, server.http.len()), (1024, 0));
    let times = [
        (server.connect_timeout, 5),
        (server.balance_socket_timeout, 600),
        (server.balance_idle_time, 5),
        (server.recover_time, 15),
        (server.busy_recover_time, 15),
        (server.warmup_time, 60),
        (server.queue_timeout, 5),
        (server.keepalive_timeout, 15),
        (server.socket_timeout, 65),
        (server.request_header_timeout, 10),
        (server.shutdown_wait_max, 15),
    ];
    assert_eq!(server.request_limits.rate_min.map(u32::from), Some(240));
    assert!(times.iter().all(|(time, seconds)| *time == Duration::from_secs(*seconds)), "{times:?}");
}

/// One given key must not make the default of another wrong.
#[test]
fn defaults_give_way_to_what_is_given_beside_them() {
    let text = "clusters:
- id: c
  servers:
  - {id: a, address: 127.0.0.1, http: [{port: 80}, {port: 80, address: '::'}], keepalive-timeout: 4s, header-max: {bytes: 8K}}
  hosts:
  - id: ''
    dispatch:
    - http-proxy: {backends: [{address: 'http://10.0.0.1'}], health-check: {interval: 1s}}
";
    let config = load_text(text).unwrap().config;
    let (cluster, server) = config.server(&"a".into()).unwrap();
    assert_eq!(server.balance_idle_time, Duration::from_secs(2));
    assert_eq!((server.request_limits.header_bytes, server.request_limits.uri), (8192, 8192));
    assert_eq!(server.http.len(), 2, "IPv4 and IPv6 on one port");
    let Action::HttpProxy(rule) = &cluster.hosts[0].dispatch[0].action else { panic!("another rule") };
    let check = rule.health_check.as_ref().unwrap();
    assert_eq!((check.timeout, check.interval), (Duration::from_secs(1), Duration::from_secs(1)));
    assert!(rule.idle_time < Duration::from_secs(5), "Node, uvicorn and Apache close after 5 s");
}

#[test]
fn one_family_on_one_port_is_listened_on_once() {
    let refused = |other: &str| {
        let http = format!("[{{port: 80, address: '::'}}, {{port: 80, address: '{other}'}}]");
        load_text(&format!("clusters: [{{id: c, servers: [{{id: a, address: 127.0.0.1, http: {http}}}], hosts: [{{id: '', dispatch: [{{not-found: {{}}}}]}}]}}]")).is_err()
    };
    assert!(refused("::") && refused("::1") && refused("2001:db8::1") && refused("www.example.com"));
    assert!(!refused("0.0.0.0") && !refused("127.0.0.1") && !refused("192.0.2.1"));
}

#[test]
fn the_memory_of_sessions_may_be_bounded() {
    let text = "session-memory-max: 2G\napp-session-memory-max: 512M\nsession-first-timeout: 0";
    let memory = load_text(&format!("{text}\n{SMALLEST}")).unwrap().config.session_memory;
    let expected =
        SessionMemory { max: Some(2 << 30), app_max: Some(512 << 20), first_timeout: Duration::ZERO };
    assert_eq!(memory, expected);
}

#[test]
fn a_file_may_be_looked_at_now_and_then() {
    let looked_at =
        |line: &str| load_text(&format!("{line}\n{SMALLEST}")).unwrap().config.dependency_check_interval;
    assert_eq!(looked_at("dependency-check-interval: 2s"), Some(Duration::from_secs(2)));
    assert_eq!(looked_at("heartbeat-interval: 2s"), None);
}

#[test]
fn the_examples_are_read_as_meant() {
    let config = load(&Path::new(CONF).join("three-clusters.yaml"), &options()).unwrap().config;
    assert_eq!(config.triad.iter().map(ServerId::as_str).collect::<Vec<_>>(), ["web-a", "foo-a", "bar-a"]);
    assert_eq!(
        config.hub().iter().map(|it| it.cluster_address()).collect::<Vec<_>>(),
        ["192.168.0.1:6800", "192.168.0.10:6800", "192.168.0.20:6800"]
    );
    let web = config.cluster(&"web-tier".into()).unwrap();
    assert_eq!(web.servers[1].http[0].address, "0.0.0.0");
    let log = web.access_log.as_ref().unwrap();
    assert_eq!(log.format, AccessLogFormat::Json);
    let own = log.of(&"web-b".into());
    assert_eq!(own.path.as_deref(), Some(Path::new("/var/log/copal/web-b.log")));
    assert_eq!(config.cluster(&"foo-tier".into()).unwrap().access_log, None);
    assert_eq!(web.servers[1].connect_timeout, Duration::from_secs(2));
    assert_eq!(web.hosts[0].aliases, ["www.example.com"]);
    let rules: Vec<_> =
        web.hosts[0].dispatch.iter().map(|rule| rule.regexp.as_ref().map(regex::Regex::as_str)).collect();
    assert_eq!(rules, [Some("^/foo(/|$)"), Some(r"\.(png|gif|jpg)$"), None]);
    let Action::LoadBalance(last) = &web.hosts[0].dispatch[2].action else {
        panic!("the last rule balances")
    };
    assert_eq!(
        (last.cluster.as_str(), last.strategy, last.sticky_sessions, last.session_url),
        ("bar-tier", Strategy::LeastConnection, true, false)
    );
    let bar = &config.cluster(&"bar-tier".into()).unwrap().hosts[0].web_apps[0];
    assert_eq!(bar.session.session_timeout, Duration::from_secs(3600));
    assert_eq!(bar.session.save_mode, SaveMode::AfterRequest);
}

#[test]
fn an_access_log_is_relative_to_its_file_and_inherited() {
    let text = "cluster-default: {access-log: {path: 'logs/${cluster.id}.log'}}
clusters:
  - {id: c, servers: [{id: a, address: 127.0.0.1}]}
  - {id: d, access-log: {format: common}, servers: [{id: b, address: 127.0.0.1, port: 6801}]}";
    let files = Files::new(&[("copal.yaml", text)]);
    let config = files.load("copal.yaml", &options()).unwrap().config;
    let logs: Vec<_> = config.clusters.iter().map(|it| it.access_log.clone().unwrap()).collect();
    let log = |name: &str, format| AccessLog::to_file(files.path(name), format);
    assert_eq!(logs[0], log("logs/c.log", AccessLogFormat::Combined));
    assert_eq!(logs[1], log("logs/d.log", AccessLogFormat::Common));
}

#[test]
fn every_key_of_an_access_log_is_read() {
    let text = r#"
clusters:
  - id: c
    access-log:
      format: '$remote-addr "$request" $status'
      syslog: {address: 'tcp://[::1]:601', facility: local3, app-name: 'web-${server.id}'}
      sample: 0.1
      slow: 250ms
      errors: {path: 'logs/${server.id}-errors.log'}
    servers: [{id: a, address: 127.0.0.1}]
  - id: d
    access-log: {path: log, syslog: {address: 'unix:/dev/log'}}
    servers: [{id: b, address: 127.0.0.1, port: 6801}]"#;
    let files = Files::new(&[("copal.yaml", text)]);
    let config = files.load("copal.yaml", &options()).unwrap().config;
    let log = config.clusters[0].access_log.as_ref().unwrap().of(&"a".into());
    assert!(matches!(&log.format, AccessLogFormat::Own(own) if own.pieces.len() == 5), "{log:?}");
    let syslog = log.syslog.as_ref().unwrap();
    assert_eq!((syslog.address.to_string().as_str(), syslog.facility), ("tcp://[::1]:601", 19));
    assert_eq!((syslog.app_name.as_str(), log.path.as_ref()), ("web-a", None));
    assert_eq!((log.sampled_ppm, log.slow), (100_000, Duration::from_millis(250)));
    assert_eq!(log.errors, Some(files.path("logs/a-errors.log")));
    let other = config.clusters[1].access_log.as_ref().unwrap();
    let syslog = other.syslog.as_ref().unwrap();
    assert_eq!((syslog.address.to_string().as_str(), syslog.facility), ("unix:/dev/log", 23));
    assert!(syslog.app_name == "copal" && !other.samples() && other.path.is_some());
}

#[test]
fn every_session_key_is_read() {
    let text = r#"
clusters:
  - id: c
    workers: 3
    servers: [{id: a, address: 127.0.0.1, http: [{port: 8080}]}]
    hosts:
      - id: ""
        web-apps:
          - id: /
            root-directory: htdocs/./shop
            session-config:
              use-persistent-store: false
              always-save-session: true
              session-timeout: 0
              session-max: 10
              save-mode: on-shutdown
              reuse-session-id: false
              save-timeout: 250ms
              on-hub-loss: fail
              cookie: {path: /shop, domain: .example.com, secure: true, http-only: false, same-site: strict, max-age: 1W}
"#;
    let files = Files::new(&[("copal.yaml", text)]);
    let config = files.load("copal.yaml", &options()).unwrap().config;
    assert_eq!(config.clusters[0].workers.map(std::num::NonZero::get), Some(3));
    let app = &config.clusters[0].hosts[0].web_apps[0];
    assert_eq!(app.id, "");
    assert_eq!(app.content, Content::Folder(files.path("htdocs/shop")));
    let expected = SessionConfig {
        use_persistent_store: false,
        always_save_session: true,
        session_timeout: Duration::ZERO,
        session_max: 10,
        save_mode: SaveMode::OnShutdown,
        reuse_session_id: false,
        save_timeout: Duration::from_millis(250),
        on_hub_loss: OnHubLoss::Fail,
        cookie: CookieConfig {
            path: "/shop".to_owned(),
            domain: Some(".example.com".to_owned()),
            secure: CookieSecure::Always,
            http_only: false,
            same_site: SameSite::Strict,
            max_age: Some(Duration::from_secs(604_800)),
        },
    };
    assert_eq!(app.session, expected);
}

#[test]
fn the_port_offset_moves_every_port() {
    let text = "clusters: [{id: c, servers: [{id: a, address: 127.0.0.1, http: [{port: 80}]}, \
        {id: b, address: '::1', port: 6801}], hosts: [{id: '', web-apps: [{id: '', root-directory: /srv}]}]}]";
    let files = Files::new(&[("copal.yaml", text)]);
    let moved = LoadOptions { port_offset: 1000, ..options() };
    let config = files.load("copal.yaml", &moved).unwrap().config;
    let servers = &config.clusters[0].servers;
    assert_eq!((servers[0].port, servers[0].http[0].port), (7800, 1080));
    assert_eq!(servers[1].cluster_address(), "[::1]:7801");
    let far = LoadOptions { port_offset: 60_000, ..options() };
    let errors = files.load("copal.yaml", &far).unwrap_err();
    assert!(
        errors.contains("port 6800 with the port offset 60000 is 66800: expected at most 65535"),
        "{errors}"
    );
    assert!(errors.contains("port 6801 with the port offset"), "{errors}");
}

#[test]
fn data_dir_is_relative_to_the_file_and_overridden() {
    let files = Files::new(&[("a.yaml", &format!("data-dir: ../data\n{SMALLEST}"))]);
    let config = files.load("a.yaml", &options()).unwrap().config;
    assert_eq!(config.data_dir, files.path("../data"));
    let other = LoadOptions { data_dir: Some("/tmp/elsewhere".into()), ..options() };
    assert_eq!(files.load("a.yaml", &other).unwrap().config.data_dir, Path::new("/tmp/elsewhere"));
}

#[test]
fn a_cluster_key_comes_from_a_file_too() {
    let text = format!("cluster-key: {{file: keys/cluster.key}}\n{SMALLEST}");
    let files = Files::new(&[("a.yaml", &text), ("keys/cluster.key", "0123456789abcdef\n")]);
    assert_eq!(files.load("a.yaml", &options()).unwrap().config.cluster_key.bytes(), b"0123456789abcdef");
    fs::write(files.path("keys/cluster.key"), "hidden\n").unwrap();
    let errors = files.load("a.yaml", &options()).unwrap_err();
    assert!(errors.contains("the cluster key has 6 bytes: expected at least 16"), "{errors}");
    assert!(!errors.contains("hidden"), "{errors}");
}

#[test]
fn the_triad_is_the_first_three_servers() {
    let servers = |range: std::ops::Range<u16>| {
        let server = |n| format!("{{id: s{n}, address: 127.0.0.1, port: {}}}", 7000 + n);
        range.map(server).collect::<Vec<_>>().join(", ")
    };
    let text = format!(
        "clusters: [{{id: c, servers: [{}]}}, {{id: d, servers: [{}]}}]",
        servers(0..2),
        servers(2..5)
    );
    let loaded = load_text(&text).unwrap();
    assert_eq!(loaded.config.triad.iter().map(ServerId::as_str).collect::<Vec<_>>(), ["s0", "s1", "s2"]);
    assert_eq!(loaded.warnings, []);
    let loaded = load_text(&format!("clusters: [{{id: c, servers: [{}]}}]", servers(0..2))).unwrap();
    assert_eq!(loaded.config.triad.len(), 2);
    assert_eq!(loaded.warnings.len(), 1);
    assert!(loaded.warnings[0].to_string().starts_with("warning: two hub servers cannot outvote a failure"));
}

#[test]
fn dubious_files_load_with_warnings() {
    let text = r#"
clusters:
  - id: web
    servers: [{id: w, address: 127.0.0.1, http: [{port: 8080}]}]
    hosts:
      - id: ""
        dispatch:
          - load-balance: {cluster: bare}
          - load-balance: {regexp: /late, cluster: bare}
      - id: silent.example.com
  - id: bare
    servers: [{id: b, address: 127.0.0.1, port: 6801}]
  - id: lonely
    servers: [{id: l, address: 127.0.0.1, port: 6802}]
    hosts:
      - id: ""
        web-apps: [{id: "", root-directory: /srv}]
"#;
    let loaded = load_text(text).unwrap();
    let told: Vec<_> = loaded.warnings.iter().map(|it| (it.line(), it.column(), it.message())).collect();
    assert_eq!(
        told,
        [
            (8, 37, "the cluster `bare` has no web-apps: every request sent to it is answered 404"),
            (9, 13, "this rule is never reached: the one before it takes every request"),
            (9, 52, "the cluster `bare` has no web-apps: every request sent to it is answered 404"),
            (10, 9, "this host has neither `web-apps` nor `dispatch`: every request to it is answered 404"),
            (
                13,
                9,
                "nothing reaches the web-apps of the cluster `lonely`: no `http` listener, and no `load-balance` names it"
            ),
        ]
    );
}

#[test]
fn every_rule_is_read() {
    let config = load(&Path::new(CONF).join("rules.yaml"), &options()).unwrap().config;
    let hosts = &config.clusters[0].hosts;
    let action = |host: usize, rule: usize| &hosts[host].dispatch[rule].action;
    assert!(
        matches!(action(0, 2), Action::Forward(target) if target.path == [Piece::Text("/index.html".to_owned())])
    );
    assert!(matches!(action(0, 1), Action::Error(error) if error.code == 503));
    let Action::Maintenance(closed) = action(1, 0) else {
        panic!("the default host has a quarter of an hour")
    };
    assert_eq!((closed.status, closed.retry_after), (503, Duration::from_secs(900)));
    let page = |status| hosts[0].error_pages.file(status).map(|it| it.path.file_name().unwrap().to_owned());
    assert_eq!((page(404), page(502)), (Some("404.html".into()), Some("sorry.html".into())));
    assert!(page(400).is_none() && !hosts[0].error_pages.for_servers);
    let Some(Condition::And(all)) = &hosts[0].dispatch[1].condition else {
        panic!("several keys are all meant")
    };
    assert!(matches!(&all[0], Condition::FileExists(FileExists::At(path)) if path == "/closed.html"));
    let Condition::Not(not) = &all[1] else { panic!("not") };
    assert!(matches!(&**not, Condition::Or(either) if either.len() == 2));
    assert!(matches!(&all[3], Condition::Header(named) if named.name == "accept" && named.regexp.is_some()));
    let edits = [
        (3, HeaderEditKind::SetOnAnswer, "x-content-type-options", "nosniff"),
        (4, HeaderEditKind::AddToAnswer, "cache-control", "public, max-age=86400"),
        (5, HeaderEditKind::SetOnRequest, "host", "legacy.example.com"),
    ];
    for (at, kind, name, value) in edits {
        let Action::Header(edit) = action(0, at) else { panic!("{at} changes a header") };
        assert_eq!((edit.kind, edit.name.as_str(), edit.fixed()), (kind, name, Some(value)));
    }
    for (at, status) in [(6, 302), (7, 301)] {
        assert!(matches!(action(0, at), Action::Redirect(redirect) if redirect.status == status), "{at}");
    }
    let errors: Vec<_> = (8..12)
        .map(|at| match action(0, at) {
            Action::Error(error) => (error.code, error.message.is_some()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(errors, [(403, false), (404, false), (410, true), (503, false)]);
    assert!(matches!(action(0, 12), Action::Dispatch));
    assert!(matches!(&hosts[1].dispatch[2].condition, Some(Condition::And(both)) if both.len() == 2));
}

#[test]
fn rules_for_servers_that_are_not_ours_are_read() {
    let config = load(&Path::new(CONF).join("rules.yaml"), &options()).unwrap().config;
    let action = |rule: usize| &config.clusters[0].hosts[0].dispatch[rule].action;
    let Action::HttpProxy(proxy) = action(13) else { panic!("http-proxy") };
    let check = HealthCheck { question: HealthQuestion::get("/healthz"), ..HealthCheck::default() };
    let backend = |host: &str, weight| Backend {
        at: BackendAddress::Host { host: host.to_owned(), port: 8080 },
        protocol: BackendProtocol::Http1,
        tls: false,
        backup: false,
        weight,
    };
    let expected = HttpProxy {
        backends: vec![backend("10.1.0.5", 200), backend("10.1.0.6", 100)],
        health_check: Some(check),
        cookie: StickyCookie::Session("PHPSESSID".to_owned()),
        strategy: Strategy::LeastConnection,
        connect_timeout: Duration::from_secs(2),
        socket_timeout: Duration::from_secs(60),
        ..HttpProxy::default()
    };
    assert_eq!(**proxy, expected);
    let Action::HttpProxy(grpc) = action(14) else { panic!("http-proxy") };
    let at = |it: &Backend| matches!(it.at, BackendAddress::Host { port: 50_051, .. });
    assert!(grpc.backends.iter().all(|it| it.protocol == BackendProtocol::Http2 && at(it)));
    let asked = grpc.health_check.as_ref().map(|it| it.question.clone());
    assert_eq!(asked, Some(HealthQuestion::Grpc { service: "shop.v1.Orders".to_owned(), host: None }));
}

#[test]
fn a_unix_socket_is_found_from_the_file_that_names_it() {
    let file = |address: &str| {
        format!(
            "clusters: [{{id: c, servers: [{{id: a, address: 127.0.0.1, http: [{{port: 8080}}]}}], hosts: \
             [{{id: '', dispatch: [{{http-proxy: {{import: parts/app.yaml, backends: [{{address: '{address}'}}]}}}}]}}]}}]"
        )
    };
    let backends = |text: &str, part: &str| {
        let files = Files::new(&[("copal.yaml", text), ("parts/app.yaml", part)]);
        let config = files.load("copal.yaml", &options()).map(|it| it.config);
        config.map(|config| {
            let Action::HttpProxy(proxy) = &config.clusters[0].hosts[0].dispatch[0].action else { panic!() };
            let of = |it: &Backend| (files.shown(&it.name()), it.protocol, it.authority());
            (proxy.backends.iter().map(of).collect::<Vec<_>>(), files.shown(&config.effective))
        })
    };
    let read = |address: &str| backends(&file(address), "strategy: adaptive").unwrap().0.remove(0);
    let http1 = |name: &str| (name.to_owned(), BackendProtocol::Http1, "localhost".to_owned());
    assert_eq!(read("unix:/run/app.sock"), http1("unix:/run/app.sock"));
    assert_eq!(read("unix:///run/./app.sock"), http1("unix:/run/app.sock"));
    assert_eq!(read("unix:run/app.sock"), http1("unix:run/app.sock"), "in the folder of the file");
    let http2 = ("unix:/run/app.sock".to_owned(), BackendProtocol::Http2, "localhost".to_owned());
    assert_eq!(read("h2c+unix:/run/app.sock"), http2);
    let imported = file("x").replace(", backends: [{address: 'x'}]", "");
    let (read, effective) = backends(&imported, "backends: [{address: 'h2c+unix:app.sock'}]").unwrap();
    assert_eq!(read[0].0, "unix:parts/app.sock", "in the folder of the imported file");
    assert!(effective.contains("address: h2c+unix:parts/app.sock"), "{effective}");
    for (address, why) in [
        ("unix:", "expected the path of a Unix socket, such as unix:/run/app.sock, found `unix:`"),
        ("unix:run/", "expected the path of a Unix socket, such as unix:/run/app.sock, found `unix:run/`"),
        ("unix://run/app.sock", "`unix://run/app.sock` has two slashes before the path of a Unix socket"),
        ("https+unix:/run/app.sock", "srv:NAME of a service in DNS, found `https+unix:"),
        ("http://unix:/run/app.sock", "has no scheme before it: expected `unix:/run/app.sock`, found"),
        ("http://unix:/run/app.sock:/api/", "expected `unix:/run/app.sock`, found"),
        ("srv:_http._tcp.shop.internal:80", "expected `srv:_http._tcp.shop.internal` without one"),
    ] {
        let errors = backends(&file(address), "strategy: adaptive").unwrap_err();
        assert!(errors.contains(why), "{errors}");
    }
    let long = format!("unix:/{}", "s".repeat(107));
    let errors = messages(&file(&long).replace("import: parts/app.yaml, ", ""));
    let why = format!("the path of a Unix socket has at most 107 bytes, `/{}` has 108", "s".repeat(107));
    assert!(errors[0].starts_with(&why[..60]) && errors[0].ends_with("has 108"), "{errors:?}");
}

#[test]
fn a_service_is_read_with_its_name_servers() {
    let rule = |text: &str| {
        let text = format!(
            "clusters: [{{id: c, servers: [{{id: a, address: 127.0.0.1, http: [{{port: 8080}}]}}], hosts: \
             [{{id: '', dispatch: [{{http-proxy: {text}}}]}}]}}]"
        );
        let config = load_text(&text).unwrap().config;
        let Action::HttpProxy(proxy) = &config.clusters[0].hosts[0].dispatch[0].action else { panic!() };
        (**proxy).clone()
    };
    let service = |prefix: &str, more: &str| {
        let read = rule(&format!("{{backends: [{{address: '{prefix}_HTTP._tcp.Shop.internal.'}}]{more}}}"));
        assert_eq!(read.backends[0].name(), "srv:_http._tcp.shop.internal");
        (read.backends[0].protocol, read.backends[0].tls, read.resolver)
    };
    let tls = ", tls: {server-name: shop.internal}";
    assert_eq!(service("srv:", ""), (BackendProtocol::Http1, false, Vec::new()));
    let ours = vec!["10.0.0.2:53".parse().unwrap(), "[::1]:8600".parse().unwrap()];
    let read = service("h2c+srv:", ", resolver: [10.0.0.2, '[::1]:8600']");
    assert_eq!(read, (BackendProtocol::Http2, false, ours));
    let read = service("https+srv:", &format!("{tls}, resolver: 10.0.0.2"));
    assert_eq!(read, (BackendProtocol::Http1, true, vec!["10.0.0.2:53".parse().unwrap()]));
    assert_eq!(service("h2+srv:", tls), (BackendProtocol::Http2, true, Vec::new()));
}

#[test]
fn a_sticky_cookie_is_a_name_or_a_name_with_attributes() {
    let cookie = |rule: &str| {
        let text = format!(
            "clusters: [{{id: c, servers: [{{id: a, address: 127.0.0.1, http: [{{port: 8080}}]}}], \
             hosts: [{{id: '', dispatch: [{{load-balance: {{cluster: c, {rule}}}}}]}}]}}]"
        );
        let config = load_text(&text).unwrap().config;
        match &config.clusters[0].hosts[0].dispatch[0].action {
            Action::LoadBalance(rule) => rule.cookie.clone(),
            other => panic!("{other:?}"),
        }
    };
    let inserted = |attributes| StickyCookie::Inserted { name: "SRV".to_owned(), attributes };
    assert_eq!(cookie("strategy: adaptive"), StickyCookie::None);
    assert_eq!(cookie("session-cookie: SID"), StickyCookie::Session("SID".to_owned()));
    assert_eq!(cookie("insert-cookie: SRV"), inserted(CookieConfig::default()));
    let attributes = "path: /a, domain: a.b, secure: true, http-only: false, same-site: none, max-age: 1h";
    let expected = CookieConfig {
        path: "/a".to_owned(),
        domain: Some("a.b".to_owned()),
        secure: CookieSecure::Always,
        http_only: false,
        same_site: SameSite::None,
        max_age: Some(Duration::from_secs(3600)),
    };
    assert_eq!(cookie(&format!("insert-cookie: {{name: SRV, {attributes}}}")), inserted(expected));
}

#[test]
fn a_local_port_moves_with_its_listener() {
    let text = "clusters: [{id: c, servers: [{id: a, address: 127.0.0.1, http: [{port: 8080}]}], \
        hosts: [{id: '', dispatch: [{forbidden: {if: {local-port: 8080}}}]}]}]";
    let moved = LoadOptions { port_offset: 1000, ..options() };
    let config = Files::new(&[("a.yaml", text)]).load("a.yaml", &moved).unwrap().config;
    let condition = config.clusters[0].hosts[0].dispatch[0].condition.as_ref();
    assert!(matches!(condition, Some(Condition::LocalPort(ports)) if ports == &[9080]), "{condition:?}");
}

#[test]
fn a_rule_that_takes_all_ends_the_list_and_one_that_changes_a_header_does_not() {
    let warnings = |rules: &str| {
        let text = format!(
            "clusters: [{{id: c, servers: [{{id: a, address: 127.0.0.1, http: [{{port: 8080}}]}}], \
             hosts: [{{id: '', dispatch: [{rules}]}}]}}]"
        );
        let loaded = load_text(&text).unwrap();
        loaded.warnings.iter().map(|it| it.message().to_owned()).collect::<Vec<_>>()
    };
    let unreached = "this rule is never reached: the one before it takes every request";
    assert_eq!(warnings("{forbidden: {}}, {not-found: {regexp: a}}"), [unreached]);
    assert_eq!(warnings("{forbidden: {if: {secure: false}}}, {not-found: {}}"), [""; 0]);
    assert_eq!(warnings("{set-header: {name: a, value: b}}, {not-found: {}}"), [""; 0]);
    assert_eq!(
        warnings("{dispatch: {}}"),
        ["this host has no web-apps: what `dispatch` takes is answered 404"]
    );
}

#[test]
fn the_topology_is_compared_by_a_number_that_never_changes() {
    let hash = |text: &str| topology_hash(&load_text(text).unwrap().config);
    let text = "clusters: [{id: c, servers: [{id: a, address: 127.0.0.1}, {id: b, address: 127.0.0.1, port: 6801}]}]";
    let mixed = "clusters: [{id: c, servers: [{id: b, address: 127.0.0.1, port: 6801}, {id: a, address: 127.0.0.1}]}]";
    assert_eq!(hash(text), hash(&text.replace("id: a", "load-balance-weight: 7, id: a")));
    let others = [mixed.to_owned(), text.replace("6801", "6802"), format!("triad: [a]\n{text}")];
    assert!(others.iter().all(|other| hash(other) != hash(text)));
    expect_test::expect!["f9f420b6c74633f5"].assert_eq(&format!("{:016x}", hash(text)));
}

#[test]
fn a_cluster_holds_no_more_servers_than_a_session_id_can_name() {
    let servers: Vec<_> =
        (0..4097).map(|n| format!("{{id: s{n}, address: 127.0.0.1, port: {}}}", 1000 + n)).collect();
    let text = format!("clusters: [{{id: c, servers: [{}]}}]", servers.join(", "));
    assert_eq!(messages(&text), ["a cluster has at most 4096 servers, this one has 4097"]);
}
