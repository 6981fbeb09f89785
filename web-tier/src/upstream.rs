//! A cluster that requests are forwarded to, or the backends of an `http-proxy`, as one worker has it: its servers' states, and
//! a pool of sockets for each.

pub(crate) mod balance;
pub(crate) mod breaks;
pub(crate) mod exchange;
pub(crate) mod foreign;
pub(crate) mod h2c;
pub(crate) mod pool;
pub(crate) mod sticky;

use crate::{
    http1::Fields,
    upstream::{
        balance::{Affinity, Balance, Sockets, Ticket, Tried, Verdict, budget::RetryBudget},
        breaks::{Breaks, SeenBreaks},
        foreign::{BackendState, ForeignBackend, ForeignPool, Members},
        pool::{ClientSockets, Connections, Dialler, ServerPool, SocketPool, StreamPool},
        sticky::Stickiness,
    },
};
use cluster_port::Credentials;
use common::{
    config::{self, BackendProtocol, Cluster, Config, Server, StickyCookie, Strategy},
    id::{ClusterId, ServerId, ServerIndex},
    session_id,
};
use proto::{
    hub::v1::Member,
    status::v1::{self as status, UpstreamKind, WorkerView},
};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// A cluster, or servers that are not ours.
#[derive(Debug)]
pub(crate) struct Upstream {
    whose: Whose,
    /// Tells it from all others of the file, and is the same in all web-tiers.
    label: Box<str>,
    balance: RefCell<Balance>,
    budget: RefCell<RetryBudget>,
    servers: Vec<UpstreamServer>,
}

/// Whose servers they are.
#[derive(Debug)]
enum Whose {
    /// Members of a cluster: the hub tells of them.
    Cluster {
        id: ClusterId,
        /// What of the configuration it was made of.
        made_of: String,
        session_cookie: Box<str>,
    },
    /// This server, through its own cluster port: no word of the hub, nor an administrator's, keeps it from itself.
    Myself { made_of: String },
    /// Checks tell of them. What they say of Copal's own matters means nothing.
    Foreign {
        pool: Arc<ForeignPool>,
        /// Its servers when this was made, in the same order.
        members: Arc<Members>,
        taken_over: RefCell<Vec<BackendState>>,
        workers: usize,
    },
}

impl Whose {
    /// A server that is not ours.
    fn backend(&self, index: usize) -> Option<&Arc<ForeignBackend>> {
        match self {
            Self::Foreign { members, .. } => members.backends.get(index),
            Self::Cluster { .. } | Self::Myself { .. } => None,
        }
    }
}

/// What a request needs of one server.
#[derive(Debug)]
pub(crate) struct UpstreamServer {
    /// Its id.
    pub(crate) name: Rc<str>,
    pub(crate) pool: ServerPool,
    /// `load-balance-socket-timeout`.
    pub(crate) silence_max: Duration,
    /// How often the hub has said that its process is gone. A request that began under another number waits in vain.
    life: Cell<u32>,
    breaks: SeenBreaks,
    /// What of the configuration it was made of, if it is a server of ours.
    made_of: String,
}

impl UpstreamServer {
    /// Lets go of the sockets from before a connection broke, on whichever worker it was.
    pub(crate) fn heed_breaks(&self) {
        if self.breaks.news() {
            self.pool.clear();
        }
    }
}

impl Upstream {
    fn new(
        cluster: &Cluster,
        me: &ServerId,
        credentials: &Credentials,
        workers: usize,
        breaks: &Breaks,
    ) -> Self {
        let servers = cluster.servers.iter().map(|server| UpstreamServer {
            name: server.id.as_str().into(),
            pool: ServerPool::Sockets(SocketPool::new(
                server.into(),
                Dialler::new(server, me, credentials),
                workers,
            )),
            silence_max: server.balance_socket_timeout,
            life: Cell::new(0),
            breaks: breaks.of(&server.id),
            made_of: made_of_server(server),
        });
        let (id, session_cookie) = (cluster.id.clone(), cluster.session_cookie.as_str().into());
        Self {
            label: format!("cluster {id}").into(),
            whose: Whose::Cluster { id, made_of: made_of(cluster), session_cookie },
            balance: RefCell::new(Balance::new(cluster, rand::random())),
            budget: RefCell::new(RetryBudget::new(Instant::now())),
            servers: servers.collect(),
        }
    }

    /// The present backends of an `http-proxy`; the limits of each are divided by `workers`.
    pub(crate) fn foreign(pool: &Arc<ForeignPool>, workers: usize) -> Self {
        let (rule, members) = (&pool.config, pool.members());
        let connections = |backend: &Arc<ForeignBackend>| {
            let dialler = Dialler::Foreign { backend: backend.clone(), timeout: rule.connect_timeout };
            match backend.protocol {
                BackendProtocol::Http1 if rule.proxy_protocol.is_some() => {
                    ServerPool::ClientSockets(ClientSockets::new(rule.into(), dialler, workers))
                }
                BackendProtocol::Http1 => ServerPool::Sockets(SocketPool::new(rule.into(), dialler, workers)),
                BackendProtocol::Tcp => {
                    ServerPool::Connections(Connections::new(rule.into(), dialler, workers))
                }
                BackendProtocol::Http2 => ServerPool::Streams(StreamPool::new(rule.into(), dialler, workers)),
            }
        };
        let server = |backend: &Arc<ForeignBackend>| UpstreamServer {
            name: backend.name().into(),
            pool: connections(backend),
            silence_max: rule.socket_timeout,
            life: Cell::new(0),
            breaks: backend.breaks(),
            made_of: String::new(),
        };
        let upstream = Self {
            balance: RefCell::new(
                Balance::of(members.balanced(rule), rand::random()).ejecting(rule.outlier_detection),
            ),
            budget: RefCell::new(RetryBudget::new(Instant::now())),
            // As the file names them: a service is the same one, whatever servers it has.
            label: rule.backends.iter().map(config::Backend::name).collect::<Vec<_>>().join(" ").into(),
            servers: members.backends.iter().map(server).collect(),
            whose: Whose::Foreign {
                pool: pool.clone(),
                taken_over: RefCell::new(vec![BackendState::START; members.backends.len()]),
                members,
                workers,
            },
        };
        upstream.foreign_changed();
        upstream
    }

    /// A name that tells it from all others of the file.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// The rule of its servers, if they are not ours.
    pub(crate) fn foreign_rule(&self) -> Option<&config::HttpProxy> {
        match &self.whose {
            Whose::Cluster { .. } | Whose::Myself { .. } => None,
            Whose::Foreign { pool, .. } => Some(&pool.config),
        }
    }

    /// Its servers, if they are not ours.
    pub(crate) fn foreign_members(&self) -> Option<&Members> {
        match &self.whose {
            Whose::Cluster { .. } | Whose::Myself { .. } => None,
            Whose::Foreign { members, .. } => Some(members),
        }
    }

    /// The same with the servers that a service has now, if they are others: those that stay keep their states and sockets.
    pub(crate) fn renewed(&self) -> Option<Self> {
        let Whose::Foreign { pool, members, workers, .. } = &self.whose else { return None };
        if !pool.has_others_than(members) {
            return None;
        }
        let mut renewed = Self::foreign(pool, *workers);
        renewed.take_over(self);
        Some(renewed)
    }

    /// Takes over what checks and look-ups say of foreign backends.
    pub(crate) fn foreign_changed(&self) {
        let Whose::Foreign { members, taken_over, .. } = &self.whose else { return };
        let (mut taken_over, mut balance) = (taken_over.borrow_mut(), self.balance.borrow_mut());
        for (index, (backend, before)) in members.backends.iter().zip(&mut *taken_over).enumerate() {
            let state = backend.state();
            let before = std::mem::replace(before, state);
            let mut stale = before.moved != state.moved;
            if before.up != state.up {
                stale |= balance.server(index).health_changed(Instant::now(), state.up) != Sockets::Keep;
            }
            if stale {
                self.servers[index].pool.clear();
            }
        }
    }

    /// Whether a configuration made another one just like this: then this one, with what it knows of its servers and with its
    /// sockets, can stay.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        match (&self.whose, &other.whose) {
            (
                Whose::Cluster { id, made_of, .. },
                Whose::Cluster { id: other_id, made_of: other_made_of, .. },
            ) => id == other_id && made_of == other_made_of,
            (Whose::Myself { made_of }, Whose::Myself { made_of: other }) => made_of == other,
            // Rules that have not changed keep their pool, and that its members as long as they are the same.
            (Whose::Foreign { members, .. }, Whose::Foreign { members: other, .. }) => {
                Arc::ptr_eq(members, other)
            }
            _ => false,
        }
    }

    /// Whether a former configuration had the same cluster, with other servers or settings.
    pub(crate) fn succeeds(&self, former: &Self) -> bool {
        match (&self.whose, &former.whose) {
            (Whose::Cluster { id, .. }, Whose::Cluster { id: of_former, .. }) => id == of_former,
            (Whose::Foreign { pool, .. }, Whose::Foreign { pool: of_former, .. }) => {
                Arc::ptr_eq(pool, of_former)
            }
            _ => false,
        }
    }

    /// Takes over the sockets to those servers of a `former` configuration whose own settings are as they were, and what is
    /// known of them: one that fails is not to be tried anew because another one was added.
    pub(crate) fn take_over(&mut self, former: &Self) {
        // It is to have heard what this one has, of which it goes on.
        former.foreign_changed();
        let balance = self.balance.get_mut();
        for (index, server) in self.servers.iter_mut().enumerate() {
            let is_same = |(at, it): (usize, &UpstreamServer)| {
                let backends = (self.whose.backend(index), former.whose.backend(at));
                let alike = match backends {
                    (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                    _ => it.made_of == server.made_of,
                };
                (alike && it.name == server.name).then_some(at)
            };
            let Some(of) = former.servers.iter().enumerate().find_map(is_same) else { continue };
            balance.take_over(index, &former.balance.borrow(), of);
            server.pool = former.servers[of].pool.clone();
            server.breaks.go_on_from(&former.servers[of].breaks);
        }
    }

    /// A request begins; the retry budget grows with each.
    pub(crate) fn count_request(&self, now: Instant) {
        self.budget.borrow_mut().request(now);
    }

    /// Whether the retry budget has room for one more try; takes it.
    pub(crate) fn may_retry(&self, now: Instant) -> bool {
        self.budget.borrow_mut().try_retry(now)
    }

    /// The session on the hub that a request with these fields belongs to. The cluster's cookie says it, or the URL where there is no
    /// such cookie. Of several values the one counts that looks like an id of this cluster, else one that names a server.
    pub(crate) fn session<'a>(&'a self, fields: &'a Fields, in_url: Option<&'a str>) -> Affinity<'a> {
        let Whose::Cluster { session_cookie, .. } = &self.whose else { return Affinity::None };
        let servers = self.servers.len();
        let mut other = None;
        for value in sticky::values(fields, session_cookie) {
            if session_id::is_like_ours(value, servers) {
                return Affinity::Session(value);
            }
            if other.is_none_or(|it| session_id::home(it, servers).is_none()) {
                other = Some(value);
            }
        }
        other.or(in_url).map_or(Affinity::None, Affinity::Session)
    }

    /// The shortest `load-balance-socket-timeout` of its servers.
    pub(crate) fn shortest_silence(&self) -> Duration {
        match &self.whose {
            // Whatever servers it may come to have.
            Whose::Foreign { pool, .. } => pool.config.socket_timeout,
            Whose::Cluster { .. } | Whose::Myself { .. } => {
                self.servers.iter().map(|server| server.silence_max).min().unwrap_or(Duration::MAX)
            }
        }
    }

    /// A server.
    pub(crate) fn server(&self, index: usize) -> &UpstreamServer {
        &self.servers[index]
    }

    /// Chooses a server, and counts the request among those that it has in flight.
    pub(crate) fn lease(
        self: &Rc<Self>,
        now: Instant,
        affinity: Affinity<'_>,
        strategy: Strategy,
        tried: Tried,
    ) -> Option<Lease> {
        let mut balance = self.balance.borrow_mut();
        let index = balance.choose_for(now, affinity, strategy, tried)?;
        // The time of the last tick is good enough but for the latency, which `adaptive` alone asks for.
        let begun = if strategy == Strategy::Adaptive { Instant::now() } else { now };
        let ticket = balance.server(index).begin(begun);
        let life = self.servers[index].life.get();
        Some(Lease { upstream: self.clone(), index, life, ticket: Cell::new(ticket) })
    }

    /// Lets sockets that are not used any more grow old, and decides who is ejected.
    pub(crate) fn settle(&self, now: Instant) {
        for server in &self.servers {
            server.pool.settle();
        }
        for verdict in self.balance.borrow_mut().judge(now) {
            match verdict {
                Verdict::Ejected { server, errors, requests, time } => {
                    let server = &*self.servers[server].name;
                    tracing::warn!(
                        server,
                        errors,
                        requests,
                        ?time,
                        "a server is ejected: its requests fail more than others'"
                    );
                }
                Verdict::Returned { server } => {
                    let server = &*self.servers[server].name;
                    tracing::info!(server, "a server that was ejected gets requests again");
                }
            }
        }
    }

    /// Where requests go and how that is, as this worker sees it.
    pub(crate) fn report(&self, worker: u32, now: Instant) -> status::Upstream {
        let (name, kind) = match &self.whose {
            Whose::Cluster { id, .. } => (id.to_string(), UpstreamKind::Cluster),
            Whose::Myself { .. } => (String::new(), UpstreamKind::Self_),
            Whose::Foreign { pool, .. } if pool.is_tcp() => (String::new(), UpstreamKind::Tcp),
            Whose::Foreign { pool, .. } => (pool.name(), UpstreamKind::Foreign),
        };
        let first = || self.servers.first().map_or(String::new(), |it| it.name.to_string());
        let balance = self.balance.borrow();
        let servers = self.servers.iter().enumerate().map(|(index, server)| {
            let (idle, waiting) = server.pool.waiting();
            let count = |it: usize| u32::try_from(it).unwrap_or(u32::MAX);
            let view = balance.report(index, now);
            let view = WorkerView { worker, idle: count(idle), waiting: count(waiting), ..view };
            status::UpstreamServer { id: server.name.to_string(), workers: vec![view], check: String::new() }
        });
        let name = if name.is_empty() { first() } else { name };
        status::Upstream { name, kind: kind.into(), servers: servers.collect() }
    }

    /// Takes over what the hub knows. Returns whether a server is gone that may have requests. Foreign backends are no members:
    /// a member with the name of one is another server.
    pub(crate) fn members_changed(&self, members: &[Member]) -> bool {
        if !matches!(self.whose, Whose::Cluster { .. }) {
            return false;
        }
        let changes = self.balance.borrow_mut().members_changed(Instant::now(), members);
        let mut gone = false;
        for (server, sockets) in self.servers.iter().zip(changes) {
            if sockets == Sockets::Break {
                server.life.set(server.life.get().wrapping_add(1));
                gone = true;
            }
            if sockets != Sockets::Keep {
                server.pool.clear();
            }
        }
        gone
    }
}

/// A cluster's settings as far as they matter to those who send requests there.
fn made_of(cluster: &Cluster) -> String {
    let servers: Vec<_> = cluster.servers.iter().map(made_of_server).collect();
    format!("{} {:?} {servers:?}", cluster.session_cookie, cluster.outlier_detection)
}

/// The same of one server, wherever in its cluster it is.
fn made_of_server(server: &Server) -> String {
    format!(
        "{:?}",
        Server { http: Vec::new(), tcp: Vec::new(), metrics: None, index: ServerIndex(0), ..server.clone() }
    )
}

/// A request that is in flight on a server; dropped when it has ended.
#[derive(Debug)]
pub(crate) struct Lease {
    upstream: Rc<Upstream>,
    index: usize,
    life: u32,
    ticket: Cell<Ticket>,
}

impl Lease {
    /// The server's index in its cluster.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Whether the hub has said, since the request began, that the server's process is gone.
    pub(crate) fn is_lost(&self) -> bool {
        self.upstream.servers[self.index].life.get() != self.life
    }

    /// The answer's head has come, with this status: 503 makes the server busy, and the time that it took counts. `now` is
    /// the time, not that of the last tick.
    pub(crate) fn answered(&self, now: Instant, status: u16) {
        // The administration on this server itself: that the hub is away, say, makes it not busy, and there is no other to go to.
        let myself = matches!(self.upstream.whose, Whose::Myself { .. });
        let status = if myself { 200 } else { status };
        let mut ticket = self.ticket.get();
        self.upstream.balance.borrow_mut().answered(self.index, now, &mut ticket, status);
        self.ticket.set(ticket);
    }

    /// It says that it did not look at the request: it can't serve any now, its own sessions' included.
    pub(crate) fn refused(&self, now: Instant) {
        self.upstream.balance.borrow_mut().connect_failed(self.index, now);
    }

    /// No connection could be made.
    pub(crate) fn unreachable(&self, now: Instant) {
        let opened = self.upstream.balance.borrow_mut().connect_failed(self.index, now);
        self.clear_pool_if(opened);
    }

    /// The connection broke, or was silent for too long.
    pub(crate) fn broke(&self, now: Instant) {
        self.upstream.servers[self.index].breaks.tell();
        let opened = self.upstream.balance.borrow_mut().read_failed(self.index, now, &self.ticket.get());
        self.clear_pool_if(opened);
    }

    /// The sockets of a server that has failed are not to be trusted: a request written on one that its machine has forgotten
    /// could not be sent again.
    fn clear_pool_if(&self, failed: bool) {
        if failed {
            self.upstream.servers[self.index].pool.clear();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.upstream.balance.borrow_mut().server(self.index).end(self.ticket.get());
    }
}

/// Collects the clusters that rules name while the rules are read.
#[derive(Debug)]
pub(crate) struct Upstreams<'a> {
    config: &'a Config,
    me: &'a ServerId,
    credentials: &'a Credentials,
    workers: usize,
    breaks: &'a Breaks,
    list: Vec<Rc<Upstream>>,
}

impl<'a> Upstreams<'a> {
    /// None yet. The limits of a server are divided by `workers`.
    pub(crate) fn new(
        config: &'a Config,
        me: &'a ServerId,
        credentials: &'a Credentials,
        workers: usize,
        breaks: &'a Breaks,
    ) -> Self {
        Self { config, me, credentials, workers, breaks, list: Vec::new() }
    }

    /// The place of a cluster in the list; `None` when the file has no such cluster.
    pub(crate) fn place(&mut self, id: &ClusterId) -> Option<usize> {
        let is_it = |it: &Rc<Upstream>| matches!(&it.whose, Whose::Cluster { id: other, .. } if other == id);
        if let Some(place) = self.list.iter().position(is_it) {
            return Some(place);
        }
        let cluster = self.config.cluster(id)?;
        self.list.push(Rc::new(Upstream::new(cluster, self.me, self.credentials, self.workers, self.breaks)));
        Some(self.list.len() - 1)
    }

    /// Whether the servers of a cluster run apps that are deployed.
    pub(crate) fn runs_deployed_apps(&self, id: &ClusterId) -> bool {
        self.config.deployments.enabled && self.config.app_clusters().contains(id)
    }

    /// What clients of a rule stay by that sends them to the cluster `id`.
    pub(crate) fn stickiness(&self, id: &ClusterId, cookie: &StickyCookie) -> Stickiness {
        let servers = self.config.cluster(id).into_iter().flat_map(|cluster| &cluster.servers);
        Stickiness::new(cookie, self.credentials.key(), servers.map(|server| &server.id))
    }

    /// The place of this server, which is in the cluster `id`, as an upstream of its own.
    pub(crate) fn place_of_self(&mut self, id: &ClusterId) -> Option<usize> {
        if let Some(place) = self.list.iter().position(|it| matches!(it.whose, Whose::Myself { .. })) {
            return Some(place);
        }
        let mut cluster = self.config.cluster(id)?.clone();
        cluster.servers.retain(|server| server.id == *self.me);
        let mut upstream = Upstream::new(&cluster, self.me, self.credentials, self.workers, self.breaks);
        upstream.label = "self".into();
        upstream.whose = Whose::Myself { made_of: made_of(&cluster) };
        self.list.push(Rc::new(upstream));
        Some(self.list.len() - 1)
    }

    /// All clusters that were named.
    pub(crate) fn into_list(self) -> Vec<Rc<Upstream>> {
        self.list
    }
}

#[cfg(test)]
mod tests;
