//! Passive ejection: a server of which many requests fail, and more than of another, gets none for a while. After Envoy's outlier
//! detection. The requests of a window are counted as they are answered; who is out is decided a few times a second.

use common::config::OutlierDetection;
use std::time::{Duration, Instant};

/// A window has so many parts: it moves on by one of them at a time.
const PARTS: usize = 10;

/// All servers of one balance.
#[derive(Debug, Clone)]
pub(super) struct Outliers {
    settings: OutlierDetection,
    servers: Vec<Watched>,
    /// Something was counted since the last decision.
    counted: bool,
}

/// One of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Watched {
    window: Window,
    ejected: Option<Instant>,
    /// How long the last ejection was; zero if there was none, or all has been well for long since.
    length: Duration,
    /// When the last one ended.
    back: Option<Instant>,
    /// Since the start.
    ejections: u64,
}

/// Requests, and those of them that failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    requests: u32,
    errors: u32,
}

impl Count {
    /// Whether the share of errors is this percentage or more.
    fn reaches(self, percent: u32) -> bool {
        u64::from(self.errors) * 100 >= u64::from(percent) * u64::from(self.requests)
    }

    /// The share of errors.
    fn rate(self) -> f64 {
        f64::from(self.errors) / f64::from(self.requests.max(1))
    }

    /// Whether it fails at most half as often as `other`. Of one without requests nothing bad is known.
    fn is_better_than(self, other: Self) -> bool {
        2 * u64::from(self.errors) * u64::from(other.requests)
            <= u64::from(other.errors) * u64::from(self.requests)
    }
}

/// The counts of the last so many seconds.
#[derive(Debug, Clone, Default)]
struct Window {
    parts: [Count; PARTS],
    /// The present part, and when it began.
    place: usize,
    since: Option<Instant>,
}

impl Window {
    fn note(&mut self, failed: bool) {
        let part = &mut self.parts[self.place];
        part.requests = part.requests.saturating_add(1);
        part.errors = part.errors.saturating_add(u32::from(failed));
    }

    /// Lets go of what is older than `length`.
    fn move_on(&mut self, now: Instant, length: Duration) {
        let step = length / PARTS as u32;
        let mut since = *self.since.get_or_insert(now);
        for _ in 0..=PARTS {
            if now.saturating_duration_since(since) < step {
                break;
            }
            since += step;
            self.place = (self.place + 1) % PARTS;
            self.parts[self.place] = Count::default();
        }
        // After a pause it goes on from now.
        self.since = Some(if now.saturating_duration_since(since) < step { since } else { now });
    }

    fn sum(&self) -> Count {
        self.parts.iter().fold(Count::default(), |sum, part| Count {
            requests: sum.requests.saturating_add(part.requests),
            errors: sum.errors.saturating_add(part.errors),
        })
    }
}

/// What has been decided of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It gets no requests for `time`: so many of its last ones have failed.
    Ejected { server: usize, errors: u32, requests: u32, time: Duration },
    /// It is back.
    Returned { server: usize },
}

impl Outliers {
    pub(super) fn new(settings: OutlierDetection, servers: usize) -> Self {
        Self { settings, servers: vec![Watched::default(); servers], counted: false }
    }

    /// What is known of a server.
    pub(super) fn server(&self, index: usize) -> &Watched {
        &self.servers[index]
    }

    /// Goes on from what is known of a server of another configuration.
    pub(super) fn take_over(&mut self, index: usize, known: &Watched) {
        self.servers[index] = known.clone();
    }

    /// A request has been answered, or has failed.
    pub(super) fn note(&mut self, index: usize, failed: bool) {
        self.counted = true;
        self.servers[index].window.note(failed);
    }

    /// Decides who is out from now on. `takes` says of which servers it is known that they can take requests: of those at least
    /// one stays in.
    pub(super) fn decide(&mut self, now: Instant, takes: impl Fn(usize) -> bool) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for (server, watched) in self.servers.iter_mut().enumerate() {
            if watched.ejected.is_some_and(|until| now >= until) {
                watched.ejected = None;
                watched.back = Some(now);
                // What was before, and what those have met who had to go there, says nothing of how it is now.
                watched.window = Window::default();
                verdicts.push(Verdict::Returned { server });
            }
        }
        self.servers.iter_mut().for_each(|it| it.window.move_on(now, self.settings.window));
        if std::mem::take(&mut self.counted) {
            while let Some(verdict) = self.eject_worst(now, &takes) {
                verdicts.push(verdict);
            }
        }
        verdicts
    }

    fn eject_worst(&mut self, now: Instant, takes: impl Fn(usize) -> bool) -> Option<Verdict> {
        let out = self.servers.iter().filter(|it| it.ejected.is_some()).count();
        if out >= (self.servers.len() * self.settings.ejected_max as usize / 100).max(1) {
            return None;
        }
        let (settings, sums) =
            (self.settings, self.servers.iter().map(|it| it.window.sum()).collect::<Vec<_>>());
        let are_in = || (0..sums.len()).filter(|it| self.servers[*it].ejected.is_none());
        let by_rate = |one: &usize, other: &usize| sums[*one].rate().total_cmp(&sums[*other].rate());
        // Where all fail alike, it is not the server; and somebody has to take its requests.
        let able: Vec<usize> = are_in().filter(|it| takes(*it)).collect();
        let asked = || able.iter().copied().filter(|it| sums[*it].requests > 0);
        let best = asked().min_by(by_rate);
        let another_is_better = |server: usize| match best {
            Some(best) if asked().any(|it| it != server) => sums[best].is_better_than(sums[server]),
            // Of those that nobody has asked nothing bad is known.
            _ => able.iter().any(|it| *it != server),
        };
        let is_outlier = |server: &usize| {
            let sum = sums[*server];
            sum.requests >= settings.requests_min
                && sum.errors > 0
                && sum.reaches(settings.error_rate_max)
                && another_is_better(*server)
        };
        let server = are_in().filter(is_outlier).max_by(by_rate)?;
        let Count { requests, errors } = sums[server];
        let time = self.servers[server].eject(now, &settings);
        Some(Verdict::Ejected { server, errors, requests, time })
    }
}

impl Watched {
    /// Until when it is out.
    pub(super) fn ejected(&self) -> Option<Instant> {
        self.ejected
    }

    /// How often it was, since the start.
    pub(super) fn ejections(&self) -> u64 {
        self.ejections
    }

    fn eject(&mut self, now: Instant, settings: &OutlierDetection) -> Duration {
        let is_again =
            self.back.is_some_and(|back| now.saturating_duration_since(back) < settings.eject_time_max);
        let next = if is_again { self.length.saturating_mul(2) } else { settings.eject_time };
        self.length = next.clamp(settings.eject_time, settings.eject_time_max);
        self.ejected = Some(now + self.length);
        self.ejections += 1;
        self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn outliers(servers: usize) -> Outliers {
        Outliers::new(OutlierDetection::default(), servers)
    }

    fn note(outliers: &mut Outliers, server: usize, good: usize, bad: usize) {
        (0..good).for_each(|_| outliers.note(server, false));
        (0..bad).for_each(|_| outliers.note(server, true));
    }

    fn ejected(verdicts: &[Verdict]) -> Vec<(usize, u64)> {
        let of = |it: &Verdict| match it {
            Verdict::Ejected { server, time, .. } => Some((*server, time.as_secs())),
            Verdict::Returned { .. } => None,
        };
        verdicts.iter().filter_map(of).collect()
    }

    #[test]
    fn one_that_fails_more_than_others_is_out_and_comes_back() {
        let (mut outliers, start) = (outliers(3), Instant::now());
        note(&mut outliers, 0, 30, 0);
        note(&mut outliers, 1, 9, 10);
        note(&mut outliers, 2, 30, 1);
        assert_eq!(outliers.decide(start, |_| true), [], "19 requests say nothing");
        note(&mut outliers, 1, 1, 0);
        let verdict = Verdict::Ejected { server: 1, errors: 10, requests: 20, time: SECOND * 10 };
        assert_eq!(outliers.decide(start, |_| true), [verdict]);
        assert_eq!(outliers.server(1).ejected(), Some(start + SECOND * 10));
        note(&mut outliers, 1, 0, 50);
        assert_eq!(outliers.decide(start + SECOND * 9, |_| true), [], "it is out");
        let back = start + SECOND * 10;
        assert_eq!(outliers.decide(back, |_| true), [Verdict::Returned { server: 1 }]);
        assert_eq!((outliers.server(1).ejected(), outliers.server(1).ejections()), (None, 1));
        note(&mut outliers, 1, 0, 19);
        assert_eq!(outliers.decide(back, |_| true), [], "what was before is forgotten");
    }

    #[test]
    fn the_time_grows_and_begins_anew_when_all_was_well_for_long() {
        let (mut outliers, mut now) = (outliers(2), Instant::now());
        let mut seen = Vec::new();
        for _ in 0..7 {
            note(&mut outliers, 0, 30, 0);
            note(&mut outliers, 1, 0, 20);
            let verdicts = outliers.decide(now, |_| true);
            let [(1, seconds)] = ejected(&verdicts)[..] else { panic!("{verdicts:?}") };
            seen.push(seconds);
            now += SECOND * seconds as u32;
            outliers.decide(now, |_| true);
        }
        assert_eq!(seen, [10, 20, 40, 80, 160, 300, 300]);
        now += SECOND * 300;
        outliers.decide(now, |_| true);
        note(&mut outliers, 0, 30, 0);
        note(&mut outliers, 1, 0, 20);
        assert_eq!(ejected(&outliers.decide(now, |_| true)), [(1, 10)]);
    }

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        let (mut outliers, start) = (outliers(2), Instant::now());
        outliers.note(0, false);
        outliers.decide(start, |_| true);
        note(&mut outliers, 1, 0, 19);
        assert_eq!(outliers.decide(start + SECOND, |_| true), []);
        outliers.decide(start + SECOND * 12, |_| true);
        note(&mut outliers, 1, 0, 1);
        assert_eq!(outliers.decide(start + SECOND * 12, |_| true), [], "those before are gone");
        note(&mut outliers, 1, 0, 18);
        assert_eq!(outliers.decide(start + SECOND * 20, |_| true), []);
        note(&mut outliers, 1, 0, 1);
        assert_eq!(ejected(&outliers.decide(start + SECOND * 20, |_| true)), [(1, 10)]);
    }

    #[test]
    fn where_all_fail_alike_nobody_is_ejected() {
        let (mut outliers, now) = (outliers(4), Instant::now());
        (0..4).for_each(|server| note(&mut outliers, server, server, 30));
        assert_eq!(outliers.decide(now, |_| true), []);
    }

    #[test]
    fn one_that_nobody_asks_shows_nothing_as_long_as_others_are_asked() {
        let now = Instant::now();
        let mut with_backup = outliers(3);
        (0..2).for_each(|server| note(&mut with_backup, server, 10, 30));
        assert_eq!(with_backup.decide(now, |_| true), [], "the backup is not known to be better");
        let mut alone = outliers(2);
        note(&mut alone, 0, 10, 30);
        assert_eq!(ejected(&alone.decide(now, |_| true)), [(0, 10)]);
    }

    #[test]
    fn never_the_last_one_and_no_more_than_may_be_out() {
        let now = Instant::now();
        let mut one = outliers(1);
        note(&mut one, 0, 0, 50);
        assert_eq!(one.decide(now, |_| true), []);
        let mut two = outliers(2);
        note(&mut two, 0, 50, 0);
        note(&mut two, 1, 0, 50);
        assert_eq!(two.decide(now, |it| it == 1), [], "the other one is down, or disabled");
        two.note(1, true);
        assert_eq!(ejected(&two.decide(now, |_| true)), [(1, 10)]);
        note(&mut two, 0, 0, 500);
        assert_eq!(two.decide(now, |_| true), [], "the last one");
        let mut five = outliers(5);
        note(&mut five, 0, 50, 0);
        (1..5).for_each(|server| note(&mut five, server, 50 - server, 100));
        assert_eq!(ejected(&five.decide(now, |_| true)), [(4, 10), (3, 10)], "half of five, the worst first");
    }

    proptest! {
        #[test]
        fn somebody_is_always_in(rounds in prop::collection::vec((0_usize..4, 0_usize..40, 0_usize..40, 0_u64..30), 1..60)) {
            let (mut outliers, mut now) = (outliers(4), Instant::now());
            for (server, good, bad, seconds) in rounds {
                now += SECOND * seconds as u32;
                note(&mut outliers, server, good, bad);
                outliers.decide(now, |_| true);
                let out = (0..4).filter(|it| outliers.server(*it).ejected().is_some()).count();
                prop_assert!(out <= 2, "{}", out);
            }
        }
    }
}
