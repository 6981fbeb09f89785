//! The apps that this server runs, as they come and go: which of them answers a request, which of them may call the app API, and
//! whose sessions are to be looked after.

use crate::{
    app::{App, Deployed},
    hosts::Hosts,
    process_app::ProcessApp,
};
use common::config::Host;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

/// The apps of one server. What answers a request is looked up without waiting for a change.
#[derive(Debug)]
pub(crate) struct Registry {
    hosts: RwLock<Arc<Hosts>>,
    processes: RwLock<Arc<Vec<Running>>>,
    /// The file's own web-apps, which stay.
    fixed: Vec<(Host, Vec<Arc<Deployed>>)>,
    /// Deployed apps by host's name in tags and path.
    mounted: Mutex<BTreeMap<(String, String), Arc<Deployed>>>,
}

/// An app with processes, and the token by which they are known.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) token: String,
    pub(crate) app: Arc<ProcessApp>,
}

impl Registry {
    /// With the apps of the file.
    pub(crate) fn new(fixed: Vec<(Host, Vec<Arc<Deployed>>)>, running: Vec<Running>) -> Self {
        let hosts = RwLock::new(Arc::new(Hosts::new(fixed.clone())));
        Self { hosts, processes: RwLock::new(Arc::new(running)), fixed, mounted: Mutex::default() }
    }

    /// The hosts with their apps, as of now.
    pub(crate) fn hosts(&self) -> Arc<Hosts> {
        self.hosts.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The apps with processes, as of now.
    pub(crate) fn running(&self) -> Arc<Vec<Running>> {
        self.processes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts an app at its paths of a host, in place of what was deployed there. Requests that are being answered stay with the app
    /// that they have.
    pub(crate) fn mount(&self, host: &str, paths: &[String], name: &str, app: &Arc<dyn App>) {
        let mut mounted = self.lock();
        for path in paths {
            let at = Deployed { name: name.to_owned(), path: path.clone(), app: app.clone() };
            mounted.insert((host.to_owned(), path.clone()), Arc::new(at));
        }
        self.publish(&mounted);
    }

    /// Takes an app away, wherever it is mounted still.
    pub(crate) fn unmount(&self, app: &Arc<dyn App>) {
        let mut mounted = self.lock();
        mounted.retain(|_, it| !Arc::ptr_eq(&it.app, app));
        self.publish(&mounted);
    }

    fn publish(&self, mounted: &BTreeMap<(String, String), Arc<Deployed>>) {
        let hosts = self.fixed.iter().map(|(host, fixed)| {
            let here = mounted.iter().filter(|((name, _), _)| name == host.tag_name());
            // The file's own web-apps win: it says what is where.
            let free = here.filter(|((_, path), _)| fixed.iter().all(|it| it.path != *path));
            let apps = fixed.iter().cloned().chain(free.map(|(_, app)| app.clone())).collect();
            (host.clone(), apps)
        });
        let hosts = Arc::new(Hosts::new(hosts));
        *self.hosts.write().unwrap_or_else(PoisonError::into_inner) = hosts;
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

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), Arc<Deployed>>> {
        self.mounted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
