//! The time in which a server is left alone after trouble: it doubles with each trouble that follows it, and after it one
//! request at a time finds out.

use std::time::{Duration, Instant};

/// The first window.
const FIRST: Duration = Duration::from_secs(1);

/// What the trouble was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It could not be reached, or broke off.
    Failing,
    /// It answered 503.
    Busy,
}

/// Where a window stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// There is none.
    Closed,
    /// It ends then; in the past while a probe is under way.
    Open(Trouble, Instant),
    /// It is over, and nobody has found out yet.
    Over,
}

/// A server's window.
#[derive(Debug)]
pub(super) struct Window {
    trouble: Trouble,
    /// How long the present window is; zero when there is none.
    length: Duration,
    until: Option<Instant>,
    /// A probe is under way.
    probing: bool,
    /// Windows that were opened, since the start.
    opened: u64,
}

impl Window {
    /// None.
    pub(super) fn new() -> Self {
        Self { trouble: Trouble::Failing, length: Duration::ZERO, until: None, probing: false, opened: 0 }
    }

    /// Where it stands `now`.
    pub(super) fn phase(&self, now: Instant) -> Phase {
        match self.until {
            None => Phase::Closed,
            Some(until) if now < until || self.probing => Phase::Open(self.trouble, until),
            Some(_) => Phase::Over,
        }
    }

    /// What the present window is for.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.until.map(|_| self.trouble)
    }

    /// Whether the trouble has outlasted its first window.
    pub(super) fn is_long(&self) -> bool {
        self.length > FIRST
    }

    /// Windows that were opened, since the start: a request that remembers the number knows whether trouble came after it.
    pub(super) fn opened(&self) -> u64 {
        self.opened
    }

    /// Opens a window, or the next one, of at most `max`. The troubles of one window, met by many requests at once, count as
    /// one: whether this is the first is returned. A trouble of the other kind begins anew.
    pub(super) fn open(&mut self, trouble: Trouble, now: Instant, max: Duration) -> bool {
        let again = self.until.is_some() && self.trouble == trouble;
        if again && self.until.is_some_and(|until| now < until) {
            return false;
        }
        let next = if again { self.length.saturating_mul(2) } else { FIRST };
        self.trouble = trouble;
        self.length = next.min(max);
        self.until = Some(now + self.length);
        self.opened += 1;
        true
    }

    /// All is well again.
    pub(super) fn close(&mut self) {
        self.until = None;
        self.length = Duration::ZERO;
    }

    /// A request begins: whether it is the probe.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        let probe = self.phase(now) == Phase::Over;
        self.probing |= probe;
        probe
    }

    /// The probe has ended, well or not.
    pub(super) fn probed(&mut self) {
        self.probing = false;
    }
}
