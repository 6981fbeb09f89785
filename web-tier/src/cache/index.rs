//! Which keys there are of a URL: its variants, and those by other ways.

use super::HashedAlready;
use std::{
    collections::HashMap,
    hash::BuildHasherDefault,
    sync::{Mutex, MutexGuard, PoisonError},
};

type Keys = HashMap<u64, Vec<u64>, BuildHasherDefault<HashedAlready>>;

const SHARDS: usize = 64;

/// By the hash of a URL: the hashes of keys.
#[derive(Debug)]
pub(super) struct Index([Mutex<Keys>; SHARDS]);

impl Default for Index {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Index {
    fn shard(&self, url: u64) -> MutexGuard<'_, Keys> {
        self.0[(url >> 32) as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, url: u64, key: u64) {
        let mut shard = self.shard(url);
        // Most URLs have one key.
        let keys = shard.entry(url).or_insert_with(|| Vec::with_capacity(1));
        if !keys.contains(&key) {
            keys.push(key);
        }
    }

    pub(super) fn remove(&self, url: u64, key: u64) {
        let mut shard = self.shard(url);
        if let Some(keys) = shard.get_mut(&url) {
            keys.retain(|it| *it != key);
            if keys.is_empty() {
                shard.remove(&url);
            }
        }
    }

    /// The oldest first.
    pub(super) fn keys(&self, url: u64) -> Vec<u64> {
        self.shard(url).get(&url).cloned().unwrap_or_default()
    }

    pub(super) fn count(&self, url: u64) -> usize {
        self.shard(url).get(&url).map_or(0, Vec::len)
    }
}
