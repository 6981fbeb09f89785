//! Breadth-first search: the first way to a wrong state is a shortest one.

use super::{step::Step, world::World};
use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, BuildHasherDefault, Hasher},
};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Explored {
    pub(super) states: usize,
    /// How often a server went on alone.
    pub(super) alone: usize,
    /// How often one refused to.
    pub(super) refused: usize,
    /// How often a web-tier kept such an answer back.
    pub(super) kept_back: usize,
    /// A shortest way to a wrong state, a line a step.
    pub(super) wrong: Option<String>,
}

/// States by fingerprint, each with the one that it was reached from and the step. A collision could hide a state, with a
/// probability of one in a million for a million of states.
type Ways = HashMap<u64, (u64, Option<Step>), Prints>;

type Prints = BuildHasherDefault<Mix>;

/// A hash that is quick without optimisation.
#[derive(Debug, Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let word = chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
            self.write_u64(word);
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(value.into());
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        // The constants of splitmix64.
        let mixed = (self.0.rotate_left(5) ^ value).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        self.0 = (mixed ^ mixed >> 31).wrapping_mul(0x94d0_49bb_1331_11eb);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_i64(&mut self, value: i64) {
        self.write_u64(value.cast_unsigned());
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value.cast_unsigned() as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// All that can happen to `first` until `horizon`.
pub(super) fn explore(first: World, horizon: u64) -> Explored {
    let prints = Prints::default();
    let mut ways = Ways::default();
    let mut explored = Explored::default();
    let start = prints.hash_one(&first);
    ways.insert(start, (start, None));
    let mut waiting = VecDeque::from([first]);
    while let Some(world) = waiting.pop_front() {
        let from = prints.hash_one(&world);
        for (step, next) in world.steps() {
            let print = prints.hash_one(&next);
            if ways.contains_key(&print) {
                continue;
            }
            explored.states += 1;
            explored.alone += usize::from(matches!(step, Step::FromMemory(_)));
            explored.refused += usize::from(step == Step::Refuses);
            explored.kept_back += usize::from(step == Step::KeptBack);
            ways.insert(print, (from, Some(step)));
            if let Some(why) = &next.wrong {
                explored.wrong = Some(format!("{}{why}", way(&ways, print)));
                return explored;
            }
            if next.now <= horizon && !next.is_forgiven {
                waiting.push_back(next);
            }
        }
    }
    explored
}

fn way(ways: &Ways, mut print: u64) -> String {
    let mut steps = Vec::new();
    while let Some((before, Some(step))) = ways.get(&print) {
        steps.push(format!("{step}\n"));
        print = *before;
    }
    steps.reverse();
    steps.concat()
}
