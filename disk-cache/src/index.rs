//! Where things are: in memory, by their groups.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

const SHARDS: usize = 64;

/// The most things of a group: the oldest makes room. Nobody may make a group long.
const GROUP_MAX: usize = 64;

/// A place in the log: what is written later has a greater one. The segment, then the offset in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl Position {
    pub(crate) fn new(segment: u32, offset: u32) -> Self {
        Self(u64::from(segment) << 32 | u64::from(offset))
    }

    pub(crate) fn segment(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(crate) fn offset(self) -> u64 {
        self.0 & u64::from(u32::MAX)
    }
}

/// Where a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) key_hash: u64,
    pub(crate) position: Position,
    pub(crate) length: u32,
    pub(crate) expires: u32,
}

/// All that is kept.
#[derive(Debug)]
pub(crate) struct Index {
    shards: [Mutex<HashMap<u64, Vec<Location>>>; SHARDS],
    entries: AtomicU64,
    /// While what was kept before is still being read: what was forgotten meanwhile is not to come back.
    forgotten: Mutex<Option<HashSet<u64>>>,
    is_loaded: AtomicBool,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            entries: AtomicU64::new(0),
            forgotten: Mutex::new(Some(HashSet::new())),
            is_loaded: AtomicBool::new(false),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Index {
    fn shard(&self, group: u64) -> MutexGuard<'_, HashMap<u64, Vec<Location>>> {
        locked(&self.shards[group as usize % SHARDS])
    }

    pub(crate) fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    pub(crate) fn find(&self, group: u64, key_hash: u64) -> Option<Location> {
        self.shard(group).get(&group)?.iter().find(|it| it.key_hash == key_hash).copied()
    }

    /// One that was written; what had its key is gone.
    pub(crate) fn insert(&self, group: u64, location: Location) {
        let mut shard = self.shard(group);
        let chain = shard.entry(group).or_insert_with(|| Vec::with_capacity(1));
        let oldest = || (0..GROUP_MAX.min(chain.len())).min_by_key(|it| chain[*it].position);
        let same = chain.iter().position(|it| it.key_hash == location.key_hash);
        match same.or_else(|| oldest().filter(|_| chain.len() >= GROUP_MAX)) {
            Some(place) => chain[place] = location,
            None => {
                chain.push(location);
                self.entries.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// One of before, unless there is a newer one, or its group was forgotten.
    pub(crate) fn insert_former(&self, group: u64, location: Location) {
        // Held meanwhile, so that nobody forgets the group between the look and the insertion.
        let forgotten = locked(&self.forgotten);
        let is_forgotten = forgotten.as_ref().is_none_or(|it| it.contains(&group));
        let mut shard = self.shard(group);
        let chain = shard.entry(group).or_default();
        let is_there = chain.len() >= GROUP_MAX || chain.iter().any(|it| it.key_hash == location.key_hash);
        if !is_forgotten && !is_there {
            chain.push(location);
            self.entries.fetch_add(1, Ordering::Relaxed);
        } else if chain.is_empty() {
            shard.remove(&group);
        }
    }

    /// What was kept before is there.
    pub(crate) fn loaded(&self) {
        *locked(&self.forgotten) = None;
        self.is_loaded.store(true, Ordering::Release);
    }

    /// Whether that is so.
    pub(crate) fn is_loaded(&self) -> bool {
        self.is_loaded.load(Ordering::Acquire)
    }

    /// Whether there was something.
    pub(crate) fn forget_group(&self, group: u64) -> bool {
        if let Some(forgotten) = &mut *locked(&self.forgotten) {
            forgotten.insert(group);
        }
        let gone = self.shard(group).remove(&group);
        self.entries.fetch_sub(gone.as_ref().map_or(0, |it| it.len() as u64), Ordering::Relaxed);
        gone.is_some()
    }

    /// What has this key is out of date, and does not come back from before either.
    pub(crate) fn replaced(&self, group: u64, key_hash: u64) {
        if !self.is_loaded()
            && let Some(forgotten) = &mut *locked(&self.forgotten)
        {
            forgotten.insert(group);
        }
        let known = self.find(group, key_hash);
        known.into_iter().for_each(|it| self.remove(group, it.position));
    }

    /// The thing at a place is gone, if it is still there.
    pub(crate) fn remove(&self, group: u64, position: Position) {
        let mut shard = self.shard(group);
        let Some(chain) = shard.get_mut(&group) else { return };
        let before = chain.len();
        chain.retain(|it| it.position != position);
        self.entries.fetch_sub((before - chain.len()) as u64, Ordering::Relaxed);
        if chain.is_empty() {
            shard.remove(&group);
        }
    }

    /// All is gone, and what was kept before does not come back.
    pub(crate) fn clear(&self) {
        *locked(&self.forgotten) = None;
        for shard in &self.shards {
            let gone = std::mem::take(&mut *locked(shard));
            self.entries.fetch_sub(gone.values().map(|it| it.len() as u64).sum(), Ordering::Relaxed);
        }
    }

    /// Removes what is in segments before this one: in the end, where their own lists can't be read.
    pub(crate) fn remove_before(&self, segment: u32) {
        for shard in &self.shards {
            let mut shard = locked(shard);
            shard.retain(|_, chain| {
                let before = chain.len();
                chain.retain(|it| it.position.segment() >= segment);
                self.entries.fetch_sub((before - chain.len()) as u64, Ordering::Relaxed);
                !chain.is_empty()
            });
        }
    }
}
