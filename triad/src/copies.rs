//! Which watchers keep copies of cached values: they are told when those are outdated, and nobody else is. In the leader's memory alone: a watcher
//! whose stream ends drops its copies.

use proto::hub::v1::CacheKey;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

/// The most that are remembered, and what they may take; of more the oldest copy is called back.
const COPIES_MAX: usize = if cfg!(test) { 1_000 } else { 500_000 };
const BYTES_MAX: usize = 128 << 20;

/// What a copy takes beside its place.
const COPY: usize = 250;

/// A value's place: cache and key, with a NUL between them.
pub(crate) type Place = Arc<str>;

/// The place of a value; one without a key stands for the whole cache.
pub(crate) fn place(cache: &str, key: &str) -> Place {
    [cache, key].join("\0").into()
}

fn key(place: &str) -> CacheKey {
    let (cache, key) = place.split_once('\0').unwrap_or_default();
    CacheKey { cache: cache.to_owned(), key: key.to_owned() }
}

/// The copies that watchers have.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    /// Who has copies of a value, and when each was taken.
    by_place: HashMap<Place, Vec<(u64, u64)>>,
    by_cache: HashMap<String, HashSet<Place>>,
    by_watch: HashMap<u64, HashSet<Place>>,
    /// In the order in which they were taken; some are called back already.
    order: VecDeque<(u64, u64, Place)>,
    count: usize,
    bytes: usize,
    taken: u64,
}

impl Copies {
    /// A watcher takes a copy. Returns those that are called back for it.
    pub(crate) fn take(&mut self, cache: &str, key: &str, watch: u64) -> Vec<(CacheKey, u64)> {
        let place = place(cache, key);
        let holders = self.by_place.entry(place.clone()).or_default();
        if holders.iter().any(|it| it.0 == watch) {
            return Vec::new();
        }
        self.taken += 1;
        holders.push((watch, self.taken));
        self.by_cache.entry(cache.to_owned()).or_default().insert(place.clone());
        self.by_watch.entry(watch).or_default().insert(place.clone());
        self.count += 1;
        self.bytes += COPY + place.len();
        self.order.push_back((self.taken, watch, place));
        self.make_room()
    }

    fn make_room(&mut self) -> Vec<(CacheKey, u64)> {
        let mut called_back = Vec::new();
        while self.count > COPIES_MAX || self.bytes > BYTES_MAX {
            let Some((taken, watch, place)) = self.order.pop_front() else { break };
            if self.is_live(taken, watch, &place) {
                self.forget(&place, watch);
                called_back.push((key(&place), watch));
            }
        }
        // What was called back by changes is passed over, and thrown out when it is the most of it.
        if self.order.len() > 2 * self.count + COPIES_MAX / 10 {
            let order = std::mem::take(&mut self.order);
            self.order = order
                .into_iter()
                .filter(|(taken, watch, place)| self.is_live(*taken, *watch, place))
                .collect();
        }
        called_back
    }

    fn is_live(&self, taken: u64, watch: u64, place: &Place) -> bool {
        self.by_place.get(place).is_some_and(|it| it.contains(&(watch, taken)))
    }

    /// A watcher has no copy of a value any more.
    fn forget(&mut self, place: &Place, watch: u64) {
        let Some(holders) = self.by_place.get_mut(place) else { return };
        let Some(found) = holders.iter().position(|it| it.0 == watch) else { return };
        holders.swap_remove(found);
        let is_last = holders.is_empty();
        self.count -= 1;
        self.bytes -= COPY + place.len();
        if let Some(of_watch) = self.by_watch.get_mut(&watch) {
            of_watch.remove(place);
        }
        if is_last {
            self.by_place.remove(place);
            let cache = place.split('\0').next().unwrap_or_default();
            if let Some(of_cache) = self.by_cache.get_mut(cache) {
                of_cache.remove(place);
                if of_cache.is_empty() {
                    self.by_cache.remove(cache);
                }
            }
        }
    }

    /// A value has changed: who has copies of it, which are none any more.
    pub(crate) fn changed(&mut self, place: &Place) -> Vec<u64> {
        let holders: Vec<u64> = self.by_place.get(place).into_iter().flatten().map(|it| it.0).collect();
        holders.iter().for_each(|watch| self.forget(place, *watch));
        holders
    }

    /// A whole cache has changed: who has copies.
    pub(crate) fn cleared(&mut self, cache: &str) -> Vec<u64> {
        let places = self.by_cache.get(cache).cloned().unwrap_or_default();
        let mut holders: Vec<u64> = places.iter().flat_map(|place| self.changed(place)).collect();
        holders.sort_unstable();
        holders.dedup();
        holders
    }

    /// A watcher is gone: what it had.
    pub(crate) fn gone(&mut self, watch: u64) -> HashSet<Place> {
        let places = self.by_watch.get(&watch).cloned().unwrap_or_default();
        places.iter().for_each(|place| self.forget(place, watch));
        self.by_watch.remove(&watch);
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn those_are_told_who_have_a_copy_and_once() {
        let mut copies = Copies::default();
        for (key, watch) in [("a", 1), ("a", 2), ("b", 1), ("a", 1)] {
            assert_eq!(copies.take("c", key, watch), []);
        }
        assert_eq!(copies.changed(&place("c", "a")), [1, 2]);
        assert!(copies.changed(&place("c", "a")).is_empty());
        copies.take("c", "a", 2);
        copies.take("d", "a", 3);
        assert_eq!(copies.cleared("c"), [1, 2]);
        assert!(copies.changed(&place("c", "b")).is_empty());
        assert_eq!((copies.gone(3).len(), copies.gone(4).len()), (1, 0));
        assert!(copies.cleared("d").is_empty());
    }

    #[test]
    fn of_too_many_the_oldest_is_called_back() {
        let mut copies = Copies::default();
        for number in 0..COPIES_MAX {
            assert_eq!(copies.take("c", &number.to_string(), 1), []);
        }
        // The first one is taken anew: it is the newest then.
        copies.changed(&place("c", "0"));
        copies.take("c", "0", 1);
        assert_eq!(copies.take("c", "new", 2), [(key("c\x001"), 1)]);
        assert_eq!(copies.changed(&place("c", "0")), [1]);
        assert!(copies.changed(&place("c", "1")).is_empty());
        for _ in 0..10 * COPIES_MAX {
            copies.take("c", "hot", 1);
            copies.changed(&place("c", "hot"));
        }
        assert!(copies.order.len() < 4 * COPIES_MAX && copies.count < COPIES_MAX);
    }

    proptest! {
        /// Whatever comes and goes: the indexes agree, and nothing is left of what is gone.
        #[test]
        fn indexes_agree(steps in prop::collection::vec((0..4_u8, 0..3_u8, 0..5_u8, 1..4_u64), 0..200)) {
            let mut copies = Copies::default();
            for (what, cache, key, watch) in steps {
                let (cache, key) = (cache.to_string(), key.to_string());
                match what {
                    0 | 1 => drop(copies.take(&cache, &key, watch)),
                    2 => drop(copies.changed(&place(&cache, &key))),
                    _ if watch == 1 => drop(copies.cleared(&cache)),
                    _ => drop(copies.gone(watch)),
                }
                let live: usize = copies.by_place.values().map(Vec::len).sum();
                prop_assert_eq!((copies.count, live), (live, copies.by_watch.values().map(HashSet::len).sum()));
                prop_assert_eq!(copies.by_cache.values().map(HashSet::len).sum::<usize>(), copies.by_place.len());
                let bytes = copies.by_place.iter().map(|(place, it)| it.len() * (COPY + place.len()));
                prop_assert_eq!(copies.bytes, bytes.sum::<usize>());
            }
        }
    }
}
