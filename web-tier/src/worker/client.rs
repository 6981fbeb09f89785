//! What the requests of one connection share, of which the proxy asks whose they are and how long they may take.

use super::{
    Worker,
    deadline::{Progress, Verdict},
};
use crate::{
    limit::{Permit, Permits},
    observe::access_log::Recording,
    route::trusted::Peer,
    transport::{listener::Listener, proxy_protocol::Endpoints, tls::TlsConnection},
    upstream::{Lease, pool::Holder},
};
use http::HeaderValue;
use std::{
    cell::Cell,
    net::IpAddr,
    rc::Rc,
    time::{Duration, Instant},
};

/// Why a request waits in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hopeless {
    /// The server has been silent for `load-balance-socket-timeout`.
    Silent,
    /// The hub says that the server's process is gone.
    Gone,
}

/// What the requests of one connection share.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) worker: Rc<Worker>,
    pub(crate) peer: Rc<Peer>,
    pub(crate) tls: Option<Rc<TlsConnection>>,
    /// By which it came.
    listener: Rc<Listener>,
    pub(crate) progress: Progress,
    /// What the access log is to say of the present request.
    pub(crate) log: Recording,
    /// The timer has found its server silent.
    pub(crate) server_silent: Cell<bool>,
    /// Its place among the worker's connections and streams.
    pub(crate) entry: Cell<u32>,
    /// Others wait for what the server has given to the present request.
    in_the_way: Cell<bool>,
    /// By which the present request counts to `connection-limit`s.
    permits: Permits,
}

impl Client {
    /// Of a connection that was just accepted.
    pub(crate) fn new(worker: Rc<Worker>, peer: Peer, listener: Rc<Listener>) -> Self {
        let progress = Progress::new(worker.read_clock());
        let (log, server_silent) = (Recording::default(), Cell::new(false));
        let (entry, in_the_way) = (Cell::new(0), Cell::new(false));
        let peer = Rc::new(peer);
        let permits = Permits::default();
        Self { worker, peer, tls: None, listener, progress, log, server_silent, entry, in_the_way, permits }
    }

    /// A stream of this connection, with time-outs of its own.
    pub(crate) fn stream(&self) -> Rc<Self> {
        Rc::new(Self {
            worker: self.worker.clone(),
            peer: self.peer.clone(),
            tls: self.tls.clone(),
            listener: self.listener.clone(),
            progress: Progress::new(self.worker.now()),
            log: Recording::default(),
            server_silent: Cell::new(false),
            entry: Cell::new(0),
            in_the_way: Cell::new(false),
            permits: Permits::default(),
        })
    }

    /// The present request counts to a `connection-limit` until it ends.
    pub(crate) fn keep(&self, permit: Permit) {
        self.permits.push(permit);
    }

    /// The present request has ended.
    pub(crate) fn request_ended(&self) {
        self.permits.clear();
    }

    /// The port by which it came, as rules see it.
    pub(crate) fn local_port(&self) -> u16 {
        self.listener.port
    }

    /// What servers are told of the connection of a client with this address.
    pub(crate) fn endpoints(&self, address: IpAddr) -> Endpoints {
        self.peer.endpoints(address, self.local_port())
    }

    /// What answers say of HTTP/3 (`Alt-Svc`), where the client could speak it and does not.
    pub(crate) fn alt_svc(&self) -> Option<&HeaderValue> {
        let alt_svc = self.listener.terms.alt_svc.as_ref()?;
        self.tls.as_ref().is_some_and(|tls| !tls.quic).then_some(alt_svc)
    }

    /// Whether HTTP/3 is spoken at its listener.
    pub(crate) fn may_speak_http3(&self) -> bool {
        self.listener.terms.alt_svc.is_some()
    }

    /// Whether the connection is to end when its present requests have been answered: the worker stops, or the listener has been
    /// retired. (One that has none is closed by a stop alone: a request may be on its way.)
    pub(crate) fn ends_soon(&self) -> bool {
        self.worker.connections.closing() || self.listener.is_retired()
    }

    /// It has sent so many bytes of its body.
    pub(crate) fn body_came(&self, bytes: usize) {
        self.worker.counters.received_bytes.add(bytes as u64);
        self.progress.body_came(self.worker.now(), bytes, || self.worker.routes().limits.rate_min);
    }

    /// It has taken so many bytes of its answer.
    pub(crate) fn took(&self, bytes: usize) {
        self.worker.counters.sent_bytes.add(bytes as u64);
        self.progress.took(self.worker.now(), bytes, || self.worker.routes().limits.rate_min);
    }

    /// What it hears if its request is to make room for others, and it is still waited for.
    pub(crate) fn makes_room(&self) -> Option<Verdict> {
        let (worker, progress) = (&self.worker, &self.progress);
        if !self.in_the_way.take() || progress.kept_waiting(worker.now()).is_none() {
            return None;
        }
        worker.counters.places_taken_back.up();
        if let Some(times) = worker.slow.happened(worker.now()) {
            let client = &self.peer.text;
            tracing::warn!(%client, times, "a slow request has ended: others waited for a socket to its server");
        }
        Some(progress.given_up())
    }

    /// Whether there is no hope for an answer. The connection's timer finds out that the server is silent, and the hub's word
    /// that it is gone wakes every connection, so this costs no timer and no list.
    pub(crate) fn hopeless(&self, lease: &Lease) -> Option<Hopeless> {
        let silent = self.server_silent.take();
        if lease.is_lost() { Some(Hopeless::Gone) } else { silent.then_some(Hopeless::Silent) }
    }
}

impl Holder for Client {
    fn kept_waiting(&self, now: Instant) -> Option<Duration> {
        self.progress.kept_waiting(now)
    }

    fn make_room(&self) {
        self.in_the_way.set(true);
        self.worker.connections.wake_one(self.entry.get());
    }
}
