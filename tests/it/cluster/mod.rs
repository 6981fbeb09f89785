//! A cluster of real `copal` processes on a loopback address of its own, in a folder of its own.

mod address;
mod configuration;
mod network;
mod process;

pub(crate) use address::Address;
pub(crate) use configuration::Configuration;
pub(crate) use network::Network;
pub(crate) use process::{Process, copal, deploy_tool};

use crate::{client::User, tell::tell};
use rustix::process::{Pid, Signal, kill_process};
use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};
use tempfile::TempDir;

/// Longer than any start, election or fail-over takes on a busy machine: past it something hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running cluster; dropped, all its processes are killed, and its apps' with them. When the test fails, the tails of their logs are printed.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) configuration: Configuration,
    processes: BTreeMap<String, Process>,
    folder: TempDir,
    _address: Address,
    network: Option<Network>,
}

impl Cluster {
    /// `app-a`, `app-b`, … as many as `apps`, and `web-a`, all ready.
    pub(crate) async fn start(apps: usize) -> Self {
        Self::start_with(apps, |_| {}).await
    }

    /// The same, with a changed configuration.
    pub(crate) async fn start_with(apps: usize, change: impl FnOnce(&mut Configuration)) -> Self {
        let mut cluster = Self::prepare(apps, change);
        cluster.start_all().await;
        cluster
    }

    /// The same, with a network namespace for each server; `None`, and a word, where the system does not allow it.
    pub(crate) async fn start_in_network(
        apps: usize,
        change: impl FnOnce(&mut Configuration),
    ) -> Option<Self> {
        let mut cluster = Self::prepare(apps, change);
        let Some(network) = Network::build(cluster.configuration.servers()) else {
            tell("skipped a test of the network: namespaces are not allowed here, or there is no `ip`");
            return None;
        };
        cluster.configuration.addresses = network.addresses();
        cluster.network = Some(network);
        cluster.write();
        cluster.start_all().await;
        Some(cluster)
    }

    /// The network of [`Self::start_in_network`].
    pub(crate) fn network(&self) -> &Network {
        self.network.as_ref().unwrap()
    }

    /// The files alone.
    pub(crate) fn prepare(apps: usize, change: impl FnOnce(&mut Configuration)) -> Self {
        let folder = tempfile::Builder::new().prefix("copal-it-").tempdir().unwrap();
        let address = Address::lease();
        let mut configuration = Configuration::new(address.ip(), apps);
        change(&mut configuration);
        let cluster =
            Self { configuration, processes: BTreeMap::new(), folder, _address: address, network: None };
        cluster.write();
        cluster
    }

    /// Writes the files (again).
    pub(crate) fn write(&self) {
        let app = self.folder().join("app");
        fs::create_dir_all(&app).unwrap();
        fs::write(app.join("app.yaml"), self.configuration.app_yaml()).unwrap();
        fs::write(self.file(), self.configuration.yaml()).unwrap();
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder().join("copal.yaml")
    }

    /// Every server of the file that does not run, started together and awaited.
    pub(crate) async fn start_all(&mut self) {
        for id in self.configuration.servers() {
            if !self.processes.contains_key(&id) {
                self.launch(&id);
            }
        }
        for process in self.processes.values_mut() {
            process.ready().await;
        }
    }

    /// One server, started and awaited.
    pub(crate) async fn start_one(&mut self, id: &str) {
        self.launch(id);
        self.process_mut(id).ready().await;
    }

    /// One server, started and not awaited.
    pub(crate) fn launch(&mut self, id: &str) {
        let namespace = self.network.as_ref().map(|network| network.namespace_of(id));
        let log = self.folder().join(format!("{id}.log"));
        let process =
            Process::start(&self.configuration.program, &self.file(), id, &log, namespace.as_deref());
        let former = self.processes.insert(id.to_owned(), process);
        assert!(former.is_none(), "{id} runs already");
    }

    /// `kill -9`: dead, its sockets and locks released, when this returns.
    pub(crate) async fn kill(&mut self, id: &str) {
        self.kill_all(&[id.to_owned()]).await;
    }

    /// `kill -9` for all of them at once.
    pub(crate) async fn kill_all(&mut self, ids: &[String]) {
        for id in ids {
            self.process(id).kill();
        }
        for id in ids {
            self.process_mut(id).ended().await;
            self.processes.remove(id);
        }
    }

    /// SIGTERM, and its exit status.
    pub(crate) async fn stop(&mut self, id: &str) -> std::process::ExitStatus {
        let process = self.processes.remove(id).unwrap_or_else(|| panic!("{id} does not run"));
        process.stop().await
    }

    /// Waits for the end of one that was told to stop.
    pub(crate) async fn ended(&mut self, id: &str) -> std::process::ExitStatus {
        let status = self.process_mut(id).ended().await;
        self.processes.remove(id);
        status
    }

    pub(crate) fn process(&self, id: &str) -> &Process {
        self.processes.get(id).unwrap_or_else(|| panic!("{id} does not run"))
    }

    pub(crate) fn process_mut(&mut self, id: &str) -> &mut Process {
        self.processes.get_mut(id).unwrap_or_else(|| panic!("{id} does not run"))
    }

    /// `host:port` of the web-tier.
    pub(crate) fn web(&self) -> String {
        self.configuration.web()
    }

    /// `host:port` of the web-tier server with this index.
    pub(crate) fn web_of(&self, index: usize) -> String {
        self.configuration.web_of(index)
    }

    /// A browser without cookies.
    pub(crate) fn user(&self) -> User {
        User::new(self.web())
    }

    /// A browser whose session's home is the app server with this index.
    pub(crate) fn user_of(&self, index: u8, name: usize) -> User {
        let home = char::from(b'a' + index);
        User::new(self.web()).with_cookie(format!("JSESSIONID={home}aUserNumber{name:012}"))
    }

    /// Kills what the apps' killed servers have left behind: nobody starts those again.
    fn end_apps(&self) {
        let mine = self.folder.path().as_os_str().as_encoded_bytes();
        for process in fs::read_dir("/proc").unwrap().flatten() {
            let pid = process.file_name().to_str().and_then(|it| it.parse().ok()).and_then(Pid::from_raw);
            let environment = fs::read(process.path().join("environ")).unwrap_or_default();
            let is_mine = environment.split(|it| *it == 0).any(|variable| {
                variable.strip_prefix(b"COPAL_HUB=").is_some_and(|path| path.starts_with(mine))
            });
            if let Some(pid) = pid.filter(|_| is_mine) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }

    /// A handle on the hub, as `app-a` has one.
    pub(crate) fn hub(&self) -> triad_client::Hub {
        self.configuration.hub()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.processes.clear();
        self.end_apps();
        if !std::thread::panicking() {
            return;
        }
        for id in self.configuration.servers() {
            let log = fs::read_to_string(self.folder().join(format!("{id}.log"))).unwrap_or_default();
            let tail: Vec<_> = log.lines().rev().take(25).collect();
            println!("--- {id}: the last lines of its log");
            tail.iter().rev().for_each(|line| println!("{line}"));
        }
    }
}
