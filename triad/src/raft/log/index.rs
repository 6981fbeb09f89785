//! What the log holds and where: in memory for every retained entry, with recent entries themselves.

use super::super::{Entry, LogId, Vote, frame};
use crate::disk::DiskFile;
use openraft::EntryPayload;
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::Arc,
};

/// Entries are cached up to about so many bytes; those that are not on disk yet are always held.
const CACHE_BYTES: usize = 64 << 20;

/// An entry's record in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u64,
    /// Of the record's head.
    pub(super) offset: u64,
    /// Of kind and payload.
    pub(super) length: usize,
}

#[derive(Debug)]
struct Slot {
    id: LogId,
    place: Option<Place>,
    entry: Option<Entry>,
    bytes: usize,
}

/// An entry as it was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) entry: Option<Entry>,
    pub(super) place: Option<Place>,
}

/// The log's index.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Consecutive entries.
    slots: VecDeque<Slot>,
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    /// Slots before this place are not in the cache.
    uncached: usize,
    cached_bytes: usize,
    pub(super) files: BTreeMap<u64, Arc<dyn DiskFile>>,
}

pub(super) fn size(entry: &Entry) -> usize {
    let payload = match &entry.payload {
        EntryPayload::Normal(data) => data.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 64,
    };
    payload + 32 + frame::HEAD
}

impl Index {
    /// The last entry, or what the log was purged to.
    pub(super) fn last(&self) -> Option<LogId> {
        self.slots.back().map(|it| it.id).or(self.purged)
    }

    /// Whether it knows of nothing, not even a vote.
    pub(super) fn is_pristine(&self) -> bool {
        self.last().is_none() && self.vote.is_none() && self.committed.is_none()
    }

    fn place_of(&self, index: u64) -> Option<usize> {
        let first = self.slots.front()?.id.index;
        usize::try_from(index.checked_sub(first)?).ok().filter(|&it| it < self.slots.len())
    }

    /// Adds entries that must follow the last one.
    pub(super) fn append(&mut self, entries: &[Entry]) -> io::Result<()> {
        for entry in entries {
            self.check_next(entry.log_id)?;
            let bytes = size(entry);
            self.cached_bytes += bytes;
            self.slots.push_back(Slot { id: entry.log_id, place: None, entry: Some(entry.clone()), bytes });
        }
        Ok(())
    }

    /// Adds an entry that was found on disk.
    pub(super) fn recover(&mut self, id: LogId, place: Place) {
        let bytes = frame::HEAD + place.length;
        self.slots.push_back(Slot { id, place: Some(place), entry: None, bytes });
        self.uncached = self.slots.len();
    }

    /// How far the log that was written up to `written` is known to be committed. The library says so when an entry was
    /// accepted, which may be before it is on disk: beyond the disk the word would be a promise that a crash breaks.
    pub(super) fn committed_on_disk(&self, written: Option<LogId>) -> Option<LogId> {
        let (committed, written) = (self.committed?, written?);
        // A log that holds the same entry in the same place is the same up to there.
        if !self.holds(written) {
            return None;
        }
        Some(if committed.index <= written.index { committed } else { written })
    }

    fn holds(&self, id: LogId) -> bool {
        let slot = self.place_of(id.index).and_then(|at| self.slots.get(at));
        slot.is_some_and(|it| it.id == id) || self.purged.is_some_and(|it| id.index <= it.index)
    }

    fn check_next(&self, id: LogId) -> io::Result<()> {
        match self.last() {
            Some(last) if last.index + 1 != id.index => {
                let text = format!("entry {} does not follow the log's last entry {}", id.index, last.index);
                Err(io::Error::new(io::ErrorKind::InvalidInput, text))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn truncate_after(&mut self, last: Option<LogId>) {
        let keep = last.map_or(0, |it| it.index + 1);
        while self.slots.back().is_some_and(|it| it.id.index >= keep) {
            if let Some(slot) = self.slots.pop_back().filter(|it| it.entry.is_some()) {
                self.cached_bytes -= slot.bytes;
            }
        }
        self.uncached = self.uncached.min(self.slots.len());
    }

    pub(super) fn purge(&mut self, upto: LogId) {
        while self.slots.front().is_some_and(|it| it.id.index <= upto.index) {
            if let Some(slot) = self.slots.pop_front().filter(|it| it.entry.is_some()) {
                self.cached_bytes -= slot.bytes;
            }
            self.uncached = self.uncached.saturating_sub(1);
        }
        self.purged = self.purged.max(Some(upto));
    }

    /// Notes where an entry was written, unless it was truncated meanwhile.
    pub(super) fn written(&mut self, id: LogId, place: Place) {
        if let Some(at) = self.place_of(id.index)
            && let Some(slot) = self.slots.get_mut(at)
            && slot.id == id
        {
            slot.place = Some(place);
        }
    }

    /// Forgets the oldest cached entries that are on disk while the cache is too large.
    pub(super) fn evict(&mut self) {
        while self.cached_bytes > CACHE_BYTES {
            let Some(slot) = self.slots.get_mut(self.uncached) else { return };
            if slot.place.is_none() {
                return;
            }
            if slot.entry.take().is_some() {
                self.cached_bytes = self.cached_bytes.saturating_sub(slot.bytes);
            }
            self.uncached += 1;
        }
    }

    /// Entries of `[start, end)` that are there, in order, up to about `bytes_max` but at least one.
    pub(super) fn find(&self, (start, end): (u64, u64), bytes_max: usize) -> Vec<Found> {
        let Some(first) = self.slots.front().map(|it| it.id.index) else { return Vec::new() };
        let skip = usize::try_from(start.saturating_sub(first)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        self.slots
            .iter()
            .skip(skip)
            .take_while(|slot| {
                let fits = bytes == 0 || bytes + slot.bytes <= bytes_max;
                bytes += slot.bytes;
                fits && slot.id.index < end
            })
            .map(|slot| Found { entry: slot.entry.clone(), place: slot.place })
            .collect()
    }

    pub(super) fn file(&self, segment: u64) -> io::Result<Arc<dyn DiskFile>> {
        let gone = || io::Error::other(format!("the log's segment {segment} was purged while it was read"));
        self.files.get(&segment).cloned().ok_or_else(gone)
    }

    pub(super) fn purgeable(&self, upto: u64, keep: u64) -> Option<u64> {
        let mut kept = 0;
        let candidates = self.slots.iter().rev().filter(|it| it.id.index <= upto);
        for slot in candidates {
            if kept >= keep {
                return Some(slot.id.index);
            }
            kept += slot.bytes as u64;
        }
        None
    }

    /// Forgets entries that a purge record, found later, covers, and a commit of an entry that is not there; says what is
    /// missing between the purge and the first entry.
    pub(super) fn settle(&mut self) -> Option<(u64, u64)> {
        if let Some(purged) = self.purged {
            self.purge(purged);
        }
        if self.committed.is_some_and(|it| !self.holds(it)) {
            // What was committed is on a majority: the next leader says so again.
            self.committed = self.purged;
        }
        let first = self.slots.front()?.id.index;
        let expected = self.purged.map_or(0, |it| it.index + 1);
        (first > expected).then_some((expected, first))
    }
}
