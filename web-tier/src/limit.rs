//! `rate-limit` and `connection-limit`: who asks too often, or for too much at a time. What is counted is the process's, for a client's
//! connections are spread over its workers: a request that comes to such a rule takes one lock of 64, any other none.

mod connections;
pub(crate) mod key;
mod rate;
mod refused;

use common::{
    config::{self, Action, Cluster, Guard},
    id::ServerId,
};
pub(crate) use connections::{ConnectionTable, Permit, Permits};
pub(crate) use key::Subject;
pub(crate) use rate::{RateTable, Verdict};
use refused::Refused;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So many parts a table has, each with a lock of its own.
const SHARDS: usize = 64;

/// The limits of a server's rules. Rules that say the same, by name too, are one limit.
#[derive(Debug, Default)]
pub(crate) struct LimitTables {
    rates: Vec<Arc<RateTable>>,
    connections: Vec<Arc<ConnectionTable>>,
}

/// How a limit is, for the status page and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitReport {
    /// Its `name`.
    pub name: String,
    /// `rate-limit` or `connection-limit`.
    pub kind: &'static str,
    /// What is allowed: `10/s, burst 20`, or `10 at a time`.
    pub allows: String,
    /// Requests that were within it.
    pub passed: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// How many keys are told apart at present.
    pub keys: u64,
    /// Whose requests were refused most, and how many, the most first.
    pub most_refused: Vec<(String, u64)>,
}

impl LimitTables {
    /// Those of the rules of the cluster of `me`, and of its own `tcp-proxy` listeners. What `before` has alike goes on counting.
    pub(crate) fn new((cluster, me): (&Cluster, &ServerId), before: Option<&Self>) -> Self {
        let mut limits = Self::default();
        for rule in cluster.hosts.iter().flat_map(|host| &host.dispatch) {
            match &rule.action {
                Action::Guard(Guard::RateLimit(config)) => limits.add_rate(config, before),
                Action::Guard(Guard::ConnectionLimit(config)) => limits.add_connection(config, before),
                _ => {}
            }
        }
        let own = cluster.servers.iter().filter(|server| server.id == *me);
        for listener in own.flat_map(|server| &server.tcp) {
            listener.rate_limits.iter().for_each(|it| limits.add_rate(it, before));
            listener.connection_limits.iter().for_each(|it| limits.add_connection(it, before));
        }
        limits
    }

    fn add_rate(&mut self, config: &config::RateLimit, before: Option<&Self>) {
        if self.rate(config).is_none() {
            let known = before.and_then(|it| it.rate(config)).cloned();
            self.rates.push(known.unwrap_or_else(|| Arc::new(RateTable::new(config))));
        }
    }

    fn add_connection(&mut self, config: &config::ConnectionLimit, before: Option<&Self>) {
        if self.connection(config).is_none() {
            let known = before.and_then(|it| it.connection(config)).cloned();
            self.connections.push(known.unwrap_or_else(|| Arc::new(ConnectionTable::new(config))));
        }
    }

    /// What counts for a rule.
    pub(crate) fn rate(&self, config: &config::RateLimit) -> Option<&Arc<RateTable>> {
        self.rates.iter().find(|it| it.config == *config)
    }

    /// The same.
    pub(crate) fn connection(&self, config: &config::ConnectionLimit) -> Option<&Arc<ConnectionTable>> {
        self.connections.iter().find(|it| it.config == *config)
    }

    /// How they are, in the order of the file, those of rates first.
    pub(crate) fn report(&self) -> Vec<LimitReport> {
        let rates = self.rates.iter().map(|it| it.report());
        rates.chain(self.connections.iter().map(|it| it.report())).collect()
    }
}

/// The part of a table that a key is in.
fn shard<T>(shards: &[Mutex<T>], hash: u64) -> MutexGuard<'_, T> {
    // The low bits are the map's.
    let place = (hash >> 48) as usize % shards.len();
    shards[place].lock().unwrap_or_else(PoisonError::into_inner)
}
