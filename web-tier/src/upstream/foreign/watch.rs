//! Looks after foreign backends, outside of requests: looks names up and checks. A new configuration leaves those alone that it
//! has too.

use super::{ForeignBackend, ForeignPool, ForeignServers, News, check, service};
use crate::transport::tls::{self, BackendTls, Changed};
use std::sync::{Arc, atomic::Ordering};
use tokio::{
    task::{JoinHandle, spawn_blocking, spawn_local},
    time::sleep,
};

/// What is done for all backends; dropped, nothing more. One for the process, in a local runtime.
#[derive(Debug, Default)]
pub(crate) struct ForeignWatch {
    backends: Vec<(Arc<ForeignBackend>, Tasks)>,
    services: Vec<(Arc<ForeignPool>, Tasks)>,
    files: Vec<(Arc<BackendTls>, Tasks)>,
}

/// What is done for one backend, until it is dropped.
#[derive(Debug)]
struct Tasks(Vec<JoinHandle<()>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl ForeignWatch {
    /// Looks after the backends of `servers` from now on.
    pub(crate) fn go_by(&mut self, servers: &ForeignServers) {
        let mut before = std::mem::take(&mut self.backends);
        for pool in &servers.pools {
            for backend in pool.named() {
                let known = before.iter().position(|(it, _)| Arc::ptr_eq(it, &backend));
                self.backends.push(match known {
                    Some(place) => before.swap_remove(place),
                    None => (backend.clone(), look_after(pool, &backend, &servers.news)),
                });
            }
        }
        let mut before = std::mem::take(&mut self.services);
        for pool in servers.pools.iter().filter(|it| it.services().next().is_some()) {
            let known = before.iter().position(|(it, _)| Arc::ptr_eq(it, pool));
            self.services.push(match known {
                Some(place) => before.swap_remove(place),
                None => (pool.clone(), look_after_services(pool, &servers.news)),
            });
        }
        let mut before = std::mem::take(&mut self.files);
        for tls in &servers.tls {
            let known = before.iter().position(|(it, _)| Arc::ptr_eq(it, tls));
            self.files.push(match known {
                Some(place) => before.swap_remove(place),
                None => (tls.clone(), Tasks(vec![spawn_local(watch_files(tls.clone()))])),
            });
        }
    }

    /// What is under way.
    #[cfg(test)]
    pub(super) fn tasks(&self) -> Vec<tokio::task::Id> {
        self.backends.iter().flat_map(|(_, tasks)| tasks.0.iter().map(JoinHandle::id)).collect()
    }
}

fn look_after(pool: &ForeignPool, backend: &Arc<ForeignBackend>, news: &News) -> Tasks {
    let mut tasks = Vec::new();
    if backend.way.place.addresses().is_some_and(|it| !it.is_fixed()) {
        let (news, backend) = (news.clone(), backend.clone());
        tasks.push(spawn_local(async move {
            let moved = || {
                backend.moved.fetch_add(1, Ordering::Relaxed);
                news.send_replace(());
            };
            if let Some(addresses) = backend.way.place.addresses() {
                addresses.follow(moved).await;
            }
        }));
    }
    if let Some(check) = pool.config.health_check.clone() {
        let (news, backend) = (news.clone(), backend.clone());
        tasks.push(spawn_local(async move { check::repeat(&news, &backend, &check).await }));
    }
    Tasks(tasks)
}

/// Asks for the services of a rule, and looks after the servers that they have.
fn look_after_services(pool: &Arc<ForeignPool>, news: &News) -> Tasks {
    let mut tasks = vec![spawn_local(look_after_found(pool.clone(), news.clone()))];
    for place in 0..pool.services().count() {
        let (pool, news) = (pool.clone(), news.clone());
        tasks.push(spawn_local(async move {
            let changed = || {
                news.send_replace(());
            };
            service::follow(&pool, place, changed).await;
        }));
    }
    Tasks(tasks)
}

/// Looks after the servers that services have, as they come and go.
async fn look_after_found(pool: Arc<ForeignPool>, news: News) {
    let (mut heard, mut known) = (news.subscribe(), Vec::<(Arc<ForeignBackend>, Tasks)>::new());
    loop {
        heard.borrow_and_update();
        let mut before = std::mem::take(&mut known);
        for backend in pool.found() {
            let place = before.iter().position(|(it, _)| Arc::ptr_eq(it, &backend));
            known.push(match place {
                Some(place) => before.swap_remove(place),
                None => (backend.clone(), look_after(&pool, &backend, &news)),
            });
        }
        drop(before);
        if heard.changed().await.is_err() {
            return;
        }
    }
}

/// Reads the files of TLS again when they change. Files that won't do change nothing, and are told once.
async fn watch_files(tls: Arc<BackendTls>) {
    loop {
        sleep(tls::INTERVAL).await;
        let (file, looked) = (tls.name(), tls.clone());
        match spawn_blocking(move || looked.look()).await {
            Ok(None | Some(Ok(Changed::Nothing))) => {}
            Ok(Some(Ok(Changed::Certificates))) => {
                tracing::info!(file, "new files of TLS to backends: new connections get them");
            }
            Ok(Some(Err(cause))) => {
                tracing::warn!(file, %cause, "changed files of TLS to backends are refused: the old ones stay");
            }
            Err(cause) => tracing::warn!(%cause, "looking at the files of TLS to backends failed"),
        }
    }
}
