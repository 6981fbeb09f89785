//! Servers that are not ours, as the whole process has them: where they are, how they are, and the tokens by which a client
//! stays with one. The workers share this; a request reads none of it but the tokens, which never change: each worker takes
//! over what it needs when something has changed.

mod addresses;
mod check;
mod dial;
mod dns;
mod members;
mod report;
mod service;
mod watch;

pub(crate) use members::{ForeignPool, Members};
pub use report::{BackendHealth, LastCheck};
pub(crate) use watch::ForeignWatch;

use crate::{
    transport::{
        proxy_protocol::Endpoints,
        tls::{BackendTls, TlsConnector},
    },
    upstream::breaks::SeenBreaks,
};
use check::Checks;
use cluster_port::{ClusterKey, Stream};
use common::{
    config::{self, BackendAddress, BackendProtocol, Cluster, HttpProxy, TcpListener},
    id::ServerId,
    tls_files::TlsError,
};
use dial::{Place, Way};
use service::Known;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch::{Receiver, Sender};

/// Tells workers that something has changed that they should take over. All configurations of a process have the same.
type News = Sender<()>;

/// The backends of all `http-proxy` rules and of the `tcp-proxy` listeners of this server.
#[derive(Debug)]
pub(crate) struct ForeignServers {
    pools: Vec<Arc<ForeignPool>>,
    /// Of all rules whose backends have TLS.
    tls: Vec<Arc<BackendTls>>,
    news: News,
}

/// A server that is not ours.
#[derive(Debug)]
pub(crate) struct ForeignBackend {
    /// `host:port`, or `unix:path`.
    id: ServerId,
    /// What it is addressed by in requests that name nobody.
    authority: Box<str>,
    pub(crate) protocol: BackendProtocol,
    pub(crate) is_encrypted: bool,
    way: Way,
    /// What the checks say.
    up: AtomicBool,
    /// How often its name has come to mean other addresses.
    moved: AtomicU32,
    breaks: Arc<AtomicU32>,
    checks: Option<Checks>,
}

impl ForeignServers {
    /// Those of the rules of the cluster of `me`, and of its own `tcp-proxy` listeners. What the configuration `before` has alike is taken over
    /// with all that is known of it: whole rules, and of rules that have changed the backends that are checked as they were. Blocks on the file
    /// system, and for a moment on the name servers that are asked for services.
    ///
    /// # Errors
    /// What is wrong with the files of TLS.
    pub(crate) fn new(
        (cluster, me): (&Cluster, &ServerId),
        key: &ClusterKey,
        before: Option<&Self>,
    ) -> Result<Self, TlsError> {
        let rules =
            cluster.hosts.iter().flat_map(|host| &host.dispatch).filter_map(|rule| rule.action.foreign());
        let tcp = cluster.servers.iter().filter(|server| server.id == *me).flat_map(|server| &server.tcp);
        let rules: Vec<_> = rules.chain(tcp.flat_map(TcpListener::targets)).collect();
        let tls = load_tls(&rules, before.map_or(&[][..], |before| &before.tls))?;
        let known = before.map_or(&[][..], |before| &before.pools);
        let goes = |pool: &&Arc<ForeignPool>| !rules.iter().any(|rule| **rule == pool.config);
        let mut left = Left::of(known.iter().filter(goes));
        let services = known_services(&rules, known);
        let mut pools: Vec<Arc<ForeignPool>> = Vec::new();
        for config in &rules {
            if find(&pools, config).is_none() {
                let same = find(known, config).cloned();
                let said = |name: &str| services.get(&(name.to_owned(), config.resolver.clone())).cloned();
                let new = || Arc::new(ForeignPool::new(config, key, &mut left, &tls, said));
                pools.push(same.unwrap_or_else(new));
            }
        }
        Ok(Self { pools, tls, news: before.map_or_else(|| Sender::new(()), |before| before.news.clone()) })
    }

    /// Those of one rule, be it one that asks them about requests.
    pub(crate) fn pool(&self, rule: &HttpProxy) -> Option<&Arc<ForeignPool>> {
        find(&self.pools, rule)
    }

    /// Hears when workers should look at [`ForeignBackend::state`] again.
    pub(crate) fn news(&self) -> Receiver<()> {
        self.news.subscribe()
    }

    /// How the backends are, in the order of the file.
    pub(crate) fn report(&self) -> Vec<BackendHealth> {
        let pools = self.pools.iter().enumerate();
        let each = pools.flat_map(|(rule, pool)| {
            let members = pool.members();
            members.backends.iter().map(|it| it.report(rule)).collect::<Vec<_>>()
        });
        each.collect()
    }
}

/// The TLS of all rules that have some: what `known` has already is not read again.
fn load_tls(rules: &[&HttpProxy], known: &[Arc<BackendTls>]) -> Result<Vec<Arc<BackendTls>>, TlsError> {
    let mut found: Vec<Arc<BackendTls>> = Vec::new();
    for config in rules.iter().filter_map(|rule| rule.tls.as_deref()) {
        if !found.iter().any(|it| it.is_of(config)) {
            let same = known.iter().find(|it| it.is_of(config)).cloned();
            found.push(same.map_or_else(|| BackendTls::load(config), Ok)?);
        }
    }
    Ok(found)
}

/// What DNS says of the services of all rules: what `known` has already is not asked for again.
fn known_services(rules: &[&HttpProxy], known: &[Arc<ForeignPool>]) -> Known {
    let mut services = Known::new();
    for pool in known {
        for (place, (_, name)) in pool.services().enumerate() {
            if let Some(answer) = pool.answer(place) {
                services.insert((name.to_owned(), pool.config.resolver.clone()), answer);
            }
        }
    }
    let wanted = rules.iter().flat_map(|rule| {
        rule.backends.iter().filter_map(|it| match &it.at {
            BackendAddress::Service(name) => Some((name.clone(), rule.resolver.clone())),
            BackendAddress::Host { .. } | BackendAddress::Socket(_) => None,
        })
    });
    service::first_look_ups(&mut services, wanted);
    services
}

fn find<'a>(pools: &'a [Arc<ForeignPool>], rule: &HttpProxy) -> Option<&'a Arc<ForeignPool>> {
    pools.iter().find(|pool| pool.config == *rule)
}

/// The backends of rules that have gone, or changed.
struct Left(Vec<(config::Backend, Arc<ForeignPool>, Arc<ForeignBackend>)>);

impl Left {
    fn of<'a>(pools: impl Iterator<Item = &'a Arc<ForeignPool>>) -> Self {
        let backends = pools.flat_map(|pool| {
            let members = pool.members();
            let known = members.each().map(|(it, state)| (it.clone(), pool.clone(), state.clone()));
            known.collect::<Vec<_>>()
        });
        Self(backends.collect())
    }

    /// What is known of a backend, if one there was is just this. Only one rule gets it.
    fn take(&mut self, backend: &config::Backend, rule: &HttpProxy) -> Option<Arc<ForeignBackend>> {
        let is_it = |(it, former, _): &(config::Backend, Arc<ForeignPool>, _)| {
            (&it.at, it.protocol, it.tls) == (&backend.at, backend.protocol, backend.tls)
                && former.config.health_check == rule.health_check
                && former.config.proxy_protocol == rule.proxy_protocol
                && former.config.resolver == rule.resolver
                && (!backend.tls || former.config.tls == rule.tls)
        };
        let place = self.0.iter().position(is_it)?;
        Some(self.0.swap_remove(place).2)
    }
}

/// Those of the rules of the cluster of `me`, and of its own `tcp-proxy` listeners. What the configuration `before` has alike is taken over
/// with all that is known of it: whole rules, and of rules that have changed the backends that are checked as they were. Blocks on the file
/// system, and for a moment on the name servers that are asked for services.
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
    fn new(backend: &config::Backend, rule: &HttpProxy, tls: Option<&Arc<BackendTls>>) -> Self {
        Self {
            id: backend.name().into(),
            authority: backend.authority().into(),
            protocol: backend.protocol,
            is_encrypted: backend.tls,
            way: Way {
                place: Place::new(&backend.at, &rule.resolver),
                tls: tls.filter(|_| backend.tls).map(|tls| TlsConnector::new(tls.clone(), backend)),
                proxy_protocol: rule.proxy_protocol,
            },
            up: AtomicBool::new(true),
            moved: AtomicU32::new(0),
            breaks: Arc::default(),
            checks: rule.health_check.as_ref().map(|check| Checks::new(check, backend)),
        }
    }

    /// `host:port` as the rule has it, or `unix:path`.
    pub(crate) fn name(&self) -> &str {
        self.id.as_str()
    }

    /// The `:authority` of requests that name nobody.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// What is known now.
    pub(crate) fn state(&self) -> BackendState {
        BackendState { up: self.up.load(Ordering::Relaxed), moved: self.moved.load(Ordering::Relaxed) }
    }

    /// A connection to whichever of its addresses answers, within `within`; for the client `whose` it is.
    ///
    /// # Errors
    /// As [`Way::connect`].
    pub(crate) async fn dial(&self, whose: Option<Endpoints>, within: Duration) -> io::Result<Stream> {
        self.way.connect(whose, within).await
    }

    /// One worker's view of its broken connections.
    pub(crate) fn breaks(&self) -> SeenBreaks {
        SeenBreaks::new(self.breaks.clone())
    }
}

#[cfg(test)]
mod tests;
