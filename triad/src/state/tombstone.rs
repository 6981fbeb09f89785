//! Sessions that are gone, remembered for a while: a save that was under way must not bring one back, and one that comes again
//! under the same id does not count its versions anew.

use super::key::Key;
use imbl::{HashMap, OrdSet};
use proto::hub::v1::SnapshotTombstone;

/// A removed session is not created again for so long: a creating save that was under way has arrived by then.
const REFUSED_MS: u64 = 60 * 1000;
/// A session that is created again within this goes on with its version.
const KEPT_MS: u64 = 10 * 60 * 1000;
/// Tombstones of each kind; the oldest goes first.
const KEPT: usize = 65_536;

/// What is left of a session.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tombstone {
    /// Its last version.
    version: u64,
    at_ms: u64,
}

/// The tombstones of sessions that ended in one way.
#[derive(Debug, Clone, Default)]
struct Graves {
    by_key: HashMap<Key, Tombstone>,
    by_time: OrdSet<(u64, Key)>,
}

impl Graves {
    fn put(&mut self, key: Key, tombstone: Tombstone) {
        let before = self.take(&key).map_or(0, |it| it.version);
        let tombstone = Tombstone { version: tombstone.version.max(before), ..tombstone };
        self.by_time.insert((tombstone.at_ms, key.clone()));
        self.by_key.insert(key, tombstone);
        while let Some((at_ms, oldest)) = self.by_time.get_min().cloned() {
            if self.by_key.len() <= KEPT && at_ms.saturating_add(KEPT_MS) > tombstone.at_ms {
                return;
            }
            self.take(&oldest);
        }
    }

    fn take(&mut self, key: &Key) -> Option<Tombstone> {
        let tombstone = self.by_key.remove(key)?;
        self.by_time.remove(&(tombstone.at_ms, key.clone()));
        Some(tombstone)
    }

    fn export(&self, removed: bool) -> impl Iterator<Item = SnapshotTombstone> + '_ {
        self.by_time.iter().filter_map(move |(at_ms, key)| {
            let version = self.by_key.get(key)?.version;
            Some(SnapshotTombstone { key: Some(key.parts()), version, at_ms: *at_ms, removed })
        })
    }
}

impl PartialEq for Graves {
    fn eq(&self, other: &Self) -> bool {
        self.by_key == other.by_key
    }
}

/// All tombstones. Those of expired sessions, which may be many at once, don't crowd out those of removed ones.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Tombstones {
    removed: Graves,
    expired: Graves,
}

impl Tombstones {
    /// A session was removed, or has expired, at `version`.
    pub(super) fn put(&mut self, key: Key, version: u64, now_ms: u64, removed: bool) {
        let tombstone = Tombstone { version, at_ms: now_ms };
        if removed { self.removed.put(key, tombstone) } else { self.expired.put(key, tombstone) }
    }

    /// Whether a session may not be created yet, because it was just removed.
    pub(super) fn refuses(&self, key: &Key, now_ms: u64) -> bool {
        self.removed.by_key.get(key).is_some_and(|it| now_ms < it.at_ms.saturating_add(REFUSED_MS))
    }

    /// A session is created: the version that it goes on from, 0 for one that was never there.
    pub(super) fn take(&mut self, key: &Key) -> u64 {
        let (removed, expired) = (self.removed.take(key), self.expired.take(key));
        removed.into_iter().chain(expired).map(|it| it.version).max().unwrap_or(0)
    }

    /// Every tombstone, for a snapshot.
    pub(super) fn export(&self) -> impl Iterator<Item = SnapshotTombstone> + '_ {
        self.removed.export(true).chain(self.expired.export(false))
    }

    /// Puts one back, from a snapshot.
    pub(super) fn restore(&mut self, item: SnapshotTombstone) {
        let key = Key::new(&item.key.unwrap_or_default());
        self.put(key, item.version, item.at_ms, item.removed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::hub::v1::SessionKey;

    fn key(n: usize) -> Key {
        Key::new(&SessionKey { app: "shop".into(), id: format!("s{n}") })
    }

    #[test]
    fn they_are_bounded_in_time_and_number() {
        let mut tombstones = Tombstones::default();
        for n in 0..=KEPT {
            tombstones.put(key(n), 3, 1000, true);
        }
        assert_eq!(tombstones.export().count(), KEPT);
        tombstones.put(key(7), 4, 1000 + KEPT_MS, true);
        assert_eq!(tombstones.export().count(), 1);
        // Many that expire leave the removed ones alone.
        for n in 0..=KEPT {
            tombstones.put(key(n), 3, 1000 + KEPT_MS, false);
        }
        assert!(tombstones.refuses(&key(7), 1000 + KEPT_MS));
        assert_eq!(tombstones.take(&key(7)), 4);
        assert_eq!(tombstones.take(&key(7)), 0);
    }
}
