//! The sessions of one app in this server's memory: bounded, least recently used out first, what the hub lacks never.

use super::{SessionError, entry::Entry, hub::SessionHub, link::Link, visit::Visit};
use common::{
    clock::Clock,
    config::{CookieConfig, SessionConfig},
    id::{ServerId, ServerIndex},
    session_id::SessionId,
};
use proto::hub::v1::SessionKey;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Entries that are looked at to find one to evict.
const CANDIDATES: usize = 64;

/// What a session store needs.
#[derive(Debug, Clone)]
pub(crate) struct SessionsConfig {
    /// The app's name on the hub: stable over restarts and the same on every server.
    pub(crate) app: String,
    /// This server, the owner of what it holds.
    pub(crate) me: ServerId,
    /// The prefix of the ids made here.
    pub(crate) index: ServerIndex,
    /// `session-cookie`.
    pub(crate) cookie_name: String,
    /// `session-config`.
    pub(crate) session: SessionConfig,
}

/// The sessions of one app on this server.
#[derive(Debug)]
pub(crate) struct Sessions {
    pub(super) config: SessionsConfig,
    /// `None`: in memory alone.
    pub(super) hub: Option<Arc<dyn SessionHub>>,
    pub(super) link: Arc<Link>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) counters: Counters,
    held: Mutex<Held>,
    visits: Mutex<HashMap<u64, Arc<Visit>>>,
}

#[derive(Debug, Default)]
struct Held {
    entries: HashMap<SessionId, (u64, Arc<Entry>)>,
    /// By last use.
    order: BTreeMap<u64, SessionId>,
    uses: u64,
}

/// What happened to sessions since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) saves: AtomicU64,
    pub(super) merged: AtomicU64,
    pub(super) stale: AtomicU64,
    pub(super) superseded: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) unsaved_answers: AtomicU64,
}

/// The sessions of one app on this server, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionStats {
    /// The app's name on the hub.
    pub app: String,
    /// Sessions in memory.
    pub held: usize,
    /// Of these, with changes that the hub does not have yet.
    pub unsaved: usize,
    /// Saves that the hub acknowledged.
    pub saves: u64,
    /// Conflicts with another server's save of other attributes: both kept.
    pub merged: u64,
    /// Conflicts in the same attribute, found before the answer: the answer was a 503.
    pub stale: u64,
    /// Conflicts in the same attribute, found after an answer had told of it without the hub: the hub's value was kept.
    pub superseded: u64,
    /// Sessions that were gone from the hub when their changes arrived there.
    pub lost: u64,
    /// Answers that left before their changes were on the hub, because it could not be reached (`on-hub-loss: serve`).
    pub unsaved_answers: u64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Sessions {
    /// No sessions yet. `hub` is used if `use-persistent-store` is true.
    pub(crate) fn new(
        config: SessionsConfig,
        hub: Option<Arc<dyn SessionHub>>,
        link: Arc<Link>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let hub = hub.filter(|_| config.session.use_persistent_store);
        let (counters, held, visits) = (Counters::default(), Mutex::default(), Mutex::default());
        Self { config, hub, link, clock, counters, held, visits }
    }

    /// The app's name on the hub.
    pub(crate) fn app(&self) -> &str {
        &self.config.app
    }

    /// How long an answer waits for the hub.
    pub(crate) fn save_timeout(&self) -> std::time::Duration {
        self.config.session.save_timeout
    }

    /// The hub says that another server has this session now, or that it is gone.
    pub(crate) fn moved(&self, id: &str) {
        let Some(id) = SessionId::parse(id) else { return };
        let entry = self.held().entries.get(&id).map(|(_, entry)| entry.clone());
        if let Some(entry) = entry {
            let mut state = entry.state();
            state.moves += 1;
            state.stale = true;
        }
    }

    /// Forgets what nobody has used for `session-timeout`; the hub forgets by itself.
    pub(crate) fn sweep(&self) {
        let timeout = self.config.session.session_timeout;
        if timeout.is_zero() {
            return;
        }
        let now = self.clock.now();
        let mut held = self.held();
        let idle: Vec<SessionId> = held
            .entries
            .values()
            .filter(|(_, entry)| Arc::strong_count(entry) == 1)
            .filter(|(_, entry)| {
                let state = entry.state();
                now.saturating_duration_since(state.used) > timeout && !state.replica.is_dirty()
            })
            .map(|(_, entry)| entry.id.clone())
            .collect();
        for id in idle {
            held.remove(&id);
        }
    }

    /// In numbers.
    pub(crate) fn stats(&self) -> SessionStats {
        let entries: Vec<_> = self.held().entries.values().map(|(_, entry)| entry.clone()).collect();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SessionStats {
            app: self.config.app.clone(),
            held: entries.len(),
            unsaved: entries.iter().filter(|entry| entry.state().replica.is_dirty()).count(),
            saves: read(&self.counters.saves),
            merged: read(&self.counters.merged),
            stale: read(&self.counters.stale),
            superseded: read(&self.counters.superseded),
            lost: read(&self.counters.lost),
            unsaved_answers: read(&self.counters.unsaved_answers),
        }
    }

    /// A fresh id whose home is this server.
    pub(super) fn fresh_id(&self) -> SessionId {
        SessionId::generate(self.config.index, |bytes| {
            bytes.iter_mut().for_each(|byte| *byte = rand::random());
        })
    }

    pub(super) fn key(&self, id: &SessionId) -> SessionKey {
        SessionKey { app: self.config.app.clone(), id: id.as_str().to_owned() }
    }

    pub(super) fn cookie(&self) -> &CookieConfig {
        &self.config.session.cookie
    }

    /// The entry of a session if it is in memory; counts as a use.
    pub(super) fn held_entry(&self, id: &SessionId) -> Option<Arc<Entry>> {
        self.held().touch(id)
    }

    /// The entry of a session, made if there is none.
    ///
    /// # Errors
    /// [`SessionError::Full`].
    pub(super) fn entry(self: &Arc<Self>, id: &SessionId) -> Result<Arc<Entry>, SessionError> {
        let mut unsaved = Vec::new();
        let entry = {
            let mut held = self.held();
            match held.touch(id) {
                Some(entry) => Ok(entry),
                None => self.insert(&mut held, id, &mut unsaved),
            }
        };
        for entry in unsaved {
            self.save_in_background(&entry);
        }
        entry
    }

    fn insert(
        &self,
        held: &mut Held,
        id: &SessionId,
        unsaved: &mut Vec<Arc<Entry>>,
    ) -> Result<Arc<Entry>, SessionError> {
        let max = self.config.session.session_max.max(1);
        while held.entries.len() >= max {
            let Some(oldest) = held.evictable(unsaved) else { break };
            held.remove(&oldest);
        }
        // What is in use or on its way to the hub may exceed the limit a little, for a while.
        if held.entries.len() >= max + max / 8 + 16 {
            return Err(SessionError::Full { held: held.entries.len(), max });
        }
        let entry = Arc::new(Entry::new(id.clone(), self.clock.now()));
        held.insert(entry.clone());
        Ok(entry)
    }

    /// Takes an entry out of memory, if it is still the one there.
    pub(super) fn forget(&self, entry: &Arc<Entry>) {
        let mut held = self.held();
        if held.entries.get(&entry.id).is_some_and(|(_, there)| Arc::ptr_eq(there, entry)) {
            held.remove(&entry.id);
        }
    }

    /// Takes the entry of a session that turned out not to exist out of memory, if no other request has it: the hub tells
    /// nobody when such a session is made elsewhere.
    pub(super) fn forget_nothing(&self, entry: &Arc<Entry>) {
        let mut held = self.held();
        let (exists, saving) = {
            let state = entry.state();
            (state.replica.exists(), state.saving)
        };
        // The memory's and the caller's.
        let unused = Arc::strong_count(entry) <= 2;
        if !exists
            && !saving
            && unused
            && held.entries.get(&entry.id).is_some_and(|(_, there)| Arc::ptr_eq(there, entry))
        {
            held.remove(&entry.id);
        }
    }

    /// Puts a new session into memory.
    pub(super) fn put(&self, entry: Arc<Entry>) {
        self.held().insert(entry);
    }

    /// Entries whose changes the hub does not have.
    pub(super) fn unsaved(&self) -> Vec<Arc<Entry>> {
        let entries: Vec<_> = self.held().entries.values().map(|(_, entry)| entry.clone()).collect();
        entries.into_iter().filter(|entry| entry.state().replica.is_dirty()).collect()
    }

    /// The requests in flight, by handle.
    pub(super) fn visits(&self) -> MutexGuard<'_, HashMap<u64, Arc<Visit>>> {
        self.visits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn touch(&mut self, id: &SessionId) -> Option<Arc<Entry>> {
        let (place, entry) = self.entries.get_mut(id)?;
        let id = self.order.remove(place)?;
        self.uses += 1;
        *place = self.uses;
        self.order.insert(self.uses, id);
        Some(entry.clone())
    }

    fn insert(&mut self, entry: Arc<Entry>) {
        let id = entry.id.clone();
        self.remove(&id);
        self.uses += 1;
        self.order.insert(self.uses, id.clone());
        self.entries.insert(id, (self.uses, entry));
    }

    fn remove(&mut self, id: &SessionId) {
        if let Some((place, _)) = self.entries.remove(id) {
            self.order.remove(&place);
        }
    }

    /// The least recently used session that nobody uses and that the hub has; those it lacks are noted in `unsaved`.
    fn evictable(&self, unsaved: &mut Vec<Arc<Entry>>) -> Option<SessionId> {
        for id in self.order.values().take(CANDIDATES) {
            let Some((_, entry)) = self.entries.get(id) else { continue };
            // Another holder could only get it through the lock that we have.
            if Arc::strong_count(entry) > 1 {
                continue;
            }
            if !entry.state().replica.is_dirty() {
                return Some(id.clone());
            }
            unsaved.push(entry.clone());
        }
        None
    }
}
