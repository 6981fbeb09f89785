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
