//! How fast messages come and go lately, of each queue: the leader looks at their counts now and then. They are no part of the state: who leads
//! next begins anew.

use crate::state::queue::Queues;
use proto::hub::v1::QueueDescription;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Between two looks, and how many are remembered: rates are those of the last minute.
const INTERVAL: Duration = Duration::from_secs(10);
const LOOKS: usize = 6;

/// Of a shorter time nothing is said.
const LEAST: Duration = Duration::from_secs(2);

/// The counts of queues lately.
#[derive(Debug, Default)]
pub(crate) struct QueueRates(Mutex<VecDeque<Look>>);

/// What was published and settled at a time.
#[derive(Debug)]
struct Look {
    at: Instant,
    counts: HashMap<Arc<str>, (u64, u64)>,
}

impl QueueRates {
    /// Remembers them, if it is time to.
    pub(super) fn look(&self, at: Instant, queues: impl FnOnce() -> Queues) {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if looks.back().is_some_and(|last| at.saturating_duration_since(last.at) < INTERVAL) {
            return;
        }
        let queues = queues();
        let counts = queues.counts().map(|(name, it)| (name.clone(), (it.published, it.settled)));
        Self::remember(&mut looks, Look { at, counts: counts.collect() });
    }

    fn remember(looks: &mut VecDeque<Look>, look: Look) {
        looks.push_back(look);
        if looks.len() > LOOKS {
            looks.pop_front();
        }
    }

    /// This server does not lead.
    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Says in each description what its rates are.
    pub(crate) fn tell(&self, now: Instant, queues: &mut [QueueDescription]) {
        let looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(first) = looks.front() else { return };
        let passed = now.saturating_duration_since(first.at);
        if passed < LEAST {
            return;
        }
        for queue in queues {
            let counts = queue.counts.unwrap_or_default();
            // One that is new, or was made anew, counts from 0.
            let since = first.counts.get(&*queue.name).copied().unwrap_or_default();
            let rate =
                |now: u64, then: u64| now.checked_sub(then).unwrap_or(now) as f64 / passed.as_secs_f64();
            queue.published_per_s = Some(rate(counts.published, since.0));
            queue.settled_per_s = Some(rate(counts.settled, since.1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::hub::v1::QueueCounts;

    #[test]
    fn rates_are_those_of_the_last_minute() {
        let (rates, begin) = (QueueRates::default(), Instant::now());
        let name: Arc<str> = "work".into();
        let counts = |published, settled| QueueCounts { published, settled, ..QueueCounts::default() };
        let told = |seconds: u64, published, settled| {
            let one = |name: &str, counts| QueueDescription {
                name: name.into(),
                counts: Some(counts),
                ..QueueDescription::default()
            };
            let mut all = [one("work", counts(published, settled)), one("new", counts(30, 0))];
            rates.tell(begin + Duration::from_secs(seconds), &mut all);
            all.map(|it| it.published_per_s.zip(it.settled_per_s))
        };
        assert_eq!(told(5, 10, 10), [None; 2], "nobody has looked");
        for second in (0..=100).step_by(10) {
            let counts = [(name.clone(), (second * 10, second * 5))].into();
            let at = begin + Duration::from_secs(second);
            QueueRates::remember(&mut rates.0.lock().unwrap(), Look { at, counts });
        }
        assert_eq!(rates.0.lock().unwrap().len(), LOOKS);
        // The first that is remembered is that of 50 s.
        assert_eq!(told(100, 1000, 500), [Some((10.0, 5.0)), Some((0.6, 0.0))]);
        assert_eq!(told(100, 100, 0), [Some((2.0, 0.0)), Some((0.6, 0.0))], "it was made anew");
        rates.forget();
        assert_eq!(told(100, 1000, 500), [None; 2]);
    }
}
