//! Deployments over real processes: on every server at once or on none, whoever dies meanwhile.

mod confined;
mod faults;
mod happy;
mod healed;
mod hostile;
mod lone;
mod lost;
mod prepared;
mod refused;
mod rollouts;
mod taken_away;
mod traffic;
mod versions;

use crate::{
    client::{Answer, connect},
    cluster::{Cluster, Configuration, PATIENCE},
    tell::tell,
    tool::{HASH, Said, tool_as},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, StatusCode,
    header::{AUTHORIZATION, HOST},
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tokio::time::timeout;

/// Says which version of it runs where.
const APP: &str = include_str!("deploy/app.py");

/// `ops:password`.
const BASIC: &str = "Basic b3BzOnBhc3N3b3Jk";

/// A cluster to deploy to, without a web-app of its own at `/`. The hub is its first three servers.
struct Deploying {
    cluster: Cluster,
}

/// A version of an app: a folder to deploy.
#[derive(Debug, Clone)]
struct Version(PathBuf);

/// With users, and with deployments.
fn with_deployments(configuration: &mut Configuration) {
    configuration.lines.push("deploy-service: true".into());
    configuration.root = false;
    configuration.server.push("load-balance-warmup-time: 0".into());
    let user = |name: &str, roles| format!("  - {{name: {name}, password: \"{HASH}\", roles: [{roles}]}}");
    configuration.admin = vec![
        "users:".to_owned(),
        user("ops", "deploy, operate"),
        user("eve", "view"),
        user("bob", "operate"),
    ];
}

/// A Python in the system's folders, where confined apps find it.
fn python() -> Option<&'static str> {
    let found =
        ["/usr/bin/python3", "/usr/local/bin/python3"].into_iter().find(|path| Path::new(path).exists());
    if found.is_none() {
        tell("skipped tests of deployments: there is no python3 in /usr");
    }
    found
}

impl Deploying {
    async fn start(apps: usize) -> Self {
        Self::start_with(apps, |_| {}).await
    }

    async fn start_with(apps: usize, change: impl FnOnce(&mut Configuration)) -> Self {
        let cluster = Cluster::start_with(apps, |configuration| {
            with_deployments(configuration);
            change(configuration);
        });
        Self { cluster: cluster.await }
    }

    /// As the user who may deploy.
    async fn tool(&self, line: &str) -> Said {
        tool_as(&self.url(), "ops", "password", line).await
    }

    fn url(&self) -> String {
        format!("http://{}/admin", self.cluster.web())
    }

    /// Deploys what has to succeed, and gives the tool's words.
    async fn deploy(&self, version: &Version, more: &str) -> String {
        let said = self.tool(&format!("deploy {} {more}", version.0.display())).await;
        assert_eq!(said.code, Some(0), "{said:?}");
        said.stdout
    }

    /// A folder of files that nothing runs.
    fn files(&self, name: &str, files: &[(&str, &str)]) -> Version {
        let folder = self.cluster.folder().join("sources").join(name);
        for (path, content) in files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        Version(folder)
    }

    /// [`APP`] as this version, with more lines in its app.yaml.
    fn app(&self, python: &str, version: &str, lines: &str) -> Version {
        let yaml = format!(
            "name: shop\ncommand: [{python}, -B, app.py]\nhealth: {{path: /, interval: 1s, start-timeout: 30s}}\n\
             stop-timeout: 2s\n{lines}\n"
        );
        self.files(version, &[("app.py", APP), ("version", version), ("app.yaml", &yaml)])
    }

    /// The same, but that these servers hold their preparation up until [`Self::go_on`]; only for apps that are not confined.
    fn held(&self, python: &str, version: &str, servers: &str) -> Version {
        self.app(python, version, &format!("prepare: [sh, -c, '{}']", self.waiting(servers)))
    }

    /// The same, but that their processes are not healthy until then.
    fn held_at_start(&self, python: &str, version: &str, servers: &str) -> Version {
        let held = self.app(python, version, "");
        let yaml = fs::read_to_string(held.0.join("app.yaml")).unwrap();
        let command = format!("command: [sh, -c, '{}; exec {python} -B app.py']", self.waiting(servers));
        let yaml: Vec<_> =
            yaml.lines().map(|it| if it.starts_with("command") { &command } else { it }).collect();
        fs::write(held.0.join("app.yaml"), yaml.join("\n")).unwrap();
        held
    }

    fn waiting(&self, servers: &str) -> String {
        let go = self.cluster.folder().join("go");
        let _none = fs::remove_file(&go);
        let go = go.display();
        format!(
            "case \" {servers} \" in *\" $COPAL_SERVER \"*) until test -e {go}; do sleep 0.02; done;; esac"
        )
    }

    fn go_on(&self) {
        fs::write(self.cluster.folder().join("go"), "").unwrap();
    }

    async fn get(&self, path: &str) -> Answer {
        self.cluster.user().get(path).await
    }

    /// What one server has at a path.
    async fn get_of(&self, server: usize, path: &str) -> Answer {
        self.cluster.user_of(u8::try_from(server).unwrap(), 1).get(path).await
    }

    /// What the administration says of an app; `None` while it does not.
    async fn ask(&self, tag: &str, after: &str) -> Option<Value> {
        let path = format!("/admin/api/v1/apps/{tag}?wait=1&after={after}");
        let request = Request::get(path).header(HOST, self.cluster.web()).header(AUTHORIZATION, BASIC);
        let mut connection = connect(&self.cluster.web()).await;
        let sent = connection.send_request(request.body(Full::<Bytes>::default()).unwrap());
        let answer = timeout(PATIENCE, sent).await.unwrap().ok()?;
        let good = answer.status() == StatusCode::OK;
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        serde_json::from_slice(&body).ok().filter(|_| good)
    }

    /// Waits until the hub says so of an app.
    async fn app_is(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let tag = format!("production/webapp/default/{name}");
        let asking = async {
            let mut etag = String::new();
            loop {
                let Some(app) = self.ask(&tag, &etag).await else {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                };
                if wanted(&app) {
                    return app;
                }
                etag = app["etag"].as_str().unwrap().to_owned();
            }
        };
        timeout(PATIENCE, asking).await.expect("the app gets there")
    }

    /// Waits until every server that should runs what is in use, and none is down.
    async fn everywhere(&self) -> Value {
        let apps = self.cluster.configuration.apps;
        self.app_is("shop", |app| {
            let servers = app["servers"].as_array().unwrap();
            let over = app["rollout"]["outcome"] != "under-way";
            over && servers.len() == apps && servers.iter().all(|it| it["same"] == true)
        })
        .await
    }

    /// Real git finds nothing wrong in any server's repository.
    fn repositories_are_clean(&self) {
        for id in self.cluster.configuration.servers() {
            let repository = self.cluster.folder().join("data").join(&id).join("repository.git");
            let git =
                Command::new("git").arg("-C").arg(&repository).args(["fsck", "--strict", "--full"]).output();
            let Ok(found) = git else { return tell("skipped `git fsck`: there is no git") };
            let words = String::from_utf8_lossy(&found.stderr).into_owned();
            assert!(found.status.success(), "{id}: {words} {}", String::from_utf8_lossy(&found.stdout));
        }
    }

    fn log(&self, id: &str) -> String {
        fs::read_to_string(self.cluster.folder().join(format!("{id}.log"))).unwrap()
    }
}

/// The step of a rollout that a server is at.
fn step<'a>(app: &'a Value, server: &str) -> &'a str {
    let servers = app["rollout"]["servers"].as_array().unwrap();
    servers.iter().find(|it| it["server"] == server).and_then(|it| it["step"].as_str()).unwrap_or_default()
}
