//! A cluster that requests are forwarded to, as one worker has it: its servers' states, and a pool of sockets for each.

use crate::{
    balance::{Balance, Sockets, Ticket, Tried, budget::RetryBudget},
    breaks::{Breaks, SeenBreaks},
    pool::{Dialler, ServerPool},
    rules::Target,
};
use common::{
    cluster_port::ClusterKey,
    config::{Cluster, Config, Strategy},
    id::{ClusterId, ServerId},
};
use proto::hub::v1::Member;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

/// A cluster.
#[derive(Debug)]
pub(crate) struct Upstream {
    id: ClusterId,
    session_cookie: Box<str>,
    balance: RefCell<Balance>,
    budget: RefCell<RetryBudget>,
    servers: Vec<UpstreamServer>,
}

/// What a request needs of one server.
#[derive(Debug)]
pub(crate) struct UpstreamServer {
    /// Its id.
    pub(crate) name: Rc<str>,
    pub(crate) pool: Rc<ServerPool>,
    /// `load-balance-socket-timeout`.
    pub(crate) silence_max: Duration,
    /// How often the hub has said that its process is gone. A request that began under another number waits in vain.
    life: Cell<u32>,
    breaks: SeenBreaks,
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
    fn new(cluster: &Cluster, me: &ServerId, key: &ClusterKey, workers: usize, breaks: &Breaks) -> Self {
        let servers = cluster.servers.iter().map(|server| UpstreamServer {
            name: server.id.as_str().into(),
            pool: ServerPool::new(server, Dialler::new(server, me, key), workers),
            silence_max: server.balance_socket_timeout,
            life: Cell::new(0),
            breaks: breaks.of(&server.id),
        });
        Self {
            id: cluster.id.clone(),
            session_cookie: cluster.session_cookie.as_str().into(),
            balance: RefCell::new(Balance::new(cluster, rand::random())),
            budget: RefCell::new(RetryBudget::new(Instant::now())),
            servers: servers.collect(),
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

    /// The cluster's name for its session cookie.
    pub(crate) fn session_cookie(&self) -> &str {
        &self.session_cookie
    }

    /// The shortest `load-balance-socket-timeout` of its servers.
    pub(crate) fn shortest_silence(&self) -> Duration {
        self.servers.iter().map(|server| server.silence_max).min().unwrap_or(Duration::MAX)
    }

    /// A server.
    pub(crate) fn server(&self, index: usize) -> &UpstreamServer {
        &self.servers[index]
    }

    /// Chooses a server, and counts the request among those that it has in flight.
    pub(crate) fn lease(
        self: &Rc<Self>,
        now: Instant,
        session: Option<&str>,
        target: &Target,
        tried: Tried,
    ) -> Option<Lease> {
        let mut balance = self.balance.borrow_mut();
        let index = balance.choose(now, session, target.strategy, tried)?;
        // The time of the last tick is good enough but for the latency, which `adaptive` alone asks for.
        let begun = if target.strategy == Strategy::Adaptive { Instant::now() } else { now };
        let ticket = balance.server(index).begin(begun);
        let life = self.servers[index].life.get();
        Some(Lease { upstream: self.clone(), index, life, ticket: Cell::new(ticket) })
    }

    /// Lets sockets that are not used any more grow old.
    pub(crate) fn settle(&self) {
        for server in &self.servers {
            server.pool.settle();
        }
    }

    /// Takes over what the hub knows. Returns whether a server is gone that may have requests.
    pub(crate) fn members_changed(&self, members: &[Member]) -> bool {
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
        let mut ticket = self.ticket.get();
        self.upstream.balance.borrow_mut().answered(self.index, now, &mut ticket, status);
        self.ticket.set(ticket);
    }

    /// It says that it did not look at the request: it can't serve any now, its own sessions' included.
    pub(crate) fn refused(&self, now: Instant) {
        self.upstream.balance.borrow_mut().server(self.index).connect_failed(now);
    }

    /// No connection could be made.
    pub(crate) fn unreachable(&self, now: Instant) {
        let opened = self.upstream.balance.borrow_mut().server(self.index).connect_failed(now);
        self.clear_pool_if(opened);
    }

    /// The connection broke, or was silent for too long.
    pub(crate) fn broke(&self, now: Instant) {
        self.upstream.servers[self.index].breaks.tell();
        let opened =
            self.upstream.balance.borrow_mut().server(self.index).read_failed(now, &self.ticket.get());
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
    key: &'a ClusterKey,
    workers: usize,
    breaks: &'a Breaks,
    list: Vec<Rc<Upstream>>,
}

impl<'a> Upstreams<'a> {
    /// None yet. The limits of a server are divided by `workers`.
    pub(crate) fn new(
        config: &'a Config,
        me: &'a ServerId,
        key: &'a ClusterKey,
        workers: usize,
        breaks: &'a Breaks,
    ) -> Self {
        Self { config, me, key, workers, breaks, list: Vec::new() }
    }

    /// The place of a cluster in the list; `None` when the file has no such cluster.
    pub(crate) fn place(&mut self, id: &ClusterId) -> Option<usize> {
        if let Some(place) = self.list.iter().position(|it| it.id == *id) {
            return Some(place);
        }
        let cluster = self.config.cluster(id)?;
        self.list.push(Rc::new(Upstream::new(cluster, self.me, self.key, self.workers, self.breaks)));
        Some(self.list.len() - 1)
    }

    /// All clusters that were named.
    pub(crate) fn into_list(self) -> Vec<Rc<Upstream>> {
        self.list
    }
}
