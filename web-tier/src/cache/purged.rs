//! Which of the hub's purges are done: an operator's server brings each, and so does the hub, and whichever comes second has nothing to do.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The most that are remembered one by one: more than the hub has.
const COUNTS_MAX: usize = 1000;

/// Purges by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Purged(Mutex<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    /// All up to this one are done; `None`: the hub was not heard yet.
    done: Option<u64>,
    /// How many answers it was, of the last ones, and of those that were brought before the hub told of them.
    counts: BTreeMap<u64, usize>,
}

impl Numbers {
    fn note(&mut self, number: u64, count: usize) {
        if number > 0 {
            self.counts.insert(number, count);
        }
        if self.counts.len() > COUNTS_MAX {
            self.counts.pop_first();
        }
    }
}

impl Purged {
    /// Those of before are done up to this one.
    pub(crate) fn new(done: Option<u64>) -> Self {
        Self(Mutex::new(Numbers { done, ..Numbers::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does the purge with this number, unless it is done; how many answers it was.
    /// `purge` returns that, and whether it is done for good: else it is done again when the hub tells of it.
    pub(crate) fn once(&self, number: u64, purge: impl FnOnce() -> (usize, bool)) -> usize {
        // Held meanwhile: who comes second has to wait for the first.
        let mut numbers = self.lock();
        if let Some(count) = numbers.counts.get(&number) {
            return *count;
        }
        if number > 0 && numbers.done.is_some_and(|done| number <= done) {
            return 0;
        }
        let (count, is_done) = purge();
        if is_done {
            numbers.note(number, count);
        }
        count
    }

    /// The hub tells of purges, the newest of them last: does those that are not done. `purge` gets their places, or `None` if
    /// nobody knows what came in between.
    pub(crate) fn catch_up(&self, told: &[u64], purge: impl FnOnce(Option<Vec<usize>>) -> usize) -> usize {
        let mut numbers = self.lock();
        let (oldest, newest) = (told.first().copied().unwrap_or(0), told.last().copied().unwrap_or(0));
        // A hub with fewer is another one.
        let gap = numbers.done.is_some_and(|done| oldest > done + 1 || newest < done);
        let done = numbers.done.filter(|_| !gap);
        let is_new =
            |number: &u64| done.is_none_or(|done| *number > done) && !numbers.counts.contains_key(number);
        let places: Vec<usize> = (0..told.len()).filter(|it| is_new(&told[*it])).collect();
        let new: Vec<u64> = places.iter().map(|it| told[*it]).collect();
        if gap {
            numbers.counts.clear();
        }
        let count = match gap {
            true => purge(None),
            false if places.is_empty() => 0,
            false => purge(Some(places)),
        };
        // Of several nobody knows which of them it was.
        new.iter().for_each(|it| numbers.note(*it, if new.len() == 1 { count } else { 0 }));
        numbers.done = Some(newest);
        count
    }

    /// The hub's purges up to this number are done.
    pub(crate) fn done(&self) -> Option<u64> {
        self.lock().done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is asked for: nothing, the places of what is new, or all.
    fn told(purged: &Purged, numbers: &[u64]) -> String {
        let mut asked = String::new();
        purged.catch_up(numbers, |places| {
            asked = places.map_or_else(|| "all".to_owned(), |it| format!("{it:?}"));
            1
        });
        asked
    }

    #[test]
    fn each_is_done_once_whoever_brings_it() {
        let purged = Purged::default();
        assert_eq!(told(&purged, &[1, 2]), "[0, 1]", "what was kept before the hub was heard");
        assert_eq!(purged.once(3, || (7, true)), 7);
        assert_eq!(purged.once(3, || panic!()), 7, "it is told what it was");
        assert_eq!(told(&purged, &[1, 2, 3]), "");
        assert_eq!(told(&purged, &[1, 2, 3, 4, 5]), "[3, 4]");
        assert_eq!(told(&purged, &[1, 2, 3, 4, 5, 6]), "[5]");
        assert_eq!(purged.once(6, || panic!()), 1, "the hub was first");
        assert_eq!((purged.once(0, || (1, true)), purged.once(0, || (2, true))), (1, 2));
    }

    #[test]
    fn what_nobody_knows_means_all() {
        let purged = Purged::default();
        assert_eq!(told(&purged, &[]), "");
        assert_eq!(told(&purged, &[2, 3]), "all", "there was a first one");
        assert_eq!(told(&purged, &[5]), "all");
        assert_eq!(told(&purged, &[1]), "all", "the hub is another one");
        assert_eq!(told(&purged, &[1, 2]), "[1]");
        assert_eq!(purged.done(), Some(2));
    }
}
