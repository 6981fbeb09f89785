//! The caches of apps, as this server sees them (docs/caches.md): values are the hub's, and what was read is kept near, in this server's memory, until
//! the hub calls it back. A copy is good while the hub's events reach this server on the stream on which it was promised to be called back.

mod follow;
mod near;
mod own;
mod touches;

pub(crate) use follow::{CacheEvent, Listener};

use crate::session::Link;
use bytes::Bytes;
use common::config::{CacheMode, DeclaredCache};
use follow::Follows;
use near::{Copy, Near};
use own::Own;
use proto::hub::v1::{
    CacheChanged, CacheKey, CacheWrite, CachedEntry, CachesDescribed, Fence, LoadCached,
    cache_outcome::Outcome, cache_write::Write, event,
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Notify, Semaphore};
use touches::Touches;
use triad_client::{CacheWriter, Hub, HubError, WatchStream};

/// The hub is waited for so long: for a write, for a value, and for a value of which there is an old copy.
const WRITE_MAX: Duration = Duration::from_secs(5);
const READ_MAX: Duration = Duration::from_secs(3);
const READ_OR_STALE_MAX: Duration = Duration::from_millis(500);

/// Calls to the hub that confirm have so long.
const CONFIRM_MAX: Duration = Duration::from_secs(1);

/// Values that are read at once before anybody has asked.
const FETCHING_MAX: usize = 64;

/// Why a cache can't be read, or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheError {
    /// The hub did not answer: a write may have happened, or not.
    #[error("the hub can't be reached: {0}")]
    HubLost(String),
    /// The hub refused.
    #[error("{0}")]
    Refused(String),
    /// Leases are the hub's, and these values are not.
    #[error("a cache whose values are a server's own (local, invalidated) takes no X-Copal-Fence")]
    NoFence,
}

impl From<HubError> for CacheError {
    fn from(error: HubError) -> Self {
        match error {
            HubError::Unavailable { .. } => Self::HubLost(error.to_string()),
            HubError::Overloaded(_) | HubError::NoRoom | HubError::Refused(_) => {
                Self::Refused(error.to_string())
            }
        }
    }
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) entry: Option<CachedEntry>,
    pub(crate) from: Source,
}

/// Where a value was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Hub,
    /// In this server's memory, as good as the hub's.
    Near,
    /// In this server's memory, and the hub can't be asked whether it is still so; how long ago it was read there.
    Stale(Duration),
}

/// The caches. Clones are the same ones.
#[derive(Debug, Clone)]
pub(crate) struct Caches(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    hub: Hub,
    writer: CacheWriter,
    started_ms: u64,
    stream: WatchStream,
    link: Arc<Link>,
    near: Near,
    touches: Touches,
    counters: Counters,
    follows: Follows,
    /// What apps have declared, by name; of what they have not, the hub has the values.
    declared: Mutex<HashMap<String, Arc<Declared>>>,
    /// The last change that the hub has told of on its stream, which is to be confirmed.
    called_back: Mutex<(u64, u64)>,
    confirm: Notify,
    /// Room for what is read before anybody asks.
    fetching: Arc<Semaphore>,
}

#[derive(Debug)]
struct Declared {
    cache: DeclaredCache,
    /// Of `local` and `invalidated`.
    own: Own,
}

#[derive(Debug, Default)]
struct Counters {
    near: AtomicU64,
    hub: AtomicU64,
    missed: AtomicU64,
    stale: AtomicU64,
    writes: AtomicU64,
}

impl Caches {
    /// Needs a running tokio runtime; its tasks end when all handles are gone.
    pub(crate) fn start(hub: Hub, stream: WatchStream, link: Arc<Link>, started_ms: u64) -> Self {
        let inner = Arc::new(Inner {
            writer: hub.cache_writer(started_ms),
            started_ms,
            hub,
            stream,
            link,
            near: Near::default(),
            touches: Touches::default(),
            counters: Counters::default(),
            follows: Follows::default(),
            declared: Mutex::default(),
            called_back: Mutex::default(),
            confirm: Notify::new(),
            fetching: Arc::new(Semaphore::new(FETCHING_MAX)),
        });
        tokio::spawn(confirm(Arc::downgrade(&inner)));
        tokio::spawn(touches::run(Arc::downgrade(&inner)));
        tokio::spawn(follow::run(Arc::downgrade(&inner)));
        Self(inner)
    }

    /// An app, or the cluster's file, says how caches are to be. The first word counts, for as long as this server runs: that of the file.
    pub(crate) fn declare(&self, app: &str, caches: &[DeclaredCache]) {
        for cache in caches {
            let name = cache.name.as_str();
            let mut declared = self.0.declared();
            match declared.get(name) {
                Some(known) if known.cache != *cache => {
                    tracing::warn!(
                        app,
                        cache = name,
                        "the cache was declared otherwise before: that stays until this server is started again"
                    );
                }
                Some(_) => {}
                None => {
                    let new = Declared { cache: cache.clone(), own: Own::after(self.0.started_ms) };
                    declared.insert(name.to_owned(), Arc::new(new));
                    if matches!(cache.mode, CacheMode::Invalidated | CacheMode::Replicated) {
                        self.0.follows.declare(name);
                    }
                }
            }
        }
    }

    /// Hears of the changes of a cache from now on; `None`: too many listen already.
    pub(crate) fn listen(&self, cache: &str) -> Option<Listener> {
        Listener::new(&self.0, cache)
    }

    /// An event of the hub's. To be noted before the link's time is.
    pub(crate) fn heard(&self, event: &event::Event, stream: u64) {
        match event {
            event::Event::CacheChanged(changed) => self.changed(changed, stream),
            // Another stream: what came between was not heard.
            event::Event::Resumed(_) | event::Event::Snapshot(_) => {
                let declared = self.0.declared();
                let invalidated = declared.values().filter(|it| it.cache.mode == CacheMode::Invalidated);
                invalidated.for_each(|it| it.own.forget_all());
                drop(declared);
                self.0.follows.another_stream();
            }
            _ => {}
        }
    }

    fn changed(&self, changed: &CacheChanged, stream: u64) {
        let inner = &self.0;
        inner.near.drop_keys(changed.keys.iter().map(|it| (it.cache.as_str(), it.key.as_str())));
        for CacheKey { cache, key } in &changed.keys {
            match inner.declared().get(cache) {
                Some(it) if it.cache.mode == CacheMode::Invalidated => it.own.forget(key),
                Some(it) if it.cache.mode == CacheMode::Replicated => inner.fetch_ahead(cache, key),
                _ => {}
            }
            inner.follows.tell(cache, CacheEvent::Changed(key.clone()));
        }
        for cache in &changed.caches {
            inner.near.drop_cache(cache);
            if let Some(it) = inner.declared().get(cache).filter(|it| it.cache.mode == CacheMode::Invalidated)
            {
                it.own.forget_all();
            }
            inner.follows.tell(cache, CacheEvent::Cleared);
        }
        *inner.called_back.lock().unwrap_or_else(PoisonError::into_inner) = (stream, changed.number);
        inner.confirm.notify_one();
    }

    /// A value. `strong`: as of now, and not as of a moment ago.
    ///
    /// # Errors
    /// [`CacheError`].
    pub(crate) async fn get(&self, cache: &str, key: &str, strong: bool) -> Result<Found, CacheError> {
        let inner = &self.0;
        if let Some(declared) = inner.own(cache) {
            return Ok(inner.get_own(cache, key, &declared));
        }
        let copy = inner.near.get(cache, key).filter(|_| !strong);
        if let Some(copy) = copy.as_ref().filter(|it| inner.is_good(it)) {
            inner.counters.near.fetch_add(1, Relaxed);
            if let Some(entry) = &copy.entry {
                inner.touches.read(cache, key, entry);
            }
            return Ok(Found { entry: copy.told(), from: Source::Near });
        }
        let limit = if copy.is_some() { READ_OR_STALE_MAX } else { READ_MAX };
        match inner.load(cache, key, limit).await {
            Ok(entry) => {
                let counter = if entry.is_some() { &inner.counters.hub } else { &inner.counters.missed };
                counter.fetch_add(1, Relaxed);
                if let Some(entry) = &entry {
                    inner.touches.read(cache, key, entry);
                }
                Ok(Found { entry, from: Source::Hub })
            }
            Err(cause @ HubError::Unavailable { .. }) => match copy.filter(|it| !it.is_over()) {
                Some(copy) => {
                    inner.counters.stale.fetch_add(1, Relaxed);
                    Ok(Found { entry: copy.told(), from: Source::Stale(copy.age()) })
                }
                None => Err(cause.into()),
            },
            Err(cause) => Err(cause.into()),
        }
    }

    /// Writes, once.
    ///
    /// # Errors
    /// [`CacheError`].
    pub(crate) async fn write(
        &self,
        cache: &str,
        write: Write,
        fence: Option<Fence>,
    ) -> Result<Outcome, CacheError> {
        self.0.counters.writes.fetch_add(1, Relaxed);
        let write = self.0.with_times(cache, write);
        if let Some(declared) = self.0.own(cache) {
            if fence.is_some() {
                return Err(CacheError::NoFence);
            }
            // It is told to its end, though the app may go away meanwhile.
            let (inner, cache) = (self.0.clone(), cache.to_owned());
            let written = tokio::spawn(async move { inner.write_own(&cache, write, &declared).await });
            return written.await.unwrap_or_else(|cause| Err(CacheError::HubLost(cause.to_string())));
        }
        let write = CacheWrite { cache: cache.to_owned(), fence, write: Some(write) };
        Ok(self.0.writer.write(write, WRITE_MAX).await?)
    }

    /// A write that is carried out on the hub together with something else, with the times that its cache has.
    ///
    /// # Errors
    /// The values of its cache are each server's own.
    pub(crate) fn beside(&self, write: CacheWrite) -> Result<CacheWrite, String> {
        let cache = &write.cache;
        if self.0.own(cache).is_some() {
            return Err(format!(
                "the cache {cache} is each server's own (local or invalidated): expected one that is on the hub"
            ));
        }
        let write_in = write.write.map(|it| self.0.with_times(cache, it));
        Ok(CacheWrite { write: write_in, ..write })
    }

    /// How all caches are, by the hub.
    ///
    /// # Errors
    /// [`CacheError`].
    pub(crate) async fn describe(&self) -> Result<CachesDescribed, CacheError> {
        Ok(self.0.hub.describe_caches(READ_MAX).await?)
    }

    /// What was asked of this server.
    pub(crate) fn report(&self) -> proto::status::v1::Caches {
        let Counters { near, hub, missed, stale, writes } = &self.0.counters;
        let (mut copies, mut copied_bytes) = self.0.near.size();
        for (count, bytes) in self.0.declared().values().map(|it| it.own.size()) {
            (copies, copied_bytes) = (copies + count, copied_bytes + bytes);
        }
        proto::status::v1::Caches {
            near_hits: near.load(Relaxed),
            hub_hits: hub.load(Relaxed),
            misses: missed.load(Relaxed),
            stale: stale.load(Relaxed),
            writes: writes.load(Relaxed),
            copies,
            copied_bytes,
        }
    }
}

impl Inner {
    /// From now on the hub tells of every change of a cache; what was put before may be outdated.
    fn is_followed(&self, cache: &str) {
        if let Some(it) = self.declared().get(cache).filter(|it| it.cache.mode == CacheMode::Invalidated) {
            it.own.forget_all();
        }
    }

    fn declared(&self) -> MutexGuard<'_, HashMap<String, Arc<Declared>>> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A cache whose values are this server's own.
    fn own(&self, cache: &str) -> Option<Arc<Declared>> {
        let declared = self.declared().get(cache).cloned()?;
        matches!(declared.cache.mode, CacheMode::Local | CacheMode::Invalidated).then_some(declared)
    }

    fn get_own(&self, cache: &str, key: &str, declared: &Declared) -> Found {
        let entry = declared.own.get(key);
        let counter = if entry.is_some() { &self.counters.near } else { &self.counters.missed };
        counter.fetch_add(1, Relaxed);
        let is_good = declared.cache.mode == CacheMode::Local
            || (self.follows.is_told(self.stream.name(), cache) && self.link.current().is_some());
        // Another server may have changed it, and this one has not heard.
        let from = if is_good { Source::Near } else { Source::Stale(Duration::ZERO) };
        Found { entry, from }
    }

    /// Writes to what is this server's own; the others are told to forget theirs.
    async fn write_own(&self, cache: &str, write: Write, declared: &Declared) -> Result<Outcome, CacheError> {
        let key = |key: &str| CacheKey { cache: cache.to_owned(), key: key.to_owned() };
        let (keys, caches) = match &write {
            Write::Put(put) => (vec![key(&put.key)], Vec::new()),
            Write::PutAll(all) => (all.entries.iter().map(|it| key(&it.key)).collect(), Vec::new()),
            Write::Remove(remove) => (vec![key(&remove.key)], Vec::new()),
            Write::Increment(increment) => (vec![key(&increment.key)], Vec::new()),
            Write::Clear(_) => (Vec::new(), vec![cache.to_owned()]),
            Write::Touch(_) => (Vec::new(), Vec::new()),
        };
        let outcome = declared.own.write(write);
        // What is not here may be elsewhere.
        let has_changed = matches!(outcome, Outcome::Stored(_) | Outcome::Number(_) | Outcome::Done(_));
        for key in keys.iter().filter(|_| has_changed) {
            self.follows.tell(cache, CacheEvent::Changed(key.key.clone()));
        }
        if !caches.is_empty() {
            self.follows.tell(cache, CacheEvent::Cleared);
        }
        if declared.cache.mode == CacheMode::Invalidated && has_changed {
            let changed = CacheChanged { keys, caches, number: 0 };
            let told = self.hub.tell_changes(self.stream.name(), changed.clone(), WRITE_MAX).await;
            if let Err(cause) = told {
                // Nobody is to have what the others may not have heard of.
                changed.keys.iter().for_each(|it| declared.own.forget(&it.key));
                return Err(cause.into());
            }
        }
        Ok(outcome)
    }

    /// A write that says nothing of times has those that were declared.
    fn with_times(&self, cache: &str, mut write: Write) -> Write {
        let Some(declared) = self.declared().get(cache).cloned() else { return write };
        let (ttl_ms, idle_ms) = (millis(declared.cache.ttl), millis(declared.cache.idle));
        let set = |ttl: &mut u64, idle: &mut u64| {
            if *ttl == 0 && *idle == 0 {
                (*ttl, *idle) = (ttl_ms, idle_ms);
            }
        };
        match &mut write {
            Write::Put(put) => put.value.iter_mut().for_each(|it| set(&mut it.ttl_ms, &mut it.idle_ms)),
            Write::PutAll(all) => {
                let values = all.entries.iter_mut().filter_map(|it| it.value.as_mut());
                values.for_each(|it| set(&mut it.ttl_ms, &mut it.idle_ms));
            }
            Write::Increment(it) => set(&mut it.ttl_ms, &mut it.idle_ms),
            Write::Remove(_) | Write::Clear(_) | Write::Touch(_) => {}
        }
        write
    }

    /// Reads what has changed before anybody asks for it.
    fn fetch_ahead(self: &Arc<Self>, cache: &str, key: &str) {
        let Ok(room) = self.fetching.clone().try_acquire_owned() else { return };
        let (inner, cache, key) = (self.clone(), cache.to_owned(), key.to_owned());
        tokio::spawn(async move {
            // What can't be had now is had when somebody asks for it.
            let _ = inner.load(&cache, &key, READ_MAX).await;
            drop(room);
        });
    }

    /// Whether a copy is as good as the hub's.
    fn is_good(&self, copy: &Copy) -> bool {
        copy.stream != 0
            && copy.stream == self.stream.name()
            && !copy.is_over()
            && self.link.current().is_some()
    }

    /// Asks the hub; what it will call back is kept.
    async fn load(&self, cache: &str, key: &str, limit: Duration) -> Result<Option<CachedEntry>, HubError> {
        let (stream, before, read) = (self.stream.name(), self.near.mark(cache, key), Instant::now());
        let load = LoadCached { cache: cache.to_owned(), key: key.to_owned(), watch: stream };
        let mut loaded = self.hub.load_cached(load, limit).await?;
        // What came is a part of a larger piece of memory.
        if let Some(value) = loaded.entry.as_mut().and_then(|it| it.value.as_mut()) {
            value.value = Bytes::copy_from_slice(&value.value);
        }
        if loaded.told {
            let copy = Copy { entry: loaded.entry.clone(), stream, read };
            self.near.put(cache, key, copy, before);
        }
        Ok(loaded.entry)
    }
}

/// Tells the hub that what it has called back is gone: one call for all that came meanwhile.
async fn confirm(caches: std::sync::Weak<Inner>) {
    loop {
        let Some(inner) = caches.upgrade() else { return };
        let notified = tokio::time::timeout(Duration::from_secs(10), inner.confirm.notified()).await;
        if notified.is_err() {
            continue;
        }
        let (watch, number) = *inner.called_back.lock().unwrap_or_else(PoisonError::into_inner);
        if watch == 0 {
            continue;
        }
        // If it is not heard, the hub waits until nobody can believe a copy.
        let _late = inner.hub.confirm_changes(watch, number, CONFIRM_MAX).await;
    }
}

fn millis(time: Option<Duration>) -> u64 {
    time.map_or(0, |it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX))
}
