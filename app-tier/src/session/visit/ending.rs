//! How a session ends, and goes on under a fresh id: what needs the hub whatever `on-hub-loss` says.

use super::Visit;
use crate::session::{
    SessionError,
    entry::{Buried, Entry},
    heard::Heard,
    replica::{Attributes, Replica},
};
use common::session_id::SessionId;
use proto::hub::v1::{RemoveSession, SaveSession, session_outcome::Outcome, session_write::Write};
use std::{sync::Arc, time::Duration};
use triad_client::HubError;

impl Visit {
    /// Removes the session from the hub and from memory, whatever others have changed: who logs out means all of it.
    pub(super) async fn remove(&self, entry: &Arc<Entry>) -> Result<(), SessionError> {
        let sessions = &self.sessions;
        let limit = sessions.config.session.save_timeout;
        // Nobody else can have a session whose id was made for this request. One that a browser brought may be on the hub by now,
        // though it was not when this server asked.
        let mine = self.brought.as_ref() != Some(&entry.id);
        let removed = async {
            let _gate = entry.gate.lock().await;
            let local = mine && entry.state().replica.is_local();
            if let Some(hub) = sessions.hub.as_ref().filter(|_| !local) {
                let remove = RemoveSession { key: Some(sessions.key(&entry.id)) };
                hub.write(Write::Remove(remove), limit).await?;
            }
            entry.state().removed = true;
            Ok(())
        };
        done_within(limit, removed).await.inspect_err(|_| doubt(entry))?;
        entry.outcome.notify_waiters();
        sessions.forget(entry);
        Ok(())
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
            let heard = Heard { epoch: sessions.link.epoch(), moves: 0 };
            let anew = Arc::new(Entry::new(sessions.fresh_id(), sessions.clock.now()));
            let (version, save_id) = self.create(&anew.id, attributes.clone()).await?;
            anew.state().replica = Replica::created(attributes, version, save_id);
            anew.state().verified(heard);
            if let Some(buried) = &mut entry.state().buried {
                buried.anew = Some(anew.clone());
            }
            sessions.put(anew.clone());
            Ok(Some(anew))
        };
        done_within(limit, renewed).await
    }

    /// A new session with these attributes on the hub: its version, and the save that made it.
    pub(super) async fn create(
        &self,
        id: &SessionId,
        attributes: Attributes,
    ) -> Result<(u64, u64), HubError> {
        let sessions = &self.sessions;
        let save_id = rand::random();
        let Some(hub) = &sessions.hub else { return Ok((1, save_id)) };
        let save = SaveSession {
            key: Some(sessions.key(id)),
            base_version: 0,
            save_id,
            set: attributes,
            removed: Vec::new(),
            owner: sessions.config.me.as_str().to_owned(),
            timeout_ms: sessions.hub_timeout_ms(),
        };
        match hub.write(Write::Save(save), sessions.config.session.save_timeout).await? {
            Outcome::Version(version) => Ok((version, save_id)),
            other => Err(HubError::Refused(format!("a new session was answered with {other:?}"))),
        }
    }
}

/// Whether the session has ended under this id is not known: it is not used before the hub has been asked.
pub(super) fn doubt(entry: &Entry) {
    let mut held = entry.state();
    if !held.replica.is_local() {
        held.stale = true;
    }
}

/// What the hub did of it, in time.
pub(super) async fn done_within<T>(
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
