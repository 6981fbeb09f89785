//! What the workers tell each other of a server: that a connection to it broke in the middle of a request. Written on that event
//! alone; a request only reads it. So a client whose request failed on one worker finds, with its next one on another, no
//! socket from before: a process that dies takes all of them along, but the other worker may not have looked yet.

use common::{config::Config, id::ServerId};
use std::{
    cell::Cell,
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

/// The counts of all servers of the file.
#[derive(Debug)]
pub(crate) struct Breaks(HashMap<ServerId, Arc<AtomicU32>>);

impl Breaks {
    pub(crate) fn new(config: &Config) -> Self {
        Self(config.servers().map(|(_, server)| (server.id.clone(), Arc::default())).collect())
    }

    /// Those of another configuration: servers that stay keep their counts, and a server that has come has one that all workers
    /// share too.
    pub(crate) fn keeping(config: &Config, former: &Self) -> Self {
        let count = |id: &ServerId| former.0.get(id).cloned().unwrap_or_default();
        Self(config.servers().map(|(_, server)| (server.id.clone(), count(&server.id))).collect())
    }

    /// One worker's view of a server.
    pub(crate) fn of(&self, server: &ServerId) -> SeenBreaks {
        SeenBreaks::new(self.0.get(server).cloned().unwrap_or_default())
    }
}

/// A server's count, and how far a worker has taken it in.
#[derive(Debug)]
pub(crate) struct SeenBreaks {
    count: Arc<AtomicU32>,
    seen: Cell<u32>,
}

impl SeenBreaks {
    /// A view that has taken nothing in yet.
    pub(crate) fn new(count: Arc<AtomicU32>) -> Self {
        Self { count, seen: Cell::new(0) }
    }

    /// Goes on from what another view of the same server has taken in.
    pub(crate) fn go_on_from(&self, other: &Self) {
        self.seen.set(other.seen.get());
    }

    /// A connection broke: told before the client is.
    pub(crate) fn tell(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether one broke since the last call.
    pub(crate) fn news(&self) -> bool {
        let count = self.count.load(Ordering::SeqCst);
        self.seen.replace(count) != count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::cluster::config;

    #[test]
    fn after_a_reload_workers_still_tell_each_other_of_old_and_new_servers() {
        let (before, after) = (Breaks::new(&config(&[1])), config(&[1, 2]));
        let old = before.of(&"app-a".into());
        let breaks = Breaks::keeping(&after, &before);
        for id in ["app-a", "app-b"] {
            let (one, other) = (breaks.of(&id.into()), breaks.of(&id.into()));
            one.tell();
            assert!(other.news() && !other.news(), "{id}");
        }
        assert!(old.news(), "a request of before hears of it too");
    }
}
