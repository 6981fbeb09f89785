//! The apps that this server runs, as they come and go: which of them answers a request, which of them may call the app API, and
//! whose sessions are to be looked after.

use crate::{
    app::{App, Deployed},
    hosts::Hosts,
    process_app::ProcessApp,
    report,
    versions::Versions,
};
use common::{
    app_tag::compare_versions,
    config::{Host, Versioning},
};
use proto::status::v1 as status;
use std::{
    cmp::Ordering,
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Instant,
};

/// Where a deployed app is: its host's name in tags, and a path.
type At = (String, String);

/// A deployed app at a place.
#[derive(Debug, Clone)]
pub(crate) struct Mounted {
    /// stage/webapp/host/name[-version].
    pub(crate) tag: String,
    /// What of it is in use.
    pub(crate) commit: Vec<u8>,
    pub(crate) tree: Vec<u8>,
    /// For people.
    pub(crate) name: String,
    /// Of several side by side.
    pub(crate) version: Option<String>,
    pub(crate) versioning: Versioning,
    pub(crate) app: Arc<dyn App>,
    /// When it came there.
    pub(crate) since: Instant,
    /// It is stopped, and `app` says so.
    pub(crate) stopped: bool,
}

/// The apps of one server. What answers a request is looked up without waiting for a change.
#[derive(Debug)]
pub(crate) struct Registry {
    hosts: RwLock<Arc<Hosts>>,
    processes: RwLock<Arc<Vec<Running>>>,
    /// The file's own web-apps, which stay.
    fixed: Vec<(Host, Vec<Arc<Deployed>>)>,
    /// Deployed apps, at each place one a version.
    mounted: Mutex<BTreeMap<At, Vec<Mounted>>>,
    session_cookie: String,
}

/// An app with processes, and the token by which they are known.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) token: String,
    pub(crate) app: Arc<ProcessApp>,
}

impl Registry {
    /// With the apps of the file, and the name of the cluster's session cookie.
    pub(crate) fn new(
        fixed: Vec<(Host, Vec<Arc<Deployed>>)>,
        running: Vec<Running>,
        session_cookie: &str,
    ) -> Self {
        let hosts = RwLock::new(Arc::new(Hosts::new(fixed.clone())));
        let processes = RwLock::new(Arc::new(running));
        Self { hosts, processes, fixed, mounted: Mutex::default(), session_cookie: session_cookie.to_owned() }
    }

    /// The hosts with their apps, as of now.
    pub(crate) fn hosts(&self) -> Arc<Hosts> {
        self.hosts.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The apps with processes, as of now.
    pub(crate) fn running(&self) -> Arc<Vec<Running>> {
        self.processes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts an app at its paths of a host, in place of what was deployed there with the same version. Requests that are being answered
    /// stay with the app that they have.
    pub(crate) fn mount(&self, host: &str, paths: &[String], new: &Mounted) {
        let mut mounted = self.lock();
        for path in paths {
            let here = mounted.entry((host.to_owned(), path.clone())).or_default();
            match here.iter_mut().find(|it| it.version == new.version) {
                // How long users of older versions may stay goes by when this version came first.
                Some(old) => *old = Mounted { since: old.since, ..new.clone() },
                None => here.push(new.clone()),
            }
            here.sort_by(|a, b| by_version(b, a));
        }
        self.publish(&mounted);
    }

    /// Takes an app away, wherever it is mounted still.
    pub(crate) fn unmount(&self, app: &Arc<dyn App>) {
        let mut mounted = self.lock();
        mounted.values_mut().for_each(|here| here.retain(|it| !Arc::ptr_eq(&it.app, app)));
        mounted.retain(|_, here| !here.is_empty());
        self.publish(&mounted);
    }

    fn publish(&self, mounted: &BTreeMap<At, Vec<Mounted>>) {
        let hosts = self.fixed.iter().map(|(host, fixed)| {
            let here = mounted.iter().filter(|((name, _), _)| name == host.tag_name());
            // The file's own web-apps win: it says what is where.
            let free = here.filter(|((_, path), _)| fixed.iter().all(|it| it.path != *path));
            let free = free.filter_map(|((_, path), versions)| self.deployed(path, versions));
            (host.clone(), fixed.iter().cloned().chain(free).collect())
        });
        let hosts = Arc::new(Hosts::new(hosts));
        *self.hosts.write().unwrap_or_else(PoisonError::into_inner) = hosts;
    }

    /// What answers at a path: the highest version that runs, and, if users may stay with older ones, whichever is theirs.
    fn deployed(&self, path: &str, versions: &[Mounted]) -> Option<Arc<Deployed>> {
        let (mut running, stopped): (Vec<_>, Vec<_>) = versions.iter().partition(|it| !it.stopped);
        if running.is_empty() {
            running = stopped;
        }
        let (highest, older) = running.split_first()?;
        let name = highest.name.clone();
        let app = match highest.versioning.sessions_stay {
            // Alone as well: when another one comes, it has to be known whose users are this one's.
            Some(stay) if !highest.stopped => {
                let named = |it: &Mounted| (it.version.clone().unwrap_or_default(), it.app.clone());
                let until = highest.since + stay;
                let older = older.iter().map(|it| {
                    let (version, app) = named(it);
                    (version, app, until)
                });
                Arc::new(Versions {
                    session_cookie: self.session_cookie.clone(),
                    highest: named(highest),
                    older: older.collect(),
                })
            }
            _ => highest.app.clone(),
        };
        Some(Arc::new(Deployed { name, path: path.to_owned(), app }))
    }

    /// An app's processes may call the app API from now on.
    pub(crate) fn add(&self, running: Running) {
        let mut all = self.processes.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut all).push(running);
    }

    /// They have ended.
    pub(crate) fn remove(&self, token: &str) {
        let mut all = self.processes.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut all).retain(|it| it.token != token);
    }

    /// Every app with the place at which it answers, for the status page.
    pub(crate) fn report(&self) -> Vec<status::App> {
        let fixed = self.fixed.iter().flat_map(|(_, apps)| apps);
        let fixed = fixed.map(|it| status::App { name: it.name.clone(), ..report::app(it.app.kind()) });
        let mounted = self.lock();
        let deployed = mounted.iter().flat_map(|((host, path), versions)| {
            let name = format!("{host}{}", if path.is_empty() { "/" } else { path });
            versions.iter().map(move |it| status::App {
                tag: it.tag.clone(),
                name: name.clone(),
                commit: it.commit.clone().into(),
                tree: it.tree.clone().into(),
                ..report::app(it.app.kind())
            })
        });
        fixed.chain(deployed).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<At, Vec<Mounted>>> {
        self.mounted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An app without a version is below all that have one.
fn by_version(a: &Mounted, b: &Mounted) -> Ordering {
    match (&a.version, &b.version) {
        (Some(a), Some(b)) => compare_versions(a, b),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::StoppedApp;
    use std::time::Duration;

    fn mounted(version: &str, stopped: bool, stay: Option<Duration>) -> Mounted {
        Mounted {
            name: version.to_owned(),
            version: Some(version.to_owned()),
            versioning: Versioning { sessions_stay: stay },
            app: Arc::new(StoppedApp(version.to_owned())),
            since: Instant::now(),
            stopped,
            tag: String::new(),
            commit: Vec::new(),
            tree: Vec::new(),
        }
    }

    #[test]
    fn a_stopped_version_answers_where_no_other_runs() {
        let registry = Registry::new(vec![(Host::default(), Vec::new())], Vec::new(), "S");
        let host = Host::default();
        let answers = || registry.hosts().find("", "/shop/").map(|it| it.name.clone());
        let mount = |it: &Mounted| registry.mount(host.tag_name(), &["/shop".to_owned()], it);
        mount(&mounted("1.0", false, None));
        let stopped = mounted("1.1", true, None);
        mount(&stopped);
        assert_eq!(answers().as_deref(), Some("1.0"));
        let none = mounted("1.0", true, None);
        mount(&none);
        assert_eq!(answers().as_deref(), Some("1.1"));
        registry.unmount(&stopped.app);
        assert_eq!(answers().as_deref(), Some("1.0"));
        registry.unmount(&none.app);
        assert_eq!(answers(), None);
    }
}
