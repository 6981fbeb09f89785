//! The memory that the sessions take, in all and by app, and which of them nobody has used since they were made: counted as
//! sessions come, change and go, so that a leader can refuse new ones before the smallest hub server runs out of it.

use super::key::Key;
use imbl::{OrdMap, OrdSet};
use std::sync::Arc;

/// A session without attributes: itself, its key's allocation, the place of the last save, and its places in the map of sessions and
/// in the two indexes, whose nodes are two thirds full. Measured: docs/hub.md.
const SESSION: u64 = 560;
/// A node of the map of attributes, and how many it holds on the average.
const NODE: u64 = 640;
const NODE_ATTRIBUTES: u64 = 8;
/// An attribute beside its name and value: the rounding of both allocations, and the count of who shares the value.
const ATTRIBUTE: u64 = 48;
/// A save that is remembered, but for its owner's name.
const SAVE: u64 = 48;

/// Bytes of one attribute. The allocator's steps are an eighth of the size.
pub(super) fn of_attribute(name: &str, value: &[u8]) -> u64 {
    let (name, value) = (name.len() as u64, value.len() as u64);
    ATTRIBUTE + name + value + value / 8
}

/// Bytes of a session, but for its attributes themselves. `names`: bytes of the key, and of all servers' names in it.
pub(super) fn of_session(key: usize, attributes: usize, saves: usize, names: usize) -> u64 {
    let nodes = (attributes as u64).div_ceil(NODE_ATTRIBUTES);
    SESSION + NODE * nodes + SAVE * saves as u64 + (key + names) as u64
}

/// About what a session will take that a save creates.
pub(crate) fn of_new(key: usize, attributes: impl ExactSizeIterator<Item = (usize, usize)>) -> u64 {
    let fixed = of_session(key, attributes.len(), 1, 0);
    fixed + attributes.map(|(name, value)| ATTRIBUTE + (name + value + value / 8) as u64).sum::<u64>()
}

/// One session's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    /// What it takes.
    pub(super) bytes: u64,
    /// When it was made, while nobody has used it since.
    pub(super) unused_ms: Option<u64>,
}

/// One app's part.
#[derive(Debug, Clone, Default)]
struct App {
    bytes: u64,
    sessions: u64,
    /// By when they were made.
    unused: OrdSet<(u64, Key)>,
}

impl PartialEq for App {
    fn eq(&self, other: &Self) -> bool {
        (self.bytes, self.sessions) == (other.bytes, other.sessions)
            && self.unused.iter().eq(other.unused.iter())
    }
}

/// What the sessions take.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Memory {
    bytes: u64,
    apps: OrdMap<Arc<str>, App>,
}

impl Memory {
    /// Bytes, in all.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of one app's sessions.
    pub(crate) fn of_app(&self, app: &str) -> u64 {
        self.apps.get(app).map_or(0, |it| it.bytes)
    }

    /// The apps with sessions: name, sessions, bytes.
    pub(crate) fn apps(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        self.apps.iter().map(|(name, app)| (&**name, app.sessions, app.bytes))
    }

    /// Of the apps with a session that was made before `before_ms` and never used again, the one that takes the most.
    pub(super) fn largest_unused(&self, before_ms: u64) -> Option<&str> {
        let due = |app: &App| app.unused.get_min().is_some_and(|(made_ms, _)| *made_ms < before_ms);
        let due = self.apps.iter().filter(|(_, app)| due(app));
        due.max_by_key(|(_, app)| app.bytes).map(|(name, _)| &**name)
    }

    /// Of an app's sessions that were never used again, the oldest, and when it was made.
    pub(super) fn oldest_unused(&self, app: &str) -> Option<&(u64, Key)> {
        self.apps.get(app)?.unused.get_min()
    }

    /// A session is there.
    pub(super) fn add(&mut self, key: &Key, share: Share) {
        if !self.apps.contains_key(key.app()) {
            self.apps.insert(key.app().into(), App::default());
        }
        self.bytes += share.bytes;
        let Some(app) = self.apps.get_mut(key.app()) else { return };
        app.bytes += share.bytes;
        app.sessions += 1;
        if let Some(made_ms) = share.unused_ms {
            app.unused.insert((made_ms, key.clone()));
        }
    }

    /// A session is gone.
    pub(super) fn remove(&mut self, key: &Key, share: Share) {
        let Some(app) = self.apps.get_mut(key.app()) else { return };
        self.bytes -= share.bytes;
        app.bytes -= share.bytes;
        app.sessions -= 1;
        if let Some(made_ms) = share.unused_ms {
            app.unused.remove(&(made_ms, key.clone()));
        }
        if app.sessions == 0 {
            self.apps.remove(key.app());
        }
    }

    /// A session has become another.
    pub(super) fn change(&mut self, key: &Key, before: Share, after: Share) {
        if before == after {
            return;
        }
        let Some(app) = self.apps.get_mut(key.app()) else { return };
        self.bytes = self.bytes - before.bytes + after.bytes;
        app.bytes = app.bytes - before.bytes + after.bytes;
        if before.unused_ms == after.unused_ms {
            return;
        }
        if let Some(made_ms) = before.unused_ms {
            app.unused.remove(&(made_ms, key.clone()));
        }
        // The sessions' clock goes back a little when the hub was away: one may be as old again as when it was made.
        if let Some(made_ms) = after.unused_ms {
            app.unused.insert((made_ms, key.clone()));
        }
    }
}
