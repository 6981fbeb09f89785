//! Tells the hub that sessions are used, so that none expires there while it is in use here.

use super::{
    entry::{Entry, State},
    store::Sessions,
};
use proto::hub::v1::{TouchSession, session_outcome::Outcome, session_write::Write};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use triad_client::HubError;

/// A session in use is touched on the hub at most this often.
const TOUCH_MIN: Duration = Duration::from_secs(1);

impl Sessions {
    /// How long the hub keeps a session of which it hears nothing: `session-timeout` and the time that may lie between a use and
    /// the next touch, so that no session expires early.
    pub(super) fn hub_timeout_ms(&self) -> u64 {
        let timeout = self.config.session.session_timeout;
        if timeout.is_zero() {
            return 0;
        }
        u64::try_from((timeout + touch_interval(timeout)).as_millis()).unwrap_or(u64::MAX)
    }

    /// A request uses the session: tells the hub once in a while, so that it does not expire there, and at once when it is the first
    /// after the one that made it, or this server does not know.
    pub(super) fn touch(self: &Arc<Self>, entry: &Arc<Entry>) {
        let now = self.clock.now();
        let timeout = self.config.session.session_timeout;
        let told = {
            let mut state = entry.state();
            let idle = now.saturating_duration_since(state.used);
            if timeout.is_zero() || idle <= timeout {
                state.used = now;
            }
            // When it is back it is told.
            if self.link.is_lost() { None } else { self.due(&mut state, now) }
        };
        let Some(told) = told else { return };
        let (sessions, entry) = (self.clone(), entry.clone());
        tokio::spawn(async move { sessions.touch_hub(&entry, told).await });
    }

    /// Tells the hub of a use of which it has not heard, if there is one.
    pub(super) async fn touch_untold(&self, entry: &Entry) {
        let told = {
            let mut state = entry.state();
            let untold = state.used > state.touched;
            untold.then(|| self.due(&mut state, self.clock.now())).flatten()
        };
        if let Some(told) = told {
            self.touch_hub(entry, told).await;
        }
    }

    /// When the hub was told last, if that is long ago. From now on it counts as told.
    fn due(&self, state: &mut State, now: Instant) -> Option<Instant> {
        let timeout = self.config.session.session_timeout;
        let idle = now.saturating_duration_since(state.touched);
        let due = !state.returned || (!timeout.is_zero() && idle >= touch_interval(timeout));
        let useful = state.known && state.replica.exists() && !state.replica.is_local();
        (due && useful && self.hub.is_some()).then(|| {
            state.returned = true;
            std::mem::replace(&mut state.touched, now)
        })
    }

    async fn touch_hub(&self, entry: &Entry, told: Instant) {
        let Some(hub) = &self.hub else { return };
        let touch = TouchSession { key: Some(self.key(&entry.id)) };
        match hub.write(Write::Touch(touch), self.config.session.save_timeout).await {
            Ok(Outcome::Missing(_)) => entry.state().stale = true,
            Ok(_) => {}
            Err(cause) => {
                tracing::debug!(%cause, "a session could not be touched");
                if matches!(cause, HubError::Unavailable { .. }) {
                    self.link.unanswered(false);
                }
                let mut state = entry.state();
                (state.touched, state.returned) = (told, false);
            }
        }
    }
}

fn touch_interval(timeout: Duration) -> Duration {
    (timeout / 10).max(TOUCH_MIN)
}
