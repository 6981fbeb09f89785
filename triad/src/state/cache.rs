//! Caches: values by name and key. Pure; what may be kept where is decided by who reads (docs/caches.md).

use super::{
    change::Change,
    lease::Leases,
    written::{Known, Writer, Written},
};
use bytes::Bytes;
use imbl::{OrdMap, OrdSet};
use proto::hub::v1::{
    CacheCleared, CacheCondition, CacheDescription, CacheIncrement, CacheKey, CacheNumber, CacheOutcome,
    CachePut, CacheRemove, CacheStored, CacheTouch, CacheValue, CacheWrite, CachedEntry, CachesWritten,
    ExpireCached, SnapshotCache, SnapshotCached, SnapshotWriter, WriteCaches, WrittenOutcome,
    cache_condition::Condition, cache_outcome::Outcome, cache_write::Write,
};
use std::sync::Arc;

/// Names that there may be.
pub(crate) const CACHES_MAX: usize = 1000;

/// What an entry takes beside its key and value: itself, and its places in three maps.
const ENTRY: u64 = 400;

/// Entries that make room at a time: the leader sees to it that there is room in the end.
const EVICTED_MAX: usize = 2_000;

/// What a whole number is stored as.
const NUMBER: &str = "application/json";

/// The caches, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Caches {
    all: OrdMap<Arc<str>, Cache>,
    /// The caches by the use of the entry that was not used for the longest, and by when the first of theirs is over.
    by_oldest: OrdSet<(u64, Arc<str>)>,
    by_deadline: OrdSet<(u64, Arc<str>)>,
    bytes: u64,
    /// The greatest version, and the greatest count of uses.
    last: u64,
    written: Written<CacheOutcome>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Cache {
    entries: OrdMap<Arc<str>, Arc<Entry>>,
    /// By use: the oldest first.
    by_use: OrdMap<u64, Arc<str>>,
    /// When entries are over, by the leader's time.
    deadlines: OrdSet<(u64, Arc<str>)>,
    bytes: u64,
    evicted: u64,
}

impl Cache {
    fn place(&mut self, key: &Arc<str>, entry: Entry) {
        self.bytes += entry.bytes(key);
        if entry.deadline_ms() != 0 {
            self.deadlines.insert((entry.deadline_ms(), key.clone()));
        }
        self.by_use.insert(entry.used, key.clone());
        self.entries.insert(key.clone(), Arc::new(entry));
    }

    /// Takes an entry out, due or not.
    fn take(&mut self, key: &Arc<str>) -> Option<Arc<Entry>> {
        let entry = self.entries.remove(key)?;
        self.bytes -= entry.bytes(key);
        self.by_use.remove(&entry.used);
        if entry.deadline_ms() != 0 {
            self.deadlines.remove(&(entry.deadline_ms(), key.clone()));
        }
        Some(entry)
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    value: Bytes,
    content_type: Arc<str>,
    version: u64,
    ttl_ms: u64,
    idle_ms: u64,
    /// 0: never.
    expires_ms: u64,
    idle_until_ms: u64,
    used: u64,
}

impl Entry {
    fn new(value: CacheValue, version: u64, now_ms: u64) -> Self {
        let CacheValue { value, content_type, ttl_ms, idle_ms } = value;
        let content_type = content_type.into();
        // The log's entry, of which it is a part, is larger.
        let value = Bytes::copy_from_slice(&value);
        let (expires_ms, idle_until_ms) = (after(now_ms, ttl_ms), after(now_ms, idle_ms));
        Self { value, content_type, version, ttl_ms, idle_ms, expires_ms, idle_until_ms, used: version }
    }

    /// When it is over; 0: never.
    fn deadline_ms(&self) -> u64 {
        match (self.expires_ms, self.idle_until_ms) {
            (0, other) | (other, 0) => other,
            (a, b) => a.min(b),
        }
    }

    fn is_there(&self, now_ms: u64) -> bool {
        self.deadline_ms() == 0 || self.deadline_ms() > now_ms
    }

    fn bytes(&self, key: &str) -> u64 {
        ENTRY + 2 * key.len() as u64 + self.value.len() as u64 + self.content_type.len() as u64
    }

    fn told(&self, now_ms: u64) -> CachedEntry {
        let deadline_ms = self.deadline_ms();
        CachedEntry {
            value: Some(CacheValue {
                value: self.value.clone(),
                content_type: self.content_type.to_string(),
                ttl_ms: self.ttl_ms,
                idle_ms: self.idle_ms,
            }),
            version: self.version,
            left_ms: if deadline_ms == 0 { 0 } else { deadline_ms.saturating_sub(now_ms).max(1) },
        }
    }
}

fn after(now_ms: u64, time_ms: u64) -> u64 {
    if time_ms == 0 { 0 } else { now_ms.saturating_add(time_ms) }
}

fn outcome(outcome: Outcome) -> CacheOutcome {
    CacheOutcome { outcome: Some(outcome) }
}

impl Caches {
    /// Carries a call's writes out, those that are new.
    pub(super) fn write(
        &mut self,
        call: WriteCaches,
        leases: &Leases,
        now_ms: u64,
        changes: &mut Vec<Change>,
    ) -> CachesWritten {
        let WriteCaches { server, started_ms, first, settled, writes, max_bytes } = call;
        let is_current = self.written.begin(&server, started_ms, settled);
        let numbered = (first..).zip(writes);
        let outcomes = numbered.map(|(number, write)| {
            if !is_current {
                return outcome(Outcome::Settled(true));
            }
            match self.written.known(&server, number) {
                Known::Settled => return outcome(Outcome::Settled(true)),
                Known::Outcome(known) => return known,
                Known::New => {}
            }
            let fence = write.fence.as_ref();
            let came = match fence.is_none_or(|it| leases.is_held(&it.name, it.token)) {
                true => self.carry_out(write, max_bytes, now_ms, changes),
                false => Outcome::StaleFence(true),
            };
            let came = outcome(came);
            self.written.note(&server, number, came);
            came
        });
        CachesWritten { outcomes: outcomes.collect() }
    }

    /// Carries one write out, whatever its fence.
    pub(super) fn carry_out(
        &mut self,
        write: CacheWrite,
        max: u64,
        now_ms: u64,
        changes: &mut Vec<Change>,
    ) -> Outcome {
        let CacheWrite { cache, write, .. } = write;
        let brings = matches!(write, Some(Write::Put(_) | Write::PutAll(_) | Write::Increment(_)));
        if brings && !self.all.contains_key(&*cache) && self.all.len() >= CACHES_MAX {
            return Outcome::Full(CACHES_MAX as u64);
        }
        let cache: Arc<str> = cache.into();
        match write {
            Some(Write::Put(put)) => self.put(&cache, put, max, now_ms, changes),
            Some(Write::PutAll(all)) => {
                let takes = all
                    .entries
                    .iter()
                    .map(|it| ENTRY + it.value.as_ref().map_or(0, |it| it.value.len() as u64));
                if takes.sum::<u64>() > max {
                    return Outcome::Full(max);
                }
                for put in all.entries {
                    self.put(&cache, CachePut { condition: None, ..put }, max, now_ms, changes);
                }
                Outcome::Done(true)
            }
            Some(Write::Remove(remove)) => self.remove(&cache, &remove, now_ms, changes),
            Some(Write::Increment(increment)) => self.increment(&cache, increment, max, now_ms, changes),
            Some(Write::Clear(_)) => {
                self.clear(&cache, changes);
                Outcome::Done(true)
            }
            Some(Write::Touch(touch)) => {
                self.touch(&cache, &touch, now_ms);
                Outcome::Done(true)
            }
            // Refused when the batch was decoded.
            None => Outcome::Done(false),
        }
    }

    fn entry(&self, cache: &str, key: &str, now_ms: u64) -> Option<&Arc<Entry>> {
        self.all.get(cache)?.entries.get(key).filter(|it| it.is_there(now_ms))
    }

    /// The version that is there, if a condition does not hold of it; 0 for nothing.
    fn unmet(found: Option<&Arc<Entry>>, condition: Option<&CacheCondition>) -> Option<u64> {
        let version = found.map_or(0, |it| it.version);
        let holds = match condition.and_then(|it| it.condition.as_ref()) {
            None => true,
            Some(Condition::Absent(_)) => version == 0,
            Some(Condition::Present(_)) => version != 0,
            Some(Condition::Version(wanted)) => version != 0 && version == *wanted,
        };
        (!holds).then_some(version)
    }

    fn put(
        &mut self,
        cache: &Arc<str>,
        put: CachePut,
        max: u64,
        now_ms: u64,
        changes: &mut Vec<Change>,
    ) -> Outcome {
        let CachePut { key, value, condition } = put;
        let found = self.entry(cache, &key, now_ms);
        if let Some(version) = Self::unmet(found, condition.as_ref()) {
            return Outcome::Unmet(version);
        }
        let created = found.is_none();
        let key: Arc<str> = key.into();
        let entry = Entry::new(value.unwrap_or_default(), self.last + 1, now_ms);
        if entry.bytes(&key) > max {
            return Outcome::Full(max);
        }
        let version = self.insert(cache, &key, entry, changes);
        self.make_room(max);
        Outcome::Stored(CacheStored { version, created })
    }

    fn increment(
        &mut self,
        cache: &Arc<str>,
        increment: CacheIncrement,
        max: u64,
        now_ms: u64,
        changes: &mut Vec<Change>,
    ) -> Outcome {
        let CacheIncrement { key, by, initial, ttl_ms, idle_ms } = increment;
        let found = self.entry(cache, &key, now_ms).cloned();
        let before = match &found {
            None => Some(initial),
            Some(entry) => std::str::from_utf8(&entry.value).ok().and_then(|text| text.trim().parse().ok()),
        };
        let Some(number) = before.and_then(|it: i64| it.checked_add(by)) else {
            return Outcome::NotANumber(true);
        };
        let value = Bytes::from(number.to_string());
        let version = self.last + 1;
        let entry = match found {
            // Its time is that of the first.
            Some(old) => Entry {
                value,
                version,
                used: version,
                idle_until_ms: after(now_ms, old.idle_ms),
                ..Entry::clone(&old)
            },
            None => Entry::new(
                CacheValue { value, content_type: NUMBER.to_owned(), ttl_ms, idle_ms },
                version,
                now_ms,
            ),
        };
        let key: Arc<str> = key.into();
        if entry.bytes(&key) > max {
            return Outcome::Full(max);
        }
        self.insert(cache, &key, entry, changes);
        self.make_room(max);
        Outcome::Number(CacheNumber { value: number, version })
    }

    fn remove(
        &mut self,
        cache: &Arc<str>,
        remove: &CacheRemove,
        now_ms: u64,
        changes: &mut Vec<Change>,
    ) -> Outcome {
        let found = self.entry(cache, &remove.key, now_ms);
        if let Some(version) = Self::unmet(found, remove.condition.as_ref()) {
            return Outcome::Unmet(version);
        }
        let existed = found.is_some();
        let key: Arc<str> = remove.key.as_str().into();
        self.change(cache, |here| here.take(&key));
        // Copies may have outlived an entry that made room.
        changes.push(changed(cache, &key));
        Outcome::Done(existed)
    }

    /// All that is in a cache goes, and what servers have of it.
    pub(super) fn clear(&mut self, cache: &str, changes: &mut Vec<Change>) -> CacheCleared {
        changes.push(Change::CacheCleared(cache.to_owned()));
        let Some((cache, cleared)) = self.all.remove_with_key(cache) else {
            return CacheCleared { unknown: true, entries: 0 };
        };
        self.unplace(&cache, &cleared);
        self.bytes -= cleared.bytes;
        CacheCleared { unknown: false, entries: cleared.entries.len() as u64 }
    }

    /// Someone has read them: they are not idle, and others make room before them.
    fn touch(&mut self, cache: &Arc<str>, touch: &CacheTouch, now_ms: u64) {
        for key in &touch.keys {
            let Some(entry) = self.entry(cache, key, now_ms).cloned() else { continue };
            let key: Arc<str> = key.as_str().into();
            self.last += 1;
            let idle_until_ms = after(now_ms, entry.idle_ms);
            let touched = Entry { idle_until_ms, used: self.last, ..Entry::clone(&entry) };
            self.change(cache, |here| {
                here.take(&key);
                here.place(&key, touched);
            });
        }
    }

    fn insert(&mut self, cache: &Arc<str>, key: &Arc<str>, entry: Entry, changes: &mut Vec<Change>) -> u64 {
        let version = entry.version;
        self.place(cache, key, entry);
        changes.push(changed(cache, key));
        version
    }

    fn place(&mut self, cache: &Arc<str>, key: &Arc<str>, entry: Entry) {
        self.last = self.last.max(entry.version).max(entry.used);
        self.all.entry(cache.clone()).or_default();
        self.change(cache, |here| {
            here.take(key);
            here.place(key, entry);
        });
    }

    /// Changes a cache, if it is there, and keeps what is known of all of them.
    fn change<T>(&mut self, cache: &Arc<str>, change: impl FnOnce(&mut Cache) -> T) -> Option<T> {
        let here = self.all.get_mut(cache)?;
        let before =
            (here.by_use.get_min().map(|it| it.0), here.deadlines.get_min().map(|it| it.0), here.bytes);
        let changed = change(here);
        let after =
            (here.by_use.get_min().map(|it| it.0), here.deadlines.get_min().map(|it| it.0), here.bytes);
        self.bytes = self.bytes + after.2 - before.2;
        if before.0 != after.0 {
            before.0.into_iter().for_each(|it| drop(self.by_oldest.remove(&(it, cache.clone()))));
            after.0.into_iter().for_each(|it| drop(self.by_oldest.insert((it, cache.clone()))));
        }
        if before.1 != after.1 {
            before.1.into_iter().for_each(|it| drop(self.by_deadline.remove(&(it, cache.clone()))));
            after.1.into_iter().for_each(|it| drop(self.by_deadline.insert((it, cache.clone()))));
        }
        // An empty one is none: names have a bound.
        if after.0.is_none() {
            self.all.remove(cache);
        }
        Some(changed)
    }

    /// A cache is not among all any more.
    fn unplace(&mut self, cache: &Arc<str>, gone: &Cache) {
        if let Some((used, _)) = gone.by_use.get_min() {
            self.by_oldest.remove(&(*used, cache.clone()));
        }
        if let Some((at_ms, _)) = gone.deadlines.get_min() {
            self.by_deadline.remove(&(*at_ms, cache.clone()));
        }
    }

    /// What was not used for the longest makes room, of whatever cache; at most [`EVICTED_MAX`] entries at a time. That is no change of a value:
    /// copies are as good as before.
    fn make_room(&mut self, max: u64) {
        for _ in 0..EVICTED_MAX {
            let Some((_, cache)) = self.by_oldest.get_min().filter(|_| self.bytes > max).cloned() else {
                return;
            };
            self.change(&cache, |here| {
                let oldest = here.by_use.get_min().map(|(_, key)| key.clone());
                oldest.into_iter().for_each(|key| drop(here.take(&key)));
                here.evicted += 1;
            });
        }
    }

    /// Takes out what is over, at most `limit` entries, and makes room. Whoever has a copy knows when it ends.
    pub(super) fn expire(&mut self, expire: &ExpireCached, now_ms: u64) {
        for _ in 0..expire.limit {
            let due = self.by_deadline.get_min().filter(|(at_ms, _)| *at_ms <= now_ms).cloned();
            let Some((_, cache)) = due else { break };
            self.change(&cache, |here| {
                let due = here.deadlines.get_min().map(|(_, key)| key.clone());
                due.into_iter().for_each(|key| drop(here.take(&key)));
            });
        }
        if expire.max_bytes > 0 {
            self.make_room(expire.max_bytes);
        }
    }

    /// The earliest time at which an entry is over.
    pub(crate) fn next_deadline_ms(&self) -> Option<u64> {
        self.by_deadline.get_min().map(|(at_ms, _)| *at_ms)
    }

    /// A value that is there at this time.
    pub(crate) fn get(&self, cache: &str, key: &str, now_ms: u64) -> Option<CachedEntry> {
        self.entry(cache, key, now_ms).map(|it| it.told(now_ms))
    }

    /// Whether something is at a key, over or not: what reads say of it may change without a write.
    pub(crate) fn lingers(&self, cache: &str, key: &str) -> bool {
        self.all.get(cache).is_some_and(|it| it.entries.contains_key(key))
    }

    /// Each of them, in numbers.
    pub(crate) fn describe(&self) -> impl Iterator<Item = CacheDescription> {
        self.all.iter().map(|(name, it)| CacheDescription {
            name: name.to_string(),
            entries: it.entries.len() as u64,
            bytes: it.bytes,
            evicted: it.evicted,
        })
    }

    /// What they take.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// For a snapshot.
    pub(super) fn export(&self) -> impl Iterator<Item = SnapshotCached> {
        self.all.iter().flat_map(|(cache, it)| {
            it.entries.iter().map(move |(key, entry)| SnapshotCached {
                cache: cache.to_string(),
                key: key.to_string(),
                value: Some(CacheValue {
                    value: entry.value.clone(),
                    content_type: entry.content_type.to_string(),
                    ttl_ms: entry.ttl_ms,
                    idle_ms: entry.idle_ms,
                }),
                version: entry.version,
                expires_ms: entry.expires_ms,
                idle_until_ms: entry.idle_until_ms,
                used: entry.used,
            })
        })
    }

    /// Names with what is known of them beside their entries.
    pub(super) fn export_names(&self) -> impl Iterator<Item = SnapshotCache> {
        self.all.iter().map(|(name, it)| SnapshotCache { name: name.to_string(), evicted: it.evicted })
    }

    /// Who has written what lately.
    pub(super) fn export_writers(&self) -> impl Iterator<Item = SnapshotWriter> {
        self.written.iter().map(|(server, it)| SnapshotWriter {
            server: server.to_owned(),
            started_ms: it.started_ms,
            settled: it.settled,
            outcomes: it
                .outcomes
                .iter()
                .map(|(number, outcome)| WrittenOutcome { number: *number, outcome: Some(*outcome) })
                .collect(),
            used: it.used,
        })
    }

    /// The greatest version.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Puts an entry back, from a snapshot.
    pub(super) fn restore(&mut self, cached: SnapshotCached) {
        let SnapshotCached { cache, key, value, version, expires_ms, idle_until_ms, used } = cached;
        let entry =
            Entry { expires_ms, idle_until_ms, used, ..Entry::new(value.unwrap_or_default(), version, 0) };
        self.place(&cache.into(), &key.into(), entry);
    }

    /// The same of a name.
    pub(super) fn restore_name(&mut self, cache: SnapshotCache) {
        self.all.entry(cache.name.into()).or_default().evicted = cache.evicted;
    }

    /// The same of a process that writes.
    pub(super) fn restore_writer(&mut self, writer: SnapshotWriter) {
        let SnapshotWriter { server, started_ms, settled, outcomes, used } = writer;
        let outcomes = outcomes.into_iter().map(|it| (it.number, it.outcome.unwrap_or_default())).collect();
        self.written.restore(server, Writer { started_ms, settled, outcomes, used });
    }

    /// The same of the greatest version.
    pub(super) fn restore_last(&mut self, last: u64) {
        self.last = self.last.max(last);
    }
}

fn changed(cache: &Arc<str>, key: &Arc<str>) -> Change {
    Change::Cached(CacheKey { cache: cache.to_string(), key: key.to_string() })
}

#[cfg(test)]
mod tests;
