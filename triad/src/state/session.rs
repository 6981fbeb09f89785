//! Sessions: saves on a base version, touch, claim, removal and expiry. The rules are those of `session.proto`.

mod rename;

use super::{
    change::Change,
    key::Key,
    memory::{self, Memory},
    tombstone::Tombstones,
};
use bytes::Bytes;
use imbl::{HashMap, OrdSet};
use proto::hub::v1::{
    ClaimSession, ExpireUnused, Missing, SaveMark, SaveSession, SessionKey, SessionOutcome, SessionRecord,
    SessionWrite, SnapshotSession, SnapshotTombstone, session_outcome::Outcome, session_write::Write,
};
use std::{collections::BTreeMap, sync::Arc};

/// Owners whose last save of a session is remembered, so that one that is sent again is known however many saves of others
/// followed it. A server has one save of a session under way at a time.
const OWNERS_KEPT: usize = 8;

/// A save that was applied.
#[derive(Debug, Clone, PartialEq)]
struct Saved {
    owner: Box<str>,
    save_id: u64,
    /// The version that it made.
    version: u64,
}

impl Saved {
    fn mark(&self) -> SaveMark {
        SaveMark { save_id: self.save_id, version: self.version, owner: self.owner.to_string() }
    }

    fn from_mark(mark: SaveMark) -> Self {
        Self { owner: mark.owner.into_boxed_str(), save_id: mark.save_id, version: mark.version }
    }
}

/// A session.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Session {
    version: u64,
    attributes: BTreeMap<Box<str>, Bytes>,
    /// What they take in memory, without the map's own part.
    attribute_bytes: u64,
    owner: String,
    created_ms: u64,
    accessed_ms: u64,
    timeout_ms: u64,
    /// Each owner's last save, oldest first.
    saves: Vec<Saved>,
    /// Where the deadline index has it, at or before its deadline; 0 for nowhere. It moves only when it is looked at, so
    /// that a save costs the index nothing.
    indexed_ms: u64,
}

impl Session {
    fn deadline_ms(&self) -> Option<u64> {
        (self.timeout_ms > 0).then(|| self.accessed_ms.saturating_add(self.timeout_ms))
    }

    fn is_expired(&self, now_ms: u64) -> bool {
        self.deadline_ms().is_some_and(|deadline_ms| deadline_ms <= now_ms)
    }

    fn apply(&mut self, save: SaveSession, now_ms: u64) {
        for name in &save.removed {
            if let Some(value) = self.attributes.remove(name.as_str()) {
                self.attribute_bytes -= memory::of_attribute(name, &value);
            }
        }
        for (name, value) in save.set {
            self.attribute_bytes += memory::of_attribute(&name, &value);
            if let Some(before) = self.attributes.get(name.as_str()) {
                self.attribute_bytes -= memory::of_attribute(&name, before);
            }
            // A copy, so that a value that stays does not keep a whole log entry in memory.
            self.attributes.insert(name.into_boxed_str(), Bytes::copy_from_slice(&value));
        }
        self.version += 1;
        self.remember(&save.owner, save.save_id);
        self.owner = save.owner;
        self.accessed_ms = now_ms;
        self.timeout_ms = save.timeout_ms;
    }

    /// The version that a save made, if it is one of those that are remembered.
    fn saved(&self, save_id: u64) -> Option<u64> {
        self.saves.iter().find(|it| it.save_id == save_id).map(|it| it.version)
    }

    /// Whether nobody has used it since the request that made it, as far as the hub has heard.
    pub(super) fn is_unused(&self) -> bool {
        self.accessed_ms == self.created_ms
    }

    /// When it was made.
    pub(super) fn created_ms(&self) -> u64 {
        self.created_ms
    }

    /// Bytes that it takes in memory under `key`, with its places in the maps.
    pub(super) fn memory(&self, key: &Key) -> u64 {
        let owners = self.saves.iter().map(|save| save.owner.len()).chain([self.owner.len()]);
        memory::of_session(key.len(), self.attributes.len(), self.saves.len(), owners.sum())
            + self.attribute_bytes
    }

    /// Whether a save makes its attributes larger.
    pub(crate) fn would_grow(&self, save: &SaveSession) -> bool {
        let before =
            |name: &str| self.attributes.get(name).map_or(0, |value| memory::of_attribute(name, value));
        let taken: u64 = save.removed.iter().map(|name| before(name)).sum();
        let given = save.set.iter().map(|(name, value)| memory::of_attribute(name, value));
        let replaced: u64 = save.set.keys().map(|name| before(name)).sum();
        given.sum::<u64>() > taken + replaced
    }

    fn remember(&mut self, owner: &str, save_id: u64) {
        let before = self.saves.iter().position(|it| *it.owner == *owner);
        if let Some(at) = before.or((self.saves.len() >= OWNERS_KEPT).then_some(0)) {
            self.saves.remove(at);
        }
        self.saves.push(Saved { owner: owner.into(), save_id, version: self.version });
    }

    /// The session as it goes over the wire; `key` is its key.
    pub(crate) fn record(&self, key: SessionKey) -> SessionRecord {
        SessionRecord {
            key: Some(key),
            version: self.version,
            attributes: self
                .attributes
                .iter()
                .map(|(name, value)| (name.to_string(), value.clone()))
                .collect(),
            owner: self.owner.clone(),
            created_ms: self.created_ms,
            accessed_ms: self.accessed_ms,
            timeout_ms: self.timeout_ms,
            save_id: self.saves.last().map_or(0, |it| it.save_id),
        }
    }
}

impl memory::Share {
    /// What the session under `key` takes now.
    fn of(session: &Session, key: &Key) -> Self {
        let unused_ms = session.is_unused().then(|| session.created_ms());
        Self { bytes: session.memory(key), unused_ms }
    }
}

/// All sessions, and an index by deadline.
#[derive(Debug, Clone, Default)]
pub(super) struct Sessions {
    sessions: HashMap<Key, Arc<Session>>,
    deadlines: OrdSet<(u64, Key)>,
    tombstones: Tombstones,
    memory: Memory,
}

impl PartialEq for Sessions {
    fn eq(&self, other: &Self) -> bool {
        self.sessions == other.sessions
            && self.tombstones == other.tombstones
            && self.memory == other.memory
            && self.deadlines.iter().eq(other.deadlines.iter())
    }
}

impl Sessions {
    pub(super) fn write(
        &mut self,
        write: SessionWrite,
        now_ms: u64,
        changes: &mut Vec<Change>,
    ) -> SessionOutcome {
        let outcome = match write.write {
            Some(Write::Save(save)) => self.save(save, now_ms, changes),
            Some(Write::Touch(touch)) => self.touch(&touch.key.unwrap_or_default(), now_ms, changes),
            Some(Write::Remove(remove)) => self.remove(&remove.key.unwrap_or_default(), now_ms, changes),
            Some(Write::Claim(claim)) => self.claim(claim, now_ms, changes),
            Some(Write::Rename(rename)) => self.rename(rename, now_ms, changes),
            // Refused when the batch was decoded.
            None => Outcome::Missing(Missing {}),
        };
        SessionOutcome { outcome: Some(outcome) }
    }

    fn save(&mut self, mut save: SaveSession, now_ms: u64, changes: &mut Vec<Change>) -> Outcome {
        let wire = save.key.take().unwrap_or_default();
        let key = Key::new(&wire);
        self.drop_expired(&key, now_ms, changes);
        let Some(session) = self.sessions.get_mut(&key) else {
            if save.base_version > 0 || self.tombstones.refuses(&key, now_ms) {
                return Outcome::Missing(Missing {});
            }
            return Outcome::Version(self.create(key, save, now_ms));
        };
        if let Some(version) = session.saved(save.save_id) {
            return Outcome::Version(version);
        }
        if save.base_version != session.version {
            return Outcome::Conflict(session.record(wire));
        }
        let session = Arc::make_mut(session);
        if session.owner != save.owner && !session.owner.is_empty() {
            let former = session.owner.clone();
            changes.push(Change::SessionMoved { former, key: wire, owner: save.owner.clone() });
        }
        let before = memory::Share::of(session, &key);
        session.apply(save, now_ms);
        self.memory.change(&key, before, memory::Share::of(session, &key));
        let version = session.version;
        Self::index(&mut self.deadlines, session, &key);
        Outcome::Version(version)
    }

    /// Makes a session and returns its version.
    fn create(&mut self, key: Key, save: SaveSession, now_ms: u64) -> u64 {
        let mut session = Session {
            version: self.tombstones.take(&key),
            attributes: BTreeMap::new(),
            attribute_bytes: 0,
            owner: String::new(),
            created_ms: now_ms,
            accessed_ms: now_ms,
            timeout_ms: 0,
            saves: Vec::new(),
            indexed_ms: 0,
        };
        session.apply(save, now_ms);
        let version = session.version;
        Self::index(&mut self.deadlines, &mut session, &key);
        self.put(key, session);
        version
    }

    fn put(&mut self, key: Key, session: Session) {
        self.memory.add(&key, memory::Share::of(&session, &key));
        self.sessions.insert(key, Arc::new(session));
    }

    fn touch(&mut self, wire: &SessionKey, now_ms: u64, changes: &mut Vec<Change>) -> Outcome {
        let key = Key::new(wire);
        self.drop_expired(&key, now_ms, changes);
        let Some(session) = self.sessions.get_mut(&key) else { return Outcome::Missing(Missing {}) };
        let session = Arc::make_mut(session);
        let before = memory::Share::of(session, &key);
        session.accessed_ms = now_ms;
        self.memory.change(&key, before, memory::Share::of(session, &key));
        Outcome::Version(session.version)
    }

    fn remove(&mut self, wire: &SessionKey, now_ms: u64, changes: &mut Vec<Change>) -> Outcome {
        let key = Key::new(wire);
        self.drop_expired(&key, now_ms, changes);
        if self.take(&key, now_ms, true, changes) {
            return Outcome::Version(0);
        }
        // The save that creates it may come behind its removal.
        self.tombstones.put(key, 0, now_ms, true);
        Outcome::Missing(Missing {})
    }

    fn claim(&mut self, claim: ClaimSession, now_ms: u64, changes: &mut Vec<Change>) -> Outcome {
        let wire = claim.key.unwrap_or_default();
        let key = Key::new(&wire);
        self.drop_expired(&key, now_ms, changes);
        let Some(session) = self.sessions.get_mut(&key) else { return Outcome::Missing(Missing {}) };
        let session = Arc::make_mut(session);
        let before = memory::Share::of(session, &key);
        session.accessed_ms = now_ms;
        if session.owner != claim.owner {
            let former = std::mem::replace(&mut session.owner, claim.owner);
            if !former.is_empty() {
                let owner = session.owner.clone();
                changes.push(Change::SessionMoved { former, key: wire.clone(), owner });
            }
        }
        self.memory.change(&key, before, memory::Share::of(session, &key));
        Outcome::Claimed(session.record(wire))
    }

    /// Looks at the `limit` earliest places of the index and removes what is due by now.
    pub(super) fn expire(&mut self, limit: u32, now_ms: u64, changes: &mut Vec<Change>) {
        for _ in 0..limit {
            let Some((at_ms, key)) = self.deadlines.get_min().cloned() else { return };
            if at_ms > now_ms {
                return;
            }
            let Some(session) = self.sessions.get_mut(&key) else {
                self.deadlines.remove(&(at_ms, key));
                continue;
            };
            if session.is_expired(now_ms) {
                self.take(&key, now_ms, false, changes);
                continue;
            }
            self.deadlines.remove(&(at_ms, key.clone()));
            let session = Arc::make_mut(session);
            session.indexed_ms = 0;
            Self::index(&mut self.deadlines, session, &key);
        }
    }

    /// Ends sessions of an app that were never used again, the oldest first.
    pub(super) fn expire_unused(&mut self, expire: &ExpireUnused, now_ms: u64, changes: &mut Vec<Change>) {
        let before_ms = now_ms.saturating_sub(expire.unused_ms);
        for _ in 0..expire.limit {
            let oldest = self.memory.oldest_unused(&expire.app).cloned();
            let Some((_, key)) = oldest.filter(|(made_ms, _)| *made_ms < before_ms) else {
                return;
            };
            self.take(&key, now_ms, false, changes);
        }
    }

    fn drop_expired(&mut self, key: &Key, now_ms: u64, changes: &mut Vec<Change>) {
        if self.sessions.get(key).is_some_and(|it| it.is_expired(now_ms)) {
            self.take(key, now_ms, false, changes);
        }
    }

    /// Ends a session, by a removal or because its time is over, and tells its owner; false when there is none.
    fn take(&mut self, key: &Key, now_ms: u64, removal: bool, changes: &mut Vec<Change>) -> bool {
        let Some(session) = self.sessions.remove(key) else { return false };
        self.memory.remove(key, memory::Share::of(&session, key));
        self.tombstones.put(key.clone(), session.version, now_ms, removal);
        if session.indexed_ms > 0 {
            self.deadlines.remove(&(session.indexed_ms, key.clone()));
        }
        if !session.owner.is_empty() {
            let former = session.owner.clone();
            changes.push(Change::SessionMoved { former, key: key.parts(), owner: String::new() });
        }
        true
    }

    /// Sees to it that the index has the session at or before its deadline.
    fn index(deadlines: &mut OrdSet<(u64, Key)>, session: &mut Session, key: &Key) {
        let Some(deadline_ms) = session.deadline_ms() else { return };
        if session.indexed_ms > 0 {
            if session.indexed_ms <= deadline_ms {
                return;
            }
            deadlines.remove(&(session.indexed_ms, key.clone()));
        }
        session.indexed_ms = deadline_ms;
        deadlines.insert((deadline_ms, key.clone()));
    }

    pub(super) fn get(&self, key: &SessionKey, now_ms: u64) -> Option<Arc<Session>> {
        self.sessions.get(&Key::new(key)).filter(|it| !it.is_expired(now_ms)).cloned()
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn next_deadline_ms(&self) -> Option<u64> {
        self.deadlines.get_min().map(|&(at_ms, _)| at_ms)
    }

    /// Every session, in no order, for a snapshot.
    pub(super) fn export(&self) -> impl Iterator<Item = SnapshotSession> + '_ {
        self.sessions.iter().map(|(key, session)| SnapshotSession {
            record: Some(session.record(key.parts())),
            indexed_ms: session.indexed_ms,
            saves: session.saves.iter().map(Saved::mark).collect(),
        })
    }

    /// What is left of sessions that are gone, for a snapshot.
    pub(super) fn tombstones(&self) -> impl Iterator<Item = SnapshotTombstone> + '_ {
        self.tombstones.export()
    }

    /// Puts what is left of a session back, from a snapshot.
    pub(super) fn restore_tombstone(&mut self, item: SnapshotTombstone) {
        self.tombstones.restore(item);
    }

    /// Puts a session back, from a snapshot.
    pub(super) fn restore(&mut self, item: SnapshotSession) {
        let record = item.record.unwrap_or_default();
        let key = Key::new(&record.key.unwrap_or_default());
        if item.indexed_ms > 0 {
            self.deadlines.insert((item.indexed_ms, key.clone()));
        }
        let copied = |(name, value): (String, Bytes)| (name.into_boxed_str(), Bytes::copy_from_slice(&value));
        let attributes: BTreeMap<_, _> = record.attributes.into_iter().map(copied).collect();
        let session = Session {
            version: record.version,
            attribute_bytes: attributes.iter().map(|(name, value)| memory::of_attribute(name, value)).sum(),
            attributes,
            owner: record.owner,
            created_ms: record.created_ms,
            accessed_ms: record.accessed_ms,
            timeout_ms: record.timeout_ms,
            saves: item.saves.into_iter().map(Saved::from_mark).collect(),
            indexed_ms: item.indexed_ms,
        };
        self.put(key, session);
    }
}
