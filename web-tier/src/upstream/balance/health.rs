//! What active checks say of a backend: down after `fall` failures in a row, up after `rise` successes in a row. Pure: the
//! checks are made elsewhere.

use std::time::Instant;

/// A backend's health.
#[derive(Debug)]
pub(crate) struct Health {
    rise: u32,
    fall: u32,
    up: bool,
    /// Results in a row that speak against `up`.
    against: u32,
    last: Option<Checked>,
    /// When `up` last changed.
    since: Option<Instant>,
}

/// A check's result, as the status page shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checked {
    /// When it was known.
    pub(crate) at: Instant,
    /// Why it failed, if it did.
    pub(crate) result: Result<(), Box<str>>,
}

impl Health {
    /// A backend that nobody has checked: it is believed to be up, and the first result decides alone, as in HAProxy. A start
    /// does not wait for checks, and a backend that is down is out after one. `rise` and `fall` below 1 count as 1.
    pub(crate) fn new(rise: u32, fall: u32) -> Self {
        Self { rise: rise.max(1), fall: fall.max(1), up: true, against: 0, last: None, since: None }
    }

    /// Whether requests may go there.
    pub(crate) fn is_up(&self) -> bool {
        self.up
    }

    /// The last check.
    pub(crate) fn last(&self) -> Option<&Checked> {
        self.last.as_ref()
    }

    /// When it came up or went down; `None` while it has only ever been up.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Checks in a row that say the opposite of [`Self::is_up`], and how many it takes.
    pub(crate) fn against(&self) -> (u32, u32) {
        (self.against, if self.up { self.fall } else { self.rise })
    }

    /// A check has ended. Returns whether [`Self::is_up`] has changed.
    pub(crate) fn note(&mut self, now: Instant, result: Result<(), Box<str>>) -> bool {
        let first = self.last.is_none();
        let agrees = result.is_ok() == self.up;
        self.last = Some(Checked { at: now, result });
        if agrees {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let (against, needed) = self.against();
        if against < needed && !first {
            return false;
        }
        self.up = !self.up;
        self.against = 0;
        self.since = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn seen(health: &mut Health, results: &str) -> String {
        let now = Instant::now();
        results
            .chars()
            .map(|it| {
                let result = if it == '+' { Ok(()) } else { Err("refused".into()) };
                let changed = health.note(now, result);
                match (health.is_up(), changed) {
                    (true, true) => 'U',
                    (true, false) => 'u',
                    (false, true) => 'D',
                    (false, false) => 'd',
                }
            })
            .collect()
    }

    #[test]
    fn it_takes_fall_to_go_down_and_rise_to_come_up() {
        let mut health = Health::new(2, 3);
        assert!(health.is_up() && health.last().is_none() && health.since().is_none());
        assert_eq!(seen(&mut health, "+--+---"), "uuuuuuD");
        assert_eq!(seen(&mut health, "+-++-"), "dddUu");
        assert_eq!(health.against(), (1, 3));
    }

    #[test]
    fn the_first_result_decides_alone() {
        assert_eq!(seen(&mut Health::new(2, 3), "-++"), "DdU");
        assert_eq!(seen(&mut Health::new(0, 0), "+-+"), "uDU");
    }

    #[test]
    fn the_last_result_is_kept_with_its_reason() {
        let (mut health, now) = (Health::new(1, 1), Instant::now());
        health.note(now, Err("status 500, expected 200".into()));
        let last = health.last().unwrap();
        assert_eq!((last.at, last.result.as_ref().unwrap_err().as_ref()), (now, "status 500, expected 200"));
        let later = now + Duration::from_secs(1);
        assert!(health.note(later, Ok(())));
        assert_eq!((health.since(), health.last().unwrap().result.is_ok()), (Some(later), true));
    }

    proptest! {
        /// What is said of it is what the last results said, as many in a row as it takes.
        #[test]
        fn a_change_needs_its_results_in_a_row(rise in 1_u32..5, fall in 1_u32..5, results in prop::collection::vec(any::<bool>(), 1..80)) {
            let (mut health, now) = (Health::new(rise, fall), Instant::now());
            for (place, ok) in results.iter().enumerate() {
                let before = health.is_up();
                let changed = health.note(now, if *ok { Ok(()) } else { Err("".into()) });
                prop_assert_eq!(changed, before != health.is_up());
                let needed = if *ok { rise } else { fall } as usize;
                let in_a_row = results[..=place].iter().rev().take_while(|it| *it == ok).count();
                if changed {
                    prop_assert!(health.is_up() == *ok && (in_a_row >= needed || place == 0));
                }
                if in_a_row >= needed {
                    prop_assert_eq!(health.is_up(), *ok);
                }
            }
        }
    }
}
