//! The values of a cache that are this server's own (`local` and `invalidated`), with the same conditions and times as the hub's.

use bytes::Bytes;
use proto::hub::v1::{
    CacheCondition, CacheNumber, CachePut, CacheStored, CacheValue, CachedEntry, cache_condition::Condition,
    cache_outcome::Outcome, cache_write::Write,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Bytes of one cache on one server.
const BYTES_MAX: usize = 64 << 20;

/// What an entry takes beside its key and value.
const ENTRY: usize = 300;

/// The values.
#[derive(Debug, Default)]
pub(super) struct Own(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<Arc<str>, Entry>,
    by_use: BTreeMap<u64, Arc<str>>,
    bytes: usize,
    /// The greatest version, and the greatest count of uses.
    last: u64,
}

#[derive(Debug)]
struct Entry {
    value: CacheValue,
    version: u64,
    put: Instant,
    read: Instant,
    used: u64,
}

impl Entry {
    /// How long it is there yet; `None`: for ever.
    fn left(&self, now: Instant) -> Option<Duration> {
        let time = |ms: u64, since: Instant| {
            (ms > 0).then(|| Duration::from_millis(ms).saturating_sub(now.saturating_duration_since(since)))
        };
        let (ttl, idle) = (time(self.value.ttl_ms, self.put), time(self.value.idle_ms, self.read));
        ttl.into_iter().chain(idle).min()
    }

    fn is_there(&self, now: Instant) -> bool {
        self.left(now).is_none_or(|left| !left.is_zero())
    }

    fn told(&self, now: Instant) -> CachedEntry {
        let left = self.left(now).map_or(0, |it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX).max(1));
        CachedEntry { value: Some(self.value.clone()), version: self.version, left_ms: left }
    }
}

fn bytes(key: &str, value: &CacheValue) -> usize {
    ENTRY + 2 * key.len() + value.value.len() + value.content_type.len()
}

impl Own {
    /// With versions that those of a process before this one, which was started at that time, did not have.
    pub(super) fn after(started_ms: u64) -> Self {
        let last = started_ms << 20 | u64::from(rand::random::<u32>() >> 12);
        Self(Mutex::new(Inner { last, ..Inner::default() }))
    }

    /// A value; it was read then.
    pub(super) fn get(&self, key: &str) -> Option<CachedEntry> {
        let now = Instant::now();
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.last += 1;
        let used = inner.last;
        let entry = inner.entries.get_mut(key).filter(|it| it.is_there(now))?;
        let told = entry.told(now);
        entry.read = now;
        let before = std::mem::replace(&mut entry.used, used);
        if let Some(name) = inner.by_use.remove(&before) {
            inner.by_use.insert(used, name);
        }
        Some(told)
    }

    /// Carries a write out.
    pub(super) fn write(&self, write: Write) -> Outcome {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match write {
            Write::Put(put) => inner.put(put),
            Write::PutAll(all) => {
                for put in all.entries {
                    inner.put(CachePut { condition: None, ..put });
                }
                Outcome::Done(true)
            }
            Write::Remove(remove) => {
                let version = inner.version(&remove.key);
                if let Some(version) = unmet(version, remove.condition.as_ref()) {
                    return Outcome::Unmet(version);
                }
                inner.take(&remove.key);
                Outcome::Done(version != 0)
            }
            Write::Increment(it) => inner.increment(it.key, it.by, it.initial, (it.ttl_ms, it.idle_ms)),
            Write::Clear(_) => {
                let last = inner.last;
                *inner = Inner { last, ..Inner::default() };
                Outcome::Done(true)
            }
            Write::Touch(_) => Outcome::Done(true),
        }
    }

    /// A value is another one elsewhere.
    pub(super) fn forget(&self, key: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(key);
    }

    /// All may be.
    pub(super) fn forget_all(&self) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = inner.last;
        *inner = Inner { last, ..Inner::default() };
    }

    /// How many there are, and what they take.
    pub(super) fn size(&self) -> (u64, u64) {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (inner.entries.len() as u64, inner.bytes as u64)
    }
}

/// The version that is there, if a condition does not hold of it.
fn unmet(version: u64, condition: Option<&CacheCondition>) -> Option<u64> {
    let holds = match condition.and_then(|it| it.condition.as_ref()) {
        None => true,
        Some(Condition::Absent(_)) => version == 0,
        Some(Condition::Present(_)) => version != 0,
        Some(Condition::Version(wanted)) => version != 0 && version == *wanted,
    };
    (!holds).then_some(version)
}

impl Inner {
    /// The version that is there; 0 for nothing.
    fn version(&self, key: &str) -> u64 {
        let now = Instant::now();
        self.entries.get(key).filter(|it| it.is_there(now)).map_or(0, |it| it.version)
    }

    fn put(&mut self, put: CachePut) -> Outcome {
        let CachePut { key, value, condition } = put;
        let (version, value) = (self.version(&key), value.unwrap_or_default());
        if let Some(version) = unmet(version, condition.as_ref()) {
            return Outcome::Unmet(version);
        }
        if bytes(&key, &value) > BYTES_MAX {
            return Outcome::Full(BYTES_MAX as u64);
        }
        let stored = self.place(key, value, Instant::now());
        Outcome::Stored(CacheStored { version: stored, created: version == 0 })
    }

    fn increment(&mut self, key: String, by: i64, initial: i64, (ttl_ms, idle_ms): (u64, u64)) -> Outcome {
        let now = Instant::now();
        let found = self.entries.get(&*key).filter(|it| it.is_there(now));
        let (before, value, put) = match found {
            None => (
                Some(initial),
                CacheValue {
                    ttl_ms,
                    idle_ms,
                    content_type: "application/json".to_owned(),
                    ..CacheValue::default()
                },
                now,
            ),
            Some(it) => {
                let text = std::str::from_utf8(&it.value.value).ok();
                (text.and_then(|text| text.trim().parse().ok()), it.value.clone(), it.put)
            }
        };
        let Some(number) = before.and_then(|it: i64| it.checked_add(by)) else {
            return Outcome::NotANumber(true);
        };
        let value = CacheValue { value: Bytes::from(number.to_string()), ..value };
        let version = self.place(key, value, put);
        Outcome::Number(CacheNumber { value: number, version })
    }

    fn place(&mut self, key: String, value: CacheValue, put: Instant) -> u64 {
        self.take(&key);
        // What came is a part of a larger piece of memory.
        let value = CacheValue { value: Bytes::copy_from_slice(&value.value), ..value };
        self.last += 1;
        let (version, key): (u64, Arc<str>) = (self.last, key.into());
        self.bytes += bytes(&key, &value);
        self.by_use.insert(version, key.clone());
        let entry = Entry { value, version, put, read: Instant::now(), used: version };
        self.entries.insert(key, entry);
        while self.bytes > BYTES_MAX {
            let Some((_, oldest)) = self.by_use.first_key_value() else { break };
            let oldest = oldest.clone();
            self.take(&oldest);
        }
        version
    }

    fn take(&mut self, key: &str) {
        if let Some((key, entry)) = self.entries.remove_entry(key) {
            self.by_use.remove(&entry.used);
            self.bytes -= bytes(&key, &entry.value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::hub::v1::{CacheClear, CacheIncrement, CacheRemove};

    fn put(key: &str, text: &str, condition: Option<Condition>) -> Write {
        let value = CacheValue { value: Bytes::copy_from_slice(text.as_bytes()), ..CacheValue::default() };
        let condition = condition.map(|it| CacheCondition { condition: Some(it) });
        Write::Put(CachePut { key: key.into(), value: Some(value), condition })
    }

    fn text(own: &Own, key: &str) -> Option<String> {
        own.get(key).map(|it| String::from_utf8(it.value.unwrap().value.to_vec()).unwrap())
    }

    #[test]
    fn it_does_what_the_hub_does() {
        let own = Own::default();
        let Outcome::Stored(first) = own.write(put("k", "1", Some(Condition::Absent(true)))) else {
            panic!()
        };
        assert!(first.created);
        assert_eq!(own.write(put("k", "2", Some(Condition::Absent(true)))), Outcome::Unmet(first.version));
        let second = own.write(put("k", "2", Some(Condition::Version(first.version))));
        assert!(matches!(second, Outcome::Stored(it) if !it.created && it.version > first.version));
        let increment =
            || Write::Increment(CacheIncrement { key: "k".into(), by: 5, ..CacheIncrement::default() });
        assert!(matches!(own.write(increment()), Outcome::Number(it) if it.value == 7));
        own.write(put("k", "seven", None));
        assert_eq!(own.write(increment()), Outcome::NotANumber(true));
        let remove = || Write::Remove(CacheRemove { key: "k".into(), condition: None });
        assert_eq!((own.write(remove()), own.write(remove())), (Outcome::Done(true), Outcome::Done(false)));
        own.write(put("a", "x", None));
        own.write(Write::Clear(CacheClear {}));
        assert_eq!((text(&own, "a"), own.size()), (None, (0, 0)));
    }

    #[test]
    fn what_was_not_used_for_the_longest_makes_room() {
        let own = Own::default();
        let large = "x".repeat(1 << 20);
        own.write(put("used", &large, None));
        for number in 0..100 {
            own.write(put(&number.to_string(), &large, None));
            assert!(text(&own, "used").is_some());
        }
        let (count, bytes) = own.size();
        assert!(count > 50 && bytes <= BYTES_MAX as u64 && text(&own, "0").is_none());
        let inner = own.0.lock().unwrap();
        assert_eq!(inner.by_use.len(), inner.entries.len());
    }
}
