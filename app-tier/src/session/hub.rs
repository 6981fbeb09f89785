//! The hub as the session store sees it: two calls, so that its rules can be tested against a hub in memory.

use futures_util::future::BoxFuture;
use proto::hub::v1::{SessionKey, SessionRecord, session_outcome::Outcome, session_write::Write};
use std::{fmt, time::Duration};
use triad_client::{Hub, HubError};

/// Where sessions are kept.
pub(crate) trait SessionHub: fmt::Debug + Send + Sync {
    /// Writes one session; safe to send again after [`HubError::Unavailable`].
    fn write(&self, write: Write, deadline: Duration) -> BoxFuture<'_, Result<Outcome, HubError>>;

    /// Reads one session, linearizably.
    fn load(
        &self,
        key: SessionKey,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Option<SessionRecord>, HubError>>;
}

impl SessionHub for Hub {
    fn write(&self, write: Write, deadline: Duration) -> BoxFuture<'_, Result<Outcome, HubError>> {
        Box::pin(Self::write(self, write, deadline))
    }

    fn load(
        &self,
        key: SessionKey,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Option<SessionRecord>, HubError>> {
        Box::pin(Self::load(self, key, deadline))
    }
}
