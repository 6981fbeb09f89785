//! What a balance has to know of a server of ours or of a foreign backend.

use common::{config::Server, id::ServerId};
use std::time::Duration;

/// A server to balance over.
#[derive(Debug, Clone)]
pub(crate) struct Backend {
    /// Stable: sessions find their backup by it, and cookies their backend.
    pub(crate) id: ServerId,
    /// Its share beside the others.
    pub(crate) weight: u32,
    /// The longest fail window.
    pub(crate) recover_time: Duration,
    /// The longest window after a 503.
    pub(crate) busy_recover_time: Duration,
    /// How long its share rises after it has come; zero for no warm-up.
    pub(crate) warmup_time: Duration,
    /// It gets requests only while none of the others can take them.
    pub(crate) backup: bool,
}

impl From<&Server> for Backend {
    fn from(server: &Server) -> Self {
        Self {
            id: server.id.clone(),
            weight: server.weight,
            recover_time: server.recover_time,
            busy_recover_time: server.busy_recover_time,
            warmup_time: server.warmup_time,
            backup: false,
        }
    }
}
