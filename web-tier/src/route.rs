//! What the configuration says of a worker's requests: whither they go, and what they may be. A reload puts another one in its
//! place; a request keeps the one that it began with.

pub(crate) mod client_limits;
pub(crate) mod host;
pub(crate) mod normalise;
pub(crate) mod pages;
pub(crate) mod rules;
pub(crate) mod session_url;
pub(crate) mod tcp;
pub(crate) mod trusted;

use crate::{
    access::Access,
    cache::{
        Cache,
        disk::{Disk, Settings},
        in_use,
        settings::CacheSettings,
    },
    http1::HeadLimits,
    limit::LimitTables,
    upstream::{Upstream, Upstreams, breaks::Breaks, foreign::ForeignServers},
};
use client_limits::Limits;
use cluster_port::Credentials;
use common::{
    cidr::CidrSet,
    config::{Action, Cluster, Compression, Config, HttpProxy, Rule},
    id::ServerId,
    tls_files::TlsError,
};
use host::Hosts;
use pages::{PageError, Pages};
use std::{io, path::PathBuf, rc::Rc, sync::Arc, time::Duration};
use tcp::TcpService;

/// The part of `memory-size` that may wait, beside it, to be written to disk.
const WAITING_PART: u64 = 8;

/// What all workers go by, until the file is read again.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) config: Arc<Config>,
    /// Of all servers of the file.
    pub(crate) breaks: Arc<Breaks>,
    /// Those of the rules of this server's cluster.
    pub(crate) foreign: Arc<ForeignServers>,
    /// Who may pass.
    pub(crate) access: Arc<Access>,
    /// What the limits of these rules have counted.
    pub(crate) limit_tables: Arc<LimitTables>,
    /// What is kept of answers, if the cluster has a `proxy-cache`.
    pub(crate) cache: Option<Arc<Cache>>,
    /// Those for errors, and for hosts that are closed.
    pub(crate) pages: Arc<Pages>,
}

/// Why a plan can't be.
#[derive(Debug)]
pub(crate) enum PlanError {
    /// Which folder can't be used, and why.
    Cache(PathBuf, io::Error),
    Tls(TlsError),
    Page(PageError),
}

impl From<TlsError> for PlanError {
    fn from(cause: TlsError) -> Self {
        Self::Tls(cause)
    }
}

impl From<PageError> for PlanError {
    fn from(cause: PageError) -> Self {
        Self::Page(cause)
    }
}

impl From<(PathBuf, io::Error)> for PlanError {
    fn from((path, cause): (PathBuf, io::Error)) -> Self {
        Self::Cache(path, cause)
    }
}

impl Plan {
    /// What the web tier of a server begins with; what it is to keep answers in is opened.
    ///
    /// # Errors
    /// The folder for what is kept on disk can't be used; the files of TLS to backends, of users or of tokens are wrong; a page can't be
    /// read.
    pub(crate) fn new(
        config: &Arc<Config>,
        (cluster, me): (&Cluster, &ServerId),
        credentials: &Credentials,
    ) -> Result<Self, PlanError> {
        Ok(Self {
            breaks: Arc::new(Breaks::new(config)),
            pages: Arc::new(Pages::read(cluster)?),
            foreign: Arc::new(ForeignServers::new((cluster, me), credentials.key(), None)?),
            access: Arc::new(Access::new(cluster, None)?),
            limit_tables: Arc::new(LimitTables::new((cluster, me), None)),
            cache: Self::cache_for(config, (cluster, me), (true, None))?,
            config: config.clone(),
        })
    }

    /// The cache that a server is to have: the former one if it is as large, and what is on disk if it is in the same folder.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn cache_for(
        config: &Config,
        (cluster, me): (&Cluster, &ServerId),
        (is_start, former): (bool, Option<&Arc<Cache>>),
    ) -> Result<Option<Arc<Cache>>, (PathBuf, io::Error)> {
        let tier = cluster.proxy_cache.as_ref().and_then(|it| it.disk.as_ref());
        let folder = tier.map(|it| it.folder(&config.data_dir, me));
        // What was not in use for a while does not know what has changed meanwhile.
        let is_known = !is_start || in_use::take(&config.data_dir.join(me.as_str()), folder.as_deref());
        let Some(wanted) = &cluster.proxy_cache else { return Ok(None) };
        let rules = format!(
            "{} {} {:?} {:?}",
            wanted.store_set_cookie, wanted.vary_is_private, wanted.error_max_age, wanted.mappings
        );
        let disk = match (tier, folder) {
            (Some(tier), Some(folder)) => {
                let settings = Settings {
                    folder: folder.clone(),
                    capacity: tier.size,
                    waiting: (wanted.memory_size / WAITING_PART).clamp(1 << 20, 64 << 20),
                };
                match former.and_then(|it| it.disk()).filter(|it| it.settings().folder == folder) {
                    Some(same) => {
                        same.resize(tier.size);
                        Some(same.clone())
                    }
                    None => {
                        let opened = Disk::open(settings, &rules).map_err(|cause| (folder, cause))?;
                        if !is_start {
                            opened.begin_empty();
                        } else if !is_known {
                            opened.forget_all();
                        }
                        Some(opened)
                    }
                }
            }
            _ => None,
        };
        let is_same = |it: &&Arc<Cache>| {
            it.capacity() == wanted.memory_size
                && it.rules() == rules
                && it.disk().map(Arc::as_ptr) == disk.as_ref().map(Arc::as_ptr)
        };
        let same = former.filter(is_same).cloned();
        Ok(Some(same.unwrap_or_else(|| Cache::new(wanted.memory_size, rules, disk))))
    }
}

/// One configuration, as one worker has it.
#[derive(Debug, Clone)]
pub(crate) struct Routes {
    pub(crate) hosts: Rc<Hosts>,
    /// The clusters that rules name, in the order of their [`Target`](crate::route::rules::Target)s' places.
    pub(crate) upstreams: Vec<Rc<Upstream>>,
    /// The backends of `http-proxy` rules, in the order of their [`ForeignTarget`](crate::route::rules::ForeignTarget)s' places, then
    /// those of `tcp-proxy` listeners.
    pub(crate) foreign: Vec<Rc<Upstream>>,
    /// What the `tcp-proxy` listeners do with their connections.
    pub(crate) tcp: Vec<Rc<TcpService>>,
    pub(crate) limits: Limits,
    pub(crate) head_limits: HeadLimits,
    /// `body-max`, in bytes.
    pub(crate) body_max: u64,
    /// `keepalive-max`.
    pub(crate) keepalive_max: u64,
    /// A rule has `session-url`.
    pub(crate) session_urls: bool,
    /// A rule has `proxy-protocol`: where clients have connected to is to be known.
    pub(crate) tells_endpoints: bool,
    /// Whose word on a client's address is believed.
    pub(crate) trusted: CidrSet,
    /// Answers that are kept, if the configuration wants that.
    pub(crate) cache: Option<CacheSettings>,
    /// What is compressed, if anything.
    pub(crate) compression: Option<Compression>,
    pub(crate) pages: Arc<Pages>,
}

impl Routes {
    /// Those of a worker.
    pub(crate) fn new(plan: &Plan, me: &ServerId, credentials: &Credentials, workers: usize) -> Self {
        let config = &plan.config;
        let mut upstreams = Upstreams::new(config, me, credentials, workers, &plan.breaks);
        let (cluster, server) = config.server(me).expect("checked by WebTier::start");
        let requests = server.request_limits;
        let hosts = Hosts::new(cluster, &mut upstreams, (&plan.limit_tables, &plan.access));
        let upstreams = upstreams.into_list();
        let tells_endpoints = hosts.foreign().iter().any(|rule| rule.proxy_protocol.is_some());
        let mut rules: Vec<&HttpProxy> = hosts.foreign().iter().collect();
        let of_http = rules.len();
        let tcp = server
            .tcp
            .iter()
            .map(|it| Rc::new(TcpService::new(it, (&mut rules, of_http), &plan.limit_tables)));
        let tcp = tcp.collect();
        let foreign = rules.into_iter().map(|rule| {
            let pool = plan.foreign.pool(rule).expect("made of the rules of the same cluster");
            Rc::new(Upstream::foreign(pool, workers))
        });
        let foreign: Vec<_> = foreign.collect();
        let silence = upstreams.iter().chain(&foreign).map(|upstream| upstream.shortest_silence()).min();
        Self {
            hosts: Rc::new(hosts),
            upstreams,
            foreign,
            tcp,
            limits: Limits::new(server, silence.unwrap_or(Duration::MAX)),
            head_limits: HeadLimits {
                count: requests.header_count,
                bytes: requests.header_bytes,
                target: requests.uri,
            },
            body_max: requests.body.map_or(u64::MAX, u64::from),
            keepalive_max: requests.keepalive.map_or(u64::MAX, u64::from),
            tells_endpoints,
            session_urls: cluster.hosts.iter().flat_map(|host| &host.dispatch).any(takes_session_urls),
            trusted: cluster.trusted_proxies.iter().copied().collect(),
            cache: plan
                .cache
                .clone()
                .zip(cluster.proxy_cache.clone())
                .map(|(cache, config)| CacheSettings::new(cache, config)),
            compression: cluster.compression.clone(),
            pages: plan.pages.clone(),
        }
    }

    /// The same with the clusters and foreign backends of `former` that have not changed, and of clusters that have with their
    /// servers that have not: the states of these servers, and their sockets, live on.
    pub(crate) fn keeping(mut self, former: &Self) -> Self {
        for upstream in self.upstreams.iter_mut().chain(&mut self.foreign) {
            if let Some(same) = former.all().find(|it| it.is_like(upstream)) {
                *upstream = same.clone();
            } else if let Some(before) = former.all().find(|it| upstream.succeeds(it)) {
                Rc::get_mut(upstream)
                    .expect("made a moment ago, for this configuration alone")
                    .take_over(before);
            }
        }
        self
    }

    /// The same with the servers that services have now; `None` where none have others than before.
    pub(crate) fn renewed(&self) -> Option<Self> {
        let renewed: Vec<_> = self.foreign.iter().map(|it| it.renewed()).collect();
        if renewed.iter().all(Option::is_none) {
            return None;
        }
        let foreign = renewed.into_iter().zip(&self.foreign);
        let foreign = foreign.map(|(new, old)| new.map_or_else(|| old.clone(), Rc::new)).collect();
        Some(Self { foreign, ..self.clone() })
    }

    /// What the `tcp-proxy` listener of this name does with its connections.
    pub(crate) fn tcp(&self, name: &str) -> Option<&Rc<TcpService>> {
        self.tcp.iter().find(|it| *it.name == *name)
    }

    /// Wherever requests may go.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Rc<Upstream>> {
        self.upstreams.iter().chain(&self.foreign)
    }
}

fn takes_session_urls(rule: &Rule) -> bool {
    matches!(&rule.action, Action::LoadBalance(action) if action.session_url)
}
