//! Copies of what was read, in this server's memory, that of nothing as well: what was not used for the longest makes room.

use proto::hub::v1::CachedEntry;
use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Bytes of all copies of a server.
const BYTES_MAX: usize = 64 << 20;

/// So many parts, each with its lock.
const SHARDS: usize = 16;

/// What a copy takes beside its key and value.
const COPY: usize = 300;

/// A copy.
#[derive(Debug, Clone)]
pub(super) struct Copy {
    /// `None`: there is nothing.
    pub(super) entry: Option<CachedEntry>,
    /// Where the hub tells of changes.
    pub(super) stream: u64,
    /// When it was read, at the latest.
    pub(super) read: Instant,
}

impl Copy {
    /// Whether its time is over.
    pub(super) fn is_over(&self) -> bool {
        let left_ms = self.entry.as_ref().map_or(0, |it| it.left_ms);
        left_ms != 0 && self.read.elapsed() >= Duration::from_millis(left_ms)
    }

    pub(super) fn age(&self) -> Duration {
        self.read.elapsed()
    }

    /// The value, with what is left of its time now.
    pub(super) fn told(&self) -> Option<CachedEntry> {
        let mut entry = self.entry.clone()?;
        if entry.left_ms != 0 {
            let passed = u64::try_from(self.read.elapsed().as_millis()).unwrap_or(u64::MAX);
            entry.left_ms = entry.left_ms.saturating_sub(passed).max(1);
        }
        Some(entry)
    }

    fn bytes(&self, key: &str) -> usize {
        let value = self.entry.as_ref().and_then(|it| it.value.as_ref());
        COPY + 2 * key.len() + value.map_or(0, |it| it.value.len() + it.content_type.len())
    }
}

/// The copies.
#[derive(Debug)]
pub(super) struct Near {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
}

impl Default for Near {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), hasher: RandomState::new() }
    }
}

#[derive(Debug, Default)]
struct Shard {
    copies: HashMap<Arc<str>, (u64, Arc<Copy>)>,
    by_use: BTreeMap<u64, Arc<str>>,
    bytes: usize,
    used: u64,
    /// Grows with each copy that is called back: what was asked for before is not kept.
    called_back: u64,
}

impl Shard {
    fn take(&mut self, place: &str) {
        if let Some((used, copy)) = self.copies.remove(place) {
            self.by_use.remove(&used);
            self.bytes -= copy.bytes(place);
        }
    }
}

/// Cache and key as one; a cache's name has no NUL.
fn place(cache: &str, key: &str) -> String {
    format!("{cache}\0{key}")
}

impl Near {
    fn shard(&self, place: &str) -> MutexGuard<'_, Shard> {
        let number = usize::try_from(self.hasher.hash_one(place) % SHARDS as u64).unwrap_or_default();
        self.shards[number].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy, good or not.
    pub(super) fn get(&self, cache: &str, key: &str) -> Option<Arc<Copy>> {
        let place = place(cache, key);
        let mut shard = self.shard(&place);
        shard.used += 1;
        let now = shard.used;
        let (used, copy) = shard.copies.get_mut(&*place)?;
        let (before, copy) = (std::mem::replace(used, now), copy.clone());
        if let Some(name) = shard.by_use.remove(&before) {
            shard.by_use.insert(now, name);
        }
        Some(copy)
    }

    /// To be asked for before the hub is asked.
    pub(super) fn mark(&self, cache: &str, key: &str) -> u64 {
        self.shard(&place(cache, key)).called_back
    }

    /// Keeps a copy, unless something was called back since the mark.
    pub(super) fn put(&self, cache: &str, key: &str, copy: Copy, mark: u64) {
        let place = place(cache, key);
        let mut shard = self.shard(&place);
        if shard.called_back != mark {
            return;
        }
        shard.take(&place);
        shard.used += 1;
        let (used, place): (u64, Arc<str>) = (shard.used, place.into());
        shard.bytes += copy.bytes(&place);
        shard.by_use.insert(used, place.clone());
        shard.copies.insert(place, (used, Arc::new(copy)));
        while shard.bytes > BYTES_MAX / SHARDS {
            let Some((_, oldest)) = shard.by_use.first_key_value() else { break };
            let oldest = oldest.clone();
            shard.take(&oldest);
        }
    }

    /// These are outdated.
    pub(super) fn drop_keys<'a>(&self, keys: impl Iterator<Item = (&'a str, &'a str)>) {
        for (cache, key) in keys {
            let place = place(cache, key);
            let mut shard = self.shard(&place);
            shard.called_back += 1;
            shard.take(&place);
        }
    }

    /// So is all of a cache.
    pub(super) fn drop_cache(&self, cache: &str) {
        let prefix = place(cache, "");
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.called_back += 1;
            let gone: Vec<Arc<str>> =
                shard.copies.keys().filter(|it| it.starts_with(&prefix)).cloned().collect();
            gone.iter().for_each(|it| shard.take(it));
        }
    }

    /// How many there are, and what they take.
    pub(super) fn size(&self) -> (u64, u64) {
        self.shards.iter().fold((0, 0), |(count, bytes), shard| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            (count + shard.copies.len() as u64, bytes + shard.bytes as u64)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::hub::v1::CacheValue;

    fn copy(bytes: usize) -> Copy {
        let value = CacheValue { value: vec![7; bytes].into(), ..CacheValue::default() };
        let entry = CachedEntry { value: Some(value), ..CachedEntry::default() };
        Copy { entry: Some(entry), stream: 1, read: Instant::now() }
    }

    #[test]
    fn what_was_asked_for_before_a_change_is_not_kept() {
        let near = Near::default();
        let mark = near.mark("c", "k");
        near.drop_keys([("c", "k")].into_iter());
        near.put("c", "k", copy(1), mark);
        assert!(near.get("c", "k").is_none());
        near.put("c", "k", copy(1), near.mark("c", "k"));
        assert!(near.get("c", "k").is_some());
        let mark = near.mark("c", "other");
        near.drop_cache("c");
        near.put("c", "other", copy(1), mark);
        assert!(near.get("c", "k").is_none() && near.get("c", "other").is_none());
        near.put("cc", "k", copy(1), near.mark("cc", "k"));
        near.drop_cache("c");
        assert!(near.get("cc", "k").is_some());
        assert_eq!(near.size(), (1, (COPY + 2 * 4 + 1) as u64));
    }

    #[test]
    fn what_was_not_used_for_the_longest_makes_room() {
        let near = Near::default();
        let keep = |key: &str| near.put("c", key, copy(100_000), near.mark("c", key));
        keep("used");
        for number in 0..2_000 {
            keep(&number.to_string());
            near.get("c", "used");
        }
        let (count, bytes) = near.size();
        assert!(bytes <= BYTES_MAX as u64 && count > 300, "{count} of {bytes} bytes");
        assert!(near.get("c", "used").is_some() && near.get("c", "0").is_none());
        for shard in &near.shards {
            let shard = shard.lock().unwrap();
            assert_eq!(shard.copies.len(), shard.by_use.len());
            assert_eq!(shard.bytes, shard.copies.iter().map(|(key, it)| it.1.bytes(key)).sum::<usize>());
        }
    }
}
