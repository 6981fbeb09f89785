//! The caches of apps, as this server sees them (docs/caches.md): values are the hub's, and what was read is kept near, in this server's memory, until
//! the hub calls it back. A copy is good while the hub's events reach this server on the stream on which it was promised to be called back.

mod near;
mod touches;

use crate::session::Link;
use near::{Copy, Near};
use proto::hub::v1::{
    CacheWrite, CachedEntry, CachesDescribed, Fence, LoadCached, cache_outcome::Outcome, cache_write::Write,
    event,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use touches::Touches;
use triad_client::{CacheWriter, Hub, HubError, WatchStream};

/// The hub is waited for so long: for a write, for a value, and for a value of which there is an old copy.
const WRITE_MAX: Duration = Duration::from_secs(5);
const READ_MAX: Duration = Duration::from_secs(3);
const READ_OR_STALE_MAX: Duration = Duration::from_millis(500);

/// Calls to the hub that confirm have so long.
const CONFIRM_MAX: Duration = Duration::from_secs(1);

/// Why a cache can't be read, or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheError {
    /// The hub did not answer: a write may have happened, or not.
    #[error("the hub can't be reached: {0}")]
    HubLost(String),
    /// The hub refused.
    #[error("{0}")]
    Refused(String),
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
    stream: WatchStream,
    link: Arc<Link>,
    near: Near,
    touches: Touches,
    counters: Counters,
    /// The last change that the hub has told of on its stream, which is to be confirmed.
    called_back: std::sync::Mutex<(u64, u64)>,
    confirm: Notify,
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
            hub,
            stream,
            link,
            near: Near::default(),
            touches: Touches::default(),
            counters: Counters::default(),
            called_back: std::sync::Mutex::default(),
            confirm: Notify::new(),
        });
        tokio::spawn(confirm(Arc::downgrade(&inner)));
        tokio::spawn(touches::run(Arc::downgrade(&inner)));
        Self(inner)
    }

    /// An event of the hub's. To be noted before the link's time is.
    pub(crate) fn heard(&self, event: &event::Event) {
        let event::Event::CacheChanged(changed) = event else { return };
        self.0.near.drop_keys(changed.keys.iter().map(|it| (it.cache.as_str(), it.key.as_str())));
        changed.caches.iter().for_each(|cache| self.0.near.drop_cache(cache));
        let stream = self.0.stream.name();
        *self.0.called_back.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
            (stream, changed.number);
        self.0.confirm.notify_one();
    }

    /// A value. `strong`: as of now, and not as of a moment ago.
    ///
    /// # Errors
    /// [`CacheError`].
    pub(crate) async fn get(&self, cache: &str, key: &str, strong: bool) -> Result<Found, CacheError> {
        let inner = &self.0;
        let copy = inner.near.get(cache, key).filter(|_| !strong);
        if let Some(copy) = copy.as_ref().filter(|it| inner.is_good(it)) {
            inner.counters.near.fetch_add(1, Relaxed);
            inner.touches.read(cache, key, &copy.entry, true);
            return Ok(Found { entry: copy.told(), from: Source::Near });
        }
        let limit = if copy.is_some() { READ_OR_STALE_MAX } else { READ_MAX };
        match inner.load(cache, key, limit).await {
            Ok(entry) => {
                let counter = if entry.is_some() { &inner.counters.hub } else { &inner.counters.missed };
                counter.fetch_add(1, Relaxed);
                if let Some(entry) = &entry {
                    inner.touches.read(cache, key, entry, false);
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
        let write = CacheWrite { cache: cache.to_owned(), fence, write: Some(write) };
        Ok(self.0.writer.write(write, WRITE_MAX).await?)
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
        let (copies, copied_bytes) = self.0.near.size();
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
    /// Whether a copy is as good as the hub's.
    fn is_good(&self, copy: &Copy) -> bool {
        copy.stream != 0
            && copy.stream == self.stream.name()
            && !copy.is_over()
            && self.link.current().is_some()
    }

    /// Asks the hub; what it will call back is kept.
    async fn load(&self, cache: &str, key: &str, limit: Duration) -> Result<Option<CachedEntry>, HubError> {
        let (stream, before) = (self.stream.name(), self.near.mark(cache, key));
        let load = LoadCached { cache: cache.to_owned(), key: key.to_owned(), watch: stream };
        let loaded = self.hub.load_cached(load, limit).await?;
        if loaded.told {
            let copy = Copy { entry: loaded.entry.clone(), stream, read: Instant::now() };
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
        let (watch, number) = *inner.called_back.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if watch == 0 {
            continue;
        }
        // If it is not heard, the hub waits until nobody can believe a copy.
        let _late = inner.hub.confirm_changes(watch, number, CONFIRM_MAX).await;
    }
}
