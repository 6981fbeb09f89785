//! Sessions as an operator asks the hub's leader for them.

use crate::{Hub, HubError, leader::TRY_TIMEOUT};
use proto::hub::v1::{
    CountSessions, FindSession, FoundSession, InvalidateSession, SessionCounts,
    session_admin_client::SessionAdminClient,
};
use std::time::Duration;

impl Hub {
    /// How many sessions each app has.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn count_sessions(&self, deadline: Duration) -> Result<SessionCounts, HubError> {
        let counted = self.leader.call(deadline, TRY_TIMEOUT, |channel| async move {
            SessionAdminClient::new(channel).count(CountSessions {}).await
        });
        counted.await
    }

    /// The sessions of an id, of whatever app.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn find_session(&self, id: &str, deadline: Duration) -> Result<Vec<FoundSession>, HubError> {
        let found = self.leader.call(deadline, TRY_TIMEOUT, |channel| {
            let request = FindSession { id: id.to_owned() };
            async move { SessionAdminClient::new(channel).find(request).await }
        });
        Ok(found.await?.sessions)
    }

    /// Ends the sessions of an id, those in `held_by` too if the hub has not heard of them; returns the apps that had one.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn invalidate_session(
        &self,
        id: &str,
        held_by: &[String],
        deadline: Duration,
    ) -> Result<Vec<String>, HubError> {
        let ended = self.leader.call(deadline, TRY_TIMEOUT, |channel| {
            let request = InvalidateSession { id: id.to_owned(), held_by: held_by.to_vec() };
            async move { SessionAdminClient::new(channel).invalidate(request).await }
        });
        Ok(ended.await?.apps)
    }
}
