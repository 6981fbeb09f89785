//! The servers that a rule has at present: those that it names, and those that DNS knows of a service. They may change while requests
//! are under way: each worker takes over the list that there is now, and requests end by the one that they began with.

use super::{ForeignBackend, Left, dns::Data, service};
use crate::{
    transport::tls::BackendTls,
    upstream::{balance, sticky::Stickiness},
};
use arc_swap::ArcSwap;
use cluster_port::ClusterKey;
use common::config::{self, BackendAddress, BackendProtocol, HttpProxy};
use std::sync::{Arc, Mutex, PoisonError};

/// The backends of one rule, or of several that say the same.
#[derive(Debug)]
pub(crate) struct ForeignPool {
    /// The rule.
    pub(crate) config: HttpProxy,
    members: ArcSwap<Members>,
    /// What DNS has last said of each service of the rule, in order.
    answers: Mutex<Vec<Option<Vec<Data>>>>,
    tls: Option<Arc<BackendTls>>,
    key: ClusterKey,
}

/// The servers of a rule.
#[derive(Debug)]
pub(crate) struct Members {
    /// What is said of each: those that the rule names in its order, then those of its services.
    configs: Vec<config::Backend>,
    pub(crate) backends: Vec<Arc<ForeignBackend>>,
    /// What clients stay by.
    pub(crate) stickiness: Stickiness,
}

impl ForeignPool {
    /// `said`: what is known of a service.
    pub(super) fn new(
        config: &HttpProxy,
        key: &ClusterKey,
        left: &mut Left,
        tls: &[Arc<BackendTls>],
        said: impl Fn(&str) -> Option<Vec<Data>>,
    ) -> Self {
        let tls = config.tls.as_deref().and_then(|config| tls.iter().find(|it| it.is_of(config)));
        let answers: Vec<_> = services(config).map(|(_, name)| said(name)).collect();
        let make = |it: &config::Backend| {
            left.take(it, config).unwrap_or_else(|| Arc::new(ForeignBackend::new(it, config, tls)))
        };
        let members = Members::new(config, key, expanded(config, &answers), make);
        Self {
            config: config.clone(),
            members: ArcSwap::from_pointee(members),
            answers: Mutex::new(answers),
            tls: tls.cloned(),
            key: key.clone(),
        }
    }

    /// Whether it is of a `tcp-proxy`.
    pub(crate) fn is_tcp(&self) -> bool {
        self.config.backends.iter().all(|it| it.protocol == BackendProtocol::Tcp)
    }

    /// The present ones.
    pub(crate) fn members(&self) -> Arc<Members> {
        self.members.load_full()
    }

    /// Whether these are not the present ones any more.
    pub(crate) fn has_others_than(&self, members: &Arc<Members>) -> bool {
        !Arc::ptr_eq(&self.members.load(), members)
    }

    /// The services of the rule: the entry of the file, and the name.
    pub(super) fn services(&self) -> impl Iterator<Item = (&config::Backend, &str)> {
        services(&self.config)
    }

    /// What DNS has last said of a service.
    pub(super) fn answer(&self, place: usize) -> Option<Vec<Data>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)[place].clone()
    }

    /// Those of the members that the rule names itself: they never change.
    pub(super) fn named(&self) -> Vec<Arc<ForeignBackend>> {
        self.members().backends.iter().take(self.count_named()).cloned().collect()
    }

    /// The others of the present ones.
    pub(super) fn found(&self) -> Vec<Arc<ForeignBackend>> {
        self.members().backends.iter().skip(self.count_named()).cloned().collect()
    }

    fn count_named(&self) -> usize {
        self.config.backends.len() - self.services().count()
    }

    /// Takes over what DNS says of a service; whether the members are others now. Those that stay keep what is known of them.
    pub(super) fn take(&self, place: usize, said: Vec<Data>) -> bool {
        let configs = {
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers[place] = Some(said);
            expanded(&self.config, &answers)
        };
        let before = self.members();
        if configs == before.configs {
            return false;
        }
        let names = |list: &[config::Backend], other: &[config::Backend]| {
            let only = list.iter().filter(|it| !other.iter().any(|known| known.at == it.at));
            only.map(config::Backend::name).collect::<Vec<_>>().join(" ")
        };
        let (came, went) = (names(&configs, &before.configs), names(&before.configs, &configs));
        let (rule, servers) = (self.name(), configs.len());
        if came.is_empty() && went.is_empty() {
            tracing::info!(rule, servers, "the servers of a service have other weights or priorities");
        } else {
            tracing::info!(rule, came, went, servers, "a service has other servers");
        }
        let make = |it: &config::Backend| {
            let known = before
                .configs
                .iter()
                .position(|known| (&known.at, known.protocol, known.tls) == (&it.at, it.protocol, it.tls));
            let made = || Arc::new(ForeignBackend::new(it, &self.config, self.tls.as_ref()));
            known.map_or_else(made, |known| before.backends[known].clone())
        };
        self.members.store(Arc::new(Members::new(&self.config, &self.key, configs, make)));
        true
    }

    /// What it is called: the first entry of the rule.
    pub(crate) fn name(&self) -> String {
        self.config.backends.first().map(config::Backend::name).unwrap_or_default()
    }
}

impl Members {
    fn new(
        config: &HttpProxy,
        key: &ClusterKey,
        configs: Vec<config::Backend>,
        make: impl FnMut(&config::Backend) -> Arc<ForeignBackend>,
    ) -> Self {
        let backends: Vec<_> = configs.iter().map(make).collect();
        let stickiness = Stickiness::new(&config.cookie, key, backends.iter().map(|it| &it.id));
        Self { configs, backends, stickiness }
    }

    /// Each with what the rule or DNS says of it.
    pub(super) fn each(&self) -> impl Iterator<Item = (&config::Backend, &Arc<ForeignBackend>)> {
        self.configs.iter().zip(&self.backends)
    }

    /// As a balance has them.
    pub(crate) fn balanced(&self, config: &HttpProxy) -> impl Iterator<Item = balance::Backend> {
        self.each().map(|(backend, state)| balance::Backend {
            id: state.id.clone(),
            weight: backend.weight,
            recover_time: config.recover_time,
            busy_recover_time: config.recover_time,
            warmup_time: config.warmup_time,
            backup: backend.backup,
        })
    }
}

fn services(config: &HttpProxy) -> impl Iterator<Item = (&config::Backend, &str)> {
    config.backends.iter().filter_map(|it| match &it.at {
        BackendAddress::Service(name) => Some((it, name.as_str())),
        BackendAddress::Host { .. } | BackendAddress::Socket(_) => None,
    })
}

/// All servers that the entries of a rule stand for, each once.
fn expanded(config: &HttpProxy, answers: &[Option<Vec<Data>>]) -> Vec<config::Backend> {
    let is_service = |it: &&config::Backend| matches!(it.at, BackendAddress::Service(_));
    let mut all: Vec<config::Backend> =
        config.backends.iter().filter(|it| !is_service(it)).cloned().collect();
    for ((entry, _), answer) in services(config).zip(answers) {
        for server in service::servers(entry, answer.as_deref().unwrap_or_default()) {
            if !all.iter().any(|it| it.at == server.at) {
                all.push(server);
            }
        }
    }
    all
}
