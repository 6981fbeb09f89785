//! Time that also passes while the machine sleeps (clock_gettime(2), `CLOCK_BOOTTIME`): the rest of the cluster does not sleep with it.

use rustix::time::{ClockId, clock_gettime};
use std::{ops::Add, time::Duration};

/// A moment, as time since the machine was started. All processes of the machine mean the same by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BootTime(Duration);

impl BootTime {
    pub(crate) fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        let part = u32::try_from(now.tv_nsec).unwrap_or_default();
        Self(Duration::new(u64::try_from(now.tv_sec).unwrap_or_default(), part))
    }

    /// How long it is until then; nothing, if it has passed.
    pub(crate) fn left(self, now: Self) -> Duration {
        self.0.saturating_sub(now.0)
    }

    /// For another process.
    pub(crate) fn as_nanos(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }

    /// What another process has said.
    pub(crate) fn from_nanos(nanos: u64) -> Self {
        Self(Duration::from_nanos(nanos))
    }
}

impl Add<Duration> for BootTime {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }
}

/// Waits until then; a machine that slept is awake for at most [`STEP`] before it is noticed.
pub(crate) async fn sleep_until(until: BootTime) {
    loop {
        let left = until.left(BootTime::now());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(STEP)).await;
    }
}

/// Sleeping counts no time in which the machine sleeps itself.
const STEP: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_to_other_processes() {
        let now = BootTime::now();
        let later = now + Duration::from_millis(1500);
        assert!(BootTime::now() >= now && later > now);
        assert_eq!((later.left(now), now.left(later)), (Duration::from_millis(1500), Duration::ZERO));
        assert_eq!(BootTime::from_nanos(later.as_nanos()), later);
    }
}
