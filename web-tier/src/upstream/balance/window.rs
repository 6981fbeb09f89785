//! The time in which a server is left alone after trouble: it doubles with each trouble that follows it, and after it one
//! request at a time finds out.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

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
    /// It ends then; in the past while others wait for a probe's answer.
    Open(Trouble, Instant),
    /// It is over, and nobody has found out yet.
    Over,
}

/// A probe's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProbeId(NonZeroU32);

/// A server's window.
#[derive(Debug, Clone)]
pub(super) struct Window {
    trouble: Trouble,
    /// How long the present window is; zero when there is none.
    length: Duration,
    until: Option<Instant>,
    /// The present window's probe while it has no answer, and until when others wait for one: an upload may take hours.
    probe: Option<(ProbeId, Instant)>,
    /// The last probe there was.
    last_probe: ProbeId,
    /// Windows that were opened, since the start.
    opened: u64,
}

impl Window {
    /// None.
    pub(super) fn new() -> Self {
        Self {
            trouble: Trouble::Failing,
            length: Duration::ZERO,
            until: None,
            probe: None,
            last_probe: ProbeId(NonZeroU32::MIN),
            opened: 0,
        }
    }

    /// The same for other requests: those that it knows of do not tell it of their end.
    pub(super) fn successor(&self) -> Self {
        Self { probe: None, ..self.clone() }
    }

    /// Where it stands `now`.
    pub(super) fn phase(&self, now: Instant) -> Phase {
        let is_probed = self.probe.is_some_and(|(_, until)| now < until);
        match self.until {
            None => Phase::Closed,
            Some(until) if now < until || is_probed => Phase::Open(self.trouble, until),
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
        self.probe = None;
        self.opened += 1;
        true
    }

    /// All is well again.
    pub(super) fn close(&mut self) {
        self.until = None;
        self.probe = None;
        self.length = Duration::ZERO;
    }

    /// A request begins: whether it is the probe. Others wait for its answer as long as the window was, then the next probes.
    pub(super) fn begin(&mut self, now: Instant) -> Option<ProbeId> {
        if self.phase(now) != Phase::Over {
            return None;
        }
        self.last_probe = ProbeId(self.last_probe.0.checked_add(1).unwrap_or(NonZeroU32::MIN));
        self.probe = Some((self.last_probe, now + self.length));
        Some(self.last_probe)
    }

    /// A probe has ended, well or not. One that is not waited for any more changes nothing: its answer may have lived on through
    /// the windows that followed.
    pub(super) fn probed(&mut self, ended: ProbeId) {
        if self.probe.is_some_and(|(probe, _)| probe == ended) {
            self.probe = None;
        }
    }
}
