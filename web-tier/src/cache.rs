//! Answers that are kept for all clients: what RFC 9111 allows (the crate `http-cache` knows it), in memory that is shared by the workers,
//! and of it, in each worker's own memory, what it is asked for most.
//!
//! [`Cache`] finds and keeps; [`Fetch`](fetch::Fetch) makes many requests for one answer ask once; `proxy::cached` goes the way of a request
//! through both. docs/caching.md tells what is kept, and why not.

pub(crate) mod body;
pub(crate) mod counters;
pub(crate) mod disk;
pub(crate) mod disk_record;
pub(crate) mod entry;
pub(crate) mod fetch;
pub(crate) mod in_use;
mod index;
pub(crate) mod key;
pub(crate) mod near;
pub(crate) mod not_kept;
pub(crate) mod packed;
pub(crate) mod purge;
pub(crate) mod purged;
pub(crate) mod settings;

use crate::http1::Fields;
use disk::Disk;
use entry::{Entry, Varies};
use fetch::Fetches;
use http_cache::vary::Vary;
use index::Index;
use key::{Key, Wanted};
use moka::{notification::RemovalCause, sync::Cache as Moka};
use near::Near;
use not_kept::NotKeptList;
use proto::web::v1::CacheReport;
use purge::Purge;
use std::{
    fmt,
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// An answer that room is made for at once, in bytes.
const LARGE: usize = 32 << 10;

/// The most variants of one URL.
const VARIANTS_MAX: usize = 64;

/// What is kept beyond the bytes of an answer, about, as measured: the memory of the tables, and what the allocator adds.
const OVERHEAD: usize = 1000;

/// The part of the memory that the workers' own copies may take, of all together; the table has the rest.
const COPIES_PART: u64 = 16;

/// The part of the memory that answers may take that are not in the table: they are still coming, or clients read them who take their time.
const OUTSIDE_PART: u64 = 4;

/// For how long it is remembered that an answer is not to be waited for.
const PASS: Duration = Duration::from_secs(30);

/// What stands at a key.
#[derive(Debug, Clone)]
pub(crate) enum Slot {
    /// An answer.
    Entry(Arc<Entry>),
    /// Answers that depend on fields of the request: each at a longer key.
    Varies(Arc<Varies>),
    /// The body of an answer, compressed: at the answer's key with the encoding.
    Packed(Arc<entry::Packed>),
    /// An answer that may not be kept: requests for it do not wait for each other.
    Pass(Arc<entry::Pass>),
}

impl Slot {
    fn life(&self) -> &entry::Life {
        match self {
            Self::Entry(it) => &it.life,
            Self::Varies(it) => &it.life,
            Self::Packed(it) => &it.life,
            Self::Pass(it) => &it.life,
        }
    }

    fn key(&self) -> &Key {
        match self {
            Self::Entry(it) => &it.key,
            Self::Varies(it) => &it.key,
            Self::Packed(it) => &it.key,
            Self::Pass(it) => &it.key,
        }
    }

    fn size(&self) -> usize {
        let own = match self {
            Self::Entry(it) => it.size(),
            Self::Packed(it) => it.bytes.as_ref().map_or(0, bytes::Bytes::len),
            Self::Varies(_) | Self::Pass(_) => 0,
        };
        self.key().bytes().len() + OVERHEAD + own
    }

    fn kept_for(&self) -> Duration {
        match self {
            Self::Entry(it) => it.kept_for(),
            Self::Varies(it) => it.kept_for,
            Self::Packed(it) => it.kept_for,
            Self::Pass(_) => PASS,
        }
    }
}

/// All that one server keeps.
pub(crate) struct Cache {
    /// Counts the caches of this process, from 1.
    number: u64,
    /// `memory-size`.
    capacity: u64,
    /// By which rules answers are kept: one with others is another cache.
    rules: String,
    table: Moka<u64, Slot, BuildHasherDefault<HashedAlready>>,
    index: Arc<Index>,
    pub(crate) fetches: Fetches,
    /// The second tier.
    disk: Option<Arc<Disk>>,
    is_former: AtomicBool,
    /// The hashes of the bodies that are being compressed.
    packing: Mutex<Vec<u64>>,
    /// Bytes of answers that are not in the table.
    outside: Arc<AtomicU64>,
    /// Bytes of the workers' own copies.
    copied: Arc<AtomicU64>,
    pub(crate) counters: counters::SharedCounters,
    /// The purges of the hub that are done.
    pub(crate) purged: purged::Purged,
    /// What was not kept lately.
    pub(crate) not_kept: NotKeptList,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cache({} of {} bytes)", self.table.weighted_size(), self.capacity)
    }
}

/// What is there for a request.
#[derive(Debug)]
pub(crate) enum Lookup {
    /// An answer, fresh or stale.
    Found(near::Found),
    /// Nothing.
    Missing,
    /// It is known that the answer may not be kept.
    Pass,
    /// The request's fields are such that it has no key.
    NoKey,
}

impl Cache {
    /// One with nothing in memory, where it may take so many bytes.
    pub(crate) fn new(capacity: u64, rules: String, disk: Option<Arc<Disk>>) -> Arc<Self> {
        let index = Arc::<Index>::default();
        let counters = counters::SharedCounters::default();
        let outside = Arc::new(AtomicU64::new(0));
        let (of_listener, evicted, still_read) = (index.clone(), counters.evicted.clone(), outside.clone());
        let table = Moka::builder()
            .max_capacity(capacity - capacity / COPIES_PART)
            .weigher(|_, slot: &Slot| u32::try_from(slot.size()).unwrap_or(u32::MAX))
            .expire_after(entry::KeptFor)
            .eviction_listener(move |hash: Arc<u64>, slot: Slot, cause| {
                slot.life().end();
                if let Slot::Entry(entry) = &slot
                    && entry.readers.load(Relaxed) > 0
                {
                    entry.body.is_outside(Room::taken(&still_read, entry.body.length()));
                }
                // Of one that was replaced another stands at the same key.
                if cause != RemovalCause::Replaced {
                    of_listener.remove(slot.key().url_hash(), *hash);
                }
                if cause == RemovalCause::Size {
                    evicted.fetch_add(1, Relaxed);
                }
            })
            .build_with_hasher(BuildHasherDefault::default());
        let done = disk.as_ref().and_then(|it| it.done());
        static CACHES: AtomicU64 = AtomicU64::new(1);
        Arc::new(Self {
            number: CACHES.fetch_add(1, Relaxed),
            capacity,
            rules,
            table,
            index,
            fetches: Fetches::default(),
            disk,
            is_former: AtomicBool::new(false),
            packing: Mutex::default(),
            outside,
            copied: Arc::default(),
            counters,
            purged: purged::Purged::new(done),
            not_kept: NotKeptList::default(),
        })
    }

    /// Which cache of this process it is.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// `memory-size`.
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The rules by which answers are kept.
    pub(crate) fn rules(&self) -> &str {
        &self.rules
    }

    /// The second tier, if there is one.
    pub(crate) fn disk(&self) -> Option<&Arc<Disk>> {
        self.disk.as_ref()
    }

    /// How much of it is taken, and how many answers that is, with what belongs to them.
    pub(crate) fn taken(&self) -> (u64, u64) {
        self.table.run_pending_tasks();
        (self.table.weighted_size() + self.copied.load(Relaxed), self.table.entry_count())
    }

    /// What is there for a request with this key, which is made longer by what the answer depends on.
    pub(crate) fn lookup(&self, near: &Near, key: &mut Wanted, request: &Fields, now: Instant) -> Lookup {
        let got = |key: &Wanted| near.get(self, key.hash(), key.bytes(), now);
        let Some(slot) = got(key) else { return Lookup::Missing };
        let varies = match slot {
            near::Got::Entry(found) => return Lookup::Found(found),
            near::Got::Pass => return Lookup::Pass,
            // No request has such a key.
            near::Got::Packed(_) => return Lookup::NoKey,
            near::Got::Varies(varies) => varies,
        };
        if !key.vary(&varies.vary, request) {
            return Lookup::NoKey;
        }
        match got(key) {
            Some(near::Got::Entry(found)) => Lookup::Found(found),
            Some(near::Got::Pass) => Lookup::Pass,
            // One that varies once more is none of ours.
            Some(near::Got::Varies(_) | near::Got::Packed(_)) | None => Lookup::Missing,
        }
    }

    /// What stands at a key in the memory that workers share.
    fn get(&self, hash: u64, key: &[u8]) -> Option<Slot> {
        self.table.get(&hash).filter(|slot| slot.key().bytes() == key)
    }

    /// The answer with this key, fresh or not, in memory.
    pub(crate) fn peek(&self, key: &Key) -> Option<Arc<Entry>> {
        match self.get(key.hash(), key.bytes())? {
            Slot::Entry(entry) => Some(entry),
            _ => None,
        }
    }

    /// Tells the table that a key was asked for.
    fn touch(&self, hash: u64) {
        let _ = self.table.get(&hash);
    }

    /// The key of an answer to `request` that depends on `vary`: that what is known to depend on more stays apart, it depends on that too.
    /// `None`: on too much.
    pub(crate) fn key_of_answer(
        &self,
        primary: &Key,
        vary: &Vary,
        request: &Fields,
        kept_for: Duration,
    ) -> Option<Key> {
        let known = match self.get(primary.hash(), primary.bytes()) {
            Some(Slot::Varies(known)) => Some(known),
            _ => None,
        };
        let vary = match &known {
            Some(known) => known.vary.joined(vary)?,
            None => vary.clone(),
        };
        if vary.is_empty() {
            return Some(primary.clone());
        }
        if self.index.count(primary.url_hash()) > VARIANTS_MAX {
            self.forget_a_variant(primary);
        }
        if known.is_none_or(|known| known.vary != vary || known.kept_for < kept_for) {
            let varies =
                Varies { key: primary.clone(), vary: vary.clone(), kept_for, life: Default::default() };
            let varies = Arc::new(varies);
            if let Some(disk) = self.disk.as_ref().filter(|_| !self.is_former.load(Relaxed)) {
                disk.write_varies(&varies);
            }
            self.put(Slot::Varies(varies));
        }
        let mut key = primary.bytes().to_vec();
        key::vary(&mut key, &vary, request).then(|| primary.with(key))
    }

    /// The oldest variant of a URL makes room: to refuse new ones would let whoever makes up many keep the others from being kept.
    fn forget_a_variant(&self, primary: &Key) {
        let is_entry = |hash: &u64| matches!(self.table.get(hash), Some(Slot::Entry(it)) if it.key.url() == primary.url());
        if let Some(oldest) = self.index.keys(primary.url_hash()).into_iter().find(is_entry) {
            if let Some(slot) = self.table.get(&oldest) {
                slot.life().end();
            }
            self.table.invalidate(&oldest);
            self.index.remove(primary.url_hash(), oldest);
        }
    }

    /// What the answers of a URL depend on, if they depend on something.
    pub(crate) fn vary_of(&self, primary: &Key) -> Option<Vary> {
        match self.get(primary.hash(), primary.bytes())? {
            Slot::Varies(varies) => Some(varies.vary.clone()),
            _ => None,
        }
    }

    fn put(&self, slot: Slot) {
        let (hash, url_hash) = (slot.key().hash(), slot.key().url_hash());
        self.table.insert(hash, slot);
        self.index.add(url_hash, hash);
        // It may have made room already, on another thread: then nobody else would take it out.
        if !self.table.contains_key(&hash) {
            self.index.remove(url_hash, hash);
        }
    }

    /// Keeps an answer.
    pub(crate) fn insert(&self, entry: &Arc<Entry>) {
        self.counters.stored.fetch_add(1, Relaxed);
        self.admit(entry);
        if let Some(disk) = &self.disk {
            match self.is_former.load(Relaxed) {
                false => disk.write(entry),
                true => disk.forget_url(entry.key.url()),
            }
        }
    }

    /// Another one has taken its place, and has its disk: what comes late is not written.
    pub(crate) fn is_former(&self) {
        self.is_former.store(true, Relaxed);
    }

    /// Takes an answer out again.
    fn take_out(&self, entry: &Arc<Entry>) {
        let hash = entry.key.hash();
        entry.life.end();
        let is_it = |slot: &Slot| matches!(slot, Slot::Entry(it) if Arc::ptr_eq(it, entry));
        if self.table.get(&hash).is_some_and(|it| is_it(&it)) {
            self.table.invalidate(&hash);
        }
    }

    /// Takes an answer into memory.
    fn admit(&self, entry: &Arc<Entry>) {
        self.put(Slot::Entry(entry.clone()));
        entry.body.is_inside();
        // The table makes room for several at a time, which may be much if they are large.
        if entry.size() >= LARGE {
            self.table.run_pending_tasks();
        }
    }

    /// Remembers that requests with this key do not wait for each other.
    pub(crate) fn pass(&self, key: &Key) {
        if self.get(key.hash(), key.bytes()).is_some_and(|it| !matches!(it, Slot::Pass(_))) {
            return;
        }
        let pass = entry::Pass { key: key.clone(), life: entry::Life::default() };
        self.put(Slot::Pass(Arc::new(pass)));
    }

    /// Forgets all answers of a URL, by its part of a key: those too that are still coming. Returns how many were there.
    pub(crate) fn forget_url(&self, url: &[u8]) -> usize {
        let url_hash = key::hash_of(url);
        self.fetches.spoil(url_hash);
        if let Some(disk) = &self.disk {
            disk.forget_url(url);
        }
        let hashes = self.index.keys(url_hash);
        let of_url = |slot: &Slot| slot.key().url() == url;
        let gone = hashes.into_iter().filter(|hash| match self.table.get(hash).filter(of_url) {
            Some(slot) => {
                slot.life().forget();
                self.table.invalidate(hash);
                self.index.remove(url_hash, *hash);
                matches!(slot, Slot::Entry(_))
            }
            None => false,
        });
        let count = gone.count();
        if let Some(disk) = &self.disk {
            disk.forget_url(url);
        }
        count
    }

    /// Forgets answers, or makes them stale; those that are under way are not kept. Returns how many, and whether that is so after
    /// a restart too. Looks at all, which takes a while.
    pub(crate) fn purge(&self, purges: &[Purge]) -> (usize, bool) {
        self.fetches.spoil_all();
        let Some(disk) = &self.disk else { return (self.purge_memory(purges), true) };
        // What is read from there from now on is not given; then what is in memory is forgotten, however slow the disk is.
        let number = disk.purge_begins(purges);
        let count = self.purge_memory(purges);
        let is_noted = disk.purge(purges, number);
        (count, is_noted)
    }

    fn purge_memory(&self, purges: &[Purge]) -> usize {
        let mut count = 0;
        for (hash, slot) in &self.table {
            let Slot::Entry(entry) = &slot else { continue };
            let mut meant = purges.iter().filter(|it| it.is_meant(entry)).peekable();
            if meant.peek().is_none() {
                continue;
            }
            count += 1;
            if meant.all(|it| it.soft) {
                entry.life.expire(entry.age(Instant::now()));
            } else {
                entry.life.forget();
                self.table.invalidate(&*hash);
                self.forget_packed(entry);
            }
        }
        count
    }

    /// `most` of the largest, and of what is asked for most.
    pub(crate) fn report(&self, most: usize) -> CacheReport {
        let entries: Vec<Arc<Entry>> = self
            .table
            .iter()
            .filter_map(|(_, slot)| if let Slot::Entry(it) = slot { Some(it) } else { None })
            .collect();
        let now = Instant::now();
        let top = |value: fn(&Entry) -> u64| {
            let mut sorted: Vec<&Arc<Entry>> = entries.iter().collect();
            sorted.sort_by_key(|it| std::cmp::Reverse(value(it)));
            sorted.into_iter().take(most).map(|it| it.told(now)).collect()
        };
        CacheReport {
            largest: top(|it| it.size() as u64),
            hottest: top(|it| it.hits.load(Relaxed)),
            not_kept: self.not_kept.list(),
        }
    }

    /// Room for a worker's own copy of so many bytes; `None`: there are as many already as may be.
    fn room_for_copy(&self, bytes: u64) -> Option<Room> {
        let max = self.capacity / COPIES_PART;
        // Looked at by each hit that has no copy: nothing that other workers read is written then.
        if self.copied.load(Relaxed) + bytes > max {
            return None;
        }
        let mut room = Room { all: self.copied.clone(), max, bytes: 0 };
        room.grow_to(bytes).then_some(room)
    }

    /// Room that is taken already, whether there is so much or not.
    pub(crate) fn room_taken(&self, bytes: u64) -> Room {
        Room::taken(&self.outside, bytes)
    }

    /// Room for an answer that is coming, of so many bytes as far as is known; `None`: too much is there already that is not in the table.
    pub(crate) fn room(&self, bytes: u64) -> Option<Room> {
        let mut room = Room { all: self.outside.clone(), max: self.capacity / OUTSIDE_PART, bytes: 0 };
        room.grow_to(bytes).then_some(room)
    }
}

/// Memory of an answer that is not in the table, until it is dropped: it is still coming, was evicted while clients read it, or is a worker's copy.
#[derive(Debug)]
pub(crate) struct Room {
    all: Arc<AtomicU64>,
    max: u64,
    bytes: u64,
}

impl Room {
    /// It takes so many bytes in all; false: there is no room for more, and it has what it had.
    pub(crate) fn grow_to(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let fits = |all: u64| all.checked_add(more).filter(|it| *it <= self.max);
        let grown = more == 0 || self.all.fetch_update(Relaxed, Relaxed, fits).is_ok();
        if grown {
            self.bytes += more;
        }
        grown
    }

    /// Of what is there already, whether there is room or not: less is let in then.
    fn taken(all: &Arc<AtomicU64>, bytes: u64) -> Self {
        all.fetch_add(bytes, Relaxed);
        Self { all: all.clone(), max: 0, bytes }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Relaxed);
    }
}

/// Keys are hashes.
#[derive(Debug, Default)]
pub(crate) struct HashedAlready(u64);

impl Hasher for HashedAlready {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = self.0.rotate_left(32) ^ word;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl http_cache::Fields for Fields {
    fn each<'a>(&'a self, each: &mut dyn FnMut(&'a [u8], &'a [u8])) {
        for field in self.iter() {
            each(field.name, field.value);
        }
    }
}

#[cfg(test)]
mod tests;
