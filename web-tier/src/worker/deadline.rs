//! The time-outs of a client's connection, without a timer per request: reads, writes and phases leave the (coarse) time in a
//! cell, and the connection's one timer looks at it when it fires.
//!
//! The timer is never set further than the shortest time-out, so that a phase that begins meanwhile is still looked at before
//! its own deadline.
//!
//! A client that moves a byte now and then is never silent, and would hold a server's socket for ever. So the time that it is waited
//! for is added up, and what it sends and takes is worth time at `request-rate-min`: it may be `socket-timeout` behind, and no
//! further (Apache's `mod_reqtimeout` and ASP.NET's `MinRequestBodyDataRate` do the same).

use crate::route::client_limits::Limits;
use std::{
    cell::Cell,
    num::NonZeroU32,
    time::{Duration, Instant},
};

/// A connection that nobody has asked anything by for so long ends first where there are too many.
pub(crate) const SPARE_AFTER: Duration = Duration::from_secs(1);

/// In milliseconds of silence; nobody configures 49 days.
const FOR_EVER: u32 = u32::MAX;

/// Where a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Between requests.
    Idle,
    /// A request's head has begun.
    Head,
    /// A request is with the proxy, its answer's head is not there.
    Asked,
    /// The answer's body is under way.
    Answering,
    /// Bytes pass both ways, unread.
    Tunnel,
}

impl Phase {
    /// Whether the phase has its time as a whole, whatever moves meanwhile.
    fn is_limited(self) -> bool {
        matches!(self, Self::Idle | Self::Head)
    }
}

/// What a connection is to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Look again then.
    Wait(Instant),
    /// Nobody asks for anything: close.
    Idle,
    /// The head is late, or a body before its answer: 408 and close.
    Late,
    /// The client is stuck, sending or taking: close.
    ClientStuck,
    /// The server is silent and nothing of an answer has left: 504.
    ServerSilent,
    /// The server is silent in the middle of an answer: break it off.
    AnswerStuck,
}

/// The body of the request that a connection is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Upload {
    /// There is none, it has been read to its end, or nobody wants it.
    Whole,
    /// It is wanted. When the server does not take it, the proxy does not read.
    Wanted,
    /// The proxy waits for more of it.
    Awaited,
    /// The client waits for `100 Continue` (RFC 9110 §10.1.1), which is the server's to give: that it does not send is no fault of its.
    Held,
}

/// What a connection remembers of its progress.
#[derive(Debug)]
pub(crate) struct Progress {
    phase: Cell<Phase>,
    /// When the phase began if that is [limited](Phase::is_limited), else when anything last moved.
    from: Cell<Instant>,
    write_waits: Cell<bool>,
    /// How many milliseconds the server may be silent.
    server_silence: Cell<u32>,
    upload: Cell<Upload>,
    /// The client has said its last, and may have gone away.
    ended: Cell<bool>,
    /// The rest of the body has a [least rate](Limits::rate_min).
    rated: Cell<bool>,
    /// How many milliseconds the client was waited for beyond what it sent or took is worth.
    behind: Cell<u32>,
}

impl Progress {
    /// Of a connection that was just accepted. Its first head counts as begun: a client connects to ask.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            phase: Cell::new(Phase::Head),
            from: Cell::new(now),
            write_waits: Cell::new(false),
            server_silence: Cell::new(FOR_EVER),
            upload: Cell::new(Upload::Whole),
            ended: Cell::new(false),
            rated: Cell::new(true),
            behind: Cell::new(0),
        }
    }

    /// The client sent bytes.
    pub(crate) fn read(&self, now: Instant) {
        self.moved(now);
        if matches!(self.upload.get(), Upload::Awaited | Upload::Held) {
            self.upload.set(Upload::Wanted);
        }
        if self.phase.get() == Phase::Idle {
            self.enter(Phase::Head, now);
        }
    }

    /// The client sent bytes of its body.
    pub(crate) fn body_came(&self, now: Instant, bytes: usize, rate_min: impl FnOnce() -> u32) {
        if self.phase.get() == Phase::Asked && self.rated.get() {
            self.settle(now, self.upload.get() == Upload::Awaited, bytes, rate_min);
        }
        self.read(now);
    }

    /// The client took bytes of its answer.
    pub(crate) fn took(&self, now: Instant, bytes: usize, rate_min: impl FnOnce() -> u32) {
        self.settle(now, self.write_waits.get(), bytes, rate_min);
        self.wrote(now);
    }

    /// Adds the time since the last movement, if the client was waited for, and takes off what `bytes` are worth.
    fn settle(&self, now: Instant, waited: bool, bytes: usize, rate_min: impl FnOnce() -> u32) {
        let waited = if waited { millis(now.saturating_duration_since(self.from.get())) } else { 0 };
        let behind = u64::from(self.behind.get()) + u64::from(waited);
        if behind == 0 {
            return;
        }
        let Some(rate) = NonZeroU32::new(rate_min()) else { return };
        let worth = (bytes as u64).saturating_mul(1000) / u64::from(rate.get());
        self.behind.set(u32::try_from(behind.saturating_sub(worth)).unwrap_or(u32::MAX));
    }

    /// The client took bytes.
    pub(crate) fn wrote(&self, now: Instant) {
        self.moved(now);
        self.write_waits.set(false);
    }

    /// The proxy wants to read and there is nothing: from `now` on it is the client's turn.
    pub(crate) fn read_waits(&self, now: Instant) {
        if self.upload.get() == Upload::Wanted {
            self.upload.set(Upload::Awaited);
            self.moved(now);
        }
    }

    /// The proxy wants to write and the client does not take it.
    pub(crate) fn write_waits(&self) {
        self.write_waits.set(true);
    }

    /// The server sent something.
    pub(crate) fn server_moved(&self, now: Instant) {
        self.moved(now);
    }

    /// A request's head is complete, and a body follows if it is `uploading`.
    pub(crate) fn asked(&self, now: Instant, uploading: bool) {
        self.upload.set(if uploading { Upload::Wanted } else { Upload::Whole });
        self.rated.set(true);
        self.behind.set(0);
        self.awaits_socket();
        self.enter(Phase::Asked, now);
    }

    /// The client wants to be told to go on before it sends the body.
    pub(crate) fn holds_back(&self) {
        if self.upload.get() != Upload::Whole {
            self.upload.set(Upload::Held);
        }
    }

    /// It was told to: from `now` on it is its turn.
    pub(crate) fn told_to_go_on(&self, now: Instant) {
        if self.upload.get() == Upload::Held {
            self.upload.set(Upload::Wanted);
        }
        self.moved(now);
    }

    /// It waits for a socket to a server: queue and connect have time-outs of their own.
    pub(crate) fn awaits_socket(&self) {
        self.server_silence.set(FOR_EVER);
    }

    /// It goes to a server that may be silent for this long.
    pub(crate) fn forwarded(&self, now: Instant, silence: Duration) {
        self.server_silence.set(millis(silence));
        self.moved(now);
    }

    /// It shares its connection to the server with others: the client of a stream may say something now and then, in gRPC for one.
    pub(crate) fn streams(&self) {
        self.rated.set(false);
    }

    /// The answer's head is there. What is sent from now on may be one side of a conversation: it has no rate.
    pub(crate) fn answering(&self, now: Instant) {
        self.behind.set(0);
        self.enter(Phase::Answering, now);
    }

    /// The answer is complete.
    pub(crate) fn answered(&self, now: Instant) {
        self.enter(Phase::Idle, now);
        self.upload.set(Upload::Whole);
    }

    /// The request's body has been read to its end.
    pub(crate) fn uploaded(&self) {
        self.upload.set(Upload::Whole);
    }

    /// The client has said its last: nothing but an error when it is written to would tell that it has gone away.
    pub(crate) fn client_ended(&self) {
        self.ended.set(true);
    }

    /// The connection is a tunnel now: it ends when neither side has said anything for as long as the server may be silent.
    pub(crate) fn tunnelling(&self, now: Instant) {
        self.write_waits.set(false);
        self.enter(Phase::Tunnel, now);
    }

    fn enter(&self, phase: Phase, now: Instant) {
        self.phase.set(phase);
        self.from.set(now);
    }

    fn moved(&self, now: Instant) {
        if !self.phase.get().is_limited() {
            self.from.set(now);
        }
    }

    /// Whether it may end in favour of another one: for a while nobody has asked for anything, or not to the end. One that has just
    /// answered may have the next request on its way.
    pub(crate) fn is_spare(&self, now: Instant) -> bool {
        self.phase.get().is_limited() && now.saturating_duration_since(self.from.get()) >= SPARE_AFTER
    }

    /// How long the client has been waited for at `now`, beyond what it sent or took is worth; `None` if it is not its turn.
    pub(crate) fn kept_waiting(&self, now: Instant) -> Option<Duration> {
        let sends =
            self.phase.get() == Phase::Asked && self.upload.get() == Upload::Awaited && self.rated.get();
        let takes = matches!(self.phase.get(), Phase::Asked | Phase::Answering) && self.write_waits.get();
        let waits = sends || takes;
        waits.then(|| self.time_behind() + now.saturating_duration_since(self.from.get()))
    }

    /// What a client is to hear whose request makes room for others.
    pub(crate) fn given_up(&self) -> Verdict {
        match self.phase.get() {
            Phase::Asked if !self.write_waits.get() => Verdict::Late,
            _ => Verdict::ClientStuck,
        }
    }

    /// Whether the server has been silent in the middle of an answer for as long as it may be.
    pub(crate) fn is_answer_stuck(&self, now: Instant, limits: &Limits) -> bool {
        self.verdict(now, limits) == Verdict::AnswerStuck
    }

    fn time_behind(&self) -> Duration {
        Duration::from_millis(self.behind.get().into())
    }

    /// What to do at `now`.
    pub(crate) fn verdict(&self, now: Instant, limits: &Limits) -> Verdict {
        let (from, limit, verdict) = self.deadline(limits);
        match from.checked_add(limit) {
            Some(deadline) if deadline <= now => verdict,
            Some(deadline) => Verdict::Wait(deadline.min(now + limits.shortest)),
            None => Verdict::Wait(now + limits.shortest),
        }
    }

    /// From when, how long, and what then.
    fn deadline(&self, limits: &Limits) -> (Instant, Duration, Verdict) {
        let silence = match self.server_silence.get() {
            FOR_EVER => Duration::MAX,
            millis => Duration::from_millis(millis.into()),
        };
        // What is left of it to a client that is behind.
        let left = limits.socket.saturating_sub(self.time_behind());
        let (limit, verdict) = match self.phase.get() {
            Phase::Idle => (limits.keepalive, Verdict::Idle),
            Phase::Head => (limits.head, Verdict::Late),
            Phase::Tunnel => (silence, Verdict::AnswerStuck),
            _ if self.write_waits.get() => (left, Verdict::ClientStuck),
            Phase::Asked if self.upload.get() == Upload::Awaited => (left, Verdict::Late),
            Phase::Answering if self.upload.get() == Upload::Awaited => (limits.socket, Verdict::ClientStuck),
            // Who may be gone is not given as long as a server may take.
            Phase::Asked | Phase::Answering if self.ended.get() && limits.socket < silence => {
                (limits.socket, Verdict::ClientStuck)
            }
            Phase::Asked => (silence, Verdict::ServerSilent),
            Phase::Answering => (silence, Verdict::AnswerStuck),
        };
        (self.from.get(), limit, verdict)
    }
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
