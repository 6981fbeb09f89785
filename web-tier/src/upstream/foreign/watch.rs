//! Looks after foreign backends, outside of requests: looks names up and checks. A new configuration leaves those alone that it
//! has too.

use super::{ForeignBackend, ForeignPool, ForeignServers, News, check};
use std::sync::{Arc, atomic::Ordering};
use tokio::task::{JoinHandle, spawn_local};

/// What is done for all backends; dropped, nothing more. One for the process, in a local runtime.
#[derive(Debug, Default)]
pub(crate) struct ForeignWatch(Vec<(Arc<ForeignBackend>, Tasks)>);

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
        let mut before = std::mem::take(&mut self.0);
        for pool in &servers.pools {
            for backend in &pool.backends {
                let known = before.iter().position(|(it, _)| Arc::ptr_eq(it, backend));
                self.0.push(match known {
                    Some(place) => before.swap_remove(place),
                    None => (backend.clone(), look_after(pool, backend, &servers.news)),
                });
            }
        }
    }

    /// What is under way.
    #[cfg(test)]
    pub(super) fn tasks(&self) -> Vec<tokio::task::Id> {
        self.0.iter().flat_map(|(_, tasks)| tasks.0.iter().map(JoinHandle::id)).collect()
    }
}

fn look_after(pool: &ForeignPool, backend: &Arc<ForeignBackend>, news: &News) -> Tasks {
    let mut tasks = Vec::new();
    if !backend.addresses.is_fixed() {
        let (news, backend) = (news.clone(), backend.clone());
        tasks.push(spawn_local(async move {
            let moved = || {
                backend.moved.fetch_add(1, Ordering::Relaxed);
                news.send_replace(());
            };
            backend.addresses.follow(moved).await;
        }));
    }
    if let Some(check) = pool.config.health_check.clone() {
        let (news, backend) = (news.clone(), backend.clone());
        tasks.push(spawn_local(async move { check::repeat(&news, &backend, &check).await }));
    }
    Tasks(tasks)
}
