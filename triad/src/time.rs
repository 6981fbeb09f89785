//! The time that a leader stamps its batches with: what most of the hub's clocks say at the term's start, and from there on by
//! the monotonic clock. One wrong wall clock, or one that is set while the leader leads, moves nothing.

use common::clock::Clock;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// What another server's clock said counts for so long.
const FRESH: Duration = Duration::from_secs(10);
/// A leader that has heard no other clock waits so long before it takes its own.
const PATIENCE: Duration = Duration::from_secs(2);
/// A clock that differs more than this from all others is reported.
const SKEW_MAX_MS: u64 = 5_000;

/// The hub's time.
#[derive(Debug)]
pub(crate) struct HubTime {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// By node; never this server's own.
    others: Vec<Option<Heard>>,
    base: Option<Base>,
    /// This server's clock was reported to be wrong.
    reported: bool,
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    unix_ms: u64,
    at: Instant,
}

/// From where a term's time is counted.
#[derive(Debug, Clone, Copy)]
struct Base {
    term: u64,
    began: Instant,
    at: Instant,
    unix_ms: u64,
    /// The clocks have been asked; until then time goes on from the state's.
    settled: bool,
}

impl HubTime {
    /// Of a hub of `servers`.
    pub(crate) fn new(clock: Arc<dyn Clock>, servers: usize) -> Self {
        let inner = Inner { others: vec![None; servers], base: None, reported: false };
        Self { clock, inner: Mutex::new(inner) }
    }

    /// Another server's clock says `unix_ms` at this moment.
    pub(crate) fn note(&self, node: u64, unix_ms: u64) {
        let (now, own_ms) = (self.clock.now(), self.clock.unix_ms());
        let mut inner = self.lock();
        let Some(heard) = usize::try_from(node).ok().and_then(|it| inner.others.get_mut(it)) else { return };
        *heard = Some(Heard { unix_ms, at: now });
        let odd = inner.fresh(now).all(|other_ms| other_ms.abs_diff(own_ms) > SKEW_MAX_MS);
        if odd && !inner.reported {
            tracing::warn!(
                own_ms,
                node,
                other_ms = unix_ms,
                "this server's clock differs from those of all other hub servers that answer: set one of them right"
            );
        }
        inner.reported = odd;
    }

    /// The time in `term`, in which this server leads. Never before `state_ms`, the state's, and never past the median of the
    /// clocks by more than the state is.
    pub(crate) fn now_ms(&self, term: u64, state_ms: u64) -> u64 {
        let (now, own_ms) = (self.clock.now(), self.clock.unix_ms());
        let mut inner = self.lock();
        let mut base = inner.base.filter(|it| it.term == term).unwrap_or(Base {
            term,
            began: now,
            at: now,
            unix_ms: state_ms,
            settled: false,
        });
        // What is less than a millisecond is kept: asked often enough, time would stand still.
        let passed_ms = millis(now.saturating_duration_since(base.at));
        base.at += Duration::from_millis(passed_ms);
        base.unix_ms = base.unix_ms.saturating_add(passed_ms);
        if base.unix_ms < state_ms {
            (base.at, base.unix_ms) = (now, state_ms);
        }
        if !base.settled {
            let alone = inner.others.len() == 1;
            let waited = now.saturating_duration_since(base.began) >= PATIENCE;
            // An empty hub has nothing that could expire, and no time to go on from.
            if alone || waited || base.unix_ms == 0 || inner.fresh(now).next().is_some() {
                base.unix_ms = base.unix_ms.max(inner.median(own_ms, now));
                base.settled = true;
            }
        }
        inner.base = Some(base);
        base.unix_ms
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// What the other clocks say now, as far as they were heard lately.
    fn fresh(&self, now: Instant) -> impl Iterator<Item = u64> {
        self.others.iter().flatten().filter_map(move |it| {
            let ago = now.saturating_duration_since(it.at);
            (ago <= FRESH).then(|| it.unix_ms.saturating_add(millis(ago)))
        })
    }

    /// Of two, the earlier: sessions that live too long do less harm than sessions that are gone.
    fn median(&self, own_ms: u64, now: Instant) -> u64 {
        let mut clocks: Vec<u64> = self.fresh(now).chain([own_ms]).collect();
        clocks.sort_unstable();
        clocks[(clocks.len() - 1) / 2]
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    const DAY_MS: u64 = 24 * 3600 * 1000;
    const REAL_MS: u64 = 1_000 * DAY_MS;

    /// A wall clock that is set without the monotonic one noticing.
    #[derive(Debug)]
    struct SetClock {
        start: Instant,
        passed_us: AtomicU64,
        wall_ms: AtomicU64,
    }

    impl SetClock {
        fn new(wall_ms: u64) -> Arc<Self> {
            let (passed_us, wall_ms) = (AtomicU64::new(0), AtomicU64::new(wall_ms));
            Arc::new(Self { start: Instant::now(), passed_us, wall_ms })
        }

        fn pass(&self, ms: u64) {
            self.passed_us.fetch_add(1000 * ms, Ordering::Relaxed);
            self.wall_ms.fetch_add(ms, Ordering::Relaxed);
        }
    }

    impl Clock for SetClock {
        fn now(&self) -> Instant {
            self.start + Duration::from_micros(self.passed_us.load(Ordering::Relaxed))
        }

        fn unix_ms(&self) -> u64 {
            self.wall_ms.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_wall_clock_that_is_set_moves_nothing() {
        let clock = SetClock::new(REAL_MS);
        let time = HubTime::new(clock.clone(), 1);
        assert_eq!(time.now_ms(1, 0), REAL_MS);
        clock.wall_ms.store(REAL_MS + DAY_MS, Ordering::Relaxed);
        clock.pass(7);
        assert_eq!(time.now_ms(1, REAL_MS), REAL_MS + 7);
        clock.wall_ms.store(5, Ordering::Relaxed);
        assert_eq!(time.now_ms(1, REAL_MS), REAL_MS + 7);
    }

    #[test]
    fn however_often_it_is_asked_no_time_is_lost() {
        let clock = SetClock::new(REAL_MS);
        let time = HubTime::new(clock.clone(), 1);
        assert_eq!(time.now_ms(1, 0), REAL_MS);
        for _ in 0..10_000 {
            clock.passed_us.fetch_add(300, Ordering::Relaxed);
            time.now_ms(1, REAL_MS);
        }
        assert_eq!(time.now_ms(1, REAL_MS), REAL_MS + 3_000);
    }

    #[test]
    fn a_leader_whose_clock_is_wrong_takes_the_others_time() {
        for (own_ms, others, expected) in [
            (REAL_MS + DAY_MS, vec![REAL_MS, REAL_MS + 3], REAL_MS + 3),
            (REAL_MS - DAY_MS, vec![REAL_MS, REAL_MS + 3], REAL_MS),
            (REAL_MS, vec![REAL_MS + DAY_MS, REAL_MS + 3], REAL_MS + 3),
            (REAL_MS + DAY_MS, vec![REAL_MS], REAL_MS),
            (REAL_MS, vec![REAL_MS + DAY_MS], REAL_MS),
        ] {
            let time = HubTime::new(SetClock::new(own_ms), 3);
            for (node, other_ms) in (1..).zip(&others) {
                time.note(node, *other_ms);
            }
            assert_eq!(time.now_ms(4, 17), expected, "{own_ms} with {others:?}");
        }
    }

    #[test]
    fn time_goes_on_from_the_state_while_no_other_clock_was_heard() {
        let clock = SetClock::new(REAL_MS + DAY_MS);
        let time = HubTime::new(clock.clone(), 3);
        assert_eq!(time.now_ms(2, REAL_MS), REAL_MS);
        clock.pass(100);
        assert_eq!(time.now_ms(2, REAL_MS), REAL_MS + 100);
        time.note(1, REAL_MS + 300);
        assert_eq!(time.now_ms(2, REAL_MS), REAL_MS + 300);
        // Nobody answers: there is nothing to go by but the own clock.
        assert_eq!(time.now_ms(3, REAL_MS), REAL_MS + 300, "what was heard is still good");
        clock.pass(DAY_MS);
        assert_eq!(time.now_ms(4, REAL_MS), REAL_MS);
        clock.pass(2_000);
        assert_eq!(time.now_ms(4, REAL_MS), clock.unix_ms());
    }

    #[test]
    fn a_state_that_is_ahead_goes_on_from_there() {
        let clock = SetClock::new(REAL_MS);
        let time = HubTime::new(clock.clone(), 1);
        assert_eq!(time.now_ms(1, REAL_MS + DAY_MS), REAL_MS + DAY_MS);
        clock.pass(50);
        assert_eq!(time.now_ms(1, REAL_MS + DAY_MS), REAL_MS + DAY_MS + 50);
    }

    #[test]
    fn a_clock_that_differs_from_all_others_is_reported_once() {
        let time = HubTime::new(SetClock::new(REAL_MS), 3);
        let reported = || time.lock().reported;
        time.note(1, REAL_MS + 60_000);
        assert!(reported());
        time.note(2, REAL_MS + 100);
        assert!(!reported(), "one of the others agrees");
        time.note(2, REAL_MS + 60_000);
        assert!(reported());
        time.note(9, REAL_MS);
        assert!(reported(), "the hub has no such server");
    }
}
