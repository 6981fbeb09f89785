//! One request for an answer that many want: the first asks, the others wait, and read what comes as it comes. Whoever asks holds nobody: if it
//! fails, goes away, takes long, or gets an answer that is not for all, the others ask themselves, all at once.

use super::{Cache, entry::Entry, key::Key};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{sync::Notify, time::timeout};

const SHARDS: usize = 64;

/// The requests that are under way, by the hashes of their keys; sharded by their URLs.
#[derive(Debug)]
pub(crate) struct Fetches([Mutex<HashMap<u64, Arc<Fetch>>>; SHARDS]);

impl Default for Fetches {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

/// A request that is under way.
#[derive(Debug)]
pub(crate) struct Fetch {
    url_hash: u64,
    key: Key,
    state: Mutex<State>,
    changed: Notify,
    /// How many have waited for it.
    followers: AtomicU32,
    /// What it brings is out of date before it is there.
    spoiled: AtomicBool,
}

#[derive(Debug, Clone, Default)]
enum State {
    #[default]
    Asked,
    Answered(Arc<Entry>),
    /// Whoever waits asks itself.
    Released,
}

/// What a request does that is not answered yet.
#[derive(Debug)]
pub(crate) enum Turn {
    /// It asks, for all.
    Lead(Lead),
    /// It waits.
    Follow(Arc<Fetch>),
}

/// The right to ask. Dropped without an answer, those who wait are released.
#[derive(Debug)]
pub(crate) struct Lead {
    cache: Arc<Cache>,
    hash: u64,
    fetch: Arc<Fetch>,
    ended: bool,
}

impl Fetches {
    fn shard(&self, url_hash: u64) -> MutexGuard<'_, HashMap<u64, Arc<Fetch>>> {
        self.0[(url_hash >> 32) as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes part in the request with this key, whose URL ends at `url`.
    pub(crate) fn turn(&self, cache: &Arc<Cache>, key: &[u8], url: usize) -> Turn {
        let (hash, url_hash) = (cache.hash(key), super::key::hash_of_url(&key[..url]));
        let mut shard = self.shard(url_hash);
        if let Some(fetch) = shard.get(&hash)
            && fetch.key.bytes() == key
            && !fetch.spoiled.load(Relaxed)
        {
            fetch.followers.fetch_add(1, Relaxed);
            return Turn::Follow(fetch.clone());
        }
        let lead = Lead::new(cache, hash, Key::new(key, url));
        shard.insert(hash, lead.fetch.clone());
        Turn::Lead(lead)
    }

    /// Asks for itself, where answers are for one client as a rule; `None`: so does another already, and one is enough to find out.
    pub(crate) fn alone(&self, cache: &Arc<Cache>, key: &[u8], url: usize) -> Option<Lead> {
        let (hash, url_hash) = (cache.hash(key), super::key::hash_of_url(&key[..url]));
        let mut shard = self.shard(url_hash);
        if shard.contains_key(&hash) {
            return None;
        }
        let lead = Lead::new(cache, hash, Key::new(key, url));
        shard.insert(hash, lead.fetch.clone());
        Some(lead)
    }

    /// Whether somebody asks already.
    pub(crate) fn is_asked(&self, cache: &Cache, key: &Key) -> bool {
        self.shard(key.url_hash()).contains_key(&cache.hash(key.bytes()))
    }

    /// Nothing of what is under way is kept.
    pub(super) fn spoil_all(&self) {
        for shard in &self.0 {
            for fetch in shard.lock().unwrap_or_else(PoisonError::into_inner).values() {
                fetch.spoiled.store(true, Relaxed);
            }
        }
    }

    /// What is under way for a URL is not kept.
    pub(super) fn spoil(&self, url_hash: u64) {
        for fetch in self.shard(url_hash).values().filter(|it| it.url_hash == url_hash) {
            fetch.spoiled.store(true, Relaxed);
        }
    }
}

impl Fetch {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: State) {
        *self.state() = state;
        self.changed.notify_waiters();
    }

    /// Waits for the answer, of which at least the head is there then; `None`: ask yourself.
    pub(crate) async fn wait(&self, max: Duration) -> Option<Arc<Entry>> {
        let waiting = async {
            loop {
                let mut changed = std::pin::pin!(self.changed.notified());
                changed.as_mut().enable();
                let state = self.state().clone();
                match state {
                    State::Asked => changed.await,
                    State::Answered(entry) => return Some(entry),
                    State::Released => return None,
                }
            }
        };
        timeout(max, waiting).await.ok().flatten()
    }
}

impl Lead {
    fn new(cache: &Arc<Cache>, hash: u64, key: Key) -> Self {
        let fetch = Arc::new(Fetch {
            url_hash: key.url_hash(),
            key,
            state: Mutex::default(),
            changed: Notify::new(),
            followers: AtomicU32::new(0),
            spoiled: AtomicBool::new(false),
        });
        Self { cache: cache.clone(), hash, fetch, ended: false }
    }

    /// The answer is there, or its head: those who wait read along.
    pub(crate) fn answered(&self, entry: &Arc<Entry>) {
        self.fetch.set(State::Answered(entry.clone()));
    }

    /// Whether the answer may be kept: nothing has changed at its URL meanwhile.
    pub(crate) fn is_good(&self) -> bool {
        !self.fetch.spoiled.load(Relaxed)
    }

    /// The answer is not for all, whoever asks: for a while those who ask do not wait for each other.
    pub(crate) fn refused(mut self) {
        // Only where requests came together is it worth remembering.
        if self.fetch.followers.load(Relaxed) > 0 {
            self.cache.pass(&self.fetch.key);
        }
        self.end(State::Released);
    }

    /// It is over: the answer is kept, or was of no use.
    pub(crate) fn done(mut self) {
        self.remove();
        self.ended = true;
    }

    fn remove(&self) {
        let mut shard = self.cache.fetches.shard(self.fetch.url_hash);
        if shard.get(&self.hash).is_some_and(|it| Arc::ptr_eq(it, &self.fetch)) {
            shard.remove(&self.hash);
        }
    }

    fn end(&mut self, state: State) {
        self.remove();
        self.fetch.set(state);
        self.ended = true;
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if !self.ended {
            self.end(State::Released);
        }
    }
}
