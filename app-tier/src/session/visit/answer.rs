//! What an answer waits for, and carries: its changes made as safe as `save-mode` says, and the session's cookie.

use super::{State, Visit};
use crate::session::{SessionError, cookie, entry::Entry, store::count};
use common::config::{OnHubLoss, SaveMode};
use http::HeaderValue;
use std::sync::{Arc, atomic::Ordering};

impl Visit {
    /// Before the answer's head leaves: makes the changes as safe as `save-mode` says, and returns the `Set-Cookie`.
    ///
    /// # Errors
    /// The answer must not leave.
    pub(crate) async fn finish(&self) -> Result<Option<HeaderValue>, SessionError> {
        let mut state = self.state.lock().await;
        self.over.store(true, Ordering::SeqCst);
        if let Some(failed) = &state.failed {
            return Err(failed.clone());
        }
        if let Some(entry) = state.entry.clone() {
            self.settle(&mut state, &entry).await?;
        }
        let (name, config) = (&self.sessions.config.cookie_name, self.sessions.cookie());
        Ok(if state.renamed {
            cookie::set(name, &state.id, config, self.secure)
        } else if state.ended && self.cookie.is_some() {
            cookie::clear(name, config, self.secure)
        } else {
            None
        })
    }

    async fn settle(&self, state: &mut State, entry: &Arc<Entry>) -> Result<(), SessionError> {
        let sessions = &self.sessions;
        if sessions.hub.is_none() {
            return Ok(());
        }
        let generation = state.generation.unwrap_or(u64::MAX);
        if state.changed.is_none() {
            // Read only: while this request ran, the process may have been stopped and the session moved on.
            sessions.open(entry, self.witness).await?;
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
        let Some(changed) = state.changed else { return Ok(()) };
        // A change on a copy that has moved away meanwhile, or may have, waits for the hub's word in every mode.
        let doubtful = entry.state().stale || sessions.link.is_outlived(self.witness);
        if sessions.config.session.save_mode == SaveMode::BeforeResponse || doubtful {
            match sessions.save(entry, changed, generation, self.witness).await {
                Err(SessionError::HubLost(why))
                    if sessions.config.session.on_hub_loss == OnHubLoss::Serve
                        && !sessions.link.is_outlived(self.witness) =>
                {
                    answered_unsaved(entry, changed, generation, why)?;
                    count(&sessions.counters.unsaved_answers);
                    return Ok(());
                }
                done => done?,
            }
        }
        entry.state().replica.answered(changed);
        // Not at the end of the body: that may be hours away.
        if sessions.config.session.save_mode == SaveMode::AfterRequest {
            sessions.save_in_background(entry);
        }
        Ok(())
    }
}

/// An answer leaves whose changes the hub does not have, because it can't be reached (`why`).
///
/// # Errors
/// [`SessionError::Stale`]: the changes were dropped just now. [`SessionError::HubLost`]: the hub has said that they were made on
/// an outdated copy.
fn answered_unsaved(entry: &Entry, changed: u64, generation: u64, why: String) -> Result<(), SessionError> {
    // One lock from the look to the mark: a saver may be at work on these very changes.
    let mut held = entry.state();
    if held.removed || held.replica.has_dropped(generation) {
        return Err(SessionError::Stale);
    }
    if held.stale {
        return Err(SessionError::HubLost(why));
    }
    held.replica.answered(changed);
    Ok(())
}
