//! What a hub server is started with.

use crate::admission::SessionLimits;
use cluster_port::Credentials;
use common::{clock::Clock, id::ServerId};
use std::{path::PathBuf, sync::Arc, time::Duration};

/// What a hub server needs to know.
#[derive(Debug, Clone)]
pub struct HubServerConfig {
    /// This server.
    pub me: ServerId,
    /// The hub's servers and the `host:port` of their cluster ports, in the configuration's order; this one among them.
    pub servers: Vec<(ServerId, String)>,
    /// What it shows the others.
    pub credentials: Credentials,
    /// This server's data folder, there and locked; `hub` is made in it.
    pub data_dir: PathBuf,
    /// Members that miss three of these are down.
    pub heartbeat_interval: Duration,
    /// How much of this server's memory sessions may take.
    pub session_limits: SessionLimits,
    /// What apps' caches may take, in bytes.
    pub cache_memory_max: u64,
    /// What the messages of queues may take, in bytes.
    pub queue_memory_max: u64,
    /// Where time comes from. The hub's own goes by the median of its servers' clocks.
    pub clock: Arc<dyn Clock>,
}
