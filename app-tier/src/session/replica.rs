//! One session in memory: the hub's attributes at a version, and the changes on top of them that the hub does not have yet.
//! Pure: what is sent and what an outcome means is decided here, who sends it is `save`'s.

use super::heard::Heard;
use bytes::Bytes;
use proto::hub::v1::SessionRecord;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Attributes by name.
pub(crate) type Attributes = HashMap<String, Bytes>;

/// One session in memory.
#[derive(Debug, Default)]
pub(super) struct Replica {
    /// There is a session: on the hub, or made here.
    exists: bool,
    /// The hub's version of `base`; 0 = the hub has none.
    version: u64,
    /// The save that made that version.
    save_id: u64,
    base: Attributes,
    changes: BTreeMap<String, Change>,
    /// Save all attributes, changed or not, by `always-save-session`: asked at this sequence number.
    all: Option<u64>,
    /// A save that was sent, whose outcome is not known: sent again as it was.
    pending: Option<Save>,
    /// Counts the changes.
    sequence: u64,
    /// Changes up to this one are on the hub.
    saved: u64,
    /// Grows whenever the attributes become others than what a request here may have seen.
    generation: u64,
    /// The generation that dropped unsaved changes.
    dropped: u64,
}

/// A change of one attribute that the hub does not have.
#[derive(Debug)]
struct Change {
    /// `None`: removed.
    value: Option<Bytes>,
    /// The first and the last change of this attribute since it was saved.
    first: u64,
    last: u64,
    /// An answer has left that is based on it.
    answered: bool,
}

/// What is sent to the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Save {
    pub(super) base_version: u64,
    pub(super) save_id: u64,
    pub(super) set: Attributes,
    pub(super) removed: Vec<String>,
    /// What had been heard when it was made, which may be long before it is sent the last time.
    pub(super) heard: Heard,
    /// The changes up to this one are in it.
    upto: u64,
}

/// What became of changes whose base was no longer the hub's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resolution {
    /// They touch other attributes than the others' changes: kept, on the hub's version.
    Merged,
    /// They were made on values that are no longer true: dropped, and a request that made one is refused.
    Stale,
    /// They too, but answers have told of all of them, while the hub could not be reached: dropped all the same. The hub has
    /// acknowledged what it has, and it never acknowledged these.
    Superseded,
}

impl Replica {
    pub(super) fn exists(&self) -> bool {
        self.exists
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// The number of the last change.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether the changes up to `sequence` are on the hub.
    pub(super) fn is_saved(&self, sequence: u64) -> bool {
        self.saved >= sequence
    }

    /// Whether changes that were made in or before `generation` have been dropped since.
    pub(super) fn has_dropped(&self, generation: u64) -> bool {
        self.dropped > generation
    }

    /// The generation that dropped changes last.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether an answer has told of a change that the hub lacks.
    pub(super) fn has_answered(&self) -> bool {
        self.changes.values().any(|change| change.answered)
    }

    /// Whether the hub lacks something.
    pub(super) fn is_dirty(&self) -> bool {
        self.exists
            && (self.version == 0 || !self.changes.is_empty() || self.all.is_some() || self.pending.is_some())
    }

    /// Whether nothing was ever sent: the hub can't know it.
    pub(super) fn is_local(&self) -> bool {
        self.version == 0 && self.pending.is_none()
    }

    /// The attributes with all changes.
    pub(super) fn attributes(&self) -> Attributes {
        let mut all = self.base.clone();
        for (name, change) in &self.changes {
            match &change.value {
                Some(value) => all.insert(name.clone(), value.clone()),
                None => all.remove(name),
            };
        }
        all
    }

    /// Bytes in memory: names and values, as the hub has them and as they were changed.
    pub(super) fn bytes(&self) -> usize {
        let base = self.base.iter().map(|(name, value)| name.len() + value.len());
        let changed = self
            .changes
            .iter()
            .map(|(name, change)| name.len() + change.value.as_ref().map_or(0, Bytes::len));
        base.sum::<usize>() + changed.sum::<usize>()
    }

    /// Bytes of the names and values that the session would have after [`Replica::update`].
    pub(super) fn size_after(&self, set: &Attributes, removed: &[String]) -> usize {
        let removed: HashSet<&String> = removed.iter().collect();
        let stays = |name: &String| !set.contains_key(name) && !removed.contains(name);
        let base = self.base.iter().filter(|(name, _)| !self.changes.contains_key(*name));
        let changed = self.changes.iter().filter_map(|(name, change)| Some((name, change.value.as_ref()?)));
        let kept = base.chain(changed).filter(|(name, _)| stays(name));
        let added = set.iter().filter(|(name, _)| !removed.contains(name));
        kept.chain(added).map(|(name, value)| name.len() + value.len()).sum()
    }

    /// Changes attributes and makes the session if there is none. A value that is already there is no change.
    pub(super) fn update(&mut self, set: Attributes, removed: Vec<String>) {
        let created = !self.exists;
        self.exists = true;
        let set = set.into_iter().map(|(name, value)| (name, Some(value)));
        let changes: Vec<_> = set
            .chain(removed.into_iter().map(|name| (name, None)))
            // An attribute that is on its way to the hub may be changed back before it arrives.
            .filter(|(name, value)| self.changes.contains_key(name) || self.base.get(name) != value.as_ref())
            .collect();
        if changes.is_empty() && !created {
            return;
        }
        self.sequence += 1;
        let sequence = self.sequence;
        for (name, value) in changes {
            let change = self.changes.entry(name).or_insert(Change {
                value: None,
                first: sequence,
                last: sequence,
                answered: false,
            });
            change.value = value;
            change.last = sequence;
        }
    }

    /// Asks for a save of all attributes.
    pub(super) fn save_all(&mut self) {
        if self.exists {
            self.sequence += 1;
            self.all = Some(self.sequence);
        }
    }

    /// Takes the changes as saved: for sessions that live in memory alone.
    pub(super) fn settle(&mut self) {
        self.base = self.attributes();
        self.changes.clear();
        self.all = None;
        self.version += 1;
        self.saved = self.sequence;
    }

    /// Answers that tell of the changes up to `sequence` are leaving.
    pub(super) fn answered(&mut self, sequence: u64) {
        for change in self.changes.values_mut().filter(|change| change.first <= sequence) {
            change.answered = true;
        }
    }

    /// What to send next; the same again until its outcome is known. `None`: the hub has it all.
    pub(super) fn next_save(&mut self, heard: Heard, save_id: impl FnOnce() -> u64) -> Option<Save> {
        if !self.is_dirty() {
            return None;
        }
        if self.pending.is_none() {
            let mut set = if self.all.is_some() { self.base.clone() } else { Attributes::new() };
            let mut removed = Vec::new();
            for (name, change) in &self.changes {
                match &change.value {
                    Some(value) => {
                        set.insert(name.clone(), value.clone());
                    }
                    None => {
                        set.remove(name);
                        removed.push(name.clone());
                    }
                }
            }
            let (base_version, upto) = (self.version, self.sequence);
            self.pending = Some(Save { base_version, save_id: save_id(), set, removed, heard, upto });
        }
        self.pending.clone()
    }

    /// The pending save is on the hub as `version`.
    pub(super) fn saved(&mut self, version: u64) {
        let Some(save) = self.pending.take() else { return };
        self.base.extend(save.set);
        for name in &save.removed {
            self.base.remove(name);
        }
        self.changes.retain(|_, change| change.last > save.upto);
        for change in self.changes.values_mut() {
            change.first = change.first.max(save.upto + 1);
        }
        self.all = self.all.filter(|asked| *asked > save.upto);
        (self.version, self.save_id, self.saved) = (version, save.save_id, save.upto);
    }

    /// The hub has this, whatever we thought: takes it as the base, and says what becomes of the changes.
    pub(super) fn conflict(&mut self, record: SessionRecord) -> Resolution {
        let ours = self.pending.take().filter(|save| save.save_id == record.save_id);
        let theirs = &record.attributes;
        // An equal value alone does not say that our save arrived: they may have counted to the same number.
        let arrived = |change: &Change| ours.as_ref().is_some_and(|save| change.last <= save.upto);
        self.changes.retain(|_, change| !arrived(change));
        let torn: Vec<String> = self
            .changes
            .iter()
            .filter(|(name, change)| {
                let (their, base) = (theirs.get(*name), self.base.get(*name));
                ours.is_none() && their != base && (their != change.value.as_ref() || !change.answered)
            })
            .map(|(name, _)| name.clone())
            .collect();
        let resolution = if torn.is_empty() {
            Resolution::Merged
        } else if self.changes.values().all(|change| change.answered) {
            Resolution::Superseded
        } else {
            Resolution::Stale
        };
        if resolution != Resolution::Merged {
            self.changes.retain(|name, _| !torn.contains(name));
            // What a request has changed since, it changed after a look at values that are not true.
            self.drop_unanswered();
        }
        self.adopt(record);
        resolution
    }

    /// Takes the hub's record as the base.
    pub(super) fn adopt(&mut self, record: SessionRecord) {
        self.exists = true;
        if (record.version, record.save_id) != (self.version, self.save_id) {
            self.generation += 1;
        }
        (self.version, self.save_id, self.base) = (record.version, record.save_id, record.attributes);
        if self.changes.is_empty() {
            self.saved = self.sequence;
        }
    }

    /// The hub has no such session (any more). Says whether unsaved changes are lost with it.
    pub(super) fn missing(&mut self) -> bool {
        let lost = !self.changes.is_empty() || self.all.is_some();
        let seen = self.exists;
        *self = Self {
            sequence: self.sequence,
            saved: self.saved,
            generation: self.generation + u64::from(seen),
            dropped: self.dropped,
            ..Self::default()
        };
        if lost {
            self.dropped = self.generation;
        }
        lost
    }

    /// Drops the changes of which no answer has told, and tells their requests.
    pub(super) fn drop_unanswered(&mut self) {
        self.pending = None;
        self.all = None;
        self.changes.retain(|_, change| change.answered);
        self.generation += 1;
        self.dropped = self.generation;
        if self.version == 0 && self.changes.is_empty() {
            self.exists = false;
        }
    }

    /// A new session on the hub with these attributes, after its first save.
    pub(super) fn created(attributes: Attributes, version: u64, save_id: u64) -> Self {
        Self { exists: true, version, save_id, base: attributes, ..Self::default() }
    }

    /// What the hub had of it goes on there under another id, as `version`; what was changed since is still to be saved.
    pub(super) fn renamed(&mut self, version: u64, save_id: u64) {
        (self.version, self.save_id) = (version, save_id);
    }
}

#[cfg(test)]
mod tests;
