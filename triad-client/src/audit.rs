//! The audit log, and the hand-over of the lead, as the hub's leader is asked for them.

use crate::{Hub, HubError, leader::TRY_TIMEOUT};
use proto::hub::v1::{
    AuditKind, AuditList, Author, HandOverLead, LeadHandedOver, ListAudit, NoteAudit,
    audits_client::AuditsClient, lead_client::LeadClient,
};
use std::time::Duration;

/// A hand-over takes an election at most.
const HAND_OVER: Duration = Duration::from_secs(5);

impl Hub {
    /// The newest entries before the number `before` (0: of all), the newest first, of these kinds (none: of all).
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn audit(
        &self,
        (before, limit): (u64, u32),
        kinds: &[AuditKind],
        deadline: Duration,
    ) -> Result<AuditList, HubError> {
        let kinds: Vec<i32> = kinds.iter().map(|it| (*it).into()).collect();
        self.leader
            .call(deadline, TRY_TIMEOUT, |channel| {
                let request = ListAudit { before, limit, kinds: kinds.clone() };
                async move { AuditsClient::new(channel).list(request).await }
            })
            .await
    }

    /// Writes down what was no command of the hub's. It gets an id of its own here, so that it is written once.
    ///
    /// # Errors
    /// See [`HubError`]; refused while a hub server does not know the audit log.
    pub async fn note(&self, note: NoteAudit, deadline: Duration) -> Result<(), HubError> {
        let note = NoteAudit { id: rand::random::<u64>() | 1, ..note };
        let noted = self.leader.call(deadline, TRY_TIMEOUT, |channel| {
            let request = note.clone();
            async move { AuditsClient::new(channel).note(request).await }
        });
        noted.await.map(drop)
    }

    /// Has the lead handed over to the hub server `to`.
    ///
    /// # Errors
    /// See [`HubError`]; refused when it is none, or can't lead now.
    pub async fn hand_over_lead(
        &self,
        to: &str,
        author: Author,
        deadline: Duration,
    ) -> Result<LeadHandedOver, HubError> {
        self.leader
            .call(deadline, HAND_OVER, |channel| {
                let request = HandOverLead { to: to.to_owned(), author: Some(author.clone()) };
                async move { LeadClient::new(channel).hand_over(request).await }
            })
            .await
    }
}
