//! A session goes on under another id, as after a login: one command on the hub, on the version that this server knows, so that
//! nothing that another server has acknowledged is left behind.

use super::{
    State, Visit,
    ending::{done_within, doubt},
};
use crate::session::{SessionError, entry::Entry, heard::Heard, hub::SessionHub};
use common::{config::SaveMode, session_id::SessionId};
use proto::hub::v1::{
    ClaimSession, RemoveSession, RenameSession, session_outcome::Outcome, session_write::Write,
};
use std::sync::Arc;
use triad_client::HubError;

/// Others that change the session all the time don't keep a request for ever.
const TRIES: usize = 5;

impl Visit {
    /// Moves the session to a new id; the answer gives the browser the new cookie.
    ///
    /// # Errors
    /// See [`SessionError`]. [`SessionError::HubLost`]: it may have been done all the same, and then nobody has the new id.
    pub(crate) async fn change_id(&self, session_id: &str) -> Result<SessionId, SessionError> {
        let mut state = self.call(session_id).await?;
        let changed = self.changed_id(&mut state).await;
        state.note(changed)
    }

    async fn changed_id(&self, state: &mut State) -> Result<SessionId, SessionError> {
        let seen = state.generation;
        let fresh = self.sessions.fresh_id();
        let opened = self.opened(state, false).await?;
        let Some(entry) = opened.filter(|entry| entry.state().replica.exists()) else {
            state.move_to(fresh.clone(), None);
            return Ok(fresh);
        };
        for _ in 0..TRIES {
            if let Some(anew) = self.saved_first(state, &entry).await? {
                state.go_on_as(anew);
                return Ok(state.id.clone());
            }
            look_again(state, &entry, seen)?;
            if let Some(moved) = self.rename(&entry, &fresh).await? {
                // The replica has moved with its numbers: what this request has seen and changed stays so.
                (state.id, state.entry, state.fresh) = (fresh.clone(), Some(moved), true);
                (state.renamed, state.moved) = (true, true);
                return Ok(fresh);
            }
        }
        Err(SessionError::Stale)
    }

    /// Saves what is unsaved, so that only what the hub has needs to move. The new session, if that brought it a fresh id already.
    async fn saved_first(
        &self,
        state: &State,
        entry: &Arc<Entry>,
    ) -> Result<Option<Arc<Entry>>, SessionError> {
        let sequence = {
            let held = entry.state();
            held.replica.is_dirty().then(|| held.replica.sequence())
        };
        let Some(sequence) = sequence else { return Ok(None) };
        let generation = state.generation.unwrap_or(u64::MAX);
        match self.sessions.save(entry, sequence, generation, self.witness).await {
            Ok(()) => Ok(None),
            Err(SessionError::Stale) => {
                self.renew(entry, generation).await?.ok_or(SessionError::Stale).map(Some)
            }
            Err(failed) => Err(failed),
        }
    }

    /// Its entry under the new id. `None`: it has changed, here or elsewhere, or is gone; what the hub has is known now.
    async fn rename(&self, entry: &Arc<Entry>, to: &SessionId) -> Result<Option<Arc<Entry>>, SessionError> {
        let sessions = &self.sessions;
        let renaming = async {
            let _gate = entry.gate.lock().await;
            let base = {
                let held = entry.state();
                if held.removed || held.replica.is_dirty() {
                    return Ok(None);
                }
                held.replica.version()
            };
            let heard = Heard { epoch: sessions.link.epoch(), moves: 0 };
            let made = match &sessions.hub {
                Some(hub) => self.rename_on_hub(hub.as_ref(), entry, to, base).await?,
                None => Some((base, 0)),
            };
            Ok(made.map(|(version, save_id)| self.moved(entry, to, version, save_id, heard)))
        };
        let renamed = done_within(sessions.config.session.save_timeout, renaming).await;
        renamed.inspect_err(|_| doubt(entry))
    }

    /// The version under the new id, and what made it. `None`: the hub has another version, or none.
    async fn rename_on_hub(
        &self,
        hub: &dyn SessionHub,
        entry: &Arc<Entry>,
        to: &SessionId,
        base_version: u64,
    ) -> Result<Option<(u64, u64)>, HubError> {
        let sessions = &self.sessions;
        let save_id = rand::random();
        let rename = RenameSession {
            key: Some(sessions.key(&entry.id)),
            to: to.as_str().to_owned(),
            base_version,
            save_id,
            owner: sessions.config.me.as_str().to_owned(),
            timeout_ms: sessions.hub_timeout_ms(),
        };
        let heard = entry.state().heard(&sessions.link);
        let outcome = match hub.write(Write::Rename(rename), sessions.config.session.save_timeout).await {
            // It does not know the command before all of its servers are upgraded.
            Err(HubError::Refused(_)) => return self.rename_by_copy(hub, entry, to, base_version).await,
            outcome => outcome?,
        };
        let mut held = entry.state();
        match outcome {
            Outcome::Version(version) => return Ok(Some((version, save_id))),
            Outcome::Conflict(record) => {
                sessions.resolve(&mut held, record);
                held.rebased(heard);
            }
            Outcome::Missing(_) => {
                held.replica.missing();
                held.verified(heard);
            }
            Outcome::Claimed(_) | Outcome::NoRoom(_) => {
                return Err(HubError::Refused("a rename was answered as another write".to_owned()));
            }
        }
        Ok(None)
    }

    /// The same in three commands. What another server saves between the first and the last is left behind.
    async fn rename_by_copy(
        &self,
        hub: &dyn SessionHub,
        entry: &Arc<Entry>,
        to: &SessionId,
        base_version: u64,
    ) -> Result<Option<(u64, u64)>, HubError> {
        let sessions = &self.sessions;
        let limit = sessions.config.session.save_timeout;
        let key = Some(sessions.key(&entry.id));
        let heard = entry.state().heard(&sessions.link);
        let claim = ClaimSession { key: key.clone(), owner: sessions.config.me.as_str().to_owned() };
        let attributes = match hub.write(Write::Claim(claim), limit).await? {
            Outcome::Claimed(record) if record.version == base_version => record.attributes,
            Outcome::Claimed(record) => {
                let mut held = entry.state();
                sessions.resolve(&mut held, record);
                held.verified(heard);
                return Ok(None);
            }
            Outcome::Missing(_) => {
                let mut held = entry.state();
                held.replica.missing();
                held.verified(heard);
                return Ok(None);
            }
            other @ (Outcome::Version(_) | Outcome::Conflict(_) | Outcome::NoRoom(_)) => {
                return Err(HubError::Refused(format!("a claim was answered with {other:?}")));
            }
        };
        let made = self.create(to, attributes).await?;
        hub.write(Write::Remove(RemoveSession { key }), limit).await?;
        Ok(Some(made))
    }

    /// Puts the session in memory under its new id, with what other requests have changed while the hub was asked.
    fn moved(
        &self,
        entry: &Arc<Entry>,
        to: &SessionId,
        version: u64,
        save_id: u64,
        heard: Heard,
    ) -> Arc<Entry> {
        let sessions = &self.sessions;
        let moved = Arc::new(Entry::new(to.clone(), sessions.clock.now()));
        {
            let (mut held, mut anew) = (entry.state(), moved.state());
            held.removed = true;
            anew.replica = std::mem::take(&mut held.replica);
            anew.replica.renamed(version, save_id);
            anew.verified(heard);
        }
        entry.outcome.notify_waiters();
        sessions.forget(entry);
        sessions.put(moved.clone());
        if sessions.config.session.save_mode != SaveMode::OnShutdown {
            sessions.save_in_background(&moved);
        }
        moved
    }
}

/// The session may have changed since this request saw it. As for a save: what the request has changed is on top of what others have; but
/// a request that has only read is refused, for it may be about to write what it read.
fn look_again(state: &mut State, entry: &Entry, seen: Option<u64>) -> Result<(), SessionError> {
    let held = entry.state();
    if held.removed || !held.replica.exists() {
        return Err(SessionError::Stale);
    }
    let generation = held.replica.generation();
    let Some(seen) = seen else {
        state.generation = Some(generation);
        return Ok(());
    };
    let on_top = state.changed.is_some() && !held.replica.has_dropped(seen);
    if generation == seen || on_top { Ok(()) } else { Err(SessionError::Stale) }
}
