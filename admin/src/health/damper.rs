//! When a problem begins and ends: it has to last for a while first, and to be gone for as long, so that one that comes and goes is told
//! of once. Pure.

use crate::status::problem::Problem;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// Problems that are followed: a cluster with more has others to look at first.
const MAX: usize = 1000;

/// The problems that are followed, by key.
#[derive(Debug, Default)]
pub(super) struct Damper {
    known: BTreeMap<String, Known>,
}

#[derive(Debug)]
struct Known {
    /// `None`: one that another server had begun with, and this one has not seen yet.
    problem: Option<Problem>,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Not told of yet.
    Seen { first: Instant },
    /// Told of; `gone`: not seen since then.
    Begun { since_ms: u64, gone: Option<Instant> },
}

/// What happens.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It has lasted long enough.
    Begins(Problem),
    /// It has been gone for long enough; of one that another server had begun with the key alone is known.
    Ends { key: String, problem: Option<Problem> },
}

impl Damper {
    /// A problem that another server has told of, which led before.
    pub(super) fn restore(&mut self, key: String, since_ms: u64) {
        if self.known.len() < MAX {
            let phase = Phase::Begun { since_ms, gone: None };
            self.known.insert(key, Known { problem: None, phase });
        }
    }

    /// Looks at the problems that there are now.
    pub(super) fn look(
        &mut self,
        problems: &[Problem],
        (now, now_ms): (Instant, u64),
        lasts: Duration,
    ) -> Vec<Turn> {
        let mut turns = Vec::new();
        let present: BTreeSet<&str> = problems.iter().map(|it| it.key.as_str()).collect();
        for problem in problems {
            if !self.known.contains_key(&problem.key) && self.known.len() >= MAX {
                continue;
            }
            let new = || Known { problem: None, phase: Phase::Seen { first: now } };
            let known = self.known.entry(problem.key.clone()).or_insert_with(new);
            known.problem = Some(problem.clone());
            match &mut known.phase {
                Phase::Seen { first } => {
                    let passed = now.saturating_duration_since(*first);
                    if passed >= lasts {
                        let passed_ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
                        let since_ms = now_ms.saturating_sub(passed_ms);
                        known.phase = Phase::Begun { since_ms, gone: None };
                        turns.push(Turn::Begins(problem.clone()));
                    }
                }
                Phase::Begun { gone, .. } => *gone = None,
            }
        }
        self.known.retain(|key, known| {
            if present.contains(key.as_str()) {
                return true;
            }
            let Phase::Begun { gone, .. } = &mut known.phase else { return false };
            let gone = gone.get_or_insert(now);
            let stays = now.saturating_duration_since(*gone) < lasts;
            if !stays {
                turns.push(Turn::Ends { key: key.clone(), problem: known.problem.take() });
            }
            stays
        });
        turns
    }

    /// The problems that have begun and not ended, with when they began.
    pub(super) fn begun(&self) -> impl Iterator<Item = (&Problem, u64)> {
        self.known.values().filter_map(|it| match it.phase {
            Phase::Begun { since_ms, .. } => Some((it.problem.as_ref()?, since_ms)),
            Phase::Seen { .. } => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::problem::Severity;
    use common::clock::{Clock, ManualClock};

    const FOR: Duration = Duration::from_secs(30);

    fn problem(server: &str) -> Problem {
        Problem::new(Severity::Fault, "down", Some(server), format!("{server} is down"), String::new())
    }

    /// Looks each ten seconds; a line a look with what happened.
    fn run(damper: &mut Damper, clock: &ManualClock, present: &[bool]) -> String {
        let mut told = String::new();
        for present in present {
            let problems = if *present { vec![problem("a")] } else { Vec::new() };
            let turns = damper.look(&problems, (clock.now(), clock.unix_ms()), FOR);
            told.push(match turns[..] {
                [] => '.',
                [Turn::Begins(_)] => 'B',
                [Turn::Ends { .. }] => 'E',
                _ => panic!("{turns:?}"),
            });
            clock.advance(Duration::from_secs(10));
        }
        told
    }

    #[test]
    fn it_begins_when_it_has_lasted_and_ends_when_it_has_been_gone_as_long() {
        let (mut damper, clock) = (Damper::default(), ManualClock::new(1_000_000));
        assert_eq!(run(&mut damper, &clock, &[true; 6]), "...B..");
        assert_eq!(damper.begun().map(|(_, since)| since).collect::<Vec<_>>(), [1_000_000]);
        assert_eq!(run(&mut damper, &clock, &[false; 6]), "...E..");
        assert_eq!(damper.begun().count(), 0);
    }

    #[test]
    fn what_comes_and_goes_is_told_of_once() {
        let (mut damper, clock) = (Damper::default(), ManualClock::new(0));
        let flaps: Vec<bool> = (0..60).map(|it| it % 2 == 0).collect();
        assert_eq!(run(&mut damper, &clock, &flaps), ".".repeat(60), "never long enough to begin");
        assert_eq!(run(&mut damper, &clock, &[true; 4]), "...B");
        assert_eq!(run(&mut damper, &clock, &flaps), ".".repeat(60), "never gone long enough to end");
    }

    #[test]
    fn without_a_time_it_is_told_of_at_once() {
        let (mut damper, clock) = (Damper::default(), ManualClock::new(0));
        let at = (clock.now(), 0);
        assert_eq!(damper.look(&[problem("a")], at, Duration::ZERO).len(), 1);
        assert_eq!(damper.look(&[problem("a")], at, Duration::ZERO).len(), 0);
        assert_eq!(damper.look(&[], at, Duration::ZERO).len(), 1);
    }

    #[test]
    fn one_that_gets_worse_is_another_one() {
        let (mut damper, clock) = (Damper::default(), ManualClock::new(0));
        let of = |severity| vec![Problem::new(severity, "disk", Some("a"), String::new(), String::new())];
        damper.look(&of(Severity::Warning), (clock.now(), 0), FOR);
        clock.advance(FOR);
        assert_eq!(damper.look(&of(Severity::Warning), (clock.now(), 0), FOR).len(), 1);
        damper.look(&of(Severity::Fault), (clock.now(), 0), FOR);
        clock.advance(FOR);
        let turns = damper.look(&of(Severity::Fault), (clock.now(), 0), FOR);
        assert!(
            matches!(&turns[..], [Turn::Begins(it), Turn::Ends { key, .. }]
            if it.severity == Severity::Fault && key == "disk a warning"),
            "{turns:?}"
        );
    }

    #[test]
    fn what_the_leader_before_has_told_of_is_not_told_again_and_ends_here() {
        let (mut damper, clock) = (Damper::default(), ManualClock::new(0));
        damper.restore(problem("a").key, 5);
        damper.restore("file b warning".to_owned(), 7);
        let mut turns = Vec::new();
        for _ in 0..5 {
            turns.extend(damper.look(&[problem("a")], (clock.now(), clock.unix_ms()), FOR));
            clock.advance(Duration::from_secs(10));
        }
        assert_eq!(turns, [Turn::Ends { key: "file b warning".to_owned(), problem: None }]);
        assert_eq!(
            damper.begun().map(|(it, since)| (it.key.as_str(), since)).collect::<Vec<_>>(),
            [("down a fault", 5)]
        );
    }

    #[test]
    fn they_are_bounded() {
        let (mut damper, clock) = (Damper::default(), ManualClock::new(0));
        let many: Vec<Problem> = (0..2 * MAX).map(|it| problem(&format!("server-{it}"))).collect();
        let turns = damper.look(&many, (clock.now(), 0), Duration::ZERO);
        assert_eq!((turns.len(), damper.known.len()), (MAX, MAX));
    }
}
