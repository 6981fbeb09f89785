//! Which watchers keep copies of cached values: they are told when those are outdated, and nobody else is. In the leader's memory alone: a watcher
//! whose stream ends drops its copies.

use proto::hub::v1::CacheKey;
use std::collections::{HashMap, HashSet, VecDeque};

/// The most that are remembered; of more the oldest copy is called back.
const COPIES_MAX: usize = if cfg!(test) { 1_000 } else { 500_000 };

/// A value's place.
type Place = (String, String);

/// The copies that watchers have.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    by_place: HashMap<Place, Vec<u64>>,
    /// In the order in which they were taken; some are called back already.
    order: VecDeque<(Place, u64)>,
    /// Watchers that have taken any.
    holders: HashSet<u64>,
}

impl Copies {
    /// A watcher takes a copy. Returns one that is called back for it.
    pub(crate) fn take(&mut self, cache: &str, key: &str, watch: u64) -> Option<(CacheKey, u64)> {
        let place = (cache.to_owned(), key.to_owned());
        self.holders.insert(watch);
        let holders = self.by_place.entry(place.clone()).or_default();
        if holders.contains(&watch) {
            return None;
        }
        holders.push(watch);
        self.order.push_back((place, watch));
        if self.order.len() <= COPIES_MAX {
            return None;
        }
        let (place, watch) = self.order.pop_front()?;
        let holders = self.by_place.get_mut(&place)?;
        let found = holders.iter().position(|it| *it == watch)?;
        holders.swap_remove(found);
        if holders.is_empty() {
            self.by_place.remove(&place);
        }
        Some((CacheKey { cache: place.0, key: place.1 }, watch))
    }

    /// A watcher believes something, if no single value.
    pub(crate) fn holds(&mut self, watch: u64) {
        self.holders.insert(watch);
    }

    /// Who has copies of a value.
    pub(crate) fn holders_of(&self, key: &CacheKey) -> Vec<u64> {
        self.by_place.get(&(key.cache.clone(), key.key.clone())).cloned().unwrap_or_default()
    }

    /// A value has changed: who has copies of it, which are none any more.
    pub(crate) fn changed(&mut self, key: &CacheKey) -> Vec<u64> {
        self.by_place.remove(&(key.cache.clone(), key.key.clone())).unwrap_or_default()
    }

    /// A whole cache has changed: who may have copies.
    pub(crate) fn cleared(&mut self, cache: &str) -> Vec<u64> {
        let mut holders: Vec<u64> = Vec::new();
        self.by_place.retain(|(of, _), watches| {
            if of == cache {
                holders.extend_from_slice(watches);
            }
            of != cache
        });
        holders.sort_unstable();
        holders.dedup();
        holders
    }

    /// Whether a watcher may have any.
    pub(crate) fn is_holder(&self, watch: u64) -> bool {
        self.holders.contains(&watch)
    }

    /// A watcher is gone, and its copies with it.
    pub(crate) fn gone(&mut self, watch: u64) {
        if self.holders.remove(&watch) {
            self.by_place.retain(|_, watches| {
                watches.retain(|it| *it != watch);
                !watches.is_empty()
            });
            self.order.retain(|(_, it)| *it != watch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(key: &str) -> CacheKey {
        CacheKey { cache: "c".into(), key: key.into() }
    }

    #[test]
    fn those_are_told_who_have_a_copy_and_once() {
        let mut copies = Copies::default();
        for (key, watch) in [("a", 1), ("a", 2), ("b", 1), ("a", 1)] {
            assert_eq!(copies.take("c", key, watch), None);
        }
        assert_eq!(copies.changed(&key("a")), [1, 2]);
        assert!(copies.changed(&key("a")).is_empty());
        copies.take("c", "a", 2);
        copies.take("d", "a", 3);
        assert_eq!(copies.cleared("c"), [1, 2]);
        assert!(copies.changed(&key("b")).is_empty() && copies.is_holder(3) && !copies.is_holder(4));
        copies.gone(3);
        assert!(copies.cleared("d").is_empty() && !copies.is_holder(3));
    }

    #[test]
    fn of_too_many_the_oldest_is_called_back() {
        let mut copies = Copies::default();
        for number in 0..COPIES_MAX {
            assert_eq!(copies.take("c", &number.to_string(), 1), None);
        }
        assert_eq!(copies.take("c", "new", 2), Some((key("0"), 1)));
        assert!(copies.changed(&key("0")).is_empty());
        assert_eq!(copies.changed(&key("1")), [1]);
        // What is called back by a change stands in the order still, and is passed over.
        assert_eq!(copies.take("c", "newer", 2), None);
        assert!(copies.order.len() <= COPIES_MAX);
    }
}
