//! Makes a session in memory current before it is used: loads it, takes it over, or finds that it may be believed as it is.

use super::{
    SessionError,
    entry::{Entry, State},
    hub::SessionHub,
    link::{Alone, Witness},
    replica::Resolution,
    store::{Sessions, count},
};
use common::{config::OnHubLoss, witness::TIMES};
use proto::hub::v1::{ClaimSession, SessionRecord, session_outcome::Outcome, session_write::Write};
use std::{sync::Arc, time::Duration};
use triad_client::HubError;

/// A request that waits until this server may go on alone waits again, if it has heard the hub once more meanwhile.
pub(super) const ROUNDS: std::ops::Range<usize> = 0..2;

/// What a session that is served rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The hub has it so, as far as this server can know; or there is no hub.
    Hub,
    /// The hub could not be asked: this server's memory alone.
    Memory,
}

impl Sessions {
    /// Makes the entry current. Waits for the hub only if it has to be asked: up to `save-timeout`, or until this server may go on
    /// alone.
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
        {
            let state = entry.state();
            if state.removed {
                return Err(SessionError::Stale);
            }
            if state.is_verified(&self.link) {
                return Ok(Source::Hub);
            }
        }
        let mut why = "it did not answer a moment ago".to_owned();
        if self.link.may_wait(witness) {
            match self.ask(hub.as_ref(), entry, witness, self.config.session.save_timeout).await {
                Err(SessionError::HubLost(cause)) => why = cause,
                done => return done.map(|()| Source::Hub),
            }
        }
        for round in ROUNDS {
            let left = self.undecided(witness, round).filter(|_| entry.state().is_last_known(&self.link));
            let Some(left) = left else { break };
            match self.unless_outlived(witness, self.ask(hub.as_ref(), entry, witness, left)).await {
                Err(SessionError::HubLost(cause)) => why = cause,
                done => return done.map(|()| Source::Hub),
            }
        }
        self.open_unverified(entry, witness, why)
    }

    /// How long to go on waiting for the hub before this server may go on alone; `None`: it may already, or may not at all. The hub
    /// may have been heard once more while a request waited: then there is another round. One that is heard still is only slow.
    pub(super) fn undecided(&self, witness: Witness, round: usize) -> Option<Duration> {
        let serves = self.config.session.on_hub_loss == OnHubLoss::Serve;
        match self.link.alone(witness) {
            Alone::NotYet(left) if serves && (round == 0 || self.link.current().is_none()) => Some(left),
            _ => None,
        }
    }

    /// Does that, but not for longer than until a web-tier that hears the hub has said so: then there is nothing to wait for here.
    pub(super) async fn unless_outlived(
        &self,
        witness: Witness,
        work: impl Future<Output = Result<(), SessionError>>,
    ) -> Result<(), SessionError> {
        let outlived = async {
            while !self.link.is_outlived(witness) {
                tokio::time::sleep(TIMES.ask).await;
            }
        };
        tokio::select! {
            done = work => done,
            () = outlived => Err(SessionError::HubLost("a web-tier hears it, this server does not".to_owned())),
        }
    }

    /// Has the hub say what it has, and take what it lacks, within `limit`.
    async fn ask(
        self: &Arc<Self>,
        hub: &dyn SessionHub,
        entry: &Arc<Entry>,
        witness: Witness,
        limit: Duration,
    ) -> Result<(), SessionError> {
        // What has unsaved changes is verified by saving them.
        let dirty = {
            let state = entry.state();
            state.replica.is_dirty().then(|| state.replica.sequence())
        };
        if let Some(sequence) = dirty {
            self.save_within(entry, sequence, u64::MAX, witness, Some(limit)).await?;
        }
        let outlived = self.link.is_outlived(witness);
        match tokio::time::timeout(limit, traces::child("session load", self.load(hub, entry, limit))).await {
            Ok(Ok(())) => {
                self.weigh(entry);
                self.link.answered();
                self.touch(entry);
                Ok(())
            }
            Ok(Err(HubError::Refused(why))) => Err(SessionError::Refused(why)),
            Ok(Err(cause @ (HubError::Overloaded(_) | HubError::NoRoom))) => {
                Err(SessionError::HubLost(cause.to_string()))
            }
            Ok(Err(cause @ HubError::Unavailable { .. })) => {
                self.link.unanswered(outlived);
                Err(SessionError::HubLost(cause.to_string()))
            }
            Err(_) => {
                self.link.unanswered(outlived);
                Err(SessionError::HubLost(format!("no answer within {limit:?}")))
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

    /// The hub can't be asked: what is in memory is all there is. It is served if nothing that the hub has said up to its last sign of
    /// life makes it outdated, and the hub is gone for all, as far as anybody can know. An answer on another copy would later
    /// overwrite what another server has answered since.
    fn open_unverified(&self, entry: &Entry, witness: Witness, why: String) -> Result<Source, SessionError> {
        let timeout = self.config.session.session_timeout;
        let is_alone = self.link.alone(witness) == Alone::Yes;
        let state = entry.state();
        let idle = self.clock.now().saturating_duration_since(state.used);
        let expired = !timeout.is_zero() && idle > timeout;
        let serve = self.config.session.on_hub_loss == OnHubLoss::Serve;
        if serve && is_alone && state.is_last_known(&self.link) && !expired {
            Ok(Source::Memory)
        } else {
            Err(SessionError::HubLost(why))
        }
    }

    async fn load(&self, hub: &dyn SessionHub, entry: &Entry, deadline: Duration) -> Result<(), HubError> {
        let _gate = entry.gate.lock().await;
        let heard = {
            let state = entry.state();
            if state.is_verified(&self.link) {
                return Ok(());
            }
            state.heard(&self.link)
        };
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
