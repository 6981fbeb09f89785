//! Brings a session's changes to the hub: one save at a time a session, the changes of concurrent requests together, again
//! and again until the hub has them.

use super::{
    SessionError,
    entry::{Buried, Entry, State},
    heard::Heard,
    hub::SessionHub,
    link::Witness,
    open::ROUNDS,
    replica::Save,
    store::{Sessions, count},
};
use common::backoff::Backoff;
use proto::hub::v1::{SaveSession, session_outcome::Outcome, session_write::Write};
use std::{sync::Arc, time::Duration};
use triad_client::HubError;

/// Waits between tries to save while the hub does not answer.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// The hub's answer to what it will never take is not asked for more often than this.
const REFUSED: Duration = Duration::from_secs(30);

impl Sessions {
    /// Waits until the changes up to `sequence` are on the hub, at most `save-timeout`, or until this server may go on alone.
    /// `generation` is when they were made.
    ///
    /// # Errors
    /// [`SessionError::Stale`]: they were dropped. [`SessionError::HubLost`]: not yet there; the saver goes on trying.
    /// [`SessionError::Refused`].
    pub(super) async fn save(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        sequence: u64,
        generation: u64,
        witness: Witness,
    ) -> Result<(), SessionError> {
        let limit = self.link.may_wait(witness).then_some(self.config.session.save_timeout);
        let first = self.save_within(entry, sequence, generation, witness, limit);
        let mut saved = traces::child("session save", first).await;
        for round in ROUNDS {
            let (Err(SessionError::HubLost(_)), left @ Some(_)) = (&saved, self.undecided(witness, round))
            else {
                break;
            };
            let again = self.save_within(entry, sequence, generation, witness, left);
            saved = self.unless_outlived(witness, again).await;
        }
        saved
    }

    /// [`Sessions::save`], within `limit`; without one it only starts a saver and takes what is settled already.
    pub(super) async fn save_within(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        sequence: u64,
        generation: u64,
        witness: Witness,
        limit: Option<Duration>,
    ) -> Result<(), SessionError> {
        let outlived = self.link.is_outlived(witness);
        if limit.is_some() && entry.state().saving {
            entry.wanted.notify_one();
        }
        let saved = async {
            loop {
                let outcome = entry.outcome.notified();
                tokio::pin!(outcome);
                // Registered before the state is looked at: no outcome is missed.
                outcome.as_mut().enable();
                if let Some(done) = Self::settled(entry, sequence, generation) {
                    return done;
                }
                self.save_in_background(entry);
                if limit.is_none() {
                    return Err(SessionError::HubLost("it did not answer a moment ago".to_owned()));
                }
                outcome.await;
            }
        };
        let limit = limit.unwrap_or(self.config.session.save_timeout);
        tokio::time::timeout(limit, saved).await.unwrap_or_else(|_| {
            self.link.unanswered(outlived);
            Err(SessionError::HubLost(format!("no answer within {limit:?}")))
        })
    }

    /// What became of the changes up to `sequence`; `None` while they are on their way.
    fn settled(entry: &Entry, sequence: u64, generation: u64) -> Option<Result<(), SessionError>> {
        let state = entry.state();
        if state.removed || state.replica.has_dropped(generation) {
            return Some(Err(state.refused.clone().unwrap_or(SessionError::Stale)));
        }
        if state.replica.is_saved(sequence) || !state.replica.is_dirty() {
            return Some(Ok(()));
        }
        None
    }

    /// Starts a saver for the entry, unless one is at work or there is nothing to save.
    pub(super) fn save_in_background(self: &Arc<Self>, entry: &Arc<Entry>) {
        let Some(hub) = self.hub.clone() else { return };
        // A connection's end can drop a request outside the runtime, at the very end of the process.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        {
            let mut state = entry.state();
            if state.saving || state.removed || !state.replica.is_dirty() {
                return;
            }
            state.saving = true;
        }
        let (sessions, entry) = (self.clone(), entry.clone());
        runtime.spawn(async move { sessions.keep_saving(hub.as_ref(), &entry).await });
    }

    /// Saves until nothing is left to save.
    async fn keep_saving(self: &Arc<Self>, hub: &dyn SessionHub, entry: &Arc<Entry>) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let tried = {
                let _gate = entry.gate.lock().await;
                let Some((save, heard)) = self.next_save(entry) else {
                    entry.outcome.notify_waiters();
                    self.forget_nothing(entry);
                    return;
                };
                let (since, creates) = (save.heard, save.base_version == 0);
                let write = Write::Save(self.wire(entry, save));
                let outcome = hub.write(write, self.config.session.save_timeout).await;
                self.outcome(entry, outcome, creates, since, heard)
            };
            self.weigh(entry);
            entry.outcome.notify_waiters();
            match tried {
                Ok(()) => backoff.reset(),
                // Most often nothing is left to save then, and the next turn ends.
                Err(HubError::Refused(_) | HubError::NoRoom) if !entry.state().replica.is_dirty() => {}
                Err(HubError::Refused(_) | HubError::NoRoom) => wait(entry, REFUSED).await,
                Err(HubError::Unavailable { .. }) => wait(entry, backoff.wait(rand::random())).await,
                Err(HubError::Overloaded(_)) => tokio::time::sleep(backoff.wait(rand::random())).await,
            }
        }
    }

    /// What to send now; `None` ends the saver, decided under the lock so that the next change starts another.
    /// With what had been heard by now.
    fn next_save(&self, entry: &Entry) -> Option<(Save, Heard)> {
        let mut state = entry.state();
        let heard = state.heard(&self.link);
        let save = if state.removed { None } else { state.replica.next_save(heard, rand::random) };
        state.saving = save.is_some();
        Some((save?, heard))
    }

    fn wire(&self, entry: &Entry, save: Save) -> SaveSession {
        SaveSession {
            key: Some(self.key(&entry.id)),
            base_version: save.base_version,
            save_id: save.save_id,
            set: save.set,
            removed: save.removed,
            owner: self.config.me.as_str().to_owned(),
            timeout_ms: self.hub_timeout_ms(),
        }
    }

    /// What the hub said to a save that was first made upon `since` and was sent, perhaps again, upon `now`; `creates`: one of a new
    /// session.
    fn outcome(
        &self,
        entry: &Entry,
        outcome: Result<Outcome, HubError>,
        creates: bool,
        since: Heard,
        now: Heard,
    ) -> Result<(), HubError> {
        let mut state = entry.state();
        match outcome {
            Ok(Outcome::Version(version)) => {
                count(&self.counters.saves);
                state.replica.saved(version);
                // The hub may repeat what it said to the first try, and others have saved since.
                state.verified(since);
                state.touched = self.clock.now();
            }
            Ok(Outcome::Conflict(record)) => {
                self.resolve(&mut state, record);
                state.rebased(now);
            }
            Ok(Outcome::Missing(_)) => {
                if creates && !state.replica.has_answered() {
                    bury(&mut state);
                } else if state.replica.missing() {
                    count(&self.counters.lost);
                    tracing::warn!(app = self.app(), "changes are lost: the session has ended elsewhere");
                }
                state.verified(now);
            }
            Ok(other @ (Outcome::Claimed(_) | Outcome::NoRoom(_))) => {
                return Err(HubError::Refused(format!("a save was answered with {other:?}")));
            }
            Err(cause) => {
                match &cause {
                    HubError::Unavailable { .. } => self.link.unanswered(false),
                    HubError::Overloaded(_) => {}
                    HubError::NoRoom => self.no_room(&mut state, creates),
                    HubError::Refused(why) => {
                        tracing::error!(app = self.app(), %why, "the hub refuses a session's changes");
                        state.refused = Some(SessionError::Refused(why.clone()));
                        state.replica.drop_unanswered();
                    }
                }
                return Err(cause);
            }
        }
        state.refused = None;
        self.link.answered();
        Ok(())
    }

    /// Saves all that is unsaved, at the end; returns how many sessions the hub still lacks after `limit`.
    pub(crate) async fn save_all(self: &Arc<Self>, limit: Duration) -> usize {
        if self.hub.is_none() {
            return 0;
        }
        let all = async {
            for entry in self.unsaved() {
                self.save_in_background(&entry);
            }
            for entry in self.unsaved() {
                loop {
                    let outcome = entry.outcome.notified();
                    tokio::pin!(outcome);
                    outcome.as_mut().enable();
                    if !entry.state().replica.is_dirty() {
                        break;
                    }
                    outcome.await;
                }
            }
        };
        // Past the limit: what is left is counted below.
        let _ = tokio::time::timeout(limit, all).await;
        self.unsaved().len()
    }
}

/// A session of this id was removed a moment ago: the hub takes no new one under it. The requests that wait take a fresh id.
fn bury(state: &mut State) {
    let attributes = state.replica.attributes();
    if state.replica.missing() {
        state.buried = Some(Buried { dropped: state.replica.dropped(), attributes, anew: None });
    }
}

/// Until a request wants the entry saved, at most `limit`.
async fn wait(entry: &Entry, limit: Duration) {
    let _ = tokio::time::timeout(limit, entry.wanted.notified()).await;
}
