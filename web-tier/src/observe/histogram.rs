//! How long requests took: counts by time, in buckets that grow by a third or a half, so that a quantile is off by no more than that.

use crate::observe::counters::Count;
use std::{
    ops::{Add, Sub},
    time::Duration,
};

/// Buckets with a bound: from 128 µs, two an octave, up to 100 s.
const BOUNDS: usize = 40;

/// The first bound is 2 to this power, in microseconds.
const FIRST: u32 = 7;

/// Counts by time, written by one thread.
#[derive(Debug)]
pub(crate) struct Histogram {
    counts: [Count; BOUNDS + 1],
    sum_us: Count,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: std::array::from_fn(|_| Count::default()), sum_us: Count::default() }
    }
}

impl Histogram {
    /// One more.
    pub(crate) fn note(&self, taken: Duration) {
        let us = u64::try_from(taken.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(us)].up();
        self.sum_us.add(us);
    }

    /// The counts now.
    pub(crate) fn read(&self) -> Times {
        Times { counts: std::array::from_fn(|it| self.counts[it].read()), sum_us: self.sum_us.read() }
    }
}

/// The place of the first bound that is not below `us`.
pub(crate) fn bucket(us: u64) -> usize {
    let below = us.saturating_sub(1);
    let octave = u64::BITS - below.leading_zeros();
    if octave <= FIRST {
        return 0;
    }
    let upper_half = below >> (octave - 2) & 1;
    let place = 2 * (octave - FIRST) as usize - 1 + upper_half as usize;
    place.min(BOUNDS)
}

/// Times of requests, by [`Times::bounds_us`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// The last is of those above all bounds.
    pub counts: [u64; BOUNDS + 1],
    /// All of them together, in microseconds.
    pub sum_us: u64,
}

impl Default for Times {
    fn default() -> Self {
        Self { counts: [0; BOUNDS + 1], sum_us: 0 }
    }
}

impl Times {
    /// The upper bounds of all counts but the last, in microseconds, inclusive.
    pub fn bounds_us() -> impl Iterator<Item = u64> {
        (0..BOUNDS as u32).map(|place| {
            let octave = 1 << (FIRST + place / 2);
            if place % 2 == 0 { octave } else { octave + octave / 2 }
        })
    }
}

impl Add for Times {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let counts = std::array::from_fn(|it| self.counts[it] + other.counts[it]);
        Self { counts, sum_us: self.sum_us.wrapping_add(other.sum_us) }
    }
}

impl Sub for Times {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        let counts = std::array::from_fn(|it| self.counts[it].saturating_sub(before.counts[it]));
        Self { counts, sum_us: self.sum_us.wrapping_sub(before.sum_us) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bounds_rise_from_128_us_by_a_half_and_a_third() {
        let bounds: Vec<u64> = Times::bounds_us().collect();
        assert_eq!(bounds[..5], [128, 192, 256, 384, 512]);
        assert_eq!(bounds.len(), BOUNDS);
        assert_eq!(bounds[BOUNDS - 1], 100_663_296);
        assert!(bounds.is_sorted());
    }

    #[test]
    fn counts_add_up() {
        let histogram = Histogram::default();
        [1, 128, 129, 1_000_000, u64::MAX]
            .into_iter()
            .for_each(|us| histogram.note(Duration::from_micros(us)));
        let before = histogram.read();
        assert_eq!((before.counts[0], before.counts[1], before.counts[BOUNDS]), (2, 1, 1));
        histogram.note(Duration::from_micros(150));
        let more = histogram.read() - before;
        assert_eq!((more.counts[1], more.counts.iter().sum::<u64>(), more.sum_us), (1, 1, 150));
        assert_eq!(before + more, histogram.read());
    }

    proptest! {
        #[test]
        fn a_time_is_counted_at_the_first_bound_that_it_does_not_exceed(us in prop_oneof![0_u64..2000, any::<u64>(), 0_u64..200_000_000]) {
            let expected = Times::bounds_us().position(|bound| us <= bound).unwrap_or(BOUNDS);
            prop_assert_eq!(bucket(us), expected);
        }
    }
}
