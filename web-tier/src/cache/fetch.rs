//! One request for an answer that many want: the first asks, the others wait, and read what comes as it comes. Whoever asks holds nobody: if it
//! fails, goes away, takes long, or gets an answer that is not for all, the others ask themselves, all at once.

use super::{
    Cache, HashedAlready,
    entry::Entry,
    key::{Key, Wanted},
};
use std::{
    collections::HashMap,
    hash::BuildHasherDefault,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{sync::Notify, time::timeout};

const SHARDS: usize = 64;

type Asked = HashMap<u64, Arc<Fetch>, BuildHasherDefault<HashedAlready>>;

/// The requests that are under way, by the hashes of their keys; sharded by their URLs.
#[derive(Debug)]
pub(crate) struct Fetches([Mutex<Asked>; SHARDS]);

impl Default for Fetches {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

/// A request that is under way.
#[derive(Debug)]
pub(crate) struct Fetch {
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
    fetch: Arc<Fetch>,
    ended: bool,
}

impl Fetches {
    fn shard(&self, url_hash: u64) -> MutexGuard<'_, Asked> {
        self.0[(url_hash >> 32) as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes part in the request with this key.
    pub(crate) fn turn(&self, cache: &Arc<Cache>, key: &Wanted) -> Turn {
        let mut shard = self.shard(key.url_hash());
        if let Some(fetch) = shard.get(&key.hash())
            && fetch.key.bytes() == key.bytes()
            && !fetch.spoiled.load(Relaxed)
        {
            fetch.followers.fetch_add(1, Relaxed);
            return Turn::Follow(fetch.clone());
        }
        Turn::Lead(Self::lead(&mut shard, cache, key))
    }

    /// Asks for itself, where answers are for one client as a rule; `None`: so does another already, and one is enough to find out.
    pub(crate) fn alone(&self, cache: &Arc<Cache>, key: &Wanted) -> Option<Lead> {
        let mut shard = self.shard(key.url_hash());
        (!shard.contains_key(&key.hash())).then(|| Self::lead(&mut shard, cache, key))
    }

    fn lead(shard: &mut Asked, cache: &Arc<Cache>, key: &Wanted) -> Lead {
        let lead = Lead::new(cache, key.key());
        shard.insert(key.hash(), lead.fetch.clone());
        lead
    }

    /// Whether somebody asks already.
    pub(crate) fn is_asked(&self, key: &Key) -> bool {
        self.shard(key.url_hash()).contains_key(&key.hash())
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
        for fetch in self.shard(url_hash).values().filter(|it| it.key.url_hash() == url_hash) {
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
    fn new(cache: &Arc<Cache>, key: Key) -> Self {
        let fetch = Arc::new(Fetch {
            key,
            state: Mutex::default(),
            changed: Notify::new(),
            followers: AtomicU32::new(0),
            spoiled: AtomicBool::new(false),
        });
        Self { cache: cache.clone(), fetch, ended: false }
    }

    /// Of the answer.
    pub(crate) fn key(&self) -> &Key {
        &self.fetch.key
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
        let key = &self.fetch.key;
        let mut shard = self.cache.fetches.shard(key.url_hash());
        if shard.get(&key.hash()).is_some_and(|it| Arc::ptr_eq(it, &self.fetch)) {
            shard.remove(&key.hash());
        }
    }

    fn end(&mut self, state: State) {
        self.remove();
        // Whom nobody finds any more, and nobody has found, nobody waits for.
        if Arc::strong_count(&self.fetch) > 1 {
            self.fetch.set(state);
        }
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
