//! One server, as one worker sees it: is it well, in its fail window, to be probed, or away?
//!
//! Resin's rules: a failed connect makes a server bad at once; a failed read only if nothing has succeeded since the request
//! began, for one broken request says little. The fail window is 1 s and doubles with each failure that follows it, up to
//! `load-balance-recover-time`. After the window one request at a time probes, and a success makes all well.

use common::config::Server;
use proto::hub::v1::MemberState;
use std::time::{Duration, Instant};

/// The first fail window.
const FIRST_WINDOW: Duration = Duration::from_secs(1);

/// What the hub says of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Nothing, or that it is there.
    Present,
    /// It serves its own sessions to their end, nothing new.
    Draining,
    /// It takes no new requests; those that it has it answers.
    Standby,
    /// It is dead, frozen or cut off.
    Down,
}

/// What the hub's word means for the sockets to a server that are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "sockets to a dead server must not be used"]
pub(crate) enum Sockets {
    /// Nothing.
    Keep,
    /// No new request is to use them.
    Retire,
    /// The process at their other end is gone: nothing more will come from it.
    Break,
}

/// What a request can expect of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It works.
    Well,
    /// Its fail window is over: this request may find out.
    Probe,
    /// In its fail window until then, or being probed.
    Failing(Instant),
    /// The hub knows that it is gone.
    Away,
}

/// What a request remembers of its server when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a request that has begun has to end"]
pub(crate) struct Ticket {
    probe: bool,
    successes: u64,
    failures: u64,
}

/// A server's state.
#[derive(Debug)]
pub(crate) struct ServerState {
    weight: u32,
    window_max: Duration,
    /// The present or last fail window; zero when all is well.
    window: Duration,
    failing_until: Option<Instant>,
    probing: bool,
    /// Answers' heads, since the start.
    successes: u64,
    /// Failures that counted, since the start.
    failures: u64,
    active: u32,
    presence: Presence,
    started_ms: u64,
}

impl ServerState {
    /// A server that is believed to be well.
    pub(crate) fn new(server: &Server) -> Self {
        Self {
            weight: server.weight.max(1),
            window_max: server.recover_time,
            window: Duration::ZERO,
            failing_until: None,
            probing: false,
            successes: 0,
            failures: 0,
            active: 0,
            presence: Presence::Present,
            started_ms: 0,
        }
    }

    pub(crate) fn weight(&self) -> u32 {
        self.weight
    }

    pub(crate) fn presence(&self) -> Presence {
        self.presence
    }

    /// Requests in flight.
    #[cfg(test)]
    pub(crate) fn active(&self) -> u32 {
        self.active
    }

    /// What a request that begins `now` can expect.
    pub(crate) fn standing(&self, now: Instant) -> Standing {
        match self.failing_until {
            _ if matches!(self.presence, Presence::Standby | Presence::Down) => Standing::Away,
            None => Standing::Well,
            Some(until) if now < until || self.probing => Standing::Failing(until),
            Some(_) => Standing::Probe,
        }
    }

    /// Whether one more request weighs less here than on `other`.
    pub(crate) fn load_below(&self, other: &Self) -> bool {
        let load = |one: &Self, two: &Self| u64::from(one.active + 1) * u64::from(two.weight);
        load(self, other) < load(other, self)
    }

    /// A request begins.
    pub(crate) fn begin(&mut self, now: Instant) -> Ticket {
        let probe = self.standing(now) == Standing::Probe;
        self.probing |= probe;
        self.active += 1;
        Ticket { probe, successes: self.successes, failures: self.failures }
    }

    /// The head of its answer has come. It heals the server, unless that failed after the request began.
    pub(crate) fn succeeded(&mut self, ticket: &mut Ticket) {
        self.successes += 1;
        ticket.successes = self.successes;
        if ticket.failures == self.failures {
            self.failing_until = None;
            self.window = Duration::ZERO;
        }
    }

    /// It could not connect. The failures of one window, met by many requests at once, count as one: whether this is the first
    /// is returned.
    pub(crate) fn connect_failed(&mut self, now: Instant) -> bool {
        if self.failing_until.is_some_and(|until| now < until) {
            return false;
        }
        let next = if self.window.is_zero() { FIRST_WINDOW } else { self.window * 2 };
        self.window = next.min(self.window_max);
        self.failing_until = Some(now + self.window);
        self.failures += 1;
        true
    }

    /// Its connection broke, or stayed silent for too long. Returns whether that opens a fail window.
    pub(crate) fn read_failed(&mut self, now: Instant, ticket: &Ticket) -> bool {
        self.successes == ticket.successes && self.connect_failed(now)
    }

    /// It has ended, well or not.
    pub(crate) fn end(&mut self, ticket: Ticket) {
        self.active = self.active.saturating_sub(1);
        if ticket.probe {
            self.probing = false;
        }
    }

    /// What the hub says: the member's state and when its process started; `None` when the hub does not know it, which says
    /// nothing (it may not have registered yet).
    pub(crate) fn member_seen(&mut self, member: Option<(MemberState, u64)>) -> Sockets {
        let Some((state, started_ms)) = member else {
            self.presence = Presence::Present;
            return Sockets::Keep;
        };
        let before = std::mem::replace(&mut self.presence, presence(state));
        let sockets = match self.presence {
            same if same == before => Sockets::Keep,
            Presence::Down => Sockets::Break,
            Presence::Standby => Sockets::Retire,
            Presence::Present | Presence::Draining => Sockets::Keep,
        };
        if state != MemberState::Active || started_ms <= self.started_ms {
            return sockets;
        }
        // A new process: what its forerunner did wrong is forgotten. At first sight there is nothing to forget.
        let restarted = self.started_ms != 0;
        if restarted {
            self.failing_until = None;
            self.window = Duration::ZERO;
        }
        self.started_ms = started_ms;
        if restarted { Sockets::Break } else { sockets }
    }
}

fn presence(state: MemberState) -> Presence {
    match state {
        MemberState::Active | MemberState::Unspecified => Presence::Present,
        MemberState::Draining => Presence::Draining,
        MemberState::Standby => Presence::Standby,
        MemberState::Down => Presence::Down,
    }
}

#[cfg(test)]
mod tests;
