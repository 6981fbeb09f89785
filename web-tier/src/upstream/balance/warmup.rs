//! A server that has just come gets a share that rises in 16 steps, and few requests at once: its caches are cold, its code
//! may not be compiled yet. After Resin's warm-up.

use std::time::{Duration, Instant};

/// Requests at once from one worker, step by step (Resin's table, which counts the connections of one web server).
const LIMITS: [u32; 16] = [1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 8, 8, 16, 32, 64, 128];

/// A server's warm-up.
#[derive(Debug, Clone)]
pub(super) struct Warmup {
    /// A sixteenth of `load-balance-warmup-time`; zero for none.
    step: Duration,
    /// When it began; `None` when the server is warm.
    since: Option<Instant>,
}

impl Warmup {
    /// Of a server that is warm.
    pub(super) fn new(time: Duration) -> Self {
        Self { step: time / 16, since: None }
    }

    /// The server has just come.
    pub(super) fn start(&mut self, now: Instant) {
        self.since = (!self.step.is_zero()).then_some(now);
    }

    /// It failed meanwhile: one step back.
    pub(super) fn set_back(&mut self, now: Instant) {
        self.since = self.since.map(|since| (since + self.step).min(now));
    }

    /// Forgets a warm-up that is over, so that nobody has to ask again.
    pub(super) fn settle(&mut self, now: Instant) {
        if self.since.is_some() && self.place(now).is_none() {
            self.since = None;
        }
    }

    /// The share of a warm server's requests, in sixteenths.
    pub(super) fn sixteenths(&self, now: Instant) -> u32 {
        self.place(now).map_or(16, |place| place as u32 + 1)
    }

    /// Requests at once.
    pub(super) fn limit(&self, now: Instant) -> u32 {
        self.place(now).map_or(u32::MAX, |place| LIMITS[place])
    }

    /// Whether no warm-up is under way, as far as has been [settled](Self::settle).
    pub(super) fn is_over(&self) -> bool {
        self.since.is_none()
    }

    /// The present step, from 0; `None` when the server is warm.
    fn place(&self, now: Instant) -> Option<usize> {
        let since = self.since?;
        let passed = now.saturating_duration_since(since).as_micros() / self.step.as_micros().max(1);
        usize::try_from(passed).ok().filter(|place| *place < LIMITS.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_secs(2);

    #[test]
    fn share_and_limit_rise_step_by_step_and_end() {
        let start = Instant::now();
        let mut warmup = Warmup::new(STEP * 16);
        assert_eq!((warmup.sixteenths(start), warmup.limit(start)), (16, u32::MAX), "warm until it starts");
        warmup.start(start);
        let seen: Vec<_> =
            (0..17).map(|n| (warmup.sixteenths(start + STEP * n), warmup.limit(start + STEP * n))).collect();
        assert_eq!(seen[0], (1, 1));
        assert_eq!(seen[8], (9, 4));
        assert_eq!(seen[15..], [(16, 128), (16, u32::MAX)]);
        assert!(seen.is_sorted());
        warmup.settle(start + STEP * 15);
        assert!(warmup.since.is_some());
        warmup.settle(start + STEP * 16);
        assert!(warmup.since.is_none());
    }

    #[test]
    fn a_failure_costs_a_step_and_no_time_means_no_warm_up() {
        let start = Instant::now();
        let mut warmup = Warmup::new(STEP * 16);
        warmup.set_back(start);
        assert_eq!(warmup.sixteenths(start), 16, "a warm server stays warm");
        warmup.start(start);
        warmup.set_back(start);
        assert_eq!(warmup.sixteenths(start + STEP), 2, "not before its beginning");
        warmup.set_back(start + STEP * 4);
        assert_eq!(warmup.sixteenths(start + STEP * 4), 4);
        let mut none = Warmup::new(Duration::ZERO);
        none.start(start);
        assert_eq!(none.sixteenths(start), 16);
    }
}
