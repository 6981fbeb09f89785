//! When the hub was last known to be alive: judges the `Alive`s that come every 100 ms, for those that were kept in a buffer tell
//! of the past. Pure; docs/sessions.md has the reasons.

use std::time::{Duration, Instant};

/// The `Alive`s of a hub's leader, as they came.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pulse {
    /// When the last one that counts was sent, at the earliest.
    sent: Option<Instant>,
    /// When the last one came, whether it counts or not.
    came: Option<Instant>,
}

impl Pulse {
    /// `Alive`s are sent at this interval: one was sent no earlier than the one before it, and at most this long after it.
    pub const INTERVAL: Duration = Duration::from_millis(100);

    /// The link to the hub is current for this long after an `Alive` was sent, as far as can be known. The hub sends one only while
    /// a majority has acknowledged its leader within 300 ms: together that is less than an election takes (650 ms), so that no other
    /// leader has taken a write meanwhile.
    pub const CURRENT: Duration = Duration::from_millis(300);

    /// Those that come closer together than this were waiting in a buffer while this process was stopped or cut off: they are old.
    const BURST: Duration = Duration::from_millis(50);

    /// One has come. Returns whether it counts.
    pub fn beat(&mut self, now: Instant) -> bool {
        let Some(before) = self.came.replace(now) else { return false };
        let counts = (Self::BURST..=Self::CURRENT).contains(&now.saturating_duration_since(before));
        if counts {
            // What came late may have been sent on time.
            self.sent = Some(now.min(before + Self::INTERVAL));
        }
        counts
    }

    /// When the last one that counts was sent, at the earliest.
    pub fn sent(&self) -> Option<Instant> {
        self.sent
    }

    /// Whether the hub's events reach this server now.
    pub fn is_current(&self, now: Instant) -> bool {
        self.sent.is_some_and(|sent| now.saturating_duration_since(sent) <= Self::CURRENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_comes_in_time() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pulse = Pulse::default();
        assert!(!pulse.beat(at(0)) && pulse.sent().is_none(), "the first may have waited");
        assert!(pulse.beat(at(100)));
        assert_eq!(pulse.sent(), Some(at(100)));
        assert!(pulse.beat(at(350)), "a stall");
        assert_eq!(pulse.sent(), Some(at(200)), "it may have been sent on time");
        assert!(pulse.is_current(at(500)) && !pulse.is_current(at(501)));
        assert!(!pulse.beat(at(60_000)) && !pulse.beat(at(60_010)), "a stop, and what waited");
        assert!(pulse.beat(at(60_110)));
    }
}
