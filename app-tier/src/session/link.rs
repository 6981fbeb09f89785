//! What this server may believe of its copies: whether the hub's events reach it now, whether the hub can be reached, and whether
//! a web-tier hears the hub when this server does not. docs/witness.md has the protocol.

use common::{
    clock::Clock,
    witness::{TIMES, Times},
};
use proto::hub::v1::event;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// The hub counts as lost for this long after a call that it did not answer; one request then tries again.
const LOST: Duration = Duration::from_secs(5);

/// After a silence of this length the hub may have been away, and others may have answered from their memory: every copy is asked for
/// again, though no event was missed.
const SILENCE: Duration = Duration::from_secs(2);

/// What a request's web-tier had heard of the hub when it sent the request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Witness {
    /// When the last word from the hub had come there, at the latest; `None`, if it did not say.
    at: Option<Instant>,
}

/// Whether this server may go on from memory while the hub does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alone {
    /// As far as anybody can know the hub is gone for all.
    Yes,
    /// Nobody can know yet: in this time, if nothing is heard.
    NotYet(Duration),
    /// The hub lives, and this server is cut off.
    No,
}

/// The link to the hub; all apps of a server share it.
#[derive(Debug)]
pub(crate) struct Link {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Told when the hub is heard of after it was lost.
    returned: Notify,
}

/// What is known of the hub. Pure.
#[derive(Debug, Clone)]
struct State {
    times: &'static Times,
    /// When it was made: what it knew then, it knew of nobody's.
    began: Instant,
    /// There are other servers to serve the sessions.
    others: bool,
    /// When the last sign of life was sent, at the earliest.
    alive: Option<Instant>,
    /// Grows when events may have been missed.
    epoch: u64,
    /// When a call was answered last.
    answered: Option<Instant>,
    lost_until: Option<Instant>,
    /// A call failed that began while a web-tier heard the hub: this server is cut off, and its requests need not wait to find out.
    cut_off: bool,
    /// The last witness of all requests, and when it came.
    witness: Option<(Instant, Instant)>,
}

impl Link {
    /// A link on which nothing has been heard. `others`: the cluster has other servers. Without any there is nobody who could know
    /// a session better than this server's memory, whatever a web-tier hears.
    pub(crate) fn new(clock: Arc<dyn Clock>, others: bool) -> Self {
        let state = Mutex::new(State::new(&TIMES, clock.now(), others));
        Self { clock, state, returned: Notify::new() }
    }

    /// Notes an event; `sent` says when, at the earliest, if it is a sign of life. Call it after what the event says has been done:
    /// a sign of life vouches for all that came before it.
    pub(crate) fn heard(&self, event: &event::Event, sent: Option<Instant>) {
        if self.state().heard(event, sent) {
            self.returned.notify_one();
        }
    }

    /// Notes what a request's web-tier says: that it has heard from the hub `age` ago.
    pub(super) fn witness(&self, age: Option<Duration>) -> Witness {
        let now = self.clock.now();
        self.state().testify(now, age)
    }

    /// Whether the hub is known to have been alive after this server heard of it last: what is in memory may be outdated though
    /// nobody has said so here.
    pub(super) fn is_outlived(&self, witness: Witness) -> bool {
        let now = self.clock.now();
        self.state().is_outlived(now, witness)
    }

    /// Whether this server may go on from memory.
    pub(super) fn alone(&self, witness: Witness) -> Alone {
        let now = self.clock.now();
        self.state().alone(now, witness)
    }

    /// What an answer says of this server that rests on its memory alone: how long ago it heard from the hub; since it began, if it
    /// never has. `None`: there is no other server that could know better.
    pub(super) fn age(&self) -> Option<Duration> {
        let now = self.clock.now();
        let state = self.state();
        state.others.then(|| state.age(now))
    }

    /// The epoch in which copies are verified now; `None` while the hub's events may not reach this server.
    pub(crate) fn current(&self) -> Option<u64> {
        let now = self.clock.now();
        let state = self.state();
        state.is_current(now).then_some(state.epoch)
    }

    /// The epoch, current or not: what is loaded from now on is at least that new.
    pub(super) fn epoch(&self) -> u64 {
        self.state().epoch
    }

    /// Whether a call was not answered, and nothing has been heard since.
    pub(super) fn is_lost(&self) -> bool {
        self.state().lost_until.is_some()
    }

    /// Whether a request may wait for the hub. While the hub is lost, one request every 5 s may: it is the one that tries. When a
    /// web-tier hears it again all may, until one has tried in vain.
    pub(super) fn may_wait(&self, witness: Witness) -> bool {
        let now = self.clock.now();
        let mut state = self.state();
        match state.lost_until {
            None => true,
            Some(until) if now >= until => {
                state.lost_until = Some(now + LOST);
                true
            }
            Some(_) => !state.cut_off && state.is_outlived(now, witness),
        }
    }

    /// A call was not answered in its time. While the link is current a majority follows the hub's leader: then that call alone was
    /// slow, and says nothing of the others. `outlived`: [`Link::is_outlived`] when the call began.
    pub(super) fn unanswered(&self, outlived: bool) {
        let now = self.clock.now();
        let mut state = self.state();
        if !state.is_current(now) {
            state.lost_until = Some(now + LOST);
            state.cut_off |= outlived;
        }
    }

    /// A call was answered.
    pub(super) fn answered(&self) {
        let now = self.clock.now();
        let mut state = self.state();
        state.answered = Some(now);
        if state.found() {
            self.returned.notify_one();
        }
    }

    /// Resolves when the hub is heard of after it was lost: once for each time, for one who waits.
    pub(crate) async fn returned(&self) {
        self.returned.notified().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(times: &'static Times, began: Instant, others: bool) -> Self {
        Self {
            times,
            began,
            others,
            alive: None,
            epoch: 0,
            answered: None,
            lost_until: None,
            cut_off: false,
            witness: None,
        }
    }

    /// Returns whether the hub was lost and is there again.
    fn heard(&mut self, event: &event::Event, sent: Option<Instant>) -> bool {
        if matches!(event, event::Event::Snapshot(_)) {
            self.epoch += 1;
        }
        let Some(sent) = sent else { return false };
        if self.alive.is_some_and(|before| sent.saturating_duration_since(before) > SILENCE) {
            self.epoch += 1;
        }
        self.alive = self.alive.max(Some(sent));
        self.found()
    }

    /// The hub is there. Returns whether it was lost.
    fn found(&mut self) -> bool {
        self.cut_off = false;
        self.lost_until.take().is_some()
    }

    /// Whether the hub's events reach this server now.
    fn is_current(&self, now: Instant) -> bool {
        self.alive.is_some_and(|sent| now.saturating_duration_since(sent) <= self.times.believed)
    }

    /// How long ago the last word came. A server that has just started has sessions in memory before its first event: what it knows
    /// is from the calls that were answered.
    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.alive.or(self.answered).unwrap_or(self.began))
    }

    fn testify(&mut self, now: Instant, age: Option<Duration>) -> Witness {
        let at = age.filter(|_| self.others).and_then(|age| now.checked_sub(age));
        if let Some(at) = at
            && self.recent(now).is_none_or(|before| before <= at)
        {
            self.witness = Some((at, now));
        }
        Witness { at }
    }

    fn recent(&self, now: Instant) -> Option<Instant> {
        let (at, came) = self.witness?;
        (now.saturating_duration_since(came) <= self.times.fresh).then_some(at)
    }

    fn is_outlived(&self, now: Instant, witness: Witness) -> bool {
        let heard = witness.at.max(self.recent(now));
        let is_ahead = |at| self.times.is_ahead(now.saturating_duration_since(at), self.age(now));
        !self.is_current(now) && heard.is_some_and(is_ahead)
    }

    fn alone(&self, now: Instant, witness: Witness) -> Alone {
        if self.is_outlived(now, witness) {
            return Alone::No;
        }
        // The hub that was heard a moment ago may be slow with one call, or may have died just now.
        match self.times.decisive.saturating_sub(self.age(now)) {
            left if !left.is_zero() && (self.others || self.is_current(now)) => Alone::NotYet(left),
            _ => Alone::Yes,
        }
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
