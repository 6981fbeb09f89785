//! `prepare` on whole servers: who runs it, where its words go, and that a version which it fails is used nowhere.

use super::{Deploying, Version, python};
use crate::{cluster::Cluster, tell::tell};
use rustix::process::geteuid;
use std::{fs, fs::Permissions, os::unix::fs::PermissionsExt, process::Command};

/// Says whether it gets to the app API.
const CALLER: &str = "import http.server, os, socket
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            socket.socket(socket.AF_UNIX).connect(os.environ['COPAL_HUB'])
            said = b'connected'
        except OSError as error:
            said = type(error).__name__.encode()
        self.send_response(200)
        self.send_header('content-length', str(len(said)))
        self.end_headers()
        self.wfile.write(said)
    def log_message(self, *_):
        pass
http.server.HTTPServer(('127.0.0.1', int(os.environ['PORT'])), Handler).serve_forever()
";

/// An app with a user of its own gets to the app API, whatever it listens on.
async fn an_app_reaches_the_app_api(deploying: &Deploying) {
    let Some(python) = python() else { return };
    let yaml = format!(
        "name: caller\ncommand: [{python}, -B, caller.py]\nhealth: {{path: /, start-timeout: 30s}}\n"
    );
    let version = deploying.files("caller", &[("caller.py", CALLER), ("app.yaml", &yaml)]);
    deploying.deploy(&version, "").await;
    for server in 0..2 {
        assert_eq!(deploying.get_of(server, "/caller/").await.body, "connected");
    }
}

/// Files alone, made ready by a script of sh that has no `'` in it.
fn site(deploying: &Deploying, version: &str, script: &str, lines: &str) -> Version {
    let yaml = format!("name: site\nstatic: htdocs\nprepare: [sh, -c, '{script}']\n{lines}\n");
    deploying.files(version, &[("htdocs/index.html", version), ("app.yaml", &yaml)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_is_prepared_by_its_user_within_its_time_or_not_used() {
    // The system counts a user's processes wherever they are: one that nobody else has.
    let user = geteuid().is_root().then(|| 1_500_000_000 + std::process::id());
    let mut cluster = Cluster::prepare(2, |configuration| {
        super::with_deployments(configuration);
        if let Some(user) = user {
            configuration.host.push(format!("web-app-default: {{user: {user}, group: {user}}}"));
        }
    });
    fs::set_permissions(cluster.folder(), Permissions::from_mode(0o711)).unwrap();
    cluster.start_all().await;
    let deploying = Deploying { cluster };
    let me = user.unwrap_or_else(|| geteuid().as_raw());
    if user.is_none() {
        tell("skipped preparing as the app's user: only root can");
    }
    let script = "echo prepared by $(id -u) with $(printenv PORT || echo no) port; id -u > htdocs/made; echo x >> $DATA/times";
    deploying.deploy(&site(&deploying, "one", script, ""), "").await;
    for (server, name) in ["app-a", "app-b"].into_iter().enumerate() {
        assert_eq!(deploying.get_of(server, "/site/made").await.body, format!("{me}\n"));
        let log = deploying.log(name);
        assert!(log.contains(&format!("prepared by {me} with no port")), "{name}: {log}");
    }
    let list = deploying.tool("list").await.succeeds();
    let goes_on = "is not deployed, what was in use goes on";

    let script = "test $COPAL_SERVER = app-a || { echo no network in sight; echo giving up; exit 3; }";
    let said = deploying.tool(&format!("deploy {}", site(&deploying, "two", script, "").0.display())).await;
    let words = ["app-b: preparing: prepare [\"sh\"", "exit status: 3", "no network in sight\n  giving up"];
    said.fails_with(1, &words);
    said.fails_with(1, &[goes_on]);
    assert!(!said.stderr.contains("app-a: preparing: "), "{said:?}");

    let endless = site(&deploying, "three", "echo waiting for it; exec sleep 4321.5", "prepare-timeout: 1s");
    let said = deploying.tool(&format!("deploy {}", endless.0.display())).await;
    let words =
        [": preparing: prepare ", "within 1s, its `prepare-timeout`, and was killed", "waiting for it"];
    said.fails_with(1, &words);
    let left = Command::new("pgrep").args(["-f", "^sleep 4321.5"]).output();
    assert!(left.is_err() || left.is_ok_and(|it| it.stdout.is_empty()), "a preparation goes on");

    // What a preparation that failed has made is not there for the next one.
    let script = "test ! -e left && touch left && { test $COPAL_SERVER = app-b || test -e $DATA/again || { touch $DATA/again; exit 9; }; }";
    let fourth = site(&deploying, "four", script, "");
    let said = deploying.tool(&format!("deploy {}", fourth.0.display())).await;
    said.fails_with(1, &["app-a: preparing: ", "exit status: 9"]);

    assert_eq!(deploying.tool("list").await.succeeds(), list);
    for server in 0..2 {
        assert_eq!(deploying.get_of(server, "/site/").await.body, "one");
    }
    deploying.deploy(&fourth, "").await;
    for server in 0..2 {
        assert_eq!(deploying.get_of(server, "/site/").await.body, "four");
    }
    an_app_reaches_the_app_api(&deploying).await;
}
