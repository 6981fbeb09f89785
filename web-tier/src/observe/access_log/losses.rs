//! Lines that could not be written: counted, and told of, but not for each one.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// At most one warning in this time.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// What was lost since the start. Touched only when something is.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    lines: AtomicU64,
    warned: Mutex<Option<Instant>>,
}

impl Losses {
    /// Counts lines; whether a warning was due.
    pub(super) fn add(&self, lines: u64, why: &str, now: Instant) -> bool {
        let total = self.lines.fetch_add(lines, Relaxed) + lines;
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_some_and(|at| now.saturating_duration_since(at) < WARN_EVERY) {
            return false;
        }
        *warned = Some(now);
        drop(warned);
        tracing::warn!(why, lines, total, "the access log loses lines");
        true
    }

    /// How many.
    pub(crate) fn lines(&self) -> u64 {
        self.lines.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_few_are_told() {
        let losses = Losses::default();
        let start = Instant::now();
        let times = [0, 1, 9, 10, 15, 20];
        let told = times.map(|second| losses.add(2, "full", start + Duration::from_secs(second)));
        assert_eq!(told, [true, false, false, true, false, true]);
        assert_eq!(losses.lines(), 12);
    }
}
