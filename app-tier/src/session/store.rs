//! The sessions of one app in this server's memory: bounded, least recently used out first, what the hub lacks never.

use super::{SessionError, entry::Entry, held::Held, hub::SessionHub, link::Link, visit::Visit};
use common::{
    clock::Clock,
    config::{CookieConfig, SessionConfig},
    id::{ServerId, ServerIndex},
    log_limit::LogLimit,
    session_id::SessionId,
};
use proto::hub::v1::SessionKey;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// The memory that the sessions of one app take on a server, in bytes of names and values.
pub(crate) const MEMORY_MAX: usize = 1024 * 1024 * 1024;

/// Visitors without a session are logged this often.
const WITHOUT_TOLD: Duration = Duration::from_secs(10);

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
    /// Bytes of names and values that are kept in memory; [`MEMORY_MAX`].
    pub(crate) memory_max: usize,
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
    /// Of visitors without a session.
    pub(super) without_log: LogLimit,
    held: Mutex<Held>,
    visits: Mutex<HashMap<u64, Arc<Visit>>>,
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
    pub(super) without: AtomicU64,
}

/// The sessions of one app on this server, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionStats {
    /// The app's name on the hub.
    pub app: String,
    /// Sessions in memory.
    pub held: usize,
    /// Bytes of their attributes' names and values.
    pub bytes: usize,
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
    /// Visitors who got no session, because neither the hub nor this server had memory for another.
    pub without_session: u64,
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
        let without_log = LogLimit::new(WITHOUT_TOLD);
        Self { config, hub, link, clock, counters, without_log, held, visits }
    }

    /// The app's name on the hub.
    pub(crate) fn app(&self) -> &str {
        &self.config.app
    }

    /// How long an answer waits for the hub.
    pub(crate) fn save_timeout(&self) -> Duration {
        self.config.session.save_timeout
    }

    /// The hub says that another server has this session now, or that it is gone.
    pub(crate) fn moved(&self, id: &str) {
        let Some(id) = SessionId::parse(id) else { return };
        let entry = self.held().get(&id).cloned();
        if let Some(entry) = entry {
            let mut state = entry.state();
            state.moves += 1;
            state.stale = true;
        }
    }

    /// Forgets what nobody has used for `session-timeout`, and what came to nothing; the hub forgets by itself.
    pub(crate) fn sweep(&self) {
        let timeout = self.config.session.session_timeout;
        let now = self.clock.now();
        let mut held = self.held();
        let idle: Vec<SessionId> = held
            .entries()
            .filter(|entry| Arc::strong_count(entry) == 1)
            .filter(|entry| {
                let state = entry.state();
                let idle = !timeout.is_zero() && now.saturating_duration_since(state.used) > timeout;
                (idle || !state.replica.exists()) && !state.replica.is_dirty()
            })
            .map(|entry| entry.id.clone())
            .collect();
        for id in idle {
            held.remove(&id);
        }
    }

    /// In numbers.
    pub(crate) fn stats(&self) -> SessionStats {
        let entries = self.entries();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SessionStats {
            app: self.config.app.clone(),
            held: entries.len(),
            bytes: self.held().bytes(),
            unsaved: entries.iter().filter(|entry| entry.state().replica.is_dirty()).count(),
            saves: read(&self.counters.saves),
            merged: read(&self.counters.merged),
            stale: read(&self.counters.stale),
            superseded: read(&self.counters.superseded),
            lost: read(&self.counters.lost),
            unsaved_answers: read(&self.counters.unsaved_answers),
            without_session: read(&self.counters.without),
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
        let (max, max_bytes) = (self.config.session.session_max.max(1), self.config.memory_max);
        self.make_room(held, 1, unsaved);
        // What is in use or on its way to the hub may exceed the limits a little, for a while.
        if held.len() >= max + max / 8 + 16 || held.bytes() > max_bytes + max_bytes / 8 {
            return Err(SessionError::Full { held: held.len(), max, bytes: held.bytes(), max_bytes });
        }
        let entry = Arc::new(Entry::new(id.clone(), self.clock.now()));
        held.insert(entry.clone());
        Ok(entry)
    }

    /// Evicts until `more` sessions have room, as far as that is possible.
    fn make_room(&self, held: &mut Held, more: usize, unsaved: &mut Vec<Arc<Entry>>) {
        let max = self.config.session.session_max.max(1);
        while held.len() + more > max || held.bytes() > self.config.memory_max {
            let Some(oldest) = held.evictable(unsaved) else { return };
            held.remove(&oldest);
        }
    }

    /// The attributes of an entry may have become others: counts its bytes, and evicts others if they are too many.
    pub(super) fn weigh(self: &Arc<Self>, entry: &Arc<Entry>) {
        let mut unsaved = Vec::new();
        {
            let mut held = self.held();
            held.weigh(entry);
            if held.bytes() > self.config.memory_max {
                self.make_room(&mut held, 0, &mut unsaved);
            }
        }
        for entry in unsaved {
            self.save_in_background(&entry);
        }
    }

    /// Takes an entry out of memory, if it is still the one there.
    pub(super) fn forget(&self, entry: &Arc<Entry>) {
        let mut held = self.held();
        if held.has(entry) {
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
        if !exists && unused {
            entry.state().buried = None;
        }
        if !exists && !saving && unused && held.has(entry) {
            held.remove(&entry.id);
        }
    }

    /// Puts a new session into memory.
    pub(super) fn put(&self, entry: Arc<Entry>) {
        self.held().insert(entry);
    }

    /// Entries whose changes the hub does not have.
    pub(super) fn unsaved(&self) -> Vec<Arc<Entry>> {
        self.entries().into_iter().filter(|entry| entry.state().replica.is_dirty()).collect()
    }

    /// All entries, in no order.
    pub(super) fn entries(&self) -> Vec<Arc<Entry>> {
        self.held().entries().cloned().collect()
    }

    /// The requests in flight, by handle.
    pub(super) fn visits(&self) -> MutexGuard<'_, HashMap<u64, Arc<Visit>>> {
        self.visits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
