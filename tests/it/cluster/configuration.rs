//! A test cluster's files.

use super::process::copal;
use cluster_port::{ClusterKey, Credentials};
use common::{
    config::{ClusterEncryption, Secret},
    id::ServerId,
};
use std::{fmt::Write, net::Ipv4Addr, path::PathBuf};
use triad_client::{Hub, HubConfig};

/// One that `copal check` takes.
const KEY: &str = "m3Zb0sV7yQkT9xLw2RfHc8NdJgUe5aPi";

/// What the files say; fields are for tests to change before the start.
#[derive(Debug, Clone)]
pub(crate) struct Configuration {
    /// Where each server is; the last of these is that of all further ones.
    pub(crate) addresses: Vec<Ipv4Addr>,
    pub(crate) apps: usize,
    /// By which servers are started.
    pub(crate) program: PathBuf,
    /// Web-tier servers.
    pub(crate) webs: usize,
    /// Lines of `admin`. With any, the web-tier has the administration at `/admin` and the app-tier at `/ops`.
    pub(crate) admin: Vec<String>,
    pub(crate) heartbeat_interval: String,
    /// `health`. The machine that tests run on is as busy as it is.
    pub(crate) health: String,
    /// A further listener of the first web-tier server.
    pub(crate) listener: Option<String>,
    /// `cluster-encryption`: what the file says, if anything.
    pub(crate) encryption: Option<&'static str>,
    /// Whether the app-tier has the app of `command` at its root; else nothing is there but `web_apps`.
    pub(crate) root: bool,
    /// Further web-apps of the app-tier.
    pub(crate) web_apps: Vec<String>,
    /// Lines of the app-tier's host.
    pub(crate) host: Vec<String>,
    /// Further lines of the file itself.
    pub(crate) lines: Vec<String>,
    /// Lines of `session-config`.
    pub(crate) session: Vec<String>,
    /// Lines of `server-default`.
    pub(crate) server: Vec<String>,
    /// The web-tier's rule, `load-balance`.
    pub(crate) rule: String,
    /// Lines of the web-tier.
    pub(crate) web_tier: Vec<String>,
    /// The app's command; the demo's app unless it is changed.
    pub(crate) command: Vec<String>,
    /// Lines of the app's `app.yaml`.
    pub(crate) app: Vec<String>,
}

impl Configuration {
    pub(crate) fn new(ip: Ipv4Addr, apps: usize) -> Self {
        Self {
            addresses: vec![ip],
            apps,
            program: copal(),
            webs: 1,
            admin: Vec::new(),
            heartbeat_interval: "1s".into(),
            health: "{load-max: 1000000}".to_owned(),
            listener: None,
            encryption: None,
            root: true,
            web_apps: Vec::new(),
            host: Vec::new(),
            lines: Vec::new(),
            session: Vec::new(),
            server: vec!["shutdown-wait-max: 5s".into()],
            rule: "{cluster: app-tier}".into(),
            web_tier: Vec::new(),
            command: vec![copal().to_string_lossy().into_owned(), "demo-app".into()],
            app: vec!["health: {path: /healthz, interval: 1s, start-timeout: 30s}".into()],
        }
    }

    /// The app servers' ids, then those of the web-tier.
    pub(crate) fn servers(&self) -> Vec<String> {
        self.app_servers().into_iter().chain(self.web_servers()).collect()
    }

    pub(crate) fn app_servers(&self) -> Vec<String> {
        names("app", self.apps)
    }

    pub(crate) fn web_servers(&self) -> Vec<String> {
        names("web", self.webs)
    }

    /// `host:port` of the first web-tier server.
    pub(crate) fn web(&self) -> String {
        self.web_of(0)
    }

    /// The same of the one with this index.
    pub(crate) fn web_of(&self, index: usize) -> String {
        format!("{}:{}", self.address(self.apps + index), 8080 + index)
    }

    /// `host:port` of the cluster port of the app server with this index.
    pub(crate) fn cluster_port(&self, index: usize) -> String {
        format!("{}:{}", self.address(index), 6800 + index)
    }

    fn address(&self, index: usize) -> Ipv4Addr {
        self.addresses[index.min(self.addresses.len() - 1)]
    }

    /// What every server of the file shows.
    pub(crate) fn credentials(&self) -> Credentials {
        let encryption = match self.encryption {
            None => ClusterEncryption::BeyondLoopback,
            Some("true") => ClusterEncryption::Always,
            Some("false") => ClusterEncryption::Never,
            Some(_) => ClusterEncryption::Optional,
        };
        Credentials::new(ClusterKey::new(&Secret::from(KEY.as_bytes())), encryption)
    }

    /// The hub is the first three servers, the web-tier among them when there are fewer app servers.
    pub(crate) fn hub(&self) -> Hub {
        let servers = self.servers().into_iter().enumerate().take(3);
        Hub::new(HubConfig {
            me: ServerId::from("app-a"),
            credentials: self.credentials(),
            servers: servers.map(|(index, id)| (id.into(), self.cluster_port(index))).collect(),
        })
    }

    pub(crate) fn yaml(&self) -> String {
        let mut yaml =
            format!("cluster-key: {KEY}\ndata-dir: data\nheartbeat-interval: {}\n", self.heartbeat_interval);
        if let Some(encryption) = self.encryption {
            writeln!(yaml, "cluster-encryption: {encryption}").unwrap();
        }
        writeln!(yaml, "health: {}", self.health).unwrap();
        for line in &self.lines {
            writeln!(yaml, "{line}").unwrap();
        }
        if !self.admin.is_empty() {
            yaml.push_str("admin:\n");
            self.admin.iter().for_each(|line| writeln!(yaml, "  {line}").unwrap());
        }
        yaml.push_str("server-default:\n");
        for line in &self.server {
            writeln!(yaml, "  {line}").unwrap();
        }
        yaml.push_str("clusters:\n  - id: app-tier\n    servers:\n");
        for (index, id) in self.app_servers().iter().enumerate() {
            writeln!(yaml, "      - {{id: {id}, address: {}, port: {}}}", self.address(index), 6800 + index)
                .unwrap();
        }
        self.write_web_apps(&mut yaml);
        let administered = !self.admin.is_empty();
        yaml.push_str("  - id: web-tier\n    servers:\n");
        for (index, id) in self.web_servers().iter().enumerate() {
            let more = self.listener.iter().filter(|_| index == 0).map(|it| format!(", {it}"));
            let more = more.collect::<String>();
            let (ip, port, http) = (self.address(self.apps + index), 6800 + self.apps + index, 8080 + index);
            writeln!(
                yaml,
                "      - {{id: {id}, address: {ip}, port: {port}, http: [{{address: {ip}, port: {http}}}{more}]}}"
            )
            .unwrap();
        }
        yaml.push_str("    workers: 2\n    hosts:\n      - id: \"\"\n");
        if administered {
            yaml.push_str("        web-apps: [{id: /admin, admin: true}]\n");
        }
        yaml.push_str("        dispatch:\n");
        if administered {
            yaml.push_str("          - dispatch: {regexp: '^/admin(/|$)'}\n");
        }
        writeln!(yaml, "          - load-balance: {}", self.rule).unwrap();
        for line in &self.web_tier {
            writeln!(yaml, "    {line}").unwrap();
        }
        yaml
    }

    /// The app-tier's host.
    fn write_web_apps(&self, yaml: &mut String) {
        yaml.push_str("    hosts:\n      - id: \"\"\n");
        for line in &self.host {
            writeln!(yaml, "        {line}").unwrap();
        }
        yaml.push_str("        web-apps:\n");
        if self.root {
            yaml.push_str("          - id: \"\"\n            root-directory: app\n");
            yaml.push_str("            session-config:\n              session-timeout: 30m\n");
            for line in &self.session {
                writeln!(yaml, "              {line}").unwrap();
            }
        }
        if !self.admin.is_empty() {
            yaml.push_str("          - {id: /ops, admin: true}\n");
        }
        for web_app in &self.web_apps {
            writeln!(yaml, "          - {web_app}").unwrap();
        }
    }

    pub(crate) fn app_yaml(&self) -> String {
        let command: Vec<_> = self.command.iter().map(|word| format!("{word:?}")).collect();
        format!(
            "name: counter\ncommand: [{}]\nenv: {{COUNTER_TEST: \"1\", CLUSTER_DEMO_EVERY_MS: \"100\", CLUSTER_DEMO_HURRY: \"1\"}}\n{}\n",
            command.join(", "),
            self.app.join("\n")
        )
    }
}

/// `tier-a`, `tier-b` and so on.
fn names(tier: &str, count: usize) -> Vec<String> {
    (0..count).map(|index| format!("{tier}-{}", char::from(b'a' + u8::try_from(index).unwrap()))).collect()
}
