//! The second tier: what is kept in memory is written to disk too, and found there when it is not in memory any more, or since a restart.

use super::{
    Cache, Slot,
    disk_record::{self, Now},
    entry::{Entry, Varies},
    key,
    near::Found,
    purge::Purge,
};
use crate::http1::Fields;
use common::clock::{Clock, SystemClock};
pub(crate) use disk_cache::Settings;
use disk_cache::{DiskCache, Note, Position, Totals};
use prost::Message;
use proto::web::v1::PurgeCache;
use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

/// What is fresh for less than this is not written, in seconds.
const LIFETIME_MIN: u64 = 5;

/// Answers that are read at a time, and how long others wait for that before they ask their servers.
const READS: usize = 64;
const READ_WAIT: Duration = Duration::from_secs(1);

/// Purges by prefix or pattern that answers on disk are looked at for, and purges by keys. What was kept before the oldest of more is not used.
const PURGES_MAX: usize = 500;
const TAGS_MAX: usize = 100_000;

/// The files of what outlives what is kept: which of the hub's purges are done, and by which versions of apps.
const DONE: &str = "purged";
const APPS: &str = "apps";

/// One server's.
pub(crate) struct Disk {
    store: DiskCache,
    settings: Settings,
    purges: Arc<Mutex<Purges>>,
    reads: Semaphore,
    /// What was purged and which apps have changed while this server was away is known: before nothing is given.
    caught_up: [AtomicBool; 2],
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Disk({:?}, {:?})", self.settings, self.store)
    }
}

/// What was purged, and when, by places in the log.
#[derive(Debug, Default)]
struct Purges {
    others: Vec<(Position, Purge)>,
    /// By surrogate keys: hard and soft.
    tags: HashMap<String, (Position, Position)>,
    /// What is before it is not used.
    floor: Position,
}

/// What purges say of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    /// Its server is asked first.
    Soft,
    Gone,
}

impl Purges {
    fn add(&mut self, position: Position, purge: Purge) {
        match purge.tag() {
            Some(tag) => {
                let known = self.tags.entry(tag.to_owned()).or_default();
                let place = if purge.soft { &mut known.1 } else { &mut known.0 };
                *place = (*place).max(position);
                if self.tags.len() > TAGS_MAX {
                    self.floor = position;
                    self.tags.clear();
                }
            }
            None => {
                self.others.push((position, purge));
                if self.others.len() > PURGES_MAX {
                    self.floor = self.floor.max(self.others.remove(0).0);
                }
            }
        }
    }

    fn verdict(&self, at: Position, entry: &Entry) -> Verdict {
        if at < self.floor {
            return Verdict::Gone;
        }
        let tags = entry.tags.iter().filter_map(|it| self.tags.get(&**it));
        let (hard, soft) =
            tags.fold((false, false), |(hard, soft), it| (hard || it.0 > at, soft || it.1 > at));
        let later = || self.others.iter().filter(|it| it.0 > at && it.1.is_meant(entry));
        if hard || later().any(|it| !it.1.soft) {
            Verdict::Gone
        } else if soft || later().next().is_some() {
            Verdict::Soft
        } else {
            Verdict::Good
        }
    }
}

impl Disk {
    /// Opens a folder; what is there is found soon.
    ///
    /// # Errors
    /// It can't be used.
    pub(crate) fn open(settings: Settings) -> io::Result<Arc<Self>> {
        let purges = Arc::<Mutex<Purges>>::default();
        let of_loader = purges.clone();
        let store = DiskCache::open(&settings, move |notes| {
            let mut purges = locked(&of_loader);
            // Those of this start come after all that were before.
            let ours = std::mem::take(&mut *purges);
            notes.into_iter().filter_map(read_note).for_each(|(at, purge)| purges.add(at, purge));
            for (tag, places) in ours.tags {
                let known = purges.tags.entry(tag).or_default();
                *known = (known.0.max(places.0), known.1.max(places.1));
            }
            ours.others.into_iter().for_each(|(at, purge)| purges.add(at, purge));
            purges.floor = purges.floor.max(ours.floor);
        })?;
        Ok(Arc::new(Self {
            store,
            settings,
            purges,
            reads: Semaphore::new(READS),
            caught_up: Default::default(),
        }))
    }

    /// Opens a folder in the midst of things, and forgets what is there: nobody knows what has changed since.
    ///
    /// # Errors
    /// It can't be used.
    pub(crate) fn open_empty(settings: Settings) -> io::Result<Arc<Self>> {
        let opened = Self::open(settings)?;
        opened.store.forget_all();
        opened.purges_are_done();
        opened.apps_are_known();
        Ok(opened)
    }

    /// Where it is, and how large.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The same folder, with another size.
    pub(crate) fn resize(&self, capacity: u64) {
        self.store.set_capacity(capacity);
    }

    /// What there is.
    pub(crate) fn totals(&self) -> Totals {
        self.store.totals()
    }

    /// Writes what is still to be written. Waits for the disk.
    pub(crate) fn close(&self) {
        self.store.close();
    }

    /// An answer that is kept.
    pub(super) fn write(&self, entry: &Entry) {
        if entry.lifetime.saturating_sub(entry.initial_age) >= LIFETIME_MIN {
            // Its bytes alone wait: an entry that somebody holds is one that is still read.
            disk_record::of_entry(entry).into_iter().for_each(|it| self.store.put(entry.key.url(), it));
        }
    }

    /// What the answers of a URL depend on.
    pub(super) fn write_varies(&self, varies: &Varies) {
        let now = SystemClock.unix_ms() / 1000;
        self.store.put(varies.key.url(), disk_record::of_varies(varies, now));
    }

    /// Forgets a URL. To be called before it is forgotten in memory: what is read meanwhile is forgotten there.
    pub(super) fn forget_url(&self, url: &[u8]) {
        self.store.forget(url);
    }

    /// Forgets what was purged, in the same order. Waits for the disk.
    pub(super) fn purge(&self, purges: &[Purge]) {
        for purge in purges {
            if purge.is_of_all() && !purge.soft {
                self.store.forget_all();
                continue;
            }
            // The store forgets all if it can't write it down.
            if let Ok(at) = self.store.note(purge.asked().encode_to_vec()) {
                locked(&self.purges).add(at, purge.clone());
            }
        }
    }

    /// The hub's purges are done.
    pub(crate) fn purges_are_done(&self) {
        self.caught_up[0].store(true, Relaxed);
    }

    /// What is kept is by the apps as the hub has them.
    pub(crate) fn apps_are_known(&self) {
        self.caught_up[1].store(true, Relaxed);
    }

    /// The number of the last of the hub's purges that is done.
    pub(crate) fn done(&self) -> Option<u64> {
        let bytes: [u8; 8] = self.store.state(DONE)?.try_into().ok()?;
        Some(u64::from_le_bytes(bytes))
    }

    /// It is another one.
    pub(crate) fn set_done(&self, number: u64) {
        self.state_is(DONE, &number.to_le_bytes());
    }

    /// The versions of apps by which the answers are, as [`Self::set_apps`] has put them.
    pub(crate) fn apps(&self) -> Option<Vec<u8>> {
        self.store.state(APPS)
    }

    /// They are others.
    pub(crate) fn set_apps(&self, apps: &[u8]) {
        self.state_is(APPS, apps);
    }

    fn state_is(&self, name: &str, bytes: &[u8]) {
        if let Err(cause) = self.store.set_state(name, bytes) {
            tracing::warn!(%cause, "the proxy cache's folder can't be written");
        }
    }

    /// What is there for a request with this key, whose URL ends at `url`; then it is in memory too. The key is made longer by what the answer depends on.
    pub(crate) async fn bring(
        self: &Arc<Self>,
        cache: &Cache,
        (key, url): (&mut Vec<u8>, usize),
        request: &Fields,
        now: Now,
    ) -> Option<Found> {
        if !self.caught_up.iter().all(|it| it.load(Relaxed)) {
            return None;
        }
        loop {
            match self.read(cache, key, url, now).await? {
                Slot::Entry(entry) => return Some(Found::far(entry)),
                Slot::Varies(varies) => {
                    if !key::vary(key, &varies.vary, request) {
                        return None;
                    }
                }
                Slot::Packed(_) | Slot::Pass(_) => return None,
            }
        }
    }

    /// Brings what stands at a key into memory.
    async fn read(self: &Arc<Self>, cache: &Cache, key: &[u8], url: usize, now: Now) -> Option<Slot> {
        let found = self.store.find(&key[..url], key, now.wall)?;
        let room = cache.room(found.length())?;
        let _permit = timeout(READ_WAIT, self.reads.acquire()).await.ok()?.ok()?;
        let (this, of_reader) = (self.clone(), key.to_vec());
        let record = spawn_blocking(move || this.store.read(&found, &of_reader)).await.ok()??;
        let slot = disk_record::read(&record, now)?;
        let Slot::Entry(entry) = &slot else {
            cache.put(cache.hash(key), slot.clone());
            return Some(slot);
        };
        entry.body.is_outside(room);
        let verdict = || locked(&self.purges).verdict(found.position(), entry);
        match verdict() {
            Verdict::Gone => return None,
            Verdict::Soft => entry.life.expire(entry.age(now.monotonic)),
            Verdict::Good => {}
        }
        cache.admit(entry);
        // What may have come between looked for it in memory before it was there, or will.
        let is_there = || {
            let there = self.store.find(&key[..url], key, now.wall);
            there.is_some_and(|it| it.position() >= found.position()) && verdict() != Verdict::Gone
        };
        if !is_there() {
            cache.take_out(entry);
            return None;
        }
        if found.is_old {
            self.write(entry);
        }
        Some(slot)
    }
}

fn locked(purges: &Mutex<Purges>) -> MutexGuard<'_, Purges> {
    purges.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_note(note: Note) -> Option<(Position, Purge)> {
    let asked = PurgeCache::decode(note.bytes).ok()?;
    Some((note.position, Purge::of(&asked).ok()?))
}
