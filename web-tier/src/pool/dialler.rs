//! Makes connections to one server.

use crate::foreign::{self, ForeignBackend};
use common::{
    cluster_port::{self, ClusterKey, Protocol},
    config::Server,
    id::ServerId,
};
use std::{io, sync::Arc, time::Duration};
use tokio::net::TcpStream;

/// Connects to one server.
#[derive(Debug)]
pub(crate) enum Dialler {
    /// A server of ours, which wants to know who comes.
    Cluster { address: String, key: ClusterKey, from: ServerId, to: ServerId, timeout: Duration },
    /// One that speaks HTTP at once.
    Foreign { backend: Arc<ForeignBackend>, timeout: Duration },
}

impl Dialler {
    /// To a server of a cluster.
    pub(crate) fn new(server: &Server, me: &ServerId, key: &ClusterKey) -> Self {
        Self::Cluster {
            address: server.cluster_address(),
            key: key.clone(),
            from: me.clone(),
            to: server.id.clone(),
            timeout: server.connect_timeout,
        }
    }

    /// A connection, within `connect-timeout`.
    pub(super) async fn dial(&self) -> io::Result<TcpStream> {
        match self {
            Self::Cluster { address, key, from, to, timeout } => {
                cluster_port::dial(address, key, from, to, Protocol::Http1, *timeout).await
            }
            Self::Foreign { backend, timeout } => foreign::dial(backend, *timeout).await,
        }
    }

    /// The server's `host:port`.
    pub(super) fn authority(&self) -> &str {
        match self {
            Self::Cluster { address, .. } => address,
            Self::Foreign { backend, .. } => backend.name(),
        }
    }

    /// How long it may take.
    pub(super) fn timeout(&self) -> Duration {
        match self {
            Self::Cluster { timeout, .. } | Self::Foreign { timeout, .. } => *timeout,
        }
    }
}
