//! Weighted turns: stride scheduling, where the server whose next turn is due first is taken and its next turn is a stride
//! later. As smooth as nginx's weighted round robin, and O(log n) instead of O(n) a request.

use std::{cmp::Reverse, collections::BinaryHeap};

/// The stride of a server of weight 1 that is warm.
const STRIDE: u64 = 1 << 24;

/// Turns beyond this are counted from 0 again.
const REBASE: u64 = 1 << 62;

/// So many turns are looked at for one request. Where nearly all servers pass, somebody else has to find one.
const LOOKED_AT: usize = 64;

/// What becomes of a turn. A server that passes keeps up with the others, so that it gets no rush when it is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is taken.
    Take,
    /// It is passed over.
    Pass,
}

/// When each server's next turn is.
#[derive(Debug)]
pub(super) struct Turns(BinaryHeap<Reverse<(u64, u16)>>);

/// The stride of a server of weight `weight` that gets `sixteenths` of its share.
fn stride(weight: u32, sixteenths: u32) -> u64 {
    STRIDE * 16 / (u64::from(weight.max(1)) * u64::from(sixteenths.clamp(1, 16)))
}

impl Turns {
    /// Of servers of these weights, all warm.
    pub(super) fn new(weights: &[u32]) -> Self {
        let first = |(index, weight): (usize, &u32)| Reverse((stride(*weight, 16) / 2, index as u16));
        Self(weights.iter().enumerate().map(first).collect())
    }

    /// The next server that `turn` takes; `None` when none of the next 64 is taken. `turn` says, too, what share each has: its weight
    /// and sixteenths of it.
    pub(super) fn next(&mut self, mut turn: impl FnMut(usize) -> (Turn, u32, u32)) -> Option<usize> {
        for _ in 0..self.0.len().min(LOOKED_AT) {
            let mut first = self.0.peek_mut()?;
            let index = usize::from(first.0.1);
            let (turn, weight, sixteenths) = turn(index);
            first.0.0 += stride(weight, sixteenths);
            let far = first.0.0 > REBASE;
            // Puts it in its new place.
            drop(first);
            if far {
                self.rebase();
            }
            if turn == Turn::Take {
                return Some(index);
            }
        }
        None
    }

    fn rebase(&mut self) {
        let base = self.0.peek().map_or(0, |first| first.0.0);
        self.0 = self.0.drain().map(|Reverse((at, index))| Reverse((at - base, index))).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn take(turns: &mut Turns, weights: &[u32], count: usize) -> Vec<usize> {
        (0..count).filter_map(|_| turns.next(|index| (Turn::Take, weights[index], 16))).collect()
    }

    #[test]
    fn equals_take_turns_and_the_heavy_comes_more_often() {
        assert_eq!(take(&mut Turns::new(&[100; 3]), &[100; 3], 6), [0, 1, 2, 0, 1, 2]);
        assert_eq!(take(&mut Turns::new(&[5, 1, 1]), &[5, 1, 1], 7), [0, 0, 0, 1, 2, 0, 0]);
    }

    #[test]
    fn who_passes_gets_no_rush_afterwards_and_nobody_is_an_answer() {
        let mut turns = Turns::new(&[1; 3]);
        for _ in 0..300 {
            assert_ne!(turns.next(|it| (if it == 1 { Turn::Pass } else { Turn::Take }, 1, 16)), Some(1));
        }
        let after = take(&mut turns, &[1; 3], 30);
        assert_eq!(after.iter().filter(|it| **it == 1).count(), 10);
        assert_eq!(turns.next(|_| (Turn::Pass, 1, 16)), None);
        assert_eq!(Turns::new(&[]).next(|_| (Turn::Take, 1, 16)), None);
    }

    #[test]
    fn counting_begins_again_before_it_overflows() {
        let mut turns = Turns::new(&[1, 2]);
        turns.0 = turns.0.drain().map(|Reverse((at, index))| Reverse((at + REBASE, index))).collect();
        let taken = take(&mut turns, &[1, 2], 3000);
        assert_eq!(taken.iter().filter(|it| **it == 0).count(), 1000);
        assert!(turns.0.iter().all(|it| it.0.0 < REBASE));
    }

    proptest! {
        /// After any number of turns, no server is more than one turn off its share.
        #[test]
        fn it_is_fair_at_every_moment(weights in prop::collection::vec(1_u32..200, 1..20), count in 1_usize..500) {
            let mut counts = vec![0_u32; weights.len()];
            take(&mut Turns::new(&weights), &weights, count).into_iter().for_each(|it| counts[it] += 1);
            let sum: u32 = weights.iter().sum();
            for (count_of, weight) in counts.iter().zip(&weights) {
                let share = count as f64 * f64::from(*weight) / f64::from(sum);
                let bound = 1.0 + weights.len() as f64 / 2.0 * f64::from(*weight) / f64::from(sum);
                prop_assert!((f64::from(*count_of) - share).abs() <= bound + 0.01, "{counts:?} for {weights:?}");
            }
        }
    }
}
