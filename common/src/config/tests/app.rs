//! `app.yaml`.

use super::*;
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
        session: SessionOverrides {
            session_timeout: Some(Duration::from_secs(300)),
            ..SessionOverrides::default()
        },
    };
    assert_eq!(app, expected);
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
}

#[test]
fn faults_are_told_at_once() {
    expect_test::expect_file!["app.expected"].assert_eq(
        &app(r#"
name: "my shop"
static: ../elsewhere
command: ./shop --port 1
listen: http
env: {COPAL_HUB: x, "a b": 1, KEY: "${COPAL_CLUSTER_KEY}", OTHER: "${NOT_SET}"}
health: {path: healthz, intervall: 5s}
instances: 65
caches: []
import: other.yaml
session: {session-timeout: 5}
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
