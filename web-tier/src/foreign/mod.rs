//! Servers that are not ours, as the whole process has them: where they are, how they are, and the tokens by which a client
//! stays with one. The workers share this; a request reads none of it but the tokens, which never change: each worker takes
//! over what it needs when something has changed.

mod addresses;
mod affinity;
mod check;
mod dial;
mod report;

pub(crate) use affinity::Belongs;
pub(crate) use dial::dial;
pub use report::{BackendHealth, LastCheck};

use crate::{balance, breaks::SeenBreaks};
use addresses::Addresses;
use affinity::Stickiness;
use check::Checks;
use common::{
    cluster_port::ClusterKey,
    config::{self, Action, Cluster, HttpProxy},
    id::ServerId,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, task::JoinSet};

/// How long the share of a backend rises after checks have found it up: as for servers of ours that do not say otherwise.
const WARMUP_TIME: Duration = Duration::from_secs(60);

/// The backends of all `http-proxy` rules of this server.
#[derive(Debug)]
pub(crate) struct ForeignServers {
    pools: Vec<Arc<ForeignPool>>,
    /// Something has changed that workers should take over.
    news: watch::Sender<()>,
}

/// The backends of one rule, or of several that say the same.
#[derive(Debug)]
pub(crate) struct ForeignPool {
    /// The rule.
    pub(crate) config: HttpProxy,
    /// In the order of the rule.
    pub(crate) backends: Vec<Arc<ForeignBackend>>,
    stickiness: Stickiness,
}

/// A server that is not ours.
#[derive(Debug)]
pub(crate) struct ForeignBackend {
    /// `host:port`.
    id: ServerId,
    addresses: Addresses,
    /// What the checks say.
    up: AtomicBool,
    /// How often its name has come to mean other addresses.
    moved: AtomicU32,
    breaks: Arc<AtomicU32>,
    checks: Option<Checks>,
}

impl ForeignServers {
    /// Those of a cluster's rules. What the configuration `before` has alike is taken over with all that is known of it.
    pub(crate) fn new(cluster: &Cluster, key: &ClusterKey, before: Option<&Self>) -> Self {
        let mut pools: Vec<Arc<ForeignPool>> = Vec::new();
        for rule in cluster.hosts.iter().flat_map(|host| &host.dispatch) {
            let Action::HttpProxy(config) = &rule.action else { continue };
            if find(&pools, config).is_some() {
                continue;
            }
            let known = before.and_then(|before| find(&before.pools, config)).cloned();
            pools.push(known.unwrap_or_else(|| Arc::new(ForeignPool::new(config, key))));
        }
        Self { pools, news: before.map_or_else(|| watch::Sender::new(()), |before| before.news.clone()) }
    }

    /// Those of a rule.
    pub(crate) fn pool(&self, rule: &HttpProxy) -> Option<&Arc<ForeignPool>> {
        find(&self.pools, rule)
    }

    /// Hears when workers should look at [`ForeignBackend::state`] again.
    pub(crate) fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// Looks names up and checks backends until it is dropped. To be run once for the process, in a local runtime.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut tasks = JoinSet::new();
        for pool in &self.pools {
            for backend in &pool.backends {
                if !backend.addresses.is_fixed() {
                    let (servers, backend) = (self.clone(), backend.clone());
                    tasks.spawn_local(async move {
                        backend.addresses.follow(|| servers.tell_moved(&backend)).await;
                    });
                }
                if let Some(check) = &pool.config.health_check {
                    let (servers, backend, check) = (self.clone(), backend.clone(), check.clone());
                    tasks.spawn_local(async move { check::repeat(&servers, &backend, &check).await });
                }
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    /// How the backends are, in the order of the file.
    pub(crate) fn report(&self) -> Vec<BackendHealth> {
        let pools = self.pools.iter().enumerate();
        pools.flat_map(|(rule, pool)| pool.backends.iter().map(move |it| it.report(rule))).collect()
    }

    fn tell_moved(&self, backend: &ForeignBackend) {
        backend.moved.fetch_add(1, Ordering::Relaxed);
        self.tell();
    }

    fn tell(&self) {
        self.news.send_replace(());
    }
}

fn find<'a>(pools: &'a [Arc<ForeignPool>], rule: &HttpProxy) -> Option<&'a Arc<ForeignPool>> {
    pools.iter().find(|pool| pool.config == *rule)
}

impl ForeignPool {
    fn new(config: &HttpProxy, key: &ClusterKey) -> Self {
        let backends: Vec<_> =
            config.backends.iter().map(|it| Arc::new(ForeignBackend::new(it, config))).collect();
        let stickiness = Stickiness::new(&config.sticky, key, backends.iter().map(|it| &it.id));
        Self { config: config.clone(), backends, stickiness }
    }

    /// The backends as a balance has them.
    pub(crate) fn balanced(&self) -> impl Iterator<Item = balance::Backend> {
        let (config, backends) = (&self.config, self.config.backends.iter().zip(&self.backends));
        backends.map(|(backend, state)| balance::Backend {
            id: state.id.clone(),
            weight: backend.weight,
            recover_time: config.recover_time,
            busy_recover_time: config.recover_time,
            warmup_time: WARMUP_TIME,
        })
    }
}

/// What workers take over of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BackendState {
    pub(crate) up: bool,
    /// Changes when its name means other addresses: sockets to the old ones are not to be used any more.
    pub(crate) moved: u32,
}

impl BackendState {
    /// Before anything is known.
    pub(crate) const START: Self = Self { up: true, moved: 0 };
}

impl ForeignBackend {
    fn new(backend: &config::Backend, rule: &HttpProxy) -> Self {
        Self {
            id: backend.authority().into(),
            addresses: Addresses::new(&backend.host, backend.port),
            up: AtomicBool::new(true),
            moved: AtomicU32::new(0),
            breaks: Arc::default(),
            checks: rule.health_check.as_ref().map(|check| Checks::new(check, backend)),
        }
    }

    /// `host:port`, as the rule has it.
    pub(crate) fn name(&self) -> &str {
        self.id.as_str()
    }

    /// What is known now.
    pub(crate) fn state(&self) -> BackendState {
        BackendState { up: self.up.load(Ordering::Relaxed), moved: self.moved.load(Ordering::Relaxed) }
    }

    /// One worker's view of its broken connections.
    pub(crate) fn breaks(&self) -> SeenBreaks {
        SeenBreaks::new(self.breaks.clone())
    }
}

#[cfg(test)]
mod tests;
