//! Time as an argument, so that tests of time-outs, expiry and backoff run without sleeping.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Where a component takes its time from.
pub trait Clock: std::fmt::Debug + Send + Sync + 'static {
    /// A monotonic instant, for durations.
    fn now(&self) -> Instant;

    /// Milliseconds since the Unix epoch, for what is shown or replicated.
    fn unix_ms(&self) -> u64;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn unix_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A clock that a test moves by hand.
#[derive(Debug)]
pub struct ManualClock {
    start: Instant,
    start_unix_ms: u64,
    elapsed_ms: AtomicU64,
}

impl ManualClock {
    /// A clock that stands at `start_unix_ms`.
    pub fn new(start_unix_ms: u64) -> Self {
        Self { start: Instant::now(), start_unix_ms, elapsed_ms: AtomicU64::new(0) }
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.elapsed_ms.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.elapsed_ms.load(Ordering::Relaxed))
    }

    fn unix_ms(&self) -> u64 {
        self.start_unix_ms + self.elapsed_ms.load(Ordering::Relaxed)
    }
}
