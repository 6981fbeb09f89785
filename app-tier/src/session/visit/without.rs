//! Visitors whose session nobody has memory for: their answers leave without a session, and not as an error page.

use super::{State, Visit};
use crate::session::{
    SessionError,
    entry::{self, Entry},
    store::{Sessions, count},
};
use std::sync::Arc;

impl Visit {
    /// An entry for this request alone: what the app sets it may read until its answer has left.
    pub(super) fn homeless(&self, state: &mut State) -> Arc<Entry> {
        state.homeless = true;
        Arc::new(Entry::new(state.id.clone(), self.sessions.clock.now()))
    }

    /// The answer leaves without the session that the app has made, and without its cookie.
    pub(super) fn leave(&self, state: &mut State) {
        let sessions = &self.sessions;
        state.move_to(sessions.fresh_id(), None);
        count(&sessions.counters.without);
        if let Some(visitors) = sessions.without_log.note(sessions.clock.now(), 1) {
            tracing::warn!(
                app = sessions.app(),
                visitors,
                "answered without a session: there is no memory for new ones (session-memory-max of the hub, session-max here)"
            );
        }
    }
}

impl Sessions {
    /// The hub has no memory for a new session (`creates`), or for a larger one. Those who wait hear of it. A new one of which an answer has
    /// told already is gone: were it kept here unsaved, such sessions would fill this server's memory next.
    pub(in crate::session) fn no_room(&self, state: &mut entry::State, creates: bool) {
        state.refused = Some(SessionError::NoRoom);
        if creates && state.replica.has_answered() {
            state.replica.missing();
            count(&self.counters.lost);
        } else {
            state.replica.drop_unanswered();
        }
    }
}
