//! How a session ends, and moves to another id: the two that need the hub whatever `on-hub-loss` says.

use super::Visit;
use crate::session::{
    SessionError,
    entry::{Entry, Heard},
    replica::{Attributes, Replica},
};
use common::session_id::SessionId;
use proto::hub::v1::{
    RemoveSession, SaveSession, SessionKey, session_outcome::Outcome, session_write::Write,
};
use std::sync::Arc;
use triad_client::HubError;

impl Visit {
    /// Removes the session from the hub and from memory; with `to`, after it was saved under that id, whose entry is returned.
    pub(super) async fn remove(
        &self,
        entry: &Arc<Entry>,
        to: Option<&SessionId>,
    ) -> Result<Option<Arc<Entry>>, SessionError> {
        let sessions = &self.sessions;
        let limit = sessions.config.session.save_timeout;
        let removed = async {
            let _gate = entry.gate.lock().await;
            let (attributes, local) = {
                let held = entry.state();
                (held.replica.attributes(), held.replica.is_local() && held.known)
            };
            let moved = match to {
                Some(id) => Some(self.copy(id, attributes).await?),
                None => None,
            };
            if let Some(hub) = sessions.hub.as_ref().filter(|_| !local) {
                let remove = RemoveSession { key: Some(sessions.key(&entry.id)) };
                hub.write(Write::Remove(remove), limit).await?;
            }
            entry.state().removed = true;
            Ok(moved)
        };
        let moved = match tokio::time::timeout(limit, removed).await {
            Ok(Ok(moved)) => moved,
            Ok(Err(HubError::Refused(why))) => return Err(SessionError::Refused(why)),
            Ok(Err(cause)) => return Err(SessionError::HubLost(cause.to_string())),
            Err(_) => return Err(SessionError::HubLost(format!("no answer within {limit:?}"))),
        };
        entry.outcome.notify_waiters();
        sessions.forget(entry);
        if let Some(moved) = &moved {
            sessions.put(moved.clone());
        }
        Ok(moved)
    }

    /// A new session with these attributes, on the hub and as an entry that is not in memory yet.
    async fn copy(&self, id: &SessionId, attributes: Attributes) -> Result<Arc<Entry>, HubError> {
        let sessions = &self.sessions;
        let save_id = rand::random();
        let key: SessionKey = sessions.key(id);
        let heard = Heard { epoch: sessions.link.epoch(), moves: 0 };
        let limit = sessions.config.session.save_timeout;
        if let Some(hub) = &sessions.hub {
            let save = SaveSession {
                key: Some(key),
                base_version: 0,
                save_id,
                set: attributes.clone(),
                removed: Vec::new(),
                owner: sessions.config.me.as_str().to_owned(),
                timeout_ms: sessions.hub_timeout_ms(),
            };
            match hub.write(Write::Save(save), limit).await? {
                Outcome::Version(_) => {}
                other => return Err(HubError::Refused(format!("a new session was answered with {other:?}"))),
            }
        }
        let entry = Entry::new(id.clone(), sessions.clock.now());
        {
            let mut held = entry.state();
            held.replica = Replica::created(attributes, save_id);
            held.verified(heard);
        }
        Ok(Arc::new(entry))
    }
}
