//! What a client may cost beside its requests: points, of which there are so many, and which come back with time.

use std::{cell::Cell, time::Instant};

/// Points that a connection begins with, and never has more of.
pub(super) const POINTS_MAX: u64 = 4096;

/// Points that come back in a second.
const POINTS_PER_SECOND: u64 = 64;

/// What a stream costs that is reset, by either side: a request was made for nothing ("rapid reset", "made you reset"). As many
/// as a client can have under way may be reset at once, with points to spare. An answer brings as much.
pub(super) const RESET: u64 = 24;

/// The points of a connection.
#[derive(Debug)]
pub(super) struct Budget {
    left: Cell<u64>,
    since: Cell<Instant>,
}

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: Cell::new(POINTS_MAX), since: Cell::new(now) }
    }

    pub(super) fn earn(&self, points: u64) {
        self.left.set(self.left.get().saturating_add(points).min(POINTS_MAX));
    }

    /// Spends points: whether there were as many.
    pub(super) fn spend(&self, points: u64, now: Instant) -> bool {
        if points == 0 {
            return true;
        }
        let passed = now.saturating_duration_since(self.since.get()).as_millis();
        let earned = u64::try_from(passed).unwrap_or(u64::MAX).saturating_mul(POINTS_PER_SECOND) / 1000;
        if earned > 0 {
            self.since.set(now);
            self.earn(earned);
        }
        let left = self.left.get().checked_sub(points);
        self.left.set(left.unwrap_or(self.left.get()));
        left.is_some()
    }
}
