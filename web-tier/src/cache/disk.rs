//! The second tier: what is kept in memory is written to disk too, and found there when it is not in memory any more, or since a restart.

use super::{
    Cache, Room, Slot,
    disk_record::{self, Now},
    entry::{Entry, Varies},
    key::Wanted,
    near::Found,
    purge::Purge,
};
use crate::http1::Fields;
use common::clock::{Clock, SystemClock};
pub(crate) use disk_cache::Settings;
use disk_cache::{DiskCache, Note, Position, Record, Totals};
use prost::Message;
use proto::web::v1::PurgeCache;
use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

/// What is fresh for less than this is not written, in seconds.
const LIFETIME_MIN: u64 = 5;

/// Answers that are read at a time, and how long others wait for that before they ask their servers.
const READS: usize = 64;
const READ_WAIT: Duration = Duration::from_secs(1);

/// How long a disk that was slower is left alone.
const SLOW_PAUSE: Duration = Duration::from_secs(10);

/// Purges by prefix or pattern that answers on disk are looked at for, and purges by keys. What was kept before the oldest of more is not used.
const PURGES_MAX: usize = 500;
const TAGS_MAX: usize = 100_000;

/// The files of what outlives what is kept: which of the hub's purges are done, and by which versions of apps.
const DONE: &str = "purged";
const APPS: &str = "apps";
const RULES: &str = "rules";

/// Of what stands in records, and of what may be kept: another one has nothing to do with what there is.
const VERSION: u32 = 1;

/// One server's.
pub(crate) struct Disk {
    store: DiskCache,
    settings: Settings,
    purges: Arc<Mutex<Purges>>,
    reads: Arc<Semaphore>,
    /// It did not answer in time: until then it is not asked.
    slow: Mutex<Option<Instant>>,
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
    /// Purges that are just being written down, by the numbers of those who do it: of whatever is kept anywhere.
    coming: Vec<(u64, Purge)>,
    last: u64,
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
        let coming = || self.coming.iter().map(|it| &it.1).filter(|it| it.is_meant(entry));
        if at < self.floor || coming().any(|it| !it.soft) {
            return Verdict::Gone;
        }
        let tags = entry.tags.iter().filter_map(|it| self.tags.get(&**it));
        let (hard, soft) =
            tags.fold((false, false), |(hard, soft), it| (hard || it.0 > at, soft || it.1 > at));
        let later = || self.others.iter().filter(|it| it.0 > at && it.1.is_meant(entry));
        if hard || later().any(|it| !it.1.soft) {
            Verdict::Gone
        } else if soft || later().next().is_some() || coming().next().is_some() {
            Verdict::Soft
        } else {
            Verdict::Good
        }
    }
}

impl Disk {
    /// Opens a folder; what is there is found soon, if it was kept by the same rules.
    ///
    /// # Errors
    /// It can't be used.
    pub(crate) fn open(settings: Settings, rules: &str) -> io::Result<Arc<Self>> {
        let opened = Self::open_any(settings)?;
        opened.set_rules(rules);
        Ok(opened)
    }

    /// What is kept is kept by these rules; what was kept by others is forgotten.
    pub(crate) fn set_rules(&self, rules: &str) {
        let rules = format!("{VERSION} {rules}");
        if self.store.state(RULES).is_none_or(|it| it != rules.as_bytes()) && self.store.forget_all() {
            self.state_is(RULES, rules.as_bytes());
        }
    }

    fn open_any(settings: Settings) -> io::Result<Arc<Self>> {
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
            (purges.coming, purges.last) = (ours.coming, ours.last);
        })?;
        Ok(Arc::new(Self {
            store,
            settings,
            purges,
            reads: Arc::new(Semaphore::new(READS)),
            slow: Mutex::default(),
            caught_up: Default::default(),
        }))
    }

    /// In the midst of things: what is there is forgotten, as nobody knows what has changed since.
    pub(crate) fn begin_empty(&self) {
        self.forget_all();
        self.purges_are_done();
        self.apps_are_known();
    }

    /// Forgets all.
    pub(crate) fn forget_all(&self) {
        self.store.forget_all();
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
        let is_long = entry.lifetime.saturating_sub(entry.initial_age) >= LIFETIME_MIN;
        match disk_record::of_entry(entry).filter(|_| is_long) {
            // Its bytes alone wait: an entry that somebody holds is one that is still read.
            Some(record) => self.store.put(entry.key.url(), record),
            // What stands there of before is out of date.
            None => self.store.forget(entry.key.url()),
        }
    }

    /// What the answers of a URL depend on.
    pub(super) fn write_varies(&self, varies: &Varies) {
        let now = SystemClock.unix_ms() / 1000;
        self.store.put(varies.key.url(), disk_record::of_varies(varies, now));
    }

    /// Forgets a URL. To be called before it is forgotten in memory, and once more then: what is read or written anew meanwhile is found by
    /// one of both.
    pub(super) fn forget_url(&self, url: &[u8]) {
        self.store.forget(url);
    }

    /// Nothing is given of what these mean, from now on; [`Self::purge`] has to follow.
    pub(super) fn purge_begins(&self, purges: &[Purge]) -> u64 {
        let mut known = locked(&self.purges);
        known.last += 1;
        let number = known.last;
        known.coming.extend(purges.iter().map(|it| (number, it.clone())));
        number
    }

    /// Writes them down, in the same order. Waits for the disk; false: it did not take them, or not in time. Nothing is given of what they mean
    /// in any case, but at the next start nobody would know of them.
    pub(super) fn purge(&self, purges: &[Purge], number: u64) -> bool {
        let noted: Vec<&Purge> = purges.iter().filter(|it| it.soft || !it.is_of_all()).collect();
        let is_forgotten = noted.len() == purges.len() || self.store.forget_all();
        let notes: Vec<Vec<u8>> = noted.iter().map(|it| it.asked().encode_to_vec()).collect();
        let at = if notes.is_empty() { Ok(Position::default()) } else { self.store.note(notes) };
        let mut known = locked(&self.purges);
        if let Ok(at) = at {
            noted.into_iter().for_each(|it| known.add(at, it.clone()));
        }
        known.coming.retain(|it| it.0 != number);
        at.is_ok() && is_forgotten
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

    /// What is there for a request with this key; then it is in memory too. The key is made longer by what the answer depends on.
    pub(crate) async fn bring(
        self: &Arc<Self>,
        cache: &Cache,
        key: &mut Wanted,
        request: &Fields,
        now: Now,
    ) -> Option<Found> {
        if !self.caught_up.iter().all(|it| it.load(Relaxed)) {
            return None;
        }
        // What the answers depend on, then one of them.
        for _ in 0..2 {
            match self.read(cache, key, now).await? {
                Slot::Entry(entry) => return Some(Found::far(entry)),
                Slot::Varies(varies) => {
                    if !key.vary(&varies.vary, request) {
                        return None;
                    }
                }
                Slot::Packed(_) | Slot::Pass(_) => return None,
            }
        }
        None
    }

    /// Brings what stands at a key into memory.
    async fn read(self: &Arc<Self>, cache: &Cache, key: &Wanted, now: Now) -> Option<Slot> {
        let found = self.store.find(key.url(), key.bytes(), now.wall)?;
        let room = cache.room(found.length())?;
        let (record, room) = self.read_record(found, key.bytes(), room, now.monotonic).await?;
        let is_there = || {
            let there = self.store.find(key.url(), key.bytes(), now.wall);
            there.is_some_and(|it| it.position() == found.position())
        };
        let slot = disk_record::read(&record, now).filter(|_| is_there())?;
        let Slot::Entry(entry) = &slot else {
            cache.put(slot.clone());
            return Some(slot);
        };
        // Another request may have brought it meanwhile, or a server something newer.
        if let Some(Slot::Entry(there)) = cache.get(key.hash(), key.bytes())
            && !there.life.is_over()
        {
            return Some(Slot::Entry(there));
        }
        entry.body.is_outside(room);
        let verdict = || locked(&self.purges).verdict(found.position(), entry);
        if verdict() == Verdict::Gone {
            return None;
        }
        cache.admit(entry);
        // What came between has looked for it in memory before it was there: what it has said is looked at once more.
        let said = verdict();
        if !is_there() || said == Verdict::Gone {
            cache.take_out(entry);
            return None;
        }
        if said == Verdict::Soft {
            entry.life.expire(entry.age(now.monotonic));
        } else if found.is_old {
            self.write(entry);
            if verdict() != Verdict::Good || entry.life.is_forgotten() {
                self.store.forget(entry.key.url());
            }
        }
        Some(slot)
    }

    /// Reads it, unless the disk is slow: for a while nobody waits for it then.
    async fn read_record(
        self: &Arc<Self>,
        found: disk_cache::Found,
        key: &[u8],
        room: Room,
        now: Instant,
    ) -> Option<(Record, Room)> {
        if locked(&self.slow).is_some_and(|until| now < until) {
            return None;
        }
        let (this, key) = (self.clone(), key.to_vec());
        let reading = async {
            let permit = self.reads.clone().acquire_owned().await.ok()?;
            // Both are held as long as the disk takes, whoever has left meanwhile.
            let read = spawn_blocking(move || {
                let record = this.store.read(&found, &key);
                drop(permit);
                record.map(|it| (it, room))
            });
            read.await.ok()?
        };
        match timeout(READ_WAIT, reading).await {
            Ok(read) => read,
            Err(_) => {
                *locked(&self.slow) = Some(now + SLOW_PAUSE);
                None
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_note(note: Note) -> Option<(Position, Purge)> {
    let asked = PurgeCache::decode(note.bytes).ok()?;
    Some((note.position, Purge::of(&asked).ok()?))
}
