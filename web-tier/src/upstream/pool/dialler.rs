//! Makes connections to one server.

use super::client_sockets::Whose;
use crate::upstream::foreign::ForeignBackend;
use cluster_port::{Credentials, Protocol, Stream};
use common::{config::Server, id::ServerId};
use http::uri::Scheme;
use std::{io, sync::Arc, time::Duration};

/// Connects to one server.
#[derive(Debug)]
pub(crate) enum Dialler {
    /// A server of ours, which wants to know who comes.
    Cluster { address: String, credentials: Credentials, from: ServerId, to: ServerId, timeout: Duration },
    /// One that speaks HTTP at once.
    Foreign { backend: Arc<ForeignBackend>, timeout: Duration },
}

impl Dialler {
    /// To a server of a cluster.
    pub(crate) fn new(server: &Server, me: &ServerId, credentials: &Credentials) -> Self {
        Self::Cluster {
            address: server.cluster_address(),
            credentials: credentials.clone(),
            from: me.clone(),
            to: server.id.clone(),
            timeout: server.connect_timeout,
        }
    }

    /// A connection, within `connect-timeout`.
    pub(super) async fn dial(&self) -> io::Result<Stream> {
        self.dial_for(None).await
    }

    /// The same for this client, which a server that is not ours may want to hear.
    pub(super) async fn dial_for(&self, whose: Whose) -> io::Result<Stream> {
        match self {
            Self::Cluster { address, credentials, from, to, timeout } => {
                cluster_port::dial(address, credentials, from, to, Protocol::Http1, *timeout).await
            }
            Self::Foreign { backend, timeout } => backend.dial(whose, *timeout).await,
        }
    }

    /// The server's `host:port`, for requests that name nobody.
    pub(super) fn authority(&self) -> &str {
        match self {
            Self::Cluster { address, .. } => address,
            Self::Foreign { backend, .. } => backend.authority(),
        }
    }

    /// What requests in HTTP/2 say that they come by.
    pub(super) fn scheme(&self) -> Scheme {
        match self {
            Self::Foreign { backend, .. } if backend.is_encrypted => Scheme::HTTPS,
            Self::Foreign { .. } | Self::Cluster { .. } => Scheme::HTTP,
        }
    }

    /// How long it may take.
    pub(super) fn timeout(&self) -> Duration {
        match self {
            Self::Cluster { timeout, .. } | Self::Foreign { timeout, .. } => *timeout,
        }
    }
}
