//! Requests in a time: the generic cell rate algorithm (ITU-T I.371, annex A), which keeps one number of each key: the time at which
//! all that it has asked for would have been asked at the rate.

use super::{LimitReport, Refused, SHARDS, Subject, key, shard};
use common::config::RateLimit;
use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

/// What becomes of a request. Times in seconds, rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// It is within the limit.
    pub(crate) passes: bool,
    /// So many more would be.
    pub(crate) remaining: u64,
    /// Until as many are as after a long time without any.
    pub(crate) reset_s: u64,
    /// Until one more is, if none is now.
    pub(crate) retry_s: u64,
}

/// What one `rate-limit` has counted.
#[derive(Debug)]
pub(crate) struct RateTable {
    pub(super) config: RateLimit,
    hasher: key::Hasher,
    begun: Instant,
    /// What a request costs, and what a key may owe, in microseconds.
    each: u64,
    most: u64,
    shards: Box<[Mutex<Shard>]>,
    /// Keys of one generation of a shard.
    keys_max: usize,
    passed: AtomicU64,
    refused_count: AtomicU64,
    refused: Refused,
}

/// Keys by their hashes, in two generations: what is asked for moves into the young one, and when that is full it becomes the old one,
/// whose keys, which were quiet since, are forgotten.
#[derive(Debug, Default)]
struct Shard {
    young: Generation,
    old: Generation,
}

/// For each key the theoretical arrival time, in microseconds since the table was made.
type Generation = HashMap<u64, u64, BuildHasherDefault<Hashed>>;

/// Hashes what is a hash already.
#[derive(Debug, Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0 << 8 | u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl RateTable {
    pub(super) fn new(config: &RateLimit) -> Self {
        // Above a million in a second there is no rate.
        let each = (micros(config.period.as_micros()) / u64::from(config.requests)).max(1);
        Self {
            hasher: key::Hasher::default(),
            begun: Instant::now(),
            each,
            most: each * u64::from(config.burst),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            keys_max: config.keys_max.div_ceil(2 * SHARDS).max(1),
            passed: AtomicU64::new(0),
            refused_count: AtomicU64::new(0),
            refused: Refused::default(),
            config: config.clone(),
        }
    }

    /// As `RateLimit-Policy` has it: the name, how many requests, and in how many seconds.
    pub(crate) fn policy(&self) -> (&str, u32, u64) {
        (&self.config.name, self.config.requests, self.config.period.as_secs())
    }

    /// Counts a request, unless it is refused; `None` if it has no key.
    pub(crate) fn check(&self, now: Instant, subject: Subject<'_>) -> Option<Verdict> {
        let hash = self.hasher.hash(&self.config.by, subject)?;
        let now = micros(now.saturating_duration_since(self.begun).as_micros());
        let verdict = self.count(now, hash);
        if verdict.passes {
            self.passed.fetch_add(1, Relaxed);
        } else {
            self.refused_count.fetch_add(1, Relaxed);
            self.refused.note(hash, || key::shown(&self.config.by, subject));
        }
        Some(verdict)
    }

    fn count(&self, now: u64, hash: u64) -> Verdict {
        let (each, most) = (self.each, self.most);
        let mut shard = shard(&self.shards, hash);
        let before = shard.young.get(&hash).or_else(|| shard.old.get(&hash)).copied();
        let begins = before.unwrap_or(0).max(now);
        let ends = begins + each;
        let passes = ends - now <= most;
        let debt = if passes { ends - now } else { begins - now };
        if shard.young.len() >= self.keys_max && !shard.young.contains_key(&hash) {
            shard.old = std::mem::take(&mut shard.young);
        }
        shard.young.insert(hash, if passes { ends } else { begins });
        drop(shard);
        Verdict {
            passes,
            remaining: (most - debt.min(most)) / each,
            reset_s: debt.div_ceil(1_000_000),
            retry_s: (ends - now).saturating_sub(most).div_ceil(1_000_000),
        }
    }

    pub(super) fn report(&self) -> LimitReport {
        let RateLimit { name, requests, period, burst, .. } = &self.config;
        let unit = match period.as_secs() {
            1 => "s",
            60 => "m",
            _ => "h",
        };
        let keys = |it: &Mutex<Shard>| it.lock().map_or(0, |it| it.young.len() + it.old.len());
        LimitReport {
            name: name.clone(),
            kind: "rate-limit",
            allows: format!("{requests}/{unit}, burst {burst}"),
            passed: self.passed.load(Relaxed),
            refused: self.refused_count.load(Relaxed),
            keys: self.shards.iter().map(keys).sum::<usize>() as u64,
            most_refused: self.refused.most(),
        }
    }
}

fn micros(micros: u128) -> u64 {
    u64::try_from(micros).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::config::RequestKey;
    use proptest::prelude::*;
    use std::time::Duration;

    const SECOND: u64 = 1_000_000;

    fn table(requests: u32, period_s: u64, burst: u32, keys_max: usize) -> RateTable {
        RateTable::new(&RateLimit {
            name: "test".to_owned(),
            by: RequestKey::RemoteAddr,
            requests,
            period: Duration::from_secs(period_s),
            burst,
            keys_max,
        })
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let table = table(10, 1, 3, 1024);
        let counted: Vec<_> = (0..5).map(|_| table.count(5 * SECOND, 7)).collect();
        let expected = [(true, 2), (true, 1), (true, 0), (false, 0), (false, 0)];
        assert_eq!(counted.iter().map(|it| (it.passes, it.remaining)).collect::<Vec<_>>(), expected);
        assert_eq!((counted[4].retry_s, counted[4].reset_s), (1, 1));
        assert!(table.count(5 * SECOND, 8).passes, "another key has a limit of its own");
        assert!(!table.count(5 * SECOND + 99_999, 7).passes);
        assert!(table.count(5 * SECOND + 100_000, 7).passes);
        assert!(!table.count(5 * SECOND + 100_000, 7).passes);
        let later = table.count(60 * SECOND, 7);
        assert_eq!((later.passes, later.remaining), (true, 2));
    }

    #[test]
    fn a_rate_by_the_hour_says_how_long_to_wait() {
        let table = table(2, 3600, 2, 1024);
        assert!(table.count(0, 1).passes && table.count(0, 1).passes);
        let refused = table.count(0, 1);
        assert_eq!((refused.passes, refused.retry_s, refused.reset_s), (false, 1800, 3600));
    }

    #[test]
    fn a_million_strangers_take_no_more_memory_than_there_may_be() {
        let table = table(1, 60, 1, 4096);
        assert!(table.count(0, u64::MAX).passes);
        for stranger in 0..1_000_000u64 {
            let hash = stranger.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            assert!(table.count(1, hash).passes, "{stranger}");
            if stranger % 500 == 0 {
                // Who goes on asking is not forgotten.
                assert!(!table.count(1, u64::MAX).passes, "{stranger}");
            }
        }
        let keys = table.report().keys;
        assert!(keys <= 4096 + 64, "{keys}");
    }

    proptest! {
        /// Whatever comes when: in no window do more pass than the burst and the rate allow.
        #[test]
        fn never_more_than_the_burst_and_the_rate(
            requests in 1u32..50,
            burst in 1u32..20,
            gaps in prop::collection::vec(0u64..300_000, 1..200),
        ) {
            let table = table(requests, 1, burst, 1024);
            let (mut now, mut passed) = (0, Vec::new());
            for gap in gaps {
                now += gap;
                if table.count(now, 1).passes {
                    passed.push(now);
                }
            }
            let each = SECOND / u64::from(requests);
            for from in 0..passed.len() {
                for to in from..passed.len() {
                    let window = passed[to] - passed[from];
                    let most = u64::from(burst) + window / each;
                    prop_assert!((to - from + 1) as u64 <= most, "{} in {window} µs", to - from + 1);
                }
            }
        }
    }
}
