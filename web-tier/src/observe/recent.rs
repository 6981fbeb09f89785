//! What a worker has counted lately: the difference to a moment of the last minute.

use crate::observe::counters::Totals;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Between two samples.
const INTERVAL: Duration = Duration::from_secs(5);

/// Samples that are kept: a minute's.
const SAMPLES: usize = 12;

/// A worker's last samples, the oldest first.
#[derive(Debug)]
pub(crate) struct Recent(VecDeque<(Instant, Totals)>);

impl Recent {
    /// Nothing has been counted yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self(VecDeque::from([(now, Totals::default())]))
    }

    /// Takes a sample if it is time for one. To be called a few times a second.
    pub(crate) fn tick(&mut self, now: Instant, totals: impl FnOnce() -> Totals) {
        if self.0.back().is_some_and(|(at, _)| now.saturating_duration_since(*at) < INTERVAL) {
            return;
        }
        if self.0.len() == SAMPLES {
            self.0.pop_front();
        }
        self.0.push_back((now, totals()));
    }

    /// What was counted since the oldest sample, given the counts `now`, and how long ago that was.
    pub(crate) fn since(&self, now: Instant, totals: Totals) -> (Totals, Duration) {
        match self.0.front() {
            Some((at, before)) => (totals.since(before), now.saturating_duration_since(*at)),
            None => (Totals::default(), Duration::ZERO),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_of_a_minute_at_most() {
        let start = Instant::now();
        let mut recent = Recent::new(start);
        let at = |second: u64| Totals { requests: second * 10, ..Totals::default() };
        let (counted, passed) = recent.since(start + Duration::from_secs(2), at(2));
        assert_eq!((counted.requests, passed), (20, Duration::from_secs(2)));
        for second in 0..1000 {
            recent.tick(start + Duration::from_secs(second), || at(second));
        }
        let (counted, passed) = recent.since(start + Duration::from_secs(1000), at(1000));
        assert_eq!((counted.requests, passed), (600, Duration::from_secs(60)));
    }
}
