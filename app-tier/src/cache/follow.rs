//! Caches of which this server hears every change: those that are `invalidated` or `replicated`, and those whose events an app listens to. What is
//! followed is said anew on each stream of the hub's events.

use super::Inner;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use tokio::sync::{Notify, broadcast};

/// Events that wait for one listener; one that is slower is told that it has missed some.
const EVENTS_MAX: usize = 256;

/// Listeners of a server.
const LISTENERS_MAX: usize = 1024;

/// The hub answers within this, or it is asked again after as long a wait.
const FOLLOW_MAX: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(100);

/// What has become of a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CacheEvent {
    /// This key has another value, or none.
    Changed(String),
    /// All of them.
    Cleared,
    /// Nobody knows which: the hub was not heard for a while, or the listener was too slow.
    Missed,
}

/// What is followed.
#[derive(Debug, Default)]
pub(super) struct Follows {
    inner: Mutex<Followed>,
    /// There is something new to say to the hub.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Followed {
    /// For as long as this server runs.
    declared: BTreeSet<String>,
    listeners: BTreeMap<String, (usize, broadcast::Sender<CacheEvent>)>,
    /// On which stream the hub has said that it tells of these.
    told: (u64, BTreeSet<String>),
}

impl Followed {
    fn wanted(&self) -> BTreeSet<String> {
        self.declared.iter().chain(self.listeners.keys()).cloned().collect()
    }
}

impl Follows {
    fn lock(&self) -> MutexGuard<'_, Followed> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on.
    pub(super) fn declare(&self, cache: &str) {
        if self.lock().declared.insert(cache.to_owned()) {
            self.changed.notify_one();
        }
    }

    /// Whether the hub tells of every change of a cache on this stream.
    pub(super) fn is_told(&self, stream: u64, cache: &str) -> bool {
        let followed = self.lock();
        stream != 0 && followed.told.0 == stream && followed.told.1.contains(cache)
    }

    /// Another stream has begun: what came between is not known.
    pub(super) fn another_stream(&self) {
        self.lock().listeners.values().for_each(|(_, events)| drop(events.send(CacheEvent::Missed)));
        self.changed.notify_one();
    }

    pub(super) fn tell(&self, cache: &str, event: CacheEvent) {
        if let Some((_, events)) = self.lock().listeners.get(cache) {
            // Nobody may listen any more.
            let _ = events.send(event);
        }
    }

    /// `None`: too many listen.
    fn listen(&self, cache: &str) -> Option<broadcast::Receiver<CacheEvent>> {
        let mut followed = self.lock();
        if followed.listeners.values().map(|it| it.0).sum::<usize>() >= LISTENERS_MAX {
            return None;
        }
        let (count, events) = followed
            .listeners
            .entry(cache.to_owned())
            .or_insert_with(|| (0, broadcast::channel(EVENTS_MAX).0));
        *count += 1;
        let receiver = events.subscribe();
        drop(followed);
        self.changed.notify_one();
        Some(receiver)
    }

    fn stop_listening(&self, cache: &str) {
        let mut followed = self.lock();
        if let Some((count, _)) = followed.listeners.get_mut(cache) {
            *count -= 1;
            if *count == 0 {
                followed.listeners.remove(cache);
                drop(followed);
                self.changed.notify_one();
            }
        }
    }
}

/// Who listens to a cache.
#[derive(Debug)]
pub(crate) struct Listener {
    caches: Arc<Inner>,
    cache: String,
    events: broadcast::Receiver<CacheEvent>,
}

impl Listener {
    /// `None`: too many listen already.
    pub(super) fn new(caches: &Arc<Inner>, cache: &str) -> Option<Self> {
        let events = caches.follows.listen(cache)?;
        Some(Self { caches: caches.clone(), cache: cache.to_owned(), events })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> CacheEvent {
        match self.events.recv().await {
            Ok(event) => event,
            Err(broadcast::error::RecvError::Lagged(_)) => CacheEvent::Missed,
            // Its sender is there for as long as this is.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }

    /// Waits until every change from now on is heard; false: not in time.
    pub(crate) async fn is_told(&self, limit: Duration) -> bool {
        let told = async {
            while !self.caches.follows.is_told(self.caches.stream.name(), &self.cache) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(limit, told).await.is_ok()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.caches.follows.stop_listening(&self.cache);
    }
}

/// Says to the hub what is followed, until the caches are gone.
pub(super) async fn run(caches: Weak<Inner>) {
    loop {
        let Some(inner) = caches.upgrade() else { return };
        let (stream, wanted) = (inner.stream.name(), inner.follows.lock().wanted());
        if inner.follows.lock().told == (stream, wanted.clone()) || stream == 0 {
            // What has no event of its own, as a stream's end, is looked for.
            let _ = tokio::time::timeout(AGAIN, inner.follows.changed.notified()).await;
            continue;
        }
        // What is not wanted any more may not be told from here on.
        inner.follows.lock().told.1.retain(|it| wanted.contains(it));
        let is_nothing = wanted.is_empty() && inner.follows.lock().told.1.is_empty();
        let said = match is_nothing {
            true => Ok(()),
            false => inner.hub.follow_caches(stream, wanted.iter().cloned().collect(), FOLLOW_MAX).await,
        };
        match said {
            Ok(()) => {
                let (before, told) = inner.follows.lock().told.clone();
                let is_new = |it: &&String| before != stream || !told.contains(*it);
                wanted.iter().filter(is_new).for_each(|it| inner.is_followed(it));
                let mut followed = inner.follows.lock();
                followed.told = (stream, wanted);
                // What changed between the two streams, or before the hub was told on this one, nobody has heard.
                if before != 0 && before != stream {
                    followed.listeners.values().for_each(|(_, events)| drop(events.send(CacheEvent::Missed)));
                }
            }
            Err(cause) => {
                tracing::debug!(%cause, "the hub was not told which caches are followed");
                // It may have heard.
                inner.follows.lock().told.1.clear();
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}
