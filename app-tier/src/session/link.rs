//! What this server may believe of its copies: whether the hub's events reach it now, whether the hub can be reached, and whether
//! a web-tier hears the hub when this server does not.

use common::{clock::Clock, hub_age::AHEAD};
use proto::hub::v1::event;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use triad_client::Pulse;

/// The hub counts as lost for this long after a call that it did not answer; one request then tries again.
const LOST: Duration = Duration::from_secs(5);

/// After a silence of this length the hub may have been away, and others may have answered from their memory: every copy is asked for
/// again, though no event was missed.
const SILENCE: Duration = Duration::from_secs(2);

/// What one request's web-tier has said counts for others for this long: not longer, for a request that waited in a buffer says
/// that the hub was heard later than it was.
const FRESH: Duration = Duration::from_secs(1);

/// What a request's web-tier had heard of the hub when it sent the request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Witness {
    /// When the last word from the hub had come there, at the latest; `None`, if it did not say.
    at: Option<Instant>,
    /// That was just then: it may be hearing the hub still.
    hears: bool,
}

impl Witness {
    /// Whether the web-tier heard the hub when it sent the request.
    pub(super) fn hears(self) -> bool {
        self.hears
    }
}

/// A silence of this length is a difference of more than [`AHEAD`] to the silence of a web-tier that hears the hub: an interval of
/// `Alive`s, a tick of its clock, and what a busy machine takes.
const DECISIVE: Duration = Duration::from_secs(1);

/// The link to the hub; all apps of a server share it.
#[derive(Debug)]
pub(crate) struct Link {
    clock: Arc<dyn Clock>,
    /// When it was made: what it knew then, it knew of nobody's.
    began: Instant,
    /// There are other servers to serve the sessions.
    others: bool,
    state: Mutex<State>,
    /// Told when the hub is heard of after it was lost.
    returned: Notify,
}

#[derive(Debug, Default)]
struct State {
    pulse: Pulse,
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
        let began = clock.now();
        Self { clock, began, others, state: Mutex::default(), returned: Notify::new() }
    }

    /// Notes an event. Call it after what the event says has been done: an `Alive` vouches for all that came before it.
    pub(crate) fn heard(&self, event: &event::Event) {
        let now = self.clock.now();
        let mut state = self.state();
        match event {
            event::Event::Snapshot(_) => state.epoch += 1,
            event::Event::Alive(_) => {
                let before = state.pulse.sent();
                if state.pulse.beat(now) {
                    if before.is_some_and(|sent| now.saturating_duration_since(sent) > SILENCE) {
                        state.epoch += 1;
                    }
                    if state.found() {
                        self.returned.notify_one();
                    }
                }
            }
            event::Event::Resumed(_)
            | event::Event::Member(_)
            | event::Event::MemberLoads(_)
            | event::Event::SessionMoved(_) => {}
        }
    }

    /// Notes what a request's web-tier says: that it has heard from the hub `age` ago.
    pub(super) fn witness(&self, age: Option<Duration>) -> Witness {
        let now = self.clock.now();
        let Some(age) = age.filter(|_| self.others) else { return Witness::default() };
        let Some(at) = now.checked_sub(age) else { return Witness::default() };
        let mut state = self.state();
        if state.recent(now).is_none_or(|before| before <= at) {
            state.witness = Some((at, now));
        }
        Witness { at: Some(at), hears: age <= AHEAD }
    }

    /// Whether the hub is known to have been alive after this server heard of it last: what is in memory may be outdated though
    /// nobody has said so here.
    pub(super) fn is_outlived(&self, witness: Witness) -> bool {
        let now = self.clock.now();
        self.state().is_outlived(now, self.began, witness)
    }

    /// How long ago this server heard from the hub; since it began, if it never has.
    pub(super) fn age(&self) -> Duration {
        let now = self.clock.now();
        now.saturating_duration_since(self.state().heard_at(self.began))
    }

    /// How long to wait until a web-tier that hears the hub can tell by this server's silence that it is cut off.
    pub(super) fn until_decisive(&self) -> Duration {
        DECISIVE.saturating_sub(self.age())
    }

    /// The epoch in which copies are verified now; `None` while the hub's events may not reach this server.
    pub(super) fn current(&self) -> Option<u64> {
        let now = self.clock.now();
        let state = self.state();
        state.pulse.is_current(now).then_some(state.epoch)
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
            Some(_) => !state.cut_off && state.is_outlived(now, self.began, witness),
        }
    }

    /// A call was not answered in its time. While the link is current a majority follows the hub's leader: then that call alone was
    /// slow, and says nothing of the others. `outlived`: [`Link::is_outlived`] when the call began.
    pub(super) fn unanswered(&self, outlived: bool) {
        let now = self.clock.now();
        let mut state = self.state();
        if !state.pulse.is_current(now) {
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
    /// The hub is there. Returns whether it was lost.
    fn found(&mut self) -> bool {
        self.cut_off = false;
        self.lost_until.take().is_some()
    }

    /// When the last word came. A server that has just started has sessions in memory before its first event: what it knows is
    /// from the calls that were answered.
    fn heard_at(&self, began: Instant) -> Instant {
        self.pulse.sent().or(self.answered).unwrap_or(began)
    }

    fn recent(&self, now: Instant) -> Option<Instant> {
        let (at, came) = self.witness?;
        (now.saturating_duration_since(came) <= FRESH).then_some(at)
    }

    fn is_outlived(&self, now: Instant, began: Instant, witness: Witness) -> bool {
        let own = self.heard_at(began);
        let heard = witness.at.max(self.recent(now));
        !self.pulse.is_current(now) && heard.is_some_and(|heard| heard > own + AHEAD)
    }
}

#[cfg(test)]
mod tests;
