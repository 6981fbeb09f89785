//! `app.yaml`.

use super::*;
use crate::{schedule::Times, service_name::ServiceName};
use std::time::Duration;

fn app(text: &str) -> Result<AppYaml, String> {
    let files = Files::new(&[("app.yaml", text)]);
    load_app_yaml(&files.path("app.yaml"), &options()).map_err(|errors| files.shown(&errors.to_string()))
}

#[test]
fn every_key_is_read() {
    let files = Files::new(&[(
        "app.yaml",
        r#"
name: shop
version: 1.2.0
static: htdocs
command: ["./shop", "--port", "${PORT}", "${HOME}"]
listen: unix:${SOCKET}
env: {RUST_LOG: info, WHERE: "${__DIR__}", N: 3}
health: {path: /healthz, interval: 1s, start-timeout: 5m}
instances: 2
stop-timeout: 0
user: shop
memory-max: 256M
processes-max: 20
open-files-max: 1000
prepare: [npm, ci, "--cache=${DATA}"]
prepare-timeout: 1m
session: {session-timeout: 5m}
"#,
    )]);
    let app = load_app_yaml(&files.path("app.yaml"), &options()).unwrap();
    let expected = AppYaml {
        name: Some("shop".to_owned()),
        version: Some("1.2.0".to_owned()),
        static_dir: Some(files.path("htdocs")),
        command: ["./shop", "--port", "${PORT}", "/home/me"].map(str::to_owned).into(),
        listen: Listen::Unix,
        env: vec![
            ("RUST_LOG".to_owned(), "info".to_owned()),
            ("WHERE".to_owned(), files.0.path().display().to_string()),
            ("N".to_owned(), "3".to_owned()),
        ],
        health: Health {
            path: Some("/healthz".to_owned()),
            interval: Duration::from_secs(1),
            start_timeout: Duration::from_secs(300),
        },
        instances: 2,
        stop_timeout: Duration::ZERO,
        user: Some("shop".to_owned()),
        limits: AppLimits { memory: Some(256 << 20), processes: Some(20), open_files: Some(1000) },
        prepare: ["npm", "ci", "--cache=${DATA}"].map(str::to_owned).into(),
        prepare_timeout: Duration::from_secs(60),
        session: SessionOverrides {
            session_timeout: Some(Duration::from_secs(300)),
            ..SessionOverrides::default()
        },
        declared: Declarations::default(),
        declare_at_start: false,
    };
    assert_eq!(app, expected);
}

#[test]
fn daemons_are_called_or_run() {
    let app = app(r#"
command: [./app]
daemons:
  - {name: counter, start: /d/start, stop: /d/stop, lease: 10s, start-timeout: 1s, stop-timeout: 2s}
  - {name: mailer, command: [./mailer, "--data=${DATA}"]}
"#);
    let daemon = |name: &str, run, times: [u64; 3]| {
        let [lease, start_timeout, stop_timeout] = times.map(Duration::from_secs);
        Daemon { name: ServiceName::new(name).unwrap(), run, lease, start_timeout, stop_timeout }
    };
    let called = DaemonRun::Call { start: "/d/start".to_owned(), stop: Some("/d/stop".to_owned()) };
    let process = DaemonRun::Process(["./mailer", "--data=${DATA}"].map(str::to_owned).into());
    let expected = [daemon("counter", called, [10, 1, 2]), daemon("mailer", process, [5, 30, 15])];
    assert_eq!(app.unwrap().declared.daemons, expected);
}

#[test]
fn caches_are_as_they_are_declared() {
    let app =
        app("command: [./app]\ncaches: [{name: a}, {name: b, mode: local, ttl: 1h, idle: 5m}]").unwrap();
    let cache = |name: &str, mode, ttl, idle| {
        let [ttl, idle] = [ttl, idle].map(|it: Option<u64>| it.map(Duration::from_secs));
        DeclaredCache { name: ServiceName::new(name).unwrap(), mode, ttl, idle }
    };
    let expected =
        [cache("a", CacheMode::Distributed, None, None), cache("b", CacheMode::Local, Some(3600), Some(300))];
    assert_eq!(app.declared.caches, expected);
}

#[test]
fn queues_and_jobs_are_as_they_are_declared() {
    let app = app(r#"
command: [./app]
queues:
  - {name: a, path: /on/a}
  - {name: b, path: /on/b, concurrency: 8, timeout: 5m, retry: {attempts: 0, delay: 0s, factor: 1.5, max: 1h}}
topics: [{name: orders, path: /on/order}, {name: orders, path: /bill, durable: billing, concurrency: 2}]
jobs:
  - {name: often, path: /jobs/often, every: 20s}
  - {name: nightly, path: /jobs/nightly, cron: "30 2 * * *", timezone: Europe/Berlin, missed: skip, timeout: 1h}
  - {name: once, path: /jobs/once, at: "2026-12-01T09:00:00+01:00", until: "2026-12-01T09:00:00Z", repeat: 2, missed: all}
"#)
    .unwrap();
    let name = |name: &str| ServiceName::new(name).unwrap();
    let secs = Duration::from_secs;
    let retry = Retry { attempts: 0, delay: secs(0), factor: 1500, max: secs(3600) };
    let first = DeclaredQueue {
        name: name("a"),
        path: "/on/a".into(),
        concurrency: 1,
        timeout: secs(60),
        retry: Retry::default(),
    };
    let second =
        DeclaredQueue { name: name("b"), path: "/on/b".into(), concurrency: 8, timeout: secs(300), retry };
    assert_eq!(app.declared.queues, [first, second]);
    let times: Vec<_> =
        app.declared.jobs.iter().map(|it| (it.times.clone(), it.missed, it.timeout)).collect();
    let cron = Times::Cron { expression: "30 2 * * *".into(), timezone: "Europe/Berlin".into() };
    let expected = [
        (Times::Every(secs(20)), MissedTimes::Once, secs(60)),
        (cron, MissedTimes::Skip, secs(3600)),
        (Times::Once, MissedTimes::All, secs(60)),
    ];
    assert_eq!(times, expected);
    let durable: Vec<_> = app.declared.topics.iter().map(|it| it.durable.clone()).collect();
    assert_eq!(durable, [None, Some(name("billing"))]);
    let once = &app.declared.jobs[2];
    assert_eq!(
        (once.at_ms, once.until_ms, once.repeat),
        (Some(1_796_112_000_000), Some(1_796_115_600_000), 2)
    );
}

#[test]
fn pipelines_have_steps_and_those_of_others() {
    let app = app(r#"
command: [./app]
pipelines:
  - name: notify
    timeout: 5s
    steps: [{name: mail, path: /mail}, {path: /sms, concurrency: 3}]
  - name: orders
    concurrency: 8
    retry: {attempts: 3}
    on-error: /orders/failed
    result-ttl: 10m
    steps:
      - {name: first, path: /check, retry: {attempts: 1}}
      - {path: /charge, timeout: 2m}
      - {name: total, path: /total, join: true}
      - pipeline: notify
"#)
    .unwrap();
    let secs = Duration::from_secs;
    let step =
        |name: &str, path: &str, (concurrency, timeout, attempts): (u32, u64, u32), join| DeclaredStep {
            name: ServiceName::new(name).unwrap(),
            path: path.into(),
            concurrency,
            timeout: secs(timeout),
            retry: Retry { attempts, ..Retry::default() },
            join,
        };
    let orders = DeclaredPipeline {
        name: ServiceName::new("orders").unwrap(),
        steps: vec![
            step("first", "/check", (8, 60, 1), false),
            step("step-2", "/charge", (8, 120, 3), false),
            step("total", "/total", (8, 60, 3), true),
            step("notify.mail", "/mail", (1, 5, 10), false),
            step("notify.step-2", "/sms", (3, 5, 10), false),
        ],
        on_error: Some(step("on-error", "/orders/failed", (8, 60, 3), false)),
        result_ttl: secs(600),
    };
    assert_eq!(app.declared.pipelines[1], orders);
    let notify = &app.declared.pipelines[0];
    assert_eq!((notify.steps.len(), notify.on_error.clone(), notify.result_ttl), (2, None, secs(3600)));
}

/// Each has all those before it, so there would be twice as many steps each time.
#[test]
fn pipelines_of_pipelines_have_an_end() {
    let mut text = "command: [./app]\npipelines:\n  - {name: p0, steps: [{path: /x}]}\n".to_owned();
    for number in 1..50 {
        let before: Vec<_> = (0..number).map(|it| format!("{{pipeline: p{it}}}")).collect();
        text.push_str(&format!("  - {{name: p{number}, steps: [{}]}}\n", before.join(", ")));
    }
    let told = app(&text).unwrap_err();
    assert!(told.contains("more than 500 steps of pipelines in all"), "{told}");
    let many = format!("command: [./app]\npipelines: [{{name: p, steps: [{}]}}]", "{path: /x},".repeat(501));
    assert!(app(&many).unwrap_err().contains("more than 500 steps with this one"));
}

#[test]
fn a_command_is_enough() {
    let app = app("command: [./app]").unwrap();
    assert_eq!((app.listen, app.instances, app.stop_timeout), (Listen::Tcp, 1, Duration::from_secs(15)));
    assert_eq!(
        app.health,
        Health { path: None, interval: Duration::from_secs(5), start_timeout: Duration::from_secs(30) }
    );
    assert_eq!((app.name, app.static_dir, app.env), (None, None, Vec::new()));
    assert_eq!((app.user, app.limits.is_empty(), app.prepare), (None, true, Vec::new()));
    assert_eq!(app.prepare_timeout, Duration::from_secs(300));
}

#[test]
fn faults_are_told_at_once() {
    expect_test::expect_file!["app.expected"].assert_eq(
        &app(r#"
name: "my shop"
static: ../elsewhere
command: ./shop --port 1
listen: http
env: {COPAL_HUB: x, DATA: /d, "a b": 1, KEY: "${COPAL_CLUSTER_KEY}", OTHER: "${NOT_SET}"}
health: {path: healthz, intervall: 5s}
instances: 65
user: root
group: shop
open-files-max: 3
prepare: []
caches: [{name: A}, {name: a, mode: shared}, {name: a}, {name: a, ttl: 0}, {ttl: 1s, tll: 1s}]
import: other.yaml
session: {session-timeout: 5}
topics: [{name: t, path: /t, retry: {attempts: 1}}, {name: t, path: /u}, {name: u, path: /t, durable: A}]
queues: [{name: A, path: x}, {name: a}, {name: a, path: /a, retry: {factor: 0.5, attemps: 1}}, {name: a, path: /b, concurrency: 0}]
jobs:
  - {name: a, path: /a}
  - {name: b, path: /b, cron: nightly, every: 1s}
  - {name: c, path: /c, cron: "* * *"}
  - {name: d, path: /d, cron: "* * * * *", timezone: Mars/Base}
  - {name: e, path: /e, every: 1ms, timezone: UTC}
  - {name: f, path: /f, at: tomorrow, in: 5s, missed: never}
pipelines:
  - {name: a, steps: []}
  - {name: b, on-error: x, result-ttl: 1ms, steps: [{path: /x, join: true}, {name: first, path: /y}, {name: on-error, path: /z}]}
  - {name: c, steps: [{name: s, path: /x}, {name: s, path: /y}, {pipeline: c}, {pipeline: b, path: /x}, {stepp: 1}]}
  - {name: b, steps: [{path: /x}], step: 1}
  - {steps: [/x]}
daemons:
  - {name: Counter, start: d/start}
  - {name: a}
  - {name: b, start: /x, command: [./b]}
  - {name: c, command: [./c], stop: /stop}
  - {name: d, start: /x, lease: 1s}
  - {name: e, start: /x}
  - {name: e, start: /y}
  - {start: /x, leese: 5s}
"#)
        .unwrap_err(),
    );
    assert!(app("").unwrap_err().contains("a `command` to run, a `static` folder to serve, or both"));
    assert!(app("command: []").unwrap_err().contains("`command` is empty"));
    assert!(app("- a").unwrap_err().contains("expected a mapping of keys to values at the top of the file"));
}

/// Whatever they are called, and wherever they stand: in the line with the fault, in a command, in a file that is no YAML.
#[test]
fn no_error_shows_a_secret() {
    for line in [
        "{command: [./app], env: {API_KEY: hush, smtpPass: hush, DATABASE_URL: 'postgres://me:hush@db/x'}, bad: 1}",
        "{command: [./app, --token, hush, '--passwd=hush', 'API_KEY=hush'], bad: 1}",
        "{command: [./app], env: ['API_KEY=hush'], bad: 1}",
        "{command: [./app], env: {STRIPE_KEY: hush, bad: }}}",
        "{command: [./app], listen: 'redis://:hush@cache'}",
    ] {
        let told = app(line).unwrap_err();
        assert!(!told.contains("hush") && told.contains("***"), "{told}");
    }
    let unended = app("{command: [./app, --db-password, hush").unwrap_err();
    assert!(!unended.contains("hush"), "{unended}");
}

#[test]
fn placeholders_are_filled_in_once() {
    let fill = |text| fill_placeholders(text, &[("PORT", "8123"), ("SOCKET", "${PORT}")]);
    assert_eq!(
        fill("--port=${PORT} ${SOCKET} $${PORT} ${OTHER} $x ${"),
        "--port=8123 ${PORT} ${PORT} ${OTHER} $x ${"
    );
}

#[test]
fn a_web_app_has_rights_and_its_apps_may_choose_among_users() {
    let text = "
app-users: [shop, www-data]
web-app-default: {processes-max: 50, confine: full}
clusters:
  - id: c
    servers: [{id: a, address: 127.0.0.1}]
    hosts:
      - id: ''
        web-apps:
          - {id: '', root-directory: app, user: shop, group: '1001', memory-max: 1G, confine: {read: [models], write: [/srv/up]}}
          - {id: /b, root-directory: b, confine: off, open-files-max: 64}
          - {id: /c, root-directory: c}
";
    let files = Files::new(&[("copal.yaml", text), ("parts/key", "")]);
    let config = files.load("copal.yaml", &options()).unwrap().config;
    assert_eq!(config.app_users, ["shop", "www-data"]);
    assert_eq!(config.private_files, [files.path("copal.yaml")]);
    let rights: Vec<_> =
        config.clusters[0].hosts[0].web_apps.iter().map(|web_app| web_app.rights.clone()).collect();
    let limits = AppLimits { processes: Some(50), ..AppLimits::default() };
    let expected = [
        AppRights {
            user: Some("shop".to_owned()),
            group: Some("1001".to_owned()),
            confine: Some(Confine::Full { read: vec![files.path("models")], write: vec!["/srv/up".into()] }),
            limits: AppLimits { memory: Some(1 << 30), ..limits },
        },
        AppRights {
            confine: Some(Confine::Off),
            limits: AppLimits { open_files: Some(64), ..limits },
            ..AppRights::default()
        },
        AppRights {
            confine: Some(Confine::Full { read: Vec::new(), write: Vec::new() }),
            limits,
            ..AppRights::default()
        },
    ];
    assert_eq!(rights, expected);
}

#[test]
fn files_with_keys_are_known() {
    let text = "cluster-key: {file: parts/key}\nimport: parts/more.yaml\nclusters: [{id: c, servers: [{id: a, address: 127.0.0.1}]}]\n";
    let key = "Qx7vN2kZt9wLb4RfYs8HcJ3mPd6gVeUa";
    let files =
        Files::new(&[("copal.yaml", text), ("parts/key", key), ("parts/more.yaml", "data-dir: data")]);
    let config = files.load("copal.yaml", &options()).unwrap().config;
    assert_eq!(
        config.private_files,
        ["parts/key", "copal.yaml", "parts/more.yaml"].map(|name| files.path(name))
    );
}

#[test]
fn a_process_declares_what_a_file_could() {
    let text = "queues: [{name: a, path: /on/a}]\njobs: [{name: b, path: /b, every: 5s}]\ndaemons: [{name: c, start: /c}]";
    let file = app(&format!("command: [./app]\n{text}")).unwrap();
    let told = read_declarations(
        "/v1/app",
        r#"{"queues": [{"name": "a", "path": "\/on/a"}],
	"jobs": [{"name": "b",	"path": "/b", "every": "5s"}], "daemons": [{"name": "c", "start": "/c"}]}"#,
    );
    assert_eq!(told.unwrap(), file.declared);
    assert_eq!(read_declarations("/v1/app", "{}").unwrap(), Declarations::default());
    // Whatever order it is told in.
    let [one, other] = [["a", "b"], ["b", "a"]].map(|names| {
        let queues = names.map(|it| format!("{{\"name\": \"{it}\", \"path\": \"/{it}\"}}")).join(",");
        read_declarations("/v1/app", &format!("{{\"queues\": [{queues}]}}")).unwrap()
    });
    assert_eq!(one, other);
    let process =
        read_declarations("/v1/app", r#"{"daemons": [{"name": "a", "command": ["./a", "${DATA}"]}]}"#);
    let run = DaemonRun::Process(["./a", "${DATA}"].map(str::to_owned).into());
    assert_eq!(process.unwrap().daemons[0].run, run);
    let errors = |text: &str| read_declarations("/v1/app", text).unwrap_err().to_string();
    for (text, expected) in [
        (r#"{"command": ["a"]}"#, "unknown key `command` in what an app declares"),
        (r#"{"queues": [{"name": "a", "path": "${HOME}"}]}"#, "HOME"),
        (r#"{"queues": {"import": "x.yaml"}}"#, "--> /v1/app:1:12"),
    ] {
        assert!(errors(text).contains(expected), "{text}: {}", errors(text));
    }
}

#[test]
fn a_file_or_a_process_declares_it() {
    let declares = app("command: [./app]\ndeclare-at-start: true").unwrap();
    assert!(declares.declare_at_start && declares.declared == Declarations::default());
    let both = app("command: [./app]\ndeclare-at-start: true\njobs: [{name: b, path: /b, every: 5s}]");
    let both = both.unwrap_err();
    assert!(
        both.contains("`jobs`: its process declares them when it starts") && both.contains("app.yaml:3:1"),
        "{both}"
    );
}
