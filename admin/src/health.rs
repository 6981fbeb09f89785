//! Health checks that act: the server that leads the hub looks at the whole cluster, and when a problem has lasted for a while it writes
//! that down, tells webhooks, and starts an app anew, as the file says. One server acts at a time.
//!
//! `damper` decides when a problem begins and ends, `monitor` looks and acts, `webhook` tells others; `record` is what the page shows.

mod damper;
mod monitor;
pub(crate) mod record;
mod restarts;
mod webhook;

use proto::status::v1::{Health, HealthProblem};
use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicU64, Ordering},
};

/// What the health checks of this server have found, for what it says of itself; clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct HealthView(Arc<Shown>);

#[derive(Debug, Default)]
struct Shown {
    /// `None`: this server does not lead the hub.
    problems: RwLock<Option<Vec<HealthProblem>>>,
    counts: Counts,
}

/// Since the process started.
#[derive(Debug, Default)]
struct Counts {
    delivered: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    restarts: AtomicU64,
}

impl HealthView {
    /// As it is now; `None`: another server watches.
    pub fn report(&self) -> Option<Health> {
        let problems = self.0.problems.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.0.counts;
        Some(Health {
            problems,
            webhooks_delivered: read(&counts.delivered),
            webhooks_failed: read(&counts.failed),
            webhooks_dropped: read(&counts.dropped),
            restarts: read(&counts.restarts),
        })
    }

    fn set(&self, problems: Option<Vec<HealthProblem>>) {
        *self.0.problems.write().unwrap_or_else(PoisonError::into_inner) = problems;
    }

    fn counts(&self) -> &Counts {
        &self.0.counts
    }
}

impl Counts {
    fn add(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}
