//! What a worker is asked for most, in its own memory: a hit there takes no lock, and writes nothing that another worker reads. It is as good as
//! what stands in the shared memory: a thing that is gone from there says so itself.

use super::{
    Cache, Room, Slot,
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

/// One hit in so many is told to the shared memory, which else would take what is asked for most for forgotten.
const TOLD_EVERY: u32 = 16;

/// A worker's.
#[derive(Debug)]
pub(crate) struct Near {
    places: RefCell<Box<[Option<Place>]>>,
    /// Where the next sweep begins.
    swept: Cell<usize>,
    /// The number of the cache that all this is of.
    cache: Cell<u64>,
}

#[derive(Debug)]
struct Place {
    hash: u64,
    slot: Slot,
    copy: Option<OwnCopy>,
    hits: u32,
    /// It was asked for since another key wanted the place.
    wanted: bool,
}

/// The worker's own copy of a body, and its part of the memory for such.
#[derive(Debug)]
struct OwnCopy {
    bytes: Bytes,
    _room: Room,
}

impl Default for Near {
    fn default() -> Self {
        // Who keeps nothing needs no places.
        Self { places: RefCell::default(), swept: Cell::new(0), cache: Cell::new(0) }
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
        }
        let place = &mut places[hash as usize % PLACES];
        if let Some(known) = place.as_mut().filter(|it| it.hash == hash && it.slot.key().bytes() == key) {
            if let Some(got) = use_place(cache, known, now) {
                return Some(got);
            }
            *place = None;
        }
        let slot = cache.get(hash, key)?;
        // Who is asked for only once takes no one's place.
        let is_free = match place {
            Some(other) if !other.slot.life().is_over() => !std::mem::take(&mut other.wanted),
            _ => true,
        };
        if is_free {
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
                *place = None;
            }
        }
    }
}

fn use_place(cache: &Cache, known: &mut Place, now: Instant) -> Option<Got> {
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
                known.copy = copy(cache, entry);
            }
            let copy = known.copy.as_ref().map(|it| it.bytes.clone());
            Some(Got::Entry(Found { entry: entry.clone(), copy }))
        }
        Slot::Varies(varies) => Some(Got::Varies(varies.clone())),
        Slot::Packed(packed) => Some(Got::Packed(packed.clone())),
        Slot::Pass(_) => Some(Got::Pass),
    }
}

fn copy(cache: &Cache, entry: &Entry) -> Option<OwnCopy> {
    let body = entry.body.get().filter(|it| it.len() <= COPIED_MAX)?;
    let room = cache.room_for_copy(body.len() as u64)?;
    Some(OwnCopy { bytes: Bytes::copy_from_slice(body), _room: room })
}
