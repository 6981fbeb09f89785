//! How foreign backends are, for whoever asks: a status page, a log.

use super::{ForeignBackend, addresses::Addresses};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

/// A backend of an `http-proxy` rule, as active checks have found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendHealth {
    /// Which of the rules it belongs to: the first `http-proxy` rule of the file is 0; rules that say the same are one.
    pub rule: usize,
    /// `host:port` as the rule has it, or `unix:path`.
    pub backend: String,
    /// The addresses that its name has at present; none while it could not be looked up, and of a Unix socket.
    pub addresses: Vec<SocketAddr>,
    /// Whether requests may go there; always so without a `health-check`.
    pub up: bool,
    /// When that last changed; `None` while it has only ever been up.
    pub since: Option<Instant>,
    /// The last check; `None` before the first, and without a `health-check`.
    pub last: Option<LastCheck>,
    /// Checks in a row that say the opposite of `up`, and how many make a change.
    pub against: (u32, u32),
}

/// The last check of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastCheck {
    /// When its result was known.
    pub at: Instant,
    /// How long it took, up to the head of the answer.
    pub took: Duration,
    /// Why it failed, if it did.
    pub result: Result<(), Box<str>>,
}

impl ForeignBackend {
    pub(super) fn report(&self, rule: usize) -> BackendHealth {
        let mut report = BackendHealth {
            rule,
            backend: self.id.as_str().to_owned(),
            addresses: self.way.place.addresses().map(Addresses::known).unwrap_or_default(),
            up: true,
            since: None,
            last: None,
            against: (0, 0),
        };
        if let Some(checks) = &self.checks {
            let seen = checks.seen();
            report.up = seen.health.is_up();
            report.since = seen.health.since();
            report.against = seen.health.against();
            report.last = seen.health.last().map(|last| LastCheck {
                at: last.at,
                took: seen.took,
                result: last.result.clone(),
            });
        }
        report
    }
}
