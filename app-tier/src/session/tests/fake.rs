//! A hub in memory with the outcomes of the real one.

use crate::session::SessionHub;
use futures_util::future::BoxFuture;
use proto::hub::v1::{
    Missing, SaveSession, SessionKey, SessionRecord, session_outcome::Outcome, session_write::Write,
};
use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard},
    time::Duration,
};
use triad_client::HubError;

/// The hub.
#[derive(Debug, Default)]
pub(crate) struct FakeHub(Mutex<State>);

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
    slow: Option<String>,
    moved: Vec<(String, String)>,
    loads: u32,
    saves: u32,
}

impl FakeHub {
    pub(crate) fn set_down(&self, down: bool) {
        self.state().down = down;
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

    pub(crate) fn record(&self, id: &str) -> Option<SessionRecord> {
        self.state().sessions.get(id).cloned()
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
        self.0.lock().unwrap()
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
            if stalled || self.state().down {
                tokio::time::sleep(deadline).await;
                return Err(unavailable(deadline));
            }
            if self.state().refuses {
                return Err(HubError::Refused("too large".to_owned()));
            }
            let outcome = self.state().apply(write);
            let lost = {
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
            let back = async {
                while self.state().down {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(deadline, back).await.map_err(|_| unavailable(deadline))?;
            let mut state = self.state();
            state.loads += 1;
            Ok(state.sessions.get(&key.id).cloned())
        })
    }
}

impl State {
    fn apply(&mut self, write: Write) -> Outcome {
        match write {
            Write::Save(save) => self.save(save),
            Write::Touch(touch) => match self.sessions.get(&touch.key.unwrap().id) {
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
        }
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
