//! Copies of cached values are called back when the values change: whoever has one is told, and says when it is gone. Whoever has written is answered
//! when nobody believes an older copy of what was written any more.

use super::{Feed, Inner, Watcher};
use crate::{
    copies::{Copies, Place, place},
    state::Change,
};
use common::witness::TIMES;
use proto::hub::v1::{CacheChanged, ConfirmChanges, Event, event};
use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

/// A watcher that has had no sign of life for so long believes no copy any more.
const BELIEVED: Duration = TIMES.believed.saturating_mul(2);

/// A server that was too late to confirm keeps no copies for so long: else all who write would wait for it again and again.
const LATE: Duration = Duration::from_secs(30);

/// What is called back.
#[derive(Debug, Default)]
pub(super) struct Callbacks {
    copies: Copies,
    /// The number of the last word about copies.
    told: u64,
    /// Who was told that its copy of a value is outdated, by which word, and has not confirmed it.
    pending: HashMap<Place, Vec<(u64, u64)>>,
    unsure: Vec<Unsure>,
    /// Servers that were too late, and until when they are not trusted with copies.
    late: HashMap<String, Instant>,
}

/// What a watcher may believe that is gone. What was believed of the leader before this one nobody believes any more: see `Times::are_safe`, and
/// [`crate::Triad::stop`].
#[derive(Debug)]
struct Unsure {
    until: Instant,
    places: HashSet<Place>,
    caches: HashSet<String>,
}

/// A watcher's part.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Caches of which it is told every change.
    follows: HashSet<String>,
    /// The last word about copies that it was told.
    told: u64,
    /// What it has not confirmed, by number.
    owes: VecDeque<(u64, Vec<Place>)>,
}

fn cache_of(place: &str) -> &str {
    place.split('\0').next().unwrap_or_default()
}

/// Whether a place stands for all of its cache.
fn is_whole(place: &str) -> bool {
    place.ends_with('\0')
}

/// Whether what is believed of one place matters to who has written another one.
fn concerns(believed: &str, written: &str) -> bool {
    believed == written
        || ((is_whole(believed) || is_whole(written)) && cache_of(believed) == cache_of(written))
}

impl Callbacks {
    /// What outlives a new state: what was believed of the old one.
    pub(super) fn again(&mut self) -> Self {
        let (unsure, late) = (std::mem::take(&mut self.unsure), std::mem::take(&mut self.late));
        Self { unsure, late, ..Self::default() }
    }

    fn is_late(&mut self, server: &str) -> bool {
        let now = Instant::now();
        self.late.retain(|_, until| *until > now);
        self.late.contains_key(server)
    }

    /// A watcher is gone: it may go on to believe what it had.
    pub(super) fn gone(&mut self, watcher: &mut Watcher) {
        let now = Instant::now();
        self.unsure.retain(|it| it.until > now);
        let mut places = self.copies.gone(watcher.watch);
        for (number, owed) in watcher.account.owes.drain(..) {
            for place in owed {
                self.is_settled(&place, (watcher.watch, number));
                places.insert(place);
            }
        }
        let caches = std::mem::take(&mut watcher.account.follows);
        if !places.is_empty() || !caches.is_empty() {
            let until = Instant::now() + BELIEVED;
            self.unsure.push(Unsure { until, places, caches });
        }
    }

    /// A watcher has confirmed a word about a value; a later one it has not.
    fn is_settled(&mut self, place: &Place, word: (u64, u64)) {
        if let Some(waiting) = self.pending.get_mut(place) {
            waiting.retain(|it| *it != word);
            if waiting.is_empty() {
                self.pending.remove(place);
            }
        }
    }

    /// Who may still believe an older value of what was written, as it has not confirmed a word up to this one.
    fn believers(&self, written: &[Place], upto: u64) -> HashSet<u64> {
        let mut found = HashSet::new();
        let mut add = |waiting: &[(u64, u64)]| {
            found.extend(waiting.iter().filter(|(_, number)| *number <= upto).map(|(watch, _)| *watch));
        };
        for it in written {
            if is_whole(it) {
                let of_cache = self.pending.iter().filter(|(place, _)| concerns(place, it));
                of_cache.for_each(|(_, waiting)| add(waiting));
            } else {
                let whole = place(cache_of(it), "");
                let waiting = [self.pending.get(it), self.pending.get(&whole)];
                waiting.into_iter().flatten().for_each(|waiting| add(waiting));
            }
        }
        found
    }

    /// Until when someone who is gone may believe an older value of what was written.
    fn unsure_until(&mut self, written: &[Place]) -> Option<Instant> {
        let now = Instant::now();
        self.unsure.retain(|it| it.until > now);
        let concerned = self.unsure.iter().filter(|Unsure { places, caches, .. }| {
            written.iter().any(|it| {
                caches.contains(cache_of(it))
                    || places.contains(it)
                    || places.contains(&place(cache_of(it), ""))
                    || (is_whole(it) && places.iter().any(|place| concerns(place, it)))
            })
        });
        concerned.map(|it| it.until).max()
    }
}

impl Feed {
    /// A watcher is about to be given a value of which it keeps a copy; false: it may not, or does not watch here.
    pub(crate) fn takes_copy(&self, watch: u64, cache: &str, key: &str) -> bool {
        let mut inner = self.lock();
        let found =
            inner.watchers.iter().find(|it| it.watch == watch && watch != 0 && !it.events.is_closed());
        let Some(server) = found.map(|it| it.server.clone()) else { return false };
        if inner.callbacks.is_late(&server) {
            return false;
        }
        let mut told = BTreeMap::<u64, CacheChanged>::new();
        for (key, holder) in inner.callbacks.copies.take(cache, key, watch) {
            told.entry(holder).or_default().keys.push(key);
        }
        let revision = inner.published;
        inner.call_back(revision, told);
        true
    }

    /// A watcher wants to be told of every change of these caches; false: it may not, or does not watch here.
    pub(crate) fn follow(&self, watch: u64, caches: Vec<String>) -> bool {
        let mut inner = self.lock();
        let Inner { watchers, callbacks, .. } = &mut *inner;
        let Some(watcher) = watchers.iter_mut().find(|it| it.watch == watch && watch != 0) else {
            return false;
        };
        if callbacks.is_late(&watcher.server) {
            return false;
        }
        watcher.account.follows = caches.into_iter().collect();
        true
    }

    /// Tells those who follow these caches, but for `watch`, of changes.
    pub(crate) fn tell_of(&self, watch: u64, changed: &CacheChanged) {
        let mut inner = self.lock();
        let revision = inner.published;
        let mut told = BTreeMap::new();
        for watcher in inner.watchers.iter().filter(|it| it.watch != watch && it.watch != 0) {
            let follows = &watcher.account.follows;
            let keys: Vec<_> =
                changed.keys.iter().filter(|it| follows.contains(&it.cache)).cloned().collect();
            let caches: Vec<_> = changed.caches.iter().filter(|it| follows.contains(*it)).cloned().collect();
            if !keys.is_empty() || !caches.is_empty() {
                told.insert(watcher.watch, CacheChanged { keys, caches, number: 0 });
            }
        }
        inner.call_back(revision, told);
    }

    /// A watcher has dropped what was outdated.
    pub(crate) fn confirm(&self, confirm: &ConfirmChanges) {
        let mut inner = self.lock();
        let Inner { watchers, callbacks, .. } = &mut *inner;
        let found = watchers.iter_mut().find(|it| it.watch == confirm.watch && confirm.watch != 0);
        // What it was not told it can't have dropped: that is of another stream.
        let Some(watcher) = found.filter(|it| confirm.number <= it.account.told) else { return };
        while let Some((number, _)) = watcher.account.owes.front()
            && *number <= confirm.number
        {
            let Some((number, places)) = watcher.account.owes.pop_front() else { break };
            places.iter().for_each(|place| callbacks.is_settled(place, (watcher.watch, number)));
        }
        drop(inner);
        self.confirmed.notify_waiters();
    }

    /// Returns when no watcher believes an older value of what was written: each that had a copy has confirmed, or gets no sign of life any more and
    /// has had none for long enough.
    pub(crate) async fn copies_are_gone(&self, written: &[Place]) {
        if written.is_empty() {
            return;
        }
        // What is told from here on is of others' writes: who wrote before does not wait for it.
        let upto = self.lock().callbacks.told;
        let all_confirmed = async {
            loop {
                let mut changed = std::pin::pin!(self.confirmed.notified());
                changed.as_mut().enable();
                if self.lock().callbacks.believers(written, upto).is_empty() {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(TIMES.believed, all_confirmed).await.is_err() {
            let mut inner = self.lock();
            let late = inner.callbacks.believers(written, upto);
            let servers =
                inner.watchers.iter().filter(|it| late.contains(&it.watch)).map(|it| it.server.clone());
            for server in servers.collect::<Vec<_>>() {
                tracing::warn!(
                    server,
                    "a server did not drop its copies of cached values in time: it keeps none for a while"
                );
                inner.callbacks.late.insert(server, Instant::now() + LATE);
            }
            inner.retain(|it| !late.contains(&it.watch));
        }
        let unsure_until = self.lock().callbacks.unsure_until(written);
        if let Some(until) = unsure_until {
            tokio::time::sleep_until(until.into()).await;
        }
    }
}

impl Inner {
    /// Tells those who have copies of what has changed; what is left is for all.
    pub(super) fn tell_of_copies(&mut self, revision: u64, changes: Vec<Change>) -> Vec<Change> {
        if !changes.iter().any(|it| matches!(it, Change::Cached(_) | Change::CacheCleared(_))) {
            return changes;
        }
        let (mut others, mut told) = (Vec::new(), BTreeMap::<u64, CacheChanged>::new());
        for change in changes {
            match change {
                Change::Cached(key) => {
                    let holders = self.callbacks.copies.changed(&place(&key.cache, &key.key));
                    for watch in self.and_followers(holders, &key.cache) {
                        told.entry(watch).or_default().keys.push(key.clone());
                    }
                }
                Change::CacheCleared(cache) => {
                    let holders = self.callbacks.copies.cleared(&cache);
                    for watch in self.and_followers(holders, &cache) {
                        let caches = &mut told.entry(watch).or_default().caches;
                        if !caches.contains(&cache) {
                            caches.push(cache.clone());
                        }
                    }
                }
                other => others.push(other),
            }
        }
        self.call_back(revision, told);
        others
    }

    /// These watchers and those who follow a cache.
    fn and_followers(&self, mut watches: Vec<u64>, cache: &str) -> Vec<u64> {
        let followers =
            self.watchers.iter().filter(|it| it.account.follows.contains(cache)).map(|it| it.watch);
        watches.extend(followers);
        watches.sort_unstable();
        watches.dedup();
        watches
    }

    /// Tells each of these watchers what of its copies is outdated.
    fn call_back(&mut self, revision: u64, mut told: BTreeMap<u64, CacheChanged>) {
        if told.is_empty() {
            return;
        }
        self.callbacks.told += 1;
        let number = self.callbacks.told;
        let mut full = Vec::new();
        for watcher in &mut self.watchers {
            let Some(changed) = told.remove(&watcher.watch) else { continue };
            let keys = changed.keys.iter().map(|it| place(&it.cache, &it.key));
            let places: Vec<Place> = keys.chain(changed.caches.iter().map(|it| place(it, ""))).collect();
            for it in &places {
                self.callbacks.pending.entry(it.clone()).or_default().push((watcher.watch, number));
            }
            watcher.account.owes.push_back((number, places));
            watcher.account.told = number;
            let event = event::Event::CacheChanged(CacheChanged { number, ..changed });
            // The changes of this entry that are for all come behind it.
            let event = Event { revision: revision.saturating_sub(1), event: Some(event) };
            if watcher.events.try_send(event).is_err() {
                full.push(watcher.watch);
            }
        }
        if !full.is_empty() {
            self.retain(|it| !full.contains(&it.watch));
        }
    }
}

#[cfg(test)]
mod tests;
