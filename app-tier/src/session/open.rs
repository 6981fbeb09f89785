//! Makes a session in memory current before it is used: loads it, takes it over, or finds that it may be believed as it is.

use super::{
    SessionError,
    entry::{Entry, State},
    hub::SessionHub,
    link::Witness,
    replica::Resolution,
    store::{Sessions, count},
};
use common::config::OnHubLoss;
use proto::hub::v1::{ClaimSession, SessionRecord, session_outcome::Outcome, session_write::Write};
use std::{sync::Arc, time::Duration};
use triad_client::HubError;

/// A leader says that it is alive for 300 ms after a majority has answered it last, and is believed for another 300 ms; and what a
/// busy machine takes.
const LAST_WORDS: Duration = Duration::from_millis(700);

/// How often it is looked whether they are over.
const LOOK: Duration = Duration::from_millis(50);

/// What a session that is served rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The hub has it so, as far as this server can know; or there is no hub.
    Hub,
    /// The hub could not be asked: this server's memory alone.
    Memory,
}

impl Sessions {
    /// Makes the entry current. Waits for the hub, up to `save-timeout`, only if it has to be asked.
    ///
    /// # Errors
    /// [`SessionError::HubLost`], [`SessionError::Stale`] when the session ended meanwhile.
    pub(super) async fn open(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        witness: Witness,
    ) -> Result<Source, SessionError> {
        let Some(hub) = &self.hub else {
            self.open_local(entry);
            return Ok(Source::Hub);
        };
        let dirty = {
            let state = entry.state();
            if state.removed {
                return Err(SessionError::Stale);
            }
            if state.is_verified(&self.link) {
                return Ok(Source::Hub);
            }
            state.replica.is_dirty().then(|| state.replica.sequence())
        };
        if !self.link.may_wait(witness) {
            return self.open_unverified(entry, witness, "it did not answer a moment ago");
        }
        // What has unsaved changes is verified by saving them.
        if let Some(sequence) = dirty {
            match self.save_within(entry, sequence, u64::MAX, witness, true).await {
                Err(SessionError::HubLost(why)) => return self.open_unverified(entry, witness, &why),
                Err(other) => return Err(other),
                Ok(()) => {}
            }
        }
        self.open_from(hub.as_ref(), entry, witness).await
    }

    async fn open_from(
        self: &Arc<Self>,
        hub: &dyn SessionHub,
        entry: &Arc<Entry>,
        witness: Witness,
    ) -> Result<Source, SessionError> {
        let limit = self.config.session.save_timeout;
        let outlived = self.link.is_outlived(witness);
        match tokio::time::timeout(limit, self.load(hub, entry)).await {
            Ok(Ok(())) => {
                self.weigh(entry);
                self.link.answered();
                self.touch(entry);
                Ok(Source::Hub)
            }
            Ok(Err(HubError::Refused(why))) => Err(SessionError::Refused(why)),
            Ok(Err(cause @ (HubError::Overloaded(_) | HubError::NoRoom))) => {
                self.open_unverified(entry, witness, &cause.to_string())
            }
            Ok(Err(cause @ HubError::Unavailable { .. })) => {
                self.last_words_are_over().await;
                self.link.unanswered(outlived);
                self.open_unverified(entry, witness, &cause.to_string())
            }
            Err(_) => {
                self.last_words_are_over().await;
                self.link.unanswered(outlived);
                self.open_unverified(entry, witness, &format!("no answer within {limit:?}"))
            }
        }
    }

    /// In memory alone: only time can end it.
    fn open_local(&self, entry: &Entry) {
        let timeout = self.config.session.session_timeout;
        let now = self.clock.now();
        let mut state = entry.state();
        if !timeout.is_zero() && now.saturating_duration_since(state.used) > timeout {
            state.replica.missing();
        }
        state.known = true;
        state.used = now;
    }

    /// The hub can't be asked: what is in memory is all there is, and is served if the hub is gone; but not if it has said that this is
    /// outdated, or a web-tier hears it and it may have said so. An answer on such a copy would later overwrite what another server has
    /// answered since.
    fn open_unverified(&self, entry: &Entry, witness: Witness, why: &str) -> Result<Source, SessionError> {
        let timeout = self.config.session.session_timeout;
        let outlived = self.link.is_outlived(witness);
        let state = entry.state();
        let idle = self.clock.now().saturating_duration_since(state.used);
        let expired = !timeout.is_zero() && idle > timeout;
        if state.known && !state.stale && !outlived && self.serves_alone() && !expired {
            Ok(Source::Memory)
        } else {
            Err(SessionError::HubLost(why.to_owned()))
        }
    }

    /// Whether this server may answer with what the hub does not have, or may have otherwise: only while there is no hub. One that
    /// lives and is slow has the last word.
    pub(super) fn serves_alone(&self) -> bool {
        self.config.session.on_hub_loss == OnHubLoss::Serve && self.link.current().is_none()
    }

    /// A call has not been answered in time. If signs of life came up to now the leader may have sent them before it lost its majority:
    /// waits until nobody can take them for the present, or until new ones show that the hub lives.
    pub(super) async fn last_words_are_over(&self) {
        if self.config.session.on_hub_loss == OnHubLoss::Fail {
            return;
        }
        let end = tokio::time::Instant::now() + LAST_WORDS;
        while self.link.current().is_some() && tokio::time::Instant::now() < end {
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn load(&self, hub: &dyn SessionHub, entry: &Entry) -> Result<(), HubError> {
        let _gate = entry.gate.lock().await;
        let heard = {
            let state = entry.state();
            if state.is_verified(&self.link) {
                return Ok(());
            }
            state.heard(&self.link)
        };
        let deadline = self.config.session.save_timeout;
        let mut record = hub.load(self.key(&entry.id), deadline).await?;
        let others = record.as_ref().is_some_and(|record| record.owner != self.config.me.as_str());
        if others {
            record = self.claim(hub, entry, deadline).await?;
        }
        let mut state = entry.state();
        self.loaded(&mut state, record);
        state.verified(heard);
        state.used = self.clock.now();
        if others {
            // A claim is a use.
            (state.touched, state.returned) = (state.used, true);
        }
        Ok(())
    }

    /// Becomes the owner, so that the hub tells when another server takes it.
    async fn claim(
        &self,
        hub: &dyn SessionHub,
        entry: &Entry,
        deadline: Duration,
    ) -> Result<Option<SessionRecord>, HubError> {
        let claim =
            ClaimSession { key: Some(self.key(&entry.id)), owner: self.config.me.as_str().to_owned() };
        match hub.write(Write::Claim(claim), deadline).await? {
            Outcome::Claimed(record) => Ok(Some(record)),
            Outcome::Missing(_) => Ok(None),
            other @ (Outcome::Version(_) | Outcome::Conflict(_) | Outcome::NoRoom(_)) => {
                Err(HubError::Refused(format!("a claim was answered with {other:?}")))
            }
        }
    }

    fn loaded(&self, state: &mut State, record: Option<SessionRecord>) {
        match record {
            // A request may have changed the copy, unverified, while the hub was asked.
            Some(record) if state.replica.is_dirty() => self.resolve(state, record),
            Some(record) => state.replica.adopt(record),
            None if state.replica.is_local() => {}
            None => {
                if state.replica.missing() {
                    count(&self.counters.lost);
                    tracing::warn!(
                        app = self.app(),
                        "unsaved changes are lost: the session has ended elsewhere"
                    );
                }
            }
        }
    }

    /// Rebases a replica on the hub's record.
    pub(super) fn resolve(&self, state: &mut State, record: SessionRecord) {
        let version = record.version;
        match state.replica.conflict(record) {
            Resolution::Merged => count(&self.counters.merged),
            Resolution::Stale => {
                count(&self.counters.stale);
                tracing::warn!(
                    app = self.app(),
                    version,
                    "session changed on another server: a request is refused"
                );
            }
            Resolution::Superseded => {
                count(&self.counters.superseded);
                tracing::warn!(
                    app = self.app(),
                    version,
                    "session changed on another server while this one could not reach the hub: the hub's values stand, \
                     what was answered here without it is dropped"
                );
            }
        }
    }
}
