//! What this server may believe of its copies: whether the hub's events reach it now, and whether the hub can be reached.

use common::clock::Clock;
use proto::hub::v1::event;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The link is current for this long after an `Alive` was sent, as far as can be known. The hub sends one only while a majority
/// has acknowledged its leader within 300 ms: together that is less than an election takes (650 ms), so that no other leader has taken
/// a write meanwhile.
const CURRENT: Duration = Duration::from_millis(300);

/// `Alive`s are sent at this interval: one was sent no earlier than the one before it, and at most this long after it.
const INTERVAL: Duration = Duration::from_millis(100);

/// `Alive`s that come closer together than this were waiting in a buffer while this process was stopped or cut off: they are old.
const BURST: Duration = Duration::from_millis(50);

/// The hub counts as lost for this long after a call that it did not answer; one request then tries again.
const LOST: Duration = Duration::from_secs(5);

/// The link to the hub; all apps of a server share it.
#[derive(Debug)]
pub(crate) struct Link {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the last `Alive` that counts was sent, at the earliest.
    alive: Option<Instant>,
    /// When the last `Alive` came, whether it counts or not.
    heard: Option<Instant>,
    /// Grows when events may have been missed.
    epoch: u64,
    lost_until: Option<Instant>,
}

impl Link {
    /// A link on which nothing has been heard.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default() }
    }

    /// Notes an event. Call it after what the event says has been done: an `Alive` vouches for all that came before it.
    pub(crate) fn heard(&self, event: &event::Event) {
        let now = self.clock.now();
        let mut state = self.state();
        match event {
            event::Event::Snapshot(_) => state.epoch += 1,
            event::Event::Alive(_) => {
                let before = state.heard.replace(now);
                let Some(before) = before else { return };
                if (BURST..=CURRENT).contains(&now.saturating_duration_since(before)) {
                    // What came late may have been sent on time.
                    state.alive = Some(now.min(before + INTERVAL));
                    state.lost_until = None;
                }
            }
            event::Event::Resumed(_)
            | event::Event::Member(_)
            | event::Event::MemberLoads(_)
            | event::Event::SessionMoved(_) => {}
        }
    }

    /// The epoch in which copies are verified now; `None` while the hub's events may not reach this server.
    pub(super) fn current(&self) -> Option<u64> {
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

    /// Whether a request may wait for the hub. While the hub is lost, one request every 5 s may: it is the one that tries.
    pub(super) fn may_wait(&self) -> bool {
        let now = self.clock.now();
        let mut state = self.state();
        match state.lost_until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                state.lost_until = Some(now + LOST);
                true
            }
        }
    }

    /// A call was not answered in its time. While the link is current a majority follows the hub's leader: then that call alone was
    /// slow, and says nothing of the others.
    pub(super) fn unanswered(&self) {
        let now = self.clock.now();
        let mut state = self.state();
        if !state.is_current(now) {
            state.lost_until = Some(now + LOST);
        }
    }

    /// A call was answered.
    pub(super) fn answered(&self) {
        self.state().lost_until = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_current(&self, now: Instant) -> bool {
        self.alive.is_some_and(|alive| now.saturating_duration_since(alive) <= CURRENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::clock::ManualClock;
    use proto::hub::v1::{Alive, SessionMoved, Snapshot};

    fn link() -> (Arc<ManualClock>, Link) {
        let clock = Arc::new(ManualClock::new(0));
        (clock.clone(), Link::new(clock))
    }

    fn alive(link: &Link) -> Option<u64> {
        link.heard(&event::Event::Alive(Alive {}));
        link.current()
    }

    const STEP: Duration = INTERVAL;

    #[test]
    fn is_current_while_alives_come() {
        let (clock, link) = link();
        assert_eq!(alive(&link), None, "the first may have waited in a buffer");
        clock.advance(STEP);
        assert_eq!(alive(&link), Some(0));
        clock.advance(CURRENT);
        assert_eq!(link.current(), Some(0));
        clock.advance(Duration::from_millis(1));
        assert_eq!(link.current(), None);
    }

    #[test]
    fn a_snapshot_starts_a_new_epoch() {
        let (clock, link) = link();
        alive(&link);
        link.heard(&event::Event::Snapshot(Snapshot::default()));
        clock.advance(STEP);
        assert_eq!(alive(&link), Some(1));
        assert_eq!(link.epoch(), 1);
    }

    #[test]
    fn after_a_stop_the_buffered_alives_do_not_count() {
        let (clock, link) = link();
        alive(&link);
        clock.advance(STEP);
        assert_eq!(alive(&link), Some(0));
        clock.advance(Duration::from_secs(60));
        for _ in 0..5 {
            assert_eq!(alive(&link), None);
        }
        clock.advance(STEP);
        assert_eq!(alive(&link), Some(0), "this one came live");
    }

    #[test]
    fn an_alive_that_comes_late_vouches_from_when_it_may_have_been_sent() {
        let (clock, link) = link();
        alive(&link);
        clock.advance(STEP);
        assert_eq!(alive(&link), Some(0));
        // A stall of 250 ms: two more that waited come with the first.
        clock.advance(Duration::from_millis(250));
        for _ in 0..3 {
            assert_eq!(alive(&link), Some(0));
        }
        clock.advance(Duration::from_millis(150));
        assert_eq!(link.current(), Some(0), "100 + 300 ms after the one that came on time");
        clock.advance(Duration::from_millis(1));
        assert_eq!(link.current(), None);
        assert_eq!(alive(&link), Some(0));
    }

    #[test]
    fn other_events_do_not_hide_an_alive() {
        let (clock, link) = link();
        alive(&link);
        clock.advance(STEP);
        link.heard(&event::Event::SessionMoved(SessionMoved::default()));
        assert_eq!(alive(&link), Some(0));
    }

    #[test]
    fn a_lost_hub_is_tried_again_or_heard_again() {
        let (clock, link) = link();
        link.unanswered();
        assert!(link.is_lost() && !link.may_wait());
        clock.advance(LOST);
        assert!(link.may_wait(), "the first tries");
        assert!(!link.may_wait(), "and the others do not wait for it");
        link.unanswered();
        link.answered();
        assert!(!link.is_lost());
        link.unanswered();
        alive(&link);
        clock.advance(STEP);
        alive(&link);
        assert!(!link.is_lost());
    }

    #[test]
    fn a_slow_call_says_nothing_while_the_hub_is_heard() {
        let (clock, link) = link();
        alive(&link);
        clock.advance(STEP);
        alive(&link);
        link.unanswered();
        assert!(!link.is_lost());
        clock.advance(CURRENT + Duration::from_millis(1));
        link.unanswered();
        assert!(link.is_lost());
    }
}
