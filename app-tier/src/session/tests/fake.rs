//! A hub in memory with the outcomes of the real one.

use crate::session::SessionHub;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use proto::hub::v1::{
    Missing, RenameSession, SaveSession, SessionKey, SessionRecord, session_outcome::Outcome,
    session_write::Write,
};
use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard},
    time::Duration,
};
use tokio::sync::Notify;
use triad_client::HubError;

/// The hub.
#[derive(Debug, Default)]
pub(crate) struct FakeHub {
    state: Mutex<State>,
    /// Told when it is up again.
    up: Notify,
}

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<String, SessionRecord>,
    /// The last save of each owner, by session and owner, and the version that it made.
    saved: HashMap<(String, String), (u64, u64)>,
    /// Removed, and not to be made again: the test's minute never ends.
    tombstones: HashSet<String>,
    down: bool,
    lost_answers: u32,
    refuses: bool,
    /// It does not know renames.
    old: bool,
    /// There is memory for so many sessions, and none for larger ones.
    room: Option<usize>,
    slow: Option<String>,
    moved: Vec<(String, String)>,
    loads: u32,
    saves: u32,
    touches: u32,
}

impl FakeHub {
    pub(crate) fn set_down(&self, down: bool) {
        self.state().down = down;
        self.up.notify_waiters();
    }

    /// As the real hub's client does: it tries on until it is answered, or the time is over.
    async fn reach(&self, deadline: Duration) -> Result<(), HubError> {
        let answered = async {
            loop {
                let up = self.up.notified();
                if !self.state().down {
                    return;
                }
                up.await;
            }
        };
        tokio::time::timeout(deadline, answered).await.map_err(|_| unavailable(deadline))
    }

    /// The next write is done, but its answer is lost.
    pub(crate) fn lose_an_answer(&self) {
        self.state().lost_answers += 1;
    }

    /// Saves of this session are not answered.
    pub(crate) fn stall(&self, id: &str) {
        self.state().slow = Some(id.to_owned());
    }

    pub(crate) fn set_refusing(&self, refuses: bool) {
        self.state().refuses = refuses;
    }

    /// One of its servers is not upgraded yet.
    pub(crate) fn set_old(&self, old: bool) {
        self.state().old = old;
    }

    /// From now on there is memory for `sessions`, and for no larger ones than are there.
    pub(crate) fn set_room(&self, sessions: Option<usize>) {
        self.state().room = sessions;
    }

    pub(crate) fn touches(&self) -> u32 {
        self.state().touches
    }

    pub(crate) fn record(&self, id: &str) -> Option<SessionRecord> {
        self.state().sessions.get(id).cloned()
    }

    /// The ids of all sessions.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.state().sessions.keys().cloned().collect()
    }

    pub(crate) fn value(&self, id: &str, name: &str) -> Option<u64> {
        let record = self.record(id)?;
        std::str::from_utf8(record.attributes.get(name)?).unwrap().parse().ok()
    }

    /// It expired.
    pub(crate) fn expire(&self, id: &str) {
        self.state().remove(id);
    }

    pub(crate) fn loads(&self) -> u32 {
        self.state().loads
    }

    pub(crate) fn saves(&self) -> u32 {
        self.state().saves
    }

    /// Ids of sessions that were taken from `server` since it was asked last.
    pub(crate) fn moved(&self, server: &str) -> Vec<String> {
        let mut state = self.state();
        let (mine, others) =
            std::mem::take(&mut state.moved).into_iter().partition(|(owner, _)| owner == server);
        state.moved = others;
        let mine: Vec<(String, String)> = mine;
        mine.into_iter().map(|(_, id)| id).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

fn unavailable(deadline: Duration) -> HubError {
    HubError::Unavailable { deadline, last: "no leader".to_owned() }
}

impl SessionHub for FakeHub {
    fn write(&self, write: Write, deadline: Duration) -> BoxFuture<'_, Result<Outcome, HubError>> {
        Box::pin(async move {
            // An answer always takes another turn of the runtime, as a real one does.
            tokio::task::yield_now().await;
            let stalled = match &write {
                Write::Save(save) => {
                    self.state().slow.as_deref() == save.key.as_ref().map(|key| key.id.as_str())
                }
                _ => false,
            };
            if stalled {
                tokio::time::sleep(deadline).await;
                return Err(unavailable(deadline));
            }
            self.reach(deadline).await?;
            if self.state().refuses || (self.state().old && matches!(write, Write::Rename(_))) {
                return Err(HubError::Refused("too large".to_owned()));
            }
            if let Write::Save(save) = &write
                && !self.state().has_room(save)
            {
                return Err(HubError::NoRoom);
            }
            let touch = matches!(write, Write::Touch(_));
            let outcome = self.state().apply(write);
            let lost = !touch && {
                let mut state = self.state();
                let lost = state.lost_answers > 0;
                state.lost_answers = state.lost_answers.saturating_sub(1);
                lost
            };
            if lost { Err(unavailable(deadline)) } else { Ok(outcome) }
        })
    }

    fn load(
        &self,
        key: SessionKey,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Option<SessionRecord>, HubError>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.reach(deadline).await?;
            let mut state = self.state();
            state.loads += 1;
            Ok(state.sessions.get(&key.id).cloned())
        })
    }
}

impl State {
    fn has_room(&self, save: &SaveSession) -> bool {
        let Some(room) = self.room else { return true };
        match self.sessions.get(&save.key.as_ref().unwrap().id) {
            None => save.base_version > 0 || self.sessions.len() < room,
            Some(record) => {
                let before = |name: &String| record.attributes.get(name).map_or(0, Bytes::len);
                save.set.iter().all(|(name, value)| value.len() <= before(name))
            }
        }
    }

    fn apply(&mut self, write: Write) -> Outcome {
        match write {
            Write::Save(save) => self.save(save),
            Write::Touch(touch) => match self.touched().sessions.get(&touch.key.unwrap().id) {
                Some(record) => Outcome::Version(record.version),
                None => Outcome::Missing(Missing {}),
            },
            Write::Remove(remove) => {
                let id = remove.key.unwrap().id;
                self.tombstones.insert(id.clone());
                if self.remove(&id) { Outcome::Version(0) } else { Outcome::Missing(Missing {}) }
            }
            Write::Claim(claim) => {
                let Some(record) = self.sessions.get_mut(&claim.key.unwrap().id) else {
                    return Outcome::Missing(Missing {});
                };
                let former = std::mem::replace(&mut record.owner, claim.owner);
                let record = record.clone();
                if former != record.owner {
                    self.moved.push((former, record.key.clone().unwrap().id));
                }
                Outcome::Claimed(record)
            }
            Write::Rename(rename) => self.rename(rename),
        }
    }

    fn rename(&mut self, rename: RenameSession) -> Outcome {
        let from = rename.key.unwrap();
        let mark = (rename.to.clone(), rename.owner.clone());
        if let Some((_, version)) = self.saved.get(&mark).filter(|it| it.0 == rename.save_id) {
            return Outcome::Version(*version);
        }
        let Some(found) = self.sessions.get(&from.id).cloned() else { return Outcome::Missing(Missing {}) };
        if found.version != rename.base_version {
            return Outcome::Conflict(found);
        }
        self.remove(&from.id);
        self.tombstones.insert(from.id);
        let version = found.version + 1;
        self.saved.insert(mark, (rename.save_id, version));
        let key = Some(SessionKey { app: from.app, id: rename.to.clone() });
        let record = SessionRecord { key, version, save_id: rename.save_id, owner: rename.owner, ..found };
        self.sessions.insert(rename.to, record);
        Outcome::Version(version)
    }

    fn touched(&mut self) -> &mut Self {
        self.touches += 1;
        self
    }

    /// Tells the owner; false when there is none.
    fn remove(&mut self, id: &str) -> bool {
        let Some(record) = self.sessions.remove(id) else { return false };
        self.saved.retain(|(session, _), _| session != id);
        self.moved.push((record.owner, id.to_owned()));
        true
    }

    fn save(&mut self, save: SaveSession) -> Outcome {
        let key = save.key.unwrap();
        let found = self.sessions.get(&key.id);
        let mark = (key.id.clone(), save.owner.clone());
        match self.saved.get(&mark) {
            Some((save_id, version)) if *save_id == save.save_id => return Outcome::Version(*version),
            _ => {}
        }
        match found {
            None if save.base_version > 0 || self.tombstones.contains(&key.id) => {
                return Outcome::Missing(Missing {});
            }
            Some(record) if record.version != save.base_version => return Outcome::Conflict(record.clone()),
            _ => {}
        }
        self.saves += 1;
        let record = self.sessions.entry(key.id.clone()).or_default();
        record.version += 1;
        record.save_id = save.save_id;
        record.attributes.extend(save.set);
        for name in &save.removed {
            record.attributes.remove(name);
        }
        let former = std::mem::replace(&mut record.owner, save.owner.clone());
        record.key = Some(key.clone());
        let version = record.version;
        self.saved.insert(mark, (save.save_id, version));
        if !former.is_empty() && former != save.owner {
            self.moved.push((former, key.id));
        }
        Outcome::Version(version)
    }
}
