//! A session that goes on under another id: all that was acknowledged goes along, and the old id names nothing from then on.

use super::Sessions;
use crate::state::{change::Change, key::Key};
use proto::hub::v1::{Missing, RenameSession, SaveSession, SessionKey, session_outcome::Outcome};
use std::sync::Arc;

impl Sessions {
    pub(super) fn rename(
        &mut self,
        rename: RenameSession,
        now_ms: u64,
        changes: &mut Vec<Change>,
    ) -> Outcome {
        let wire = rename.key.unwrap_or_default();
        let (from, to) = (Key::new(&wire), Key::new(&SessionKey { app: wire.app.clone(), id: rename.to }));
        self.drop_expired(&from, now_ms, changes);
        self.drop_expired(&to, now_ms, changes);
        if let Some(there) = self.sessions.get(&to) {
            // It has been done already, or the new id is not as random as it has to be.
            return there.saved(rename.save_id).map_or(Outcome::Missing(Missing {}), Outcome::Version);
        }
        let Some(session) = self.sessions.get(&from) else { return Outcome::Missing(Missing {}) };
        if session.version != rename.base_version {
            return Outcome::Conflict(session.record(wire));
        }
        if self.tombstones.refuses(&to, now_ms) {
            return Outcome::Missing(Missing {});
        }
        let session = session.clone();
        // As a removal: its owner hears of it, and no save that is under way brings the old id back.
        self.take(&from, now_ms, true, changes);
        let mut session = Arc::unwrap_or_clone(session);
        session.indexed_ms = 0;
        session.version = session.version.max(self.tombstones.take(&to));
        let save = SaveSession {
            owner: rename.owner,
            save_id: rename.save_id,
            timeout_ms: rename.timeout_ms,
            ..SaveSession::default()
        };
        session.apply(save, now_ms);
        let version = session.version;
        Self::index(&mut self.deadlines, &mut session, &to);
        self.put(to, session);
        Outcome::Version(version)
    }
}
