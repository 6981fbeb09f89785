//! The entries in memory by id and by last use, with the bytes that they take.

use super::entry::Entry;
use common::session_id::SessionId;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Entries that are looked at to find one to evict.
const CANDIDATES: usize = 64;

/// The entries in memory.
#[derive(Debug, Default)]
pub(super) struct Held {
    places: HashMap<SessionId, Place>,
    /// By last use.
    order: BTreeMap<u64, SessionId>,
    uses: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Place {
    used: u64,
    entry: Arc<Entry>,
    bytes: usize,
}

impl Held {
    /// How many.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Bytes of all names and values, as of the last [`Held::weigh`] of each.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All, in no order.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.places.values().map(|place| &place.entry)
    }

    /// One, not counted as a use.
    pub(super) fn get(&self, id: &SessionId) -> Option<&Arc<Entry>> {
        self.places.get(id).map(|place| &place.entry)
    }

    /// Whether this very entry is there.
    pub(super) fn has(&self, entry: &Arc<Entry>) -> bool {
        self.get(&entry.id).is_some_and(|there| Arc::ptr_eq(there, entry))
    }

    /// One, counted as a use.
    pub(super) fn touch(&mut self, id: &SessionId) -> Option<Arc<Entry>> {
        let place = self.places.get_mut(id)?;
        let id = self.order.remove(&place.used)?;
        self.uses += 1;
        place.used = self.uses;
        self.order.insert(self.uses, id);
        Some(place.entry.clone())
    }

    /// Puts one in the place of what has its id.
    pub(super) fn insert(&mut self, entry: Arc<Entry>) {
        let id = entry.id.clone();
        self.remove(&id);
        self.uses += 1;
        self.order.insert(self.uses, id.clone());
        let bytes = entry.state().bytes();
        self.bytes += bytes;
        self.places.insert(id, Place { used: self.uses, entry, bytes });
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, id: &SessionId) {
        if let Some(place) = self.places.remove(id) {
            self.order.remove(&place.used);
            self.bytes -= place.bytes;
        }
    }

    /// Its attributes may have become others.
    pub(super) fn weigh(&mut self, entry: &Arc<Entry>) {
        let bytes = entry.state().bytes();
        if let Some(place) = self.places.get_mut(&entry.id).filter(|place| Arc::ptr_eq(&place.entry, entry)) {
            self.bytes = self.bytes - place.bytes + bytes;
            place.bytes = bytes;
        }
    }

    /// The least recently used session that nobody uses and that the hub has; those it lacks are noted in `unsaved`.
    pub(super) fn evictable(&self, unsaved: &mut Vec<Arc<Entry>>) -> Option<SessionId> {
        for id in self.order.values().take(CANDIDATES) {
            let Some(Place { entry, .. }) = self.places.get(id) else { continue };
            // Another holder could only get it through the lock that we have.
            if Arc::strong_count(entry) > 1 {
                continue;
            }
            if !entry.state().replica.is_dirty() {
                return Some(id.clone());
            }
            unsaved.push(entry.clone());
        }
        None
    }
}
