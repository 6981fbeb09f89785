//! What an operator asks of a session in this server's memory, and that it is not to be believed any more.

use super::store::Sessions;
use common::session_id::SessionId;
use proto::session::v1::{HeldAttribute, HeldSession};

/// Attributes that are told at most.
const ATTRIBUTES_MAX: usize = 200;

impl Sessions {
    /// What is in memory of an id, without the values; `None`: nothing. No use of the session.
    pub(crate) fn inquire(&self, id: &SessionId) -> Option<HeldSession> {
        let entry = self.entries().into_iter().find(|it| it.id == *id)?;
        let state = entry.state();
        if !state.replica.exists() {
            return None;
        }
        let attributes = state.replica.attributes();
        let mut named: Vec<HeldAttribute> = attributes
            .iter()
            .map(|(name, value)| HeldAttribute { name: name.clone(), bytes: value.len() as u64 })
            .collect();
        named.sort_by(|a, b| a.name.cmp(&b.name));
        named.truncate(ATTRIBUTES_MAX);
        let used = self.clock.now().saturating_duration_since(state.used);
        let only_here = self.hub.is_none();
        Some(HeldSession {
            app: self.app().to_owned(),
            bytes: attributes.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum(),
            attribute_count: attributes.len() as u64,
            attributes: named,
            version: if only_here { 0 } else { state.replica.version() },
            unsaved: !only_here && state.replica.is_dirty(),
            stale: !only_here && !state.is_verified(&self.link),
            used_ago_ms: u64::try_from(used.as_millis()).unwrap_or(u64::MAX),
            only_here,
        })
    }

    /// An operator has ended the session: the hub is asked before what is here is used again, and what the hub can't know is gone.
    /// Whether there was one.
    pub(crate) fn end_by_operator(&self, id: &SessionId) -> bool {
        let Some(entry) = self.entries().into_iter().find(|it| it.id == *id) else { return false };
        let (existed, gone) = {
            let mut state = entry.state();
            state.moves += 1;
            state.stale = true;
            let gone = self.hub.is_none() || state.replica.is_local();
            state.removed |= gone;
            (state.replica.exists(), gone)
        };
        if gone {
            self.forget(&entry);
        }
        existed
    }
}
