//! What an answer waits for, and carries: its changes made as safe as `save-mode` says, and the session's cookie.

use super::{State, Visit};
use crate::session::{Link, SessionError, cookie, entry::Entry, link::Alone, open::Source, store::count};
use common::config::{OnHubLoss, SaveMode};
use http::HeaderValue;
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// What the answer's head says of the session.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Finished {
    /// `Set-Cookie`.
    pub(crate) cookie: Option<HeaderValue>,
    /// The answer rests on this server's memory alone: how long it has not heard from the hub. A web-tier that hears it keeps the
    /// answer back.
    pub(crate) alone: Option<Duration>,
}

impl Visit {
    /// Before the answer's head leaves: makes the changes as safe as `save-mode` says.
    ///
    /// # Errors
    /// The answer must not leave.
    pub(crate) async fn finish(&self) -> Result<Finished, SessionError> {
        let mut state = self.state.lock().await;
        self.over.store(true, Ordering::SeqCst);
        if let Some(failed) = &state.failed {
            return Err(failed.clone());
        }
        let source = match state.entry.clone() {
            Some(entry) => self.settle(&mut state, &entry).await?,
            None => Source::Hub,
        };
        let alone = match source {
            Source::Memory => self.sessions.link.age(),
            Source::Hub => None,
        };
        let (name, config) = (&self.sessions.config.cookie_name, self.sessions.cookie());
        let cookie = if state.renamed {
            cookie::set(name, &state.id, config, self.secure)
        } else if state.ended && self.by_cookie {
            cookie::clear(name, config, self.secure)
        } else {
            None
        };
        Ok(Finished { cookie, alone })
    }

    /// The cookie that has to go with whatever is answered in place of the app's answer: the session has moved to another id, and
    /// under the one that the browser has there is nothing any more.
    pub(crate) fn moved_cookie(&self) -> Option<HeaderValue> {
        // A call that is still at work has not moved it yet, and its outcome is nobody's.
        let state = self.state.try_lock().ok().filter(|state| state.moved)?;
        cookie::set(&self.sessions.config.cookie_name, &state.id, self.sessions.cookie(), self.secure)
    }

    /// Returns what the answer rests on.
    async fn settle(&self, state: &mut State, entry: &Arc<Entry>) -> Result<Source, SessionError> {
        let sessions = &self.sessions;
        if state.homeless {
            self.leave(state);
            return Ok(Source::Hub);
        }
        if sessions.hub.is_none() {
            return Ok(Source::Hub);
        }
        let generation = state.generation.unwrap_or(u64::MAX);
        let mut source = Source::Hub;
        if state.changed.is_none() {
            // Read only: while this request ran, the process may have been stopped and the session moved on.
            source = sessions.open(entry, self.witness).await?;
            if generation != u64::MAX && entry.state().replica.generation() != generation {
                return Err(SessionError::Stale);
            }
        }
        if sessions.config.session.always_save_session {
            let mut held = entry.state();
            held.replica.save_all();
            if held.replica.exists() {
                state.changed = Some(held.replica.sequence());
            }
        }
        match state.changed {
            Some(changed) => self.settle_changes(state, entry, changed, generation).await,
            None => Ok(source),
        }
    }

    async fn settle_changes(
        &self,
        state: &mut State,
        entry: &Arc<Entry>,
        changed: u64,
        generation: u64,
    ) -> Result<Source, SessionError> {
        let sessions = &self.sessions;
        // In every mode, a change waits for the hub's word on a copy that has moved away meanwhile, or may have, and so does the
        // first of a session under an id that the browser brought: the hub may not take it.
        let doubtful = {
            let held = entry.state();
            held.stale || (held.replica.version() == 0 && self.brought.as_ref() == Some(&entry.id))
        };
        if sessions.config.session.save_mode == SaveMode::BeforeResponse
            || doubtful
            || sessions.link.current().is_none()
        {
            match sessions.save(entry, changed, generation, self.witness).await {
                Ok(()) => {}
                Err(SessionError::HubLost(why))
                    if sessions.config.session.on_hub_loss == OnHubLoss::Serve
                        && sessions.link.alone(self.witness) == Alone::Yes =>
                {
                    answered_unsaved(&sessions.link, entry, changed, generation, why)?;
                    count(&sessions.counters.unsaved_answers);
                    return Ok(Source::Memory);
                }
                Err(SessionError::Stale) => return self.begin_anew(state, entry, generation).await,
                Err(SessionError::NoRoom) if !entry.state().replica.exists() => {
                    self.leave(state);
                    sessions.forget_nothing(entry);
                    return Ok(Source::Hub);
                }
                Err(failed) => return Err(failed),
            }
            entry.state().replica.answered(changed);
            return Ok(Source::Hub);
        }
        entry.state().replica.answered(changed);
        // Not at the end of the body: that may be hours away.
        if sessions.config.session.save_mode == SaveMode::AfterRequest {
            sessions.save_in_background(entry);
        }
        Ok(Source::Hub)
    }

    /// The changes were dropped. If that was because the hub does not take the session's id any more, they are saved under a fresh
    /// one, which the browser gets with the answer.
    async fn begin_anew(
        &self,
        state: &mut State,
        entry: &Arc<Entry>,
        generation: u64,
    ) -> Result<Source, SessionError> {
        let anew = match self.renew(entry, generation).await {
            Err(SessionError::NoRoom) => {
                self.leave(state);
                return Ok(Source::Hub);
            }
            renewed => renewed?.ok_or(SessionError::Stale)?,
        };
        state.go_on_as(anew);
        self.sessions.forget_nothing(entry);
        Ok(Source::Hub)
    }
}

/// An answer leaves whose changes the hub does not have, because it can't be reached (`why`).
///
/// # Errors
/// [`SessionError::Stale`]: the changes were dropped just now. [`SessionError::HubLost`]: by what the hub has said, they may have
/// been made on an outdated copy.
fn answered_unsaved(
    link: &Link,
    entry: &Entry,
    changed: u64,
    generation: u64,
    why: String,
) -> Result<(), SessionError> {
    // One lock from the look to the mark: a saver may be at work on these very changes.
    let mut held = entry.state();
    if held.removed || held.replica.has_dropped(generation) {
        return Err(SessionError::Stale);
    }
    if !held.is_last_known(link) {
        return Err(SessionError::HubLost(why));
    }
    held.replica.answered(changed);
    Ok(())
}
