//! The calls of the app: what it reads and changes, one at a time a request.

use super::{Loaded, State, Visit};
use crate::session::{SessionError, entry::Entry, replica::Attributes};
use bytes::Bytes;
use std::{
    collections::HashMap,
    ops::{Deref, DerefMut},
    sync::Arc,
};
use tokio::sync::MutexGuard;

/// Largest value of an attribute.
const VALUE_MAX: usize = 16 * 1024 * 1024;

/// Largest name of an attribute.
const NAME_MAX: usize = 1024;

/// Largest session: all names and values.
const SESSION_MAX: usize = 32 * 1024 * 1024;

/// Largest session of a request for which memory has no place: it ends with the request.
const HOMELESS_MAX: usize = 64 * 1024;

/// Ids shorter than ours could be guessed: they are honoured for routing, but no session is made under them.
const REUSABLE_MIN: usize = 24;

/// A call at work.
#[derive(Debug)]
pub(super) struct Call<'a> {
    // Dropped first: the lock is free when the end of the call is looked at.
    state: MutexGuard<'a, State>,
    #[expect(dead_code, reason = "for its drop")]
    late: Late<'a>,
}

/// The end of a call: when the request is over, nobody else saves what it changed.
#[derive(Debug)]
struct Late<'a>(&'a Visit);

impl Drop for Late<'_> {
    fn drop(&mut self) {
        self.0.save_late();
    }
}

impl Deref for Call<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Call<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Visit {
    /// The attributes, for the app.
    ///
    /// # Errors
    /// See [`SessionError`]; the request's answer will then be a 503.
    pub(crate) async fn load(&self, session_id: &str) -> Result<Loaded, SessionError> {
        let mut state = self.call(session_id).await?;
        let loaded = self.loaded(&mut state).await;
        state.note(loaded)
    }

    async fn loaded(&self, state: &mut State) -> Result<Loaded, SessionError> {
        let Some(entry) = self.opened(state, false).await? else { return Ok((false, 0, Attributes::new())) };
        let held = entry.state();
        Ok((held.replica.exists(), held.replica.version(), held.replica.attributes()))
    }

    /// Changes attributes; makes the session if there is none.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub(crate) async fn update(
        &self,
        session_id: &str,
        set: HashMap<String, Bytes>,
        removed: Vec<String>,
    ) -> Result<(), SessionError> {
        for (name, size, max) in set
            .iter()
            .flat_map(|(name, value)| [(name, name.len(), NAME_MAX), (name, value.len(), VALUE_MAX)])
        {
            if size > max {
                let name: String = name.chars().take(64).collect();
                return Err(SessionError::TooLarge { what: format!("attribute {name:?}"), size, max });
            }
        }
        let mut state = self.call(session_id).await?;
        let updated = self.updated(&mut state, set, removed).await;
        state.note(updated)
    }

    async fn updated(
        &self,
        state: &mut State,
        set: Attributes,
        removed: Vec<String>,
    ) -> Result<(), SessionError> {
        let Some(entry) = self.opened(state, true).await? else { return Err(SessionError::Stale) };
        let mut held = entry.state();
        let grown = held.replica.size_after(&set, &removed);
        if state.homeless && grown > HOMELESS_MAX {
            return Err(SessionError::NoRoom);
        }
        if grown > SESSION_MAX {
            return Err(SessionError::TooLarge {
                what: "the session".to_owned(),
                size: grown,
                max: SESSION_MAX,
            });
        }
        held.replica.update(set, removed);
        held.used = self.sessions.clock.now();
        if self.sessions.hub.is_none() {
            held.replica.settle();
        }
        // Equal values are no change: such a request has only read.
        if held.replica.is_dirty() {
            state.changed = Some(held.replica.sequence());
        }
        drop(held);
        self.sessions.weigh(&entry);
        state.renamed |= self.brought.as_ref() != Some(&entry.id);
        Ok(())
    }

    /// Ends the session everywhere.
    ///
    /// # Errors
    /// See [`SessionError`]; [`SessionError::HubLost`]: it may live on.
    pub(crate) async fn invalidate(&self, session_id: &str) -> Result<(), SessionError> {
        let mut state = self.call(session_id).await?;
        if !state.fresh || state.entry.is_some() {
            let entry = match &state.entry {
                Some(entry) => entry.clone(),
                None => self.sessions.entry(&state.id)?,
            };
            let removed = self.remove(&entry).await;
            state.note(removed)?;
        }
        let fresh = self.sessions.fresh_id();
        state.move_to(fresh, None);
        state.ended = true;
        Ok(())
    }

    /// Begins a call of the app.
    pub(super) async fn call(&self, session_id: &str) -> Result<Call<'_>, SessionError> {
        let late = Late(self);
        let state = self.state.lock().await;
        if session_id != self.presented.as_str() && session_id != state.id.as_str() {
            return Err(SessionError::NotThisRequest);
        }
        match &state.failed {
            Some(failed) => Err(failed.clone()),
            None => Ok(Call { state, late }),
        }
    }

    /// The session's entry, current and as this request saw it before. `None`: there is no session; with `make`, there is one
    /// to be made.
    pub(super) async fn opened(
        &self,
        state: &mut State,
        make: bool,
    ) -> Result<Option<Arc<Entry>>, SessionError> {
        if state.fresh && state.entry.is_none() {
            if !make {
                return Ok(None);
            }
            return self.made(state).map(Some);
        }
        let entry = match &state.entry {
            Some(entry) => entry.clone(),
            None => self.sessions.entry(&state.id)?,
        };
        if state.homeless {
            return Ok(Some(entry));
        }
        self.sessions.open(&entry, self.witness).await?;
        state.entry = Some(entry.clone());
        let (exists, generation) = {
            let held = entry.state();
            if held.removed {
                return Err(SessionError::Stale);
            }
            (held.replica.exists(), held.replica.generation())
        };
        if *state.generation.get_or_insert(generation) != generation {
            return Err(SessionError::Stale);
        }
        let reusable = self.by_cookie
            && self.sessions.config.session.reuse_session_id
            && entry.id.as_str().len() >= REUSABLE_MIN;
        if !exists && !reusable && !state.fresh {
            self.sessions.forget(&entry);
            let fresh = self.sessions.fresh_id();
            state.move_to(fresh, None);
            return if make { self.made(state).map(Some) } else { Ok(None) };
        }
        Ok(Some(entry))
    }

    /// An entry for a session that nobody can have yet.
    fn made(&self, state: &mut State) -> Result<Arc<Entry>, SessionError> {
        let entry = match self.sessions.entry(&state.id) {
            Err(SessionError::Full { .. }) => self.homeless(state),
            placed => placed?,
        };
        {
            let mut held = entry.state();
            let heard = held.heard(&self.sessions.link);
            held.verified(heard);
            state.generation = Some(held.replica.generation());
        }
        state.entry = Some(entry.clone());
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use crate::session::tests::{User, config, pair, write};
    use common::config::SaveMode;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_ends_after_its_request_saves_what_is_unsaved() {
        let (hub, a, _) = pair(&config(|it| it.save_mode = SaveMode::AfterRequest));
        let guard = a.begin(&User::default());
        write(&guard, "count", 1).await.unwrap();
        let visit = guard.visit.clone();
        let id = guard.session_id().to_owned();
        let call = visit.call(&id).await.unwrap();
        drop(guard);
        assert_eq!(a.sessions.unsaved().len(), 1);
        drop(call);
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(hub.value(&id, "count"), Some(1));
    }
}
