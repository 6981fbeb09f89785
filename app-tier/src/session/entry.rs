//! A session's place in memory: its replica, whether it may be believed, and who is talking to the hub about it.

use super::{
    SessionError,
    heard::Heard,
    link::Link,
    replica::{Attributes, Replica},
};
use common::session_id::SessionId;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use tokio::sync::Notify;

/// One session in memory.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: SessionId,
    /// Held by whoever talks to the hub about this session: one at a time.
    pub(super) gate: tokio::sync::Mutex<()>,
    /// Told after each outcome of a save.
    pub(super) outcome: Notify,
    /// Wakes a saver that waits for its next try: a request waits for it.
    pub(super) wanted: Notify,
    state: Mutex<State>,
}

/// A new session that the hub did not take, because one of its id has just been removed: it goes on under a fresh id, for as long as
/// a request waits for it.
#[derive(Debug)]
pub(super) struct Buried {
    /// The replica's generation that dropped its changes.
    pub(super) dropped: u64,
    /// What they had come to.
    pub(super) attributes: Attributes,
    /// Under its new id, once there is one.
    pub(super) anew: Option<Arc<Entry>>,
}

/// What is known of it.
#[derive(Debug)]
pub(super) struct State {
    pub(super) replica: Replica,
    /// The hub has been asked, or can't know it: made here.
    pub(super) known: bool,
    /// The link's epoch when the hub was asked last.
    pub(super) epoch: u64,
    /// The hub said that another server has it now: what is here is outdated, and is not served whatever `on-hub-loss` says.
    pub(super) stale: bool,
    /// What is here is the hub's as of a refused save, but whose it is now is not known: the next use claims it.
    pub(super) unclaimed: bool,
    /// How often it said so.
    pub(super) moves: u64,
    /// Ended here; whoever still holds the entry must not use it.
    pub(super) removed: bool,
    /// What was to be made of it, when the hub did not take its id.
    pub(super) buried: Option<Buried>,
    /// A saver is at work.
    pub(super) saving: bool,
    /// Why the hub did not take the last save.
    pub(super) refused: Option<SessionError>,
    /// When a request last used it, and when the hub last heard of that.
    pub(super) used: Instant,
    pub(super) touched: Instant,
    /// The hub has heard that it was used again after the request that made it. Memory is taken first from those that were not.
    pub(super) returned: bool,
}

impl Entry {
    /// Nothing is known of it yet.
    pub(super) fn new(id: SessionId, now: Instant) -> Self {
        let state = State {
            replica: Replica::default(),
            known: false,
            epoch: 0,
            stale: false,
            unclaimed: false,
            moves: 0,
            removed: false,
            buried: None,
            saving: false,
            refused: None,
            used: now,
            touched: now,
            returned: false,
        };
        let (gate, outcome, wanted) = (tokio::sync::Mutex::default(), Notify::new(), Notify::new());
        Self { id, gate, outcome, wanted, state: Mutex::new(state) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether the replica is what the hub has, as far as this server can know without asking.
    pub(super) fn is_verified(&self, link: &Link) -> bool {
        self.known && !self.stale && !self.unclaimed && link.current() == Some(self.epoch)
    }

    /// Whether nothing that was heard up to the hub's last sign of life says that the replica may be outdated. What the hub never got
    /// nobody else can have changed.
    pub(super) fn is_last_known(&self, link: &Link) -> bool {
        let is_ours = !self.unclaimed && link.epoch() == self.epoch;
        self.known && !self.stale && (is_ours || self.replica.is_local())
    }

    /// Bytes in memory: names and values.
    pub(super) fn bytes(&self) -> usize {
        let buried = self.buried.iter().flat_map(|it| &it.attributes);
        self.replica.bytes() + buried.map(|(name, value)| name.len() + value.len()).sum::<usize>()
    }

    /// What a question that is asked now is asked upon.
    pub(super) fn heard(&self, link: &Link) -> Heard {
        Heard { epoch: link.epoch(), moves: self.moves }
    }

    /// The hub has answered; `heard` is from before the question, so that what it said meanwhile counts.
    pub(super) fn verified(&mut self, heard: Heard) {
        self.known = true;
        self.epoch = heard.epoch;
        self.stale = self.moves != heard.moves;
        self.unclaimed = false;
    }

    /// The hub has just refused a save, and the replica was rebased on what it has; `heard` as above.
    pub(super) fn rebased(&mut self, heard: Heard) {
        self.verified(heard);
        self.unclaimed = true;
    }
}
