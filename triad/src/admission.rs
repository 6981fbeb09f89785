//! Whether the hub has memory for another session. The leader decides, before anything is written: the state stays a function of
//! the log alone, and servers with more or less memory agree on it.

use crate::state::{State, memory};
use common::log_limit::LogLimit;
use proto::hub::v1::{SaveSession, SessionKey, SessionWrite, session_write::Write};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Refusals are logged this often.
const TOLD: Duration = Duration::from_secs(10);

/// How much of the hub's memory sessions may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// Bytes of all sessions in this server's memory, beyond which no new one is made. The least of the hub's servers counts. Sessions
    /// that are there may grow by a quarter more.
    pub max: u64,
    /// Bytes of one app's sessions, beyond which no new one is made; `None`: three quarters of `max`.
    pub app_max: Option<u64>,
    /// When half of `max` is taken, sessions that were not used again for this long after they were made are ended. Zero: never.
    pub first_timeout: Duration,
}

/// Decides on new sessions.
#[derive(Debug)]
pub(crate) struct Admission {
    limits: SessionLimits,
    /// What the other servers say, by node; 0 for nothing yet.
    others: Vec<AtomicU64>,
    /// Bytes of new sessions that are on their way into the state.
    under_way: AtomicU64,
    refused: AtomicU64,
    log: LogLimit,
}

/// What becomes of a call's writes.
#[derive(Debug)]
pub(crate) struct Judgement<'a> {
    /// The places of those that there is no memory for, ascending.
    pub(crate) refused: Vec<usize>,
    /// Holds the memory of the others until they are in the state.
    _held: Held<'a>,
}

#[derive(Debug)]
struct Held<'a> {
    under_way: &'a AtomicU64,
    bytes: u64,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.under_way.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Admission {
    /// Of a hub of `servers`.
    pub(crate) fn new(limits: SessionLimits, servers: usize) -> Self {
        let others = (0..servers).map(|_| AtomicU64::new(0)).collect();
        let (under_way, refused) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { limits, others, under_way, refused, log: LogLimit::new(TOLD) }
    }

    /// Another server says how much it can take; 0: it does not say.
    pub(crate) fn note(&self, node: u64, max: u64) {
        if let Some(other) = usize::try_from(node).ok().and_then(|it| self.others.get(it)) {
            other.store(max, Ordering::Relaxed);
        }
    }

    /// Bytes of all sessions, beyond which no new one is made.
    pub(crate) fn max(&self) -> u64 {
        let others = self.others.iter().map(|it| it.load(Ordering::Relaxed)).filter(|it| *it > 0);
        others.fold(self.limits.max, u64::min)
    }

    /// When memory is scarce, sessions that were never used again end so long after they were made; `None`: it is not scarce.
    pub(crate) fn first_timeout(&self, taken: u64) -> Option<Duration> {
        let scarce = taken > self.max() / 2;
        Some(self.limits.first_timeout).filter(|it| scarce && !it.is_zero())
    }

    /// New sessions that were refused since the start.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Finds the writes that there is no memory for: those that make a session, and far beyond the limit those that make one larger.
    pub(crate) fn judge(&self, state: &State, writes: &[SessionWrite], now: Instant) -> Judgement<'_> {
        let mut held = Held { under_way: &self.under_way, bytes: 0 };
        let mut refused = Vec::new();
        for (place, write) in writes.iter().enumerate() {
            if let Some(Write::Save(save)) = &write.write
                && !self.has_room(state, save, &mut held)
            {
                refused.push(place);
            }
        }
        if let Some(Write::Save(first)) = refused.first().and_then(|place| writes[*place].write.as_ref()) {
            let app = first.key.as_ref().map_or("", |key| &key.app);
            self.tell(state, app, refused.len() as u64, now);
        }
        Judgement { refused, _held: held }
    }

    fn has_room(&self, state: &State, save: &SaveSession, held: &mut Held<'_>) -> bool {
        let max = self.max();
        // Refused where requests come in.
        let Some(key) = &save.key else { return true };
        if save.base_version == 0 {
            let bytes = of_new(key, save);
            // Counted first: of two calls at the same time, one sees the other.
            let before = self.under_way.fetch_add(bytes, Ordering::Relaxed);
            let memory = state.memory();
            let fits = |taken: u64, max: u64| taken.saturating_add(before).saturating_add(bytes) <= max;
            if fits(memory.bytes(), max) && fits(memory.of_app(&key.app), self.app_max(max)) {
                held.bytes += bytes;
                return true;
            }
            self.under_way.fetch_sub(bytes, Ordering::Relaxed);
            // Sent again, it has been made already.
            if state.session(key).is_none() {
                return false;
            }
        }
        state.memory().bytes() <= max.saturating_add(max / 4)
            || !state.session(key).is_some_and(|it| it.would_grow(save))
    }

    fn app_max(&self, max: u64) -> u64 {
        self.limits.app_max.unwrap_or(max - max / 4)
    }

    fn tell(&self, state: &State, app: &str, refused: u64, now: Instant) {
        self.refused.fetch_add(refused, Ordering::Relaxed);
        if let Some(refused) = self.log.note(now, refused) {
            let (max, memory) = (self.max(), state.memory());
            tracing::warn!(
                refused,
                app,
                app_bytes = memory.of_app(app),
                app_max = self.app_max(max),
                bytes = memory.bytes(),
                max,
                "the hub's memory for sessions is full: new ones are refused (session-memory-max)"
            );
        }
    }
}

fn of_new(key: &SessionKey, save: &SaveSession) -> u64 {
    let names = key.app.len() + key.id.len() + 1 + 2 * save.owner.len();
    memory::of_new(names, save.set.iter().map(|(name, value)| (name.len(), value.len())))
}

#[cfg(test)]
mod tests;
