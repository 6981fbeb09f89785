//! Chooses a server for a connection, and connects to it; to another one if that fails.

use super::{Passage, Refused};
use crate::{
    http1::Fields,
    limit::{Subject, key},
    observe::tcp_counters::Refusal,
    upstream::{
        Lease, Upstream,
        balance::{Affinity, TRIES_MAX, Tried},
        pool::{Asker, Connection, Holder, Owner, TakeError, Whose},
    },
};
use common::config::HttpProxy;
use std::{
    net::IpAddr,
    rc::Rc,
    time::{Duration, Instant},
};

/// A connection to a server.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) server: Connection,
    pub(super) lease: Lease,
    /// `idle-timeout`.
    pub(super) idle_timeout: Duration,
}

/// Nobody can ask one who has a connection to make room.
#[derive(Debug)]
struct Stays;

impl Holder for Stays {
    fn kept_waiting(&self, _: Instant) -> Option<Duration> {
        None
    }

    fn make_room(&self) {}
}

/// Connects to one of the servers of a route.
pub(super) async fn connect(
    passage: &Passage,
    upstream: &Rc<Upstream>,
    client: IpAddr,
    whose: Whose,
) -> Result<Connected, Refused> {
    let no_server = |text: &'static str| Refused::new(Refusal::NoServer, text);
    let Some(config) = upstream.foreign_rule() else {
        return Err(no_server("its route has no servers"));
    };
    let fields = Fields::default();
    let key = config.hash_by.as_ref().and_then(|by| {
        let text = key::text(by, Subject { remote: client, path: "", fields: &fields })?;
        Some(text.into_owned())
    });
    let affinity = key.as_deref().map_or(Affinity::None, Affinity::Hash);
    let asker = Asker { owner: Owner::from(client), holder: Rc::new(Stays) };
    let worker = &passage.worker;
    upstream.count_request(worker.now());
    let (mut tried, mut last) = (Tried::default(), "no server is well");
    for _ in 0..TRIES_MAX {
        let Some(lease) = upstream.lease(worker.read_clock(), affinity, config.strategy, tried) else {
            break;
        };
        let index = lease.index();
        match one(passage, upstream, &lease, (&asker, whose)).await {
            Ok(server) => {
                lease.answered(worker.read_clock(), CONNECTED);
                return Ok(Connected { server, lease, idle_timeout: idle_timeout(config) });
            }
            Err(TakeError::QueueFull | TakeError::QueueTimeout(_)) => {
                worker.counters.queue_refusals.up();
                last = "as many connections as a server may have";
            }
            Err(TakeError::Short(cause)) => {
                worker.counters.dials_short.up();
                if let Some(times) = worker.short.happened(worker.now()) {
                    tracing::warn!(%cause, times, "no new connections to servers: this machine is short of something");
                }
                return Err(no_server("this machine is short of something"));
            }
            Err(TakeError::Connect(cause)) => {
                worker.tell_of_backend(&cause);
                passage.counters.connects_failed.up();
                worker.counters.upstream_failures.up();
                lease.unreachable(worker.read_clock());
                last = "no server could be reached";
                if !upstream.may_retry(worker.now()) {
                    break;
                }
            }
        }
        tried.add(index);
    }
    Err(no_server(last))
}

/// What the balancer hears of one that could be connected to, in the words of HTTP.
const CONNECTED: u16 = 200;

fn idle_timeout(config: &HttpProxy) -> Duration {
    config.socket_timeout
}

/// One try on one server.
async fn one(
    passage: &Passage,
    upstream: &Upstream,
    lease: &Lease,
    (asker, whose): (&Asker, Whose),
) -> Result<Connection, TakeError> {
    let server = upstream.server(lease.index());
    passage.log.note(|record| record.tried(&server.name));
    server.pool.connect(asker, whose).await
}
