//! A leader that no majority answers falls silent for a while. Followers that hear it though it does not hear them, because the
//! network fails in one direction, would otherwise never elect another, and nothing would be written. Pure but for the flag.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// A majority that has answered what was sent within this is there.
const HEARD: Duration = Duration::from_millis(500);

/// Without an answer for so much longer, the leader falls silent: long after followers that do not hear it have elected another,
/// so that this changes nothing in ordinary failures.
const PATIENCE: Duration = Duration::from_secs(1);

/// It is silent for so long: followers wait up to 780 ms before they ask for votes, and the first election may fail.
const QUIET: Duration = Duration::from_millis(1500);

/// Then it speaks for so long, in case a majority is back that has nobody else, and so on.
const SPEAK: Duration = Duration::from_millis(500);

/// Time between two looks counts up to this: a process that was stopped, or a machine that was busy, has not listened meanwhile.
const STEP_MAX: Duration = Duration::from_millis(200);

/// For how long a leader has listened in vain.
#[derive(Debug, Default)]
pub(crate) struct Deafness {
    looked: Option<Instant>,
    lasted: Duration,
}

impl Deafness {
    /// Called every 100 ms or so. `answered_ago`: when what a majority has answered last was sent; `None` for never, or when this
    /// server does not lead. Returns whether the leader must be silent.
    pub(crate) fn look(&mut self, now: Instant, leads: bool, answered_ago: Option<Duration>) -> bool {
        let step = self.looked.replace(now).map_or(Duration::ZERO, |it| now.saturating_duration_since(it));
        if !leads || answered_ago.is_some_and(|ago| ago <= HEARD) {
            self.lasted = Duration::ZERO;
            return false;
        }
        self.lasted += step.min(STEP_MAX);
        let Some(over) = self.lasted.checked_sub(PATIENCE) else { return false };
        over.as_millis() % (QUIET + SPEAK).as_millis() < QUIET.as_millis()
    }
}

/// Whether this server's appends and heartbeats are held back. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Silence(Arc<AtomicBool>);

impl Silence {
    /// Returns whether that is a change.
    pub(crate) fn set(&self, silent: bool) -> bool {
        self.0.swap(silent, Ordering::Relaxed) != silent
    }

    pub(crate) fn holds(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(100);

    /// The seconds at which silence begins or ends, in `ticks` without an answer.
    fn changes(deafness: &mut Deafness, start: Instant, ticks: u32) -> Vec<(u32, bool)> {
        let mut before = false;
        let mut changes = Vec::new();
        for tick in 1..=ticks {
            let silent = deafness.look(start + TICK * tick, true, Some(HEARD + TICK * tick));
            if silent != before {
                changes.push((tick, silent));
                before = silent;
            }
        }
        changes
    }

    #[test]
    fn silent_after_a_while_then_by_turns() {
        let start = Instant::now();
        let mut deafness = Deafness::default();
        assert!(!deafness.look(start, true, Some(TICK)));
        assert_eq!(
            changes(&mut deafness, start, 50),
            [(10, true), (25, false), (30, true), (45, false), (50, true)]
        );
        assert!(!deafness.look(start + TICK * 51, true, Some(TICK)), "a majority has answered");
        assert!(!deafness.look(start + TICK * 52, true, Some(HEARD * 2)), "it begins anew");
    }

    #[test]
    fn one_that_was_never_answered_is_silent_too_and_one_that_does_not_lead_never() {
        let start = Instant::now();
        let mut deafness = Deafness::default();
        let silent = (0..=10).map(|tick| deafness.look(start + TICK * tick, true, None)).last();
        assert_eq!(silent, Some(true));
        assert!(!deafness.look(start + TICK * 11, false, None));
        assert!(!deafness.look(start + TICK * 12, true, None));
    }

    #[test]
    fn a_stop_is_no_deafness() {
        let start = Instant::now();
        let mut deafness = Deafness::default();
        deafness.look(start, true, Some(TICK));
        let resumed = start + Duration::from_secs(60);
        assert!(!deafness.look(resumed, true, Some(Duration::from_secs(60))));
        assert_eq!(deafness.lasted, STEP_MAX);
    }

    #[test]
    fn the_flag_tells_of_changes() {
        let silence = Silence::default();
        let shared = silence.clone();
        assert!(!silence.set(false) && silence.set(true) && !silence.set(true));
        assert!(shared.holds());
    }
}
