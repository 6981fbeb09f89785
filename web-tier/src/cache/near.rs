//! What a worker is asked for most, in its own memory: a hit there takes no lock, and writes nothing that another worker reads. It is as good as
//! what stands in the shared memory: a thing that is gone from there says so itself.

use super::{
    Cache, Slot,
    entry::{Entry, Packed, Varies},
};
use bytes::Bytes;
use std::{
    cell::{Cell, RefCell},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

/// Places; a key has one.
const PLACES: usize = 4096;

/// Places that are looked at at a time: all of them in some seconds.
const SWEPT: usize = 128;

/// Bodies up to this length are copied, so that their counts of users are the worker's own.
const COPIED_MAX: usize = 16 << 10;

/// The part of the cache's memory that copies of one worker may take.
const COPIES_PART: u64 = 64;

/// One hit in so many is told to the shared memory, which else would take what is asked for most for forgotten.
const TOLD_EVERY: u32 = 16;

/// A worker's.
#[derive(Debug)]
pub(crate) struct Near {
    places: RefCell<Box<[Option<Place>]>>,
    /// Bytes of copies.
    copied: Cell<u64>,
    /// Where the next sweep begins.
    swept: Cell<usize>,
    /// The number of the cache that all this is of.
    cache: Cell<u64>,
}

#[derive(Debug)]
struct Place {
    hash: u64,
    slot: Slot,
    copy: Option<Bytes>,
    hits: u32,
    /// It was asked for since another key wanted the place.
    wanted: bool,
}

impl Default for Near {
    fn default() -> Self {
        // Who keeps nothing needs no places.
        Self { places: RefCell::default(), copied: Cell::new(0), swept: Cell::new(0), cache: Cell::new(0) }
    }
}

/// What stands at a key.
#[derive(Debug)]
pub(super) enum Got {
    Entry(Found),
    Varies(Arc<Varies>),
    Packed(Arc<Packed>),
    Pass,
}

/// A kept answer.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) entry: Arc<Entry>,
    /// The worker's own copy of its body.
    pub(crate) copy: Option<Bytes>,
}

impl Found {
    /// One that is not near.
    pub(crate) fn far(entry: Arc<Entry>) -> Self {
        Self { entry, copy: None }
    }
}

impl Near {
    /// What stands at a key, near or far; what is far and wanted comes near.
    pub(super) fn get(&self, cache: &Cache, hash: u64, key: &[u8], now: Instant) -> Option<Got> {
        let mut places = self.places.borrow_mut();
        if self.cache.replace(cache.number()) != cache.number() {
            // Another one has taken its place: by other rules.
            *places = (0..PLACES).map(|_| None).collect();
            self.copied.set(0);
        }
        let place = &mut places[hash as usize % PLACES];
        if let Some(known) = place.as_mut().filter(|it| it.hash == hash && it.slot.key().bytes() == key) {
            if let Some(got) = self.use_place(cache, known, now) {
                return Some(got);
            }
            self.clear(place);
        }
        let slot = cache.get(hash, key)?;
        // Who is asked for only once takes no one's place.
        let is_free = match place {
            Some(other) if !other.slot.life().is_over() => !std::mem::take(&mut other.wanted),
            _ => true,
        };
        if is_free {
            self.clear(place);
            *place = Some(Place { hash, slot: slot.clone(), copy: None, hits: 0, wanted: false });
        }
        match slot {
            Slot::Entry(entry) if entry.is_past(now) => None,
            Slot::Entry(entry) => {
                entry.hits.fetch_add(1, Relaxed);
                Some(Got::Entry(Found::far(entry)))
            }
            Slot::Varies(varies) => Some(Got::Varies(varies)),
            Slot::Packed(packed) => Some(Got::Packed(packed)),
            Slot::Pass(_) => Some(Got::Pass),
        }
    }

    fn use_place(&self, cache: &Cache, known: &mut Place, now: Instant) -> Option<Got> {
        if known.slot.life().is_over() {
            return None;
        }
        known.wanted = true;
        known.hits += 1;
        if known.hits.is_multiple_of(TOLD_EVERY) {
            cache.touch(known.hash);
            if let Slot::Entry(entry) = &known.slot {
                entry.hits.fetch_add(u64::from(TOLD_EVERY), Relaxed);
            }
        }
        match &known.slot {
            Slot::Entry(entry) if entry.is_past(now) => None,
            Slot::Entry(entry) => {
                if known.copy.is_none() {
                    known.copy = self.copy(cache, entry);
                }
                Some(Got::Entry(Found { entry: entry.clone(), copy: known.copy.clone() }))
            }
            Slot::Varies(varies) => Some(Got::Varies(varies.clone())),
            Slot::Packed(packed) => Some(Got::Packed(packed.clone())),
            Slot::Pass(_) => Some(Got::Pass),
        }
    }

    fn copy(&self, cache: &Cache, entry: &Entry) -> Option<Bytes> {
        let body = entry.body.get().filter(|it| it.len() <= COPIED_MAX)?;
        let copied = self.copied.get() + body.len() as u64;
        if copied > cache.capacity() / COPIES_PART {
            return None;
        }
        self.copied.set(copied);
        Some(Bytes::copy_from_slice(body))
    }

    fn clear(&self, place: &mut Option<Place>) {
        if let Some(copy) = place.take().and_then(|it| it.copy) {
            self.copied.set(self.copied.get() - copy.len() as u64);
        }
    }

    /// Lets go of what is gone from the shared memory, in some of the places. To be called a few times a second.
    pub(crate) fn sweep_some(&self) {
        let mut places = self.places.borrow_mut();
        if places.is_empty() {
            return;
        }
        let from = self.swept.get();
        self.swept.set((from + SWEPT) % PLACES);
        for place in &mut places[from..from + SWEPT] {
            if place.as_ref().is_some_and(|it| it.slot.life().is_over()) {
                self.clear(place);
            }
        }
    }
}
