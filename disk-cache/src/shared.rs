//! What the writer, the loader and those who look for something share.

use crate::{
    Settings,
    index::{Index, Location},
    record::{Kind, Record},
    segment::Segment,
    writer::Queue,
};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs::File,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

/// Segments that a full store has, about.
const SEGMENTS: u64 = 64;

/// The bounds of a segment's length, in bytes.
const SEGMENT_MIN: u64 = 256 << 10;
const SEGMENT_MAX: u64 = 1 << 30;

/// What is left of the file system for others, at most, in bytes.
const RESERVE_MAX: u64 = 1 << 30;

/// As many bytes each thing counts at least, so that the index has a bound.
pub(crate) const ENTRY_MIN: u64 = 4 << 10;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) folder: PathBuf,
    capacity: AtomicU64,
    /// What the file system has for it, as last seen.
    room: AtomicU64,
    /// Without it nobody can make keys whose hashes are the same.
    secret: [u8; 32],
    /// Held as long as the folder is in use.
    lock: Mutex<Option<File>>,
    pub(crate) index: Index,
    /// By number, the one that is being written last.
    segments: RwLock<BTreeMap<u32, Arc<Segment>>>,
    pub(crate) queue: Queue,
    closing: AtomicBool,
    /// All is about to be forgotten, so many times: nothing is found until then.
    pub(crate) forgetting: AtomicU64,
    pub(crate) counters: Counters,
}

/// What has happened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) bytes: AtomicU64,
    pub(crate) written: AtomicU64,
    pub(crate) read: AtomicU64,
    pub(crate) damaged: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) failed: AtomicU64,
}

/// What there is, and what has happened since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes of files.
    pub bytes: u64,
    /// How many there may be.
    pub capacity: u64,
    /// Things that are kept.
    pub entries: u64,
    /// Things that were written.
    pub written: u64,
    /// Things that were read.
    pub read: u64,
    /// Things that were not what was written.
    pub damaged: u64,
    /// Things that were not written, as the disk did not keep up.
    pub dropped: u64,
    /// Times that the disk has failed.
    pub failed: u64,
}

/// Where something is.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    pub(crate) group: u64,
    pub(crate) location: Location,
    /// It will make room soon: whoever wants to keep it puts it again.
    pub is_old: bool,
}

impl Found {
    /// Its place.
    pub fn position(&self) -> crate::Position {
        self.location.position
    }

    /// Bytes that will be read, all in all.
    pub fn length(&self) -> u64 {
        self.location.length.into()
    }
}

impl Shared {
    pub(crate) fn new(settings: &Settings, secret: [u8; 32], lock: File, index: Index) -> Self {
        Self {
            folder: settings.folder.clone(),
            capacity: AtomicU64::new(settings.capacity),
            room: AtomicU64::new(u64::MAX),
            secret,
            lock: Mutex::new(Some(lock)),
            index,
            segments: RwLock::default(),
            queue: Queue::new(settings.waiting),
            closing: AtomicBool::new(false),
            forgetting: AtomicU64::new(0),
            counters: Counters::default(),
        }
    }

    pub(crate) fn hash(&self, bytes: &[u8]) -> u64 {
        let hash = Sha256::new().chain_update(self.secret).chain_update(bytes).finalize();
        u64::from_le_bytes(std::array::from_fn(|it| hash[it]))
    }

    pub(crate) fn set_capacity(&self, capacity: u64) {
        self.capacity.store(capacity, Relaxed);
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity.load(Relaxed)
    }

    /// Whether there is no room for another segment: by its bytes, or as there are as many as they may be, each with few small things.
    pub(crate) fn is_full(&self) -> bool {
        let (length, bytes) = (self.segment_max(), self.counters.bytes.load(Relaxed));
        bytes + length > self.capacity()
            || self.is_reserve_touched()
            || self.index.entries() * ENTRY_MIN >= self.capacity()
            || self.all().len() as u64 >= SEGMENTS * 4
    }

    /// What the file system has left, and what of that is for others: a hundredth of it all, or a gigabyte.
    fn left(&self) -> Option<(u64, u64)> {
        let it = rustix::fs::statvfs(&self.folder).ok()?;
        Some((it.f_bavail * it.f_frsize, (it.f_blocks * it.f_frsize / 100).min(RESERVE_MAX)))
    }

    /// Whether what is for others would be touched by another segment.
    pub(crate) fn is_reserve_touched(&self) -> bool {
        self.left().is_some_and(|(free, reserve)| free < reserve + self.segment_max())
    }

    /// How long a segment may be.
    pub(crate) fn segment_max(&self) -> u64 {
        (self.capacity().min(self.room.load(Relaxed)) / SEGMENTS).clamp(SEGMENT_MIN, SEGMENT_MAX)
    }

    /// How much the file system has for what is kept: a small one has short segments.
    pub(crate) fn look_at_the_disk(&self) {
        if let Some((free, reserve)) = self.left() {
            let ours = self.counters.bytes.load(Relaxed);
            self.room.store((ours + free).saturating_sub(reserve), Relaxed);
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        let read = |count: &AtomicU64| count.load(Relaxed);
        let Counters { bytes, written, read: were_read, damaged, dropped, failed } = &self.counters;
        Totals {
            bytes: read(bytes),
            capacity: self.capacity(),
            entries: self.index.entries(),
            written: read(written),
            read: read(were_read),
            damaged: read(damaged),
            dropped: read(dropped),
            failed: read(failed),
        }
    }

    fn all(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<u32, Arc<Segment>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn all_mut(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<u32, Arc<Segment>>> {
        self.segments.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody wants anything of it any more.
    pub(crate) fn close(&self) {
        self.closing.store(true, Relaxed);
    }

    /// Another process may have the folder.
    pub(crate) fn unlock(&self) {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
    }

    /// Whether there is a segment of this number.
    pub(crate) fn has(&self, segment: u32) -> bool {
        self.all().contains_key(&segment)
    }

    /// Those of before.
    pub(crate) fn put_former(&self, segments: &[Arc<Segment>]) {
        for it in segments {
            let length = it.file.metadata().map_or(0, |it| it.len());
            self.counters.bytes.fetch_add(length, Relaxed);
            self.put_segment(it.clone());
        }
    }

    pub(crate) fn put_segment(&self, segment: Arc<Segment>) {
        self.all_mut().insert(segment.number, segment);
    }

    /// The oldest, if it is not the one that is being written.
    pub(crate) fn oldest(&self) -> Option<Arc<Segment>> {
        let all = self.all();
        (all.len() > 1).then(|| all.values().next().cloned()).flatten()
    }

    /// A segment goes, with what is in it.
    pub(crate) fn drop_segment(&self, segment: &Segment) {
        if !self.unlink(segment) {
            return;
        }
        match segment.list() {
            Ok((list, _)) => {
                for (offset, header) in list.iter().filter(|(_, it)| it.kind == Kind::Entry) {
                    self.index.remove(header.group, crate::Position::new(segment.number, *offset));
                }
            }
            Err(_) => self.index.remove_before(segment.number + 1),
        }
        segment.remove();
    }

    /// A segment goes, of which nothing is in the index, or soon; false: it has gone already.
    pub(crate) fn unlink(&self, segment: &Segment) -> bool {
        if self.all_mut().remove(&segment.number).is_none() {
            return false;
        }
        let length = segment.file.metadata().map_or(0, |it| it.len());
        let less = |bytes: u64| Some(bytes.saturating_sub(length));
        let _ = self.counters.bytes.fetch_update(Relaxed, Relaxed, less);
        true
    }

    /// All segments are on disk.
    pub(crate) fn sync_all(&self) -> std::io::Result<()> {
        let all: Vec<_> = self.all().values().cloned().collect();
        all.iter().try_for_each(|it| it.sync())
    }

    pub(crate) fn find(&self, group: &[u8], key: &[u8], now_s: u64) -> Option<Found> {
        if !self.index.is_loaded() || self.forgetting.load(Relaxed) > 0 {
            return None;
        }
        let (group, key_hash) = (self.hash(group), self.hash(key));
        let location = self.index.find(group, key_hash)?;
        if u64::from(location.expires) <= now_s {
            self.index.remove(group, location.position);
            return None;
        }
        let all = self.all();
        let (first, last) = (*all.keys().next()?, *all.keys().next_back()?);
        let is_full = self.index.entries() * ENTRY_MIN * 16 > self.capacity() * 15
            || self.counters.bytes.load(Relaxed) + 2 * self.segment_max() > self.capacity();
        let is_old = is_full && location.position.segment() < first + (last - first) / 4;
        Some(Found { group, location, is_old })
    }

    pub(crate) fn read(&self, found: &Found, key: &[u8]) -> Option<Record> {
        let Location { key_hash, position, length, .. } = found.location;
        // It may have made room meanwhile.
        let Some(segment) = self.all().get(&position.segment()).cloned() else {
            self.index.remove(found.group, position);
            return None;
        };
        match segment.read(position, length) {
            Some((header, record)) if header.kind == Kind::Entry && header.key_hash == key_hash => {
                self.counters.read.fetch_add(1, Relaxed);
                (record.key == key).then_some(record)
            }
            _ => {
                self.counters.damaged.fetch_add(1, Relaxed);
                self.index.remove(found.group, position);
                None
            }
        }
    }
}
