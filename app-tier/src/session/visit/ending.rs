//! How a session ends, and moves to another id: what needs the hub whatever `on-hub-loss` says.

use super::Visit;
use crate::session::{
    SessionError,
    entry::{Buried, Entry, Heard},
    replica::{Attributes, Replica},
};
use common::session_id::SessionId;
use proto::hub::v1::{
    RemoveSession, SaveSession, SessionKey, session_outcome::Outcome, session_write::Write,
};
use std::{sync::Arc, time::Duration};
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
        let moved = done_within(limit, removed).await?;
        entry.outcome.notify_waiters();
        sessions.forget(entry);
        if let Some(moved) = &moved {
            sessions.put(moved.clone());
        }
        Ok(moved)
    }

    /// A new session whose id the hub did not take, under a fresh one: saved there, and in memory. `None`: the changes of this request,
    /// made before `generation` was dropped, are gone for another reason.
    pub(super) async fn renew(
        &self,
        entry: &Arc<Entry>,
        generation: u64,
    ) -> Result<Option<Arc<Entry>>, SessionError> {
        let sessions = &self.sessions;
        let limit = sessions.config.session.save_timeout;
        let renewed = async {
            // The first of those that wait makes it, the others take it.
            let _gate = entry.gate.lock().await;
            let attributes = {
                let held = entry.state();
                let buried = held.buried.as_ref().filter(|it| {
                    !held.removed && it.dropped == held.replica.dropped() && it.dropped > generation
                });
                match buried {
                    None => return Ok(None),
                    Some(Buried { anew: Some(anew), .. }) => return Ok(Some(anew.clone())),
                    Some(buried) => buried.attributes.clone(),
                }
            };
            let anew = self.copy(&sessions.fresh_id(), attributes).await?;
            if let Some(buried) = &mut entry.state().buried {
                buried.anew = Some(anew.clone());
            }
            sessions.put(anew.clone());
            Ok(Some(anew))
        };
        done_within(limit, renewed).await
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

/// What the hub did of it, in time.
async fn done_within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, HubError>>,
) -> Result<T, SessionError> {
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(HubError::Refused(why))) => Err(SessionError::Refused(why)),
        Ok(Err(HubError::NoRoom)) => Err(SessionError::NoRoom),
        Ok(Err(cause)) => Err(SessionError::HubLost(cause.to_string())),
        Err(_) => Err(SessionError::HubLost(format!("no answer within {limit:?}"))),
    }
}
