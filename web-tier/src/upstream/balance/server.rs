//! One server, as one worker sees it: may it get requests, is it well, and how loaded is it?
//!
//! Resin's rules: a failed connect makes a server bad at once; a failed read only if nothing has succeeded since the request
//! began, for one broken request says little. The fail window is 1 s and doubles with each failure that follows it, up to
//! `load-balance-recover-time`. After the window one request at a time probes, and a success makes all well; others wait for its
//! answer's head no longer than the window was. A server that answers 503 is busy in the same way, up to
//! `load-balance-busy-recover-time`. One that has come back warms up.

use super::{
    backend::Backend,
    latency::Latency,
    warmup::Warmup,
    window::{Phase, ProbeId, Trouble, Window},
};
use proto::hub::v1::{Member, MemberAdmin, MemberState};
use std::time::{Duration, Instant};

/// The answer of a server that is busy.
const BUSY: u16 = 503;

/// Answers from here on say nothing of how fast a server works: an error is quickly made.
pub(super) const ERRORS: u16 = 500;

/// What the hub says of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// Nothing, or that it is there.
    Present,
    /// It serves its own sessions to their end, nothing new.
    Draining,
    /// It takes no new requests; those that it has it answers.
    Standby,
    /// It is dead, frozen or cut off.
    Down,
}

/// Which requests may go to a server at all, whether it is well or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Openness {
    /// All.
    All,
    /// Those of its own sessions, and others rather than none: it is about to stop.
    Draining,
    /// Those of its own sessions: an administrator has said so (`disable-soft`).
    OwnSessions,
    /// None.
    Nothing,
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
    /// Its window is over: this request may find out.
    Probe,
    /// It has answered 503 and nothing else since.
    Busy {
        /// Not for long yet: its own sessions still go there.
        own_sessions: bool,
    },
    /// In its fail window until then, or being probed.
    Failing(Instant),
    /// Many of its requests fail, and more than of others: it gets none until then.
    Ejected(Instant),
    /// It gets no requests.
    Away,
}

/// What the last trouble with a server was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TroubleKind {
    /// It could not be reached.
    Unreachable,
    /// A connection broke or fell silent.
    Broke,
    /// It answered 503.
    Busy,
}

/// What a request remembers of its server when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a request that has begun has to end"]
pub(crate) struct Ticket {
    pub(super) probe: Option<ProbeId>,
    successes: u64,
    troubles: u64,
    begun: Instant,
}

/// A server's state.
#[derive(Debug, Clone)]
pub(crate) struct ServerState {
    weight: u32,
    backup: bool,
    /// 1 / weight.
    request_load: f32,
    recover_time: Duration,
    busy_recover_time: Duration,
    window: Window,
    /// The last trouble, and when that was.
    last_trouble: Option<(TroubleKind, Instant)>,
    /// The present fail window was opened by a connection that could not be made, not by one that broke.
    unreachable: bool,
    warmup: Warmup,
    latency: Latency,
    /// Answers' heads, since the start.
    successes: u64,
    active: u32,
    presence: Presence,
    admin: MemberAdmin,
    /// What active checks say; true where there are none.
    healthy: bool,
    /// Until when it is ejected.
    ejected: Option<Instant>,
    /// What `presence`, `admin` and `healthy` come to.
    openness: Openness,
    started_ms: u64,
    /// What its reported CPU load multiplies its requests' weight with.
    cpu_penalty: f32,
}

impl ServerState {
    /// A server that is believed to be well and warm.
    pub(crate) fn new(backend: &Backend) -> Self {
        Self {
            weight: backend.weight.max(1),
            backup: backend.backup,
            request_load: 1.0 / backend.weight.max(1) as f32,
            recover_time: backend.recover_time,
            busy_recover_time: backend.busy_recover_time,
            window: Window::new(),
            last_trouble: None,
            unreachable: false,
            warmup: Warmup::new(backend.warmup_time),
            latency: Latency::of_server(),
            successes: 0,
            active: 0,
            presence: Presence::Present,
            admin: MemberAdmin::Enabled,
            healthy: true,
            ejected: None,
            openness: Openness::All,
            started_ms: 0,
            cpu_penalty: 1.0,
        }
    }

    /// The same for requests of another configuration, with the share that it has there. Those in flight end by the one that they began
    /// with, and count there.
    pub(crate) fn successor(&self, new: &Self) -> Self {
        let window = self.window.successor();
        let Self { weight, request_load, backup, .. } = *new;
        Self { active: 0, window, weight, request_load, backup, ..self.clone() }
    }

    pub(crate) fn weight(&self) -> u32 {
        self.weight
    }

    /// Whether it is for when the others can take nothing.
    pub(super) fn is_backup(&self) -> bool {
        self.backup
    }

    /// Which requests may go there at all.
    pub(crate) fn openness(&self) -> Openness {
        self.openness
    }

    /// Requests in flight.
    pub(crate) fn active(&self) -> u32 {
        self.active
    }

    /// What the hub says of it.
    pub(super) fn presence(&self) -> Presence {
        self.presence
    }

    /// What an administrator has said of it.
    pub(super) fn admin(&self) -> MemberAdmin {
        self.admin
    }

    /// Answers' heads, since the start.
    pub(super) fn answers(&self) -> u64 {
        self.successes
    }

    /// Windows that were opened, since the start.
    pub(super) fn troubles(&self) -> u64 {
        self.window.opened()
    }

    /// The last of them, and when that was.
    pub(super) fn last_trouble(&self) -> Option<(TroubleKind, Instant)> {
        self.last_trouble
    }

    /// The average time to an answer's head; `None` before the first answer, or where nobody asks for it.
    pub(super) fn average(&self) -> Option<Duration> {
        self.latency.seconds().map(Duration::from_secs_f32)
    }

    /// What a request that begins `now` can expect.
    pub(crate) fn standing(&self, now: Instant) -> Standing {
        if self.openness == Openness::Nothing {
            return Standing::Away;
        }
        match (self.window.phase(now), self.ejected) {
            (Phase::Open(Trouble::Failing, until), _) => Standing::Failing(until),
            (_, Some(until)) => Standing::Ejected(until),
            (Phase::Closed, None) => Standing::Well,
            (Phase::Over, None) => Standing::Probe,
            (Phase::Open(Trouble::Busy, _), None) => Standing::Busy { own_sessions: !self.window.is_long() },
        }
    }

    /// In its fail window: whether it can't be reached. Else it may have broken over one request, and serve others.
    pub(super) fn is_unreachable(&self) -> bool {
        self.unreachable
    }

    /// The part of its share that it gets while it warms up, in sixteenths.
    pub(crate) fn sixteenths(&self, now: Instant) -> u32 {
        self.warmup.sixteenths(now)
    }

    /// Whether it has as many requests as its warm-up allows.
    pub(crate) fn is_full(&self, now: Instant) -> bool {
        !self.warmup.is_over() && self.active >= self.warmup.limit(now)
    }

    /// What one more request weighs here by its number alone: `least-connection`.
    pub(crate) fn load(&self, now: Instant) -> f32 {
        let load = (self.active + 1) as f32 * self.request_load;
        if self.warmup.is_over() { load } else { load * 16.0 / self.sixteenths(now) as f32 }
    }

    /// The same with the time that answers take here, compared with `all` servers', and the CPU load: `adaptive`.
    pub(super) fn adaptive_load(&self, now: Instant, all: &Latency) -> f32 {
        self.load(now) * self.latency.penalty(now, all) * self.cpu_penalty
    }

    /// A request begins. For a latency of use `now` has to be the time, not that of the last tick.
    pub(crate) fn begin(&mut self, now: Instant) -> Ticket {
        self.warmup.settle(now);
        let probe = if self.openness == Openness::Nothing { None } else { self.window.begin(now) };
        self.active += 1;
        Ticket { probe, successes: self.successes, troubles: self.window.opened(), begun: now }
    }

    /// The head of its answer has come, whatever it says. It heals the server, unless trouble came after the request began.
    pub(crate) fn succeeded(&mut self, now: Instant, ticket: &mut Ticket) {
        self.successes += 1;
        ticket.successes = self.successes;
        if ticket.troubles == self.window.opened() {
            self.heal(now);
        }
    }

    /// The head of its answer has come, with this status: [`Self::succeeded`], or the server is busy. Returns how long it
    /// took, if that says how fast the server works.
    pub(super) fn answered(&mut self, now: Instant, ticket: &mut Ticket, status: u16) -> Option<Duration> {
        if status == BUSY {
            self.successes += 1;
            ticket.successes = self.successes;
            // One that began before the last trouble says nothing new.
            if ticket.troubles == self.window.opened()
                && self.window.open(Trouble::Busy, now, self.busy_recover_time)
            {
                self.last_trouble = Some((TroubleKind::Busy, now));
                self.warmup.set_back(now);
            }
            return None;
        }
        self.succeeded(now, ticket);
        if status >= ERRORS {
            return None;
        }
        let taken = now.saturating_duration_since(ticket.begun);
        self.latency.note(now, taken);
        Some(taken)
    }

    /// It could not connect. The failures of one window, met by many requests at once, count as one: whether this is the first
    /// is returned.
    pub(crate) fn connect_failed(&mut self, now: Instant) -> bool {
        self.unreachable = true;
        self.failed(now)
    }

    fn failed(&mut self, now: Instant) -> bool {
        let first = self.window.open(Trouble::Failing, now, self.recover_time);
        if first {
            self.last_trouble = Some((TroubleKind::Unreachable, now));
            self.warmup.set_back(now);
        }
        first
    }

    /// Its connection broke, or stayed silent for too long. Returns whether that opens a fail window.
    pub(crate) fn read_failed(&mut self, now: Instant, ticket: &Ticket) -> bool {
        let opens = self.successes == ticket.successes && self.failed(now);
        self.unreachable &= !opens;
        if opens {
            self.last_trouble = Some((TroubleKind::Broke, now));
        }
        opens
    }

    /// It has ended, well or not.
    pub(crate) fn end(&mut self, ticket: Ticket) {
        self.active = self.active.saturating_sub(1);
        if let Some(probe) = ticket.probe {
            self.window.probed(probe);
        }
    }

    /// All is well again. One that could not be reached for more than the first window has been away: it warms up.
    fn heal(&mut self, now: Instant) {
        if self.window.is_long() && matches!(self.window.trouble(), Some(Trouble::Failing)) {
            self.warmup.start(now);
        }
        self.window.close();
    }

    /// What the hub says of the member; `None` when it does not know it, which says nothing (it may not have registered yet;
    /// what an administrator has said before still holds).
    pub(crate) fn member_seen(&mut self, now: Instant, member: Option<&Member>) -> Sockets {
        let Some(member) = member else {
            self.presence = Presence::Present;
            self.cpu_penalty = 1.0;
            self.decide();
            return Sockets::Keep;
        };
        self.cpu_penalty = cpu_penalty(member.cpu_load);
        let disabled = self.admin_seen(now, member.admin());
        let replaced = self.state_seen(now, member.state(), member.started_ms);
        self.decide();
        // The sharper of the two.
        if replaced == Sockets::Keep { disabled } else { replaced }
    }

    fn admin_seen(&mut self, now: Instant, admin: MemberAdmin) -> Sockets {
        match (std::mem::replace(&mut self.admin, admin), admin) {
            (before, MemberAdmin::Disabled) if before != MemberAdmin::Disabled => Sockets::Retire,
            (MemberAdmin::Disabled, _) if admin != MemberAdmin::Disabled => {
                self.warmup.start(now);
                Sockets::Keep
            }
            _ => Sockets::Keep,
        }
    }

    fn state_seen(&mut self, now: Instant, state: MemberState, started_ms: u64) -> Sockets {
        let before = std::mem::replace(&mut self.presence, presence(state));
        let sockets = match self.presence {
            same if same == before => Sockets::Keep,
            Presence::Down => Sockets::Break,
            Presence::Standby => Sockets::Retire,
            Presence::Present | Presence::Draining => Sockets::Keep,
        };
        if state != MemberState::Active {
            return sockets;
        }
        if matches!(before, Presence::Standby | Presence::Down) {
            self.warmup.start(now);
        }
        if started_ms <= self.started_ms {
            return sockets;
        }
        // At first sight there is nothing to forget, and only one that could not be reached has just come.
        let restarted = self.started_ms != 0;
        if restarted || matches!(self.window.trouble(), Some(Trouble::Failing)) {
            self.warmup.start(now);
        }
        if restarted {
            // A new process: what its forerunner did is forgotten.
            self.window.close();
            self.latency.clear();
        }
        self.started_ms = started_ms;
        if restarted { Sockets::Break } else { sockets }
    }

    /// What active checks say.
    pub(crate) fn health_changed(&mut self, now: Instant, up: bool) -> Sockets {
        let before = std::mem::replace(&mut self.healthy, up);
        self.decide();
        match (before, up) {
            (false, true) => {
                self.window.close();
                self.latency.clear();
                self.warmup.start(now);
                Sockets::Keep
            }
            (true, false) => Sockets::Retire,
            _ => Sockets::Keep,
        }
    }

    /// It is left alone until then, or it is back: then it warms up, as what it had in its caches may be gone.
    pub(super) fn eject(&mut self, now: Instant, until: Option<Instant>) {
        if until.is_none() && self.ejected.is_some() {
            self.warmup.start(now);
        }
        self.ejected = until;
    }

    fn decide(&mut self) {
        self.openness = match (self.presence, self.admin) {
            _ if !self.healthy => Openness::Nothing,
            (Presence::Standby | Presence::Down, _) | (_, MemberAdmin::Disabled) => Openness::Nothing,
            (_, MemberAdmin::DisabledSoft) => Openness::OwnSessions,
            (Presence::Draining, MemberAdmin::Enabled) => Openness::Draining,
            (Presence::Present, MemberAdmin::Enabled) => Openness::All,
        };
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

/// From 1 (idle, or not reported) to 4 (all cores busy), of thousandths: 1 + 3 load⁴. Half a load costs a fifth, the last tenth
/// as much as the first eight.
fn cpu_penalty(per_mille: Option<u32>) -> f32 {
    let load = per_mille.unwrap_or(0).min(1000) as f32 / 1000.0;
    1.0 + 3.0 * load.powi(4)
}

#[cfg(test)]
mod tests;
