//! Reading the file again: on SIGHUP, and when it changes where `dependency-check-interval` says so. A file that is not valid, or
//! can't be gone by, changes nothing.

use crate::{check::load_file, cli::FileArguments, server::RunningServer};
use anyhow::anyhow;
use common::{
    config::{Config, Loaded, topology_hash},
    file_watch::{FileWatch, Look},
    id::ServerId,
};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    task::spawn_blocking,
    time::{sleep, timeout},
};

/// How long reading the file may take: longer, and its file system hangs.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// Why the file is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// SIGHUP: the operator waits for an answer, wants renamed logs to be let go of, and certificates to be read.
    Hangup,
    /// It has changed.
    Changed,
    /// It may have changed without a trace: nothing is said if it has not.
    Unsure,
}

/// Reads the file again.
#[derive(Debug)]
pub(crate) struct Reloader {
    arguments: FileArguments,
    files: Arc<Mutex<FileWatch>>,
    /// `dependency-check-interval`.
    interval: Option<Duration>,
    /// What was said last of a file that would not do, and of what needs a restart.
    told: Option<String>,
    told_restart: Vec<&'static str>,
}

impl Reloader {
    /// The file is about to be read for the first time.
    pub(crate) fn new(arguments: &FileArguments) -> Self {
        let files = FileWatch::reading(vec![arguments.conf.clone()]);
        Self {
            arguments: arguments.clone(),
            files: Arc::new(Mutex::new(files)),
            interval: None,
            told: None,
            told_restart: Vec::new(),
        }
    }

    /// This is what it held.
    pub(crate) fn has_read(&mut self, loaded: &Loaded) {
        self.add(&loaded.files);
        self.interval = loaded.config.dependency_check_interval;
    }

    fn add(&self, files: &[PathBuf]) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).add(files.iter().cloned());
    }

    /// Waits until the file, or one that it imports, has changed and whoever wrote it is done; for ever if nobody wants to know.
    pub(crate) async fn changed(&self) -> Why {
        let Some(interval) = self.interval else { return std::future::pending().await };
        loop {
            sleep(interval).await;
            let files = self.files.clone();
            let look = move || files.lock().unwrap_or_else(PoisonError::into_inner).look();
            match spawn_blocking(look).await {
                Ok(Look::Changed) => return Why::Changed,
                Ok(Look::Unsure) => return Why::Unsure,
                Ok(Look::Still) | Err(_) => {}
            }
        }
    }

    /// Makes `server` go by the file as it is now, and says on the log what came of it.
    pub(crate) async fn reload(&mut self, server: &mut RunningServer, why: Why) {
        if why == Why::Hangup {
            server.reload_certificates();
        }
        let done = match self.read().await {
            Ok(loaded) => self.go_by(server, loaded, why).await,
            Err(cause) => Err(cause),
        };
        if why == Why::Hangup {
            // After the reload: a log that the file names no more is not to be made anew.
            server.reopen_logs();
            server.try_certificates();
        }
        match done {
            Ok(()) => self.told = None,
            Err(cause) => {
                let cause = format!("{cause:#}");
                if why != Why::Unsure || self.told.as_ref() != Some(&cause) {
                    tracing::error!(server = %server.id(), "not reloaded, the old configuration stays: {cause}");
                }
                self.told = Some(cause);
            }
        }
    }

    /// Reads the file and those that it imports. A change while they are read is found at the next look.
    async fn read(&self) -> anyhow::Result<Loaded> {
        let (arguments, files) = (self.arguments.clone(), self.files.clone());
        let reading = spawn_blocking(move || {
            files.lock().unwrap_or_else(PoisonError::into_inner).reading_again();
            load_file(&arguments)
        });
        let read = timeout(READ_TIMEOUT, reading).await;
        let read = read.map_err(|_| anyhow!("reading the file took longer than {READ_TIMEOUT:?}"))??;
        match read {
            Ok(loaded) => {
                self.add(&loaded.files);
                self.files.lock().unwrap_or_else(PoisonError::into_inner).keep_only(&loaded.files);
                Ok(loaded)
            }
            Err(errors) => {
                // One that it imports may be what mends it.
                self.add(errors.files());
                Err(anyhow!("the file is not valid:\n{errors}"))
            }
        }
    }

    async fn go_by(&mut self, server: &mut RunningServer, loaded: Loaded, why: Why) -> anyhow::Result<()> {
        let Loaded { config, warnings, .. } = loaded;
        let config = Arc::new(config);
        let changes = server.reload(config.clone()).await?;
        self.interval = config.dependency_check_interval;
        let id = server.id().clone();
        let restart = needs_restart(server.started_with(), &config, &id, server.is_web_tier());
        let quiet = why == Why::Unsure && changes.is_empty() && self.told.is_none();
        if quiet && restart == self.told_restart {
            return Ok(());
        }
        for warning in warnings {
            tracing::warn!(server = %id, "{warning}");
        }
        tracing::info!(server = %id, by = if why == Why::Hangup { "SIGHUP" } else { "the file" }, "reloaded: {changes}");
        if !restart.is_empty() {
            tracing::warn!(server = %id, "changed, and needs a restart of this server: {}", restart.join(", "));
        }
        self.told_restart = restart;
        Ok(())
    }
}

/// What of a new file a running server does not go by. `web`: it has a web tier.
fn needs_restart(old: &Config, new: &Config, me: &ServerId, web: bool) -> Vec<&'static str> {
    let (Some((old_cluster, old_me)), Some((new_cluster, new_me))) = (old.server(me), new.server(me)) else {
        return Vec::new();
    };
    let apps = |cluster: &common::config::Cluster| {
        let hosts = cluster.hosts.iter().filter(|host| !host.web_apps.is_empty());
        hosts.map(|host| format!("{} {:?}", host.id, host.web_apps)).collect::<Vec<_>>()
    };
    let checks = [
        ("workers", web && old_cluster.workers != new_cluster.workers),
        ("http and tcp-proxy (this server had no listener)", !web && new_me.listens()),
        ("metrics", old_me.metrics != new_me.metrics),
        ("cluster-key", old.cluster_key != new.cluster_key),
        ("cluster-key-also", old.cluster_key_also != new.cluster_key_also),
        ("cluster-encryption", old.cluster_encryption != new.cluster_encryption),
        ("cluster-tls", cluster_tls(old, me) != cluster_tls(new, me)),
        ("data-dir", old.data_dir != new.data_dir),
        ("heartbeat-interval", old.heartbeat_interval != new.heartbeat_interval),
        (
            "session-memory-max, app-session-memory-max and session-first-timeout",
            old.triad.contains(me) && old.session_memory != new.session_memory,
        ),
        (
            "cache-memory-max and queue-memory-max",
            old.triad.contains(me) && old.services_memory != new.services_memory,
        ),
        ("address and port", old_me.cluster_address() != new_me.cluster_address()),
        ("servers and triad, as the hub and the apps know them", topology_hash(old) != topology_hash(new)),
        ("traces", old.traces != new.traces),
        ("caches", old_cluster.caches != new_cluster.caches),
        ("app-users", old.app_users != new.app_users),
        ("web-apps", apps(old_cluster) != apps(new_cluster)),
    ];
    checks.into_iter().filter(|(_, changed)| *changed).map(|(what, _)| what).collect()
}

/// The names of the files of `cluster-tls`; what they hold is read again without a restart.
fn cluster_tls<'a>(config: &'a Config, me: &ServerId) -> Option<(&'a PathBuf, PathBuf, PathBuf)> {
    let tls = config.cluster_tls.as_ref()?;
    let own = tls.of(me);
    Some((&tls.ca.path, own.cert.path, own.key.path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::config::{LoadOptions, load_str};

    const FILE: &str = "
data-dir: data
clusters:
  - id: app-tier
    servers: [{id: app-a, address: 127.0.0.1}]
    hosts: [{id: '', web-apps: [{id: '', root-directory: app}]}]
  - id: web-tier
    workers: 2
    servers: [{id: web-a, address: 127.0.0.1, port: 6801, http: [{port: 8080}]}]
    hosts: [{id: '', dispatch: [{load-balance: {cluster: app-tier}}]}]
";

    fn config(text: &str) -> Config {
        load_str(text, &PathBuf::from("/srv/copal.yaml"), &LoadOptions::default()).unwrap().config
    }

    fn restarts(me: &str, from: &str, to: &str) -> Vec<&'static str> {
        assert!(FILE.contains(from), "{from}");
        needs_restart(&config(FILE), &config(&FILE.replace(from, to)), &me.into(), me == "web-a")
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        let none: [&str; 0] = [];
        assert_eq!(restarts("web-a", "port: 8080", "port: 8081"), none);
        assert_eq!(restarts("web-a", "workers: 2", "workers: 3"), ["workers"]);
        assert_eq!(restarts("app-a", "workers: 2", "workers: 3"), none, "it is not this server's");
        assert_eq!(restarts("web-a", "http: [", "metrics: {port: 9600}, http: ["), ["metrics"]);
        assert_eq!(restarts("app-a", "data-dir: data", "data-dir: other"), ["data-dir"]);
        assert_eq!(
            restarts("app-a", "data-dir: data", "data-dir: data\ncluster-encryption: true"),
            ["cluster-encryption"]
        );
        assert_eq!(
            restarts("app-a", "data-dir: data", "data-dir: data\ncluster-tls: {ca: a, cert: b, key: c}"),
            ["cluster-tls"]
        );
        assert_eq!(
            restarts("app-a", "data-dir: data", "data-dir: data\nsession-memory-max: 1G"),
            ["session-memory-max, app-session-memory-max and session-first-timeout"]
        );
        assert_eq!(restarts("app-a", "root-directory: app", "root-directory: shop"), ["web-apps"]);
        assert_eq!(
            restarts("app-a", "address: 127.0.0.1}", "address: 127.0.0.1, http: [{port: 81}]}"),
            ["http and tcp-proxy (this server had no listener)"]
        );
        assert_eq!(
            restarts("web-a", "port: 6801", "port: 6802"),
            ["address and port", "servers and triad, as the hub and the apps know them"]
        );
    }
}
