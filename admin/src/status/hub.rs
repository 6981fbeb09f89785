//! The hub: what its servers say of themselves, and how far each is behind its leader.

use super::collect::Snapshot;
use common::config::Config;
use proto::status::v1::{Hub, HubRole};
use serde::Serialize;

/// The hub.
#[derive(Debug, Serialize)]
pub(crate) struct HubRecord {
    /// Who leads, by its own word; none that answers.
    pub(crate) leader: Option<String>,
    pub(crate) term: u64,
    pub(crate) sessions: u64,
    pub(crate) session_bytes: u64,
    /// In the order of the file.
    pub(crate) servers: Vec<HubServerRecord>,
}

/// A hub server.
#[derive(Debug, Default, Serialize)]
pub(crate) struct HubServerRecord {
    pub(crate) id: String,
    pub(crate) answers: bool,
    /// `leader`, `follower`, `candidate`, `joining` or `stopped`; none when it does not answer.
    pub(crate) role: Option<&'static str>,
    pub(crate) term: Option<u64>,
    pub(crate) last_log: Option<u64>,
    pub(crate) committed: Option<u64>,
    pub(crate) applied: Option<u64>,
    /// Entries of the leader's log that it is not known to have.
    pub(crate) lag: Option<u64>,
    /// How long ago it answered the leader; of the leader, how long ago a majority did.
    pub(crate) heard_ms: Option<u64>,
    /// The last entry of its newest snapshot.
    pub(crate) snapshot: Option<u64>,
    pub(crate) snapshot_bytes: Option<u64>,
    pub(crate) disk_bytes: Option<u64>,
    /// New sessions that it has refused for want of memory.
    pub(crate) refused_sessions: Option<u64>,
}

impl HubRecord {
    pub(crate) fn of(snapshot: &Snapshot, config: &Config) -> Self {
        let hub_of = |id: &str| snapshot.answer(id).and_then(|it| it.status.hub.as_ref());
        let leaders = config.triad.iter().filter_map(|id| Some((id.to_string(), hub_of(id.as_str())?)));
        // One that was deposed and has not noticed has a lower term.
        let leader = leaders.filter(|(_, hub)| hub.role() == HubRole::Leader).max_by_key(|(_, hub)| hub.term);
        let any = || config.triad.iter().filter_map(|id| hub_of(id.as_str())).max_by_key(|it| it.applied);
        let state = leader.as_ref().map(|(_, hub)| *hub).or_else(any);
        let record = |id: &common::id::ServerId| {
            HubServerRecord::of(id.as_str(), hub_of(id.as_str()), leader.as_ref().map(|(_, hub)| *hub))
        };
        Self {
            term: state.map_or(0, |it| it.term),
            sessions: state.map_or(0, |it| it.sessions),
            session_bytes: state.map_or(0, |it| it.session_bytes),
            servers: config.triad.iter().map(record).collect(),
            leader: leader.as_ref().map(|(id, _)| id.clone()),
        }
    }
}

impl HubServerRecord {
    fn of(id: &str, hub: Option<&Hub>, leader: Option<&Hub>) -> Self {
        let follower = leader.and_then(|it| it.followers.iter().find(|it| it.id == id));
        let end = leader.and_then(|it| it.last_log);
        let lag = follower.and_then(|it| Some(end?.saturating_sub(it.matched.unwrap_or(0))));
        let heard_ms = follower.and_then(|it| it.heard_ms);
        let mut record = Self { id: id.to_owned(), answers: hub.is_some(), lag, heard_ms, ..Self::default() };
        let Some(hub) = hub else { return record };
        record.role = match hub.role() {
            HubRole::Unspecified => None,
            HubRole::Leader => Some("leader"),
            HubRole::Follower => Some("follower"),
            HubRole::Candidate => Some("candidate"),
            HubRole::Joining => Some("joining"),
            HubRole::Stopped => Some("stopped"),
        };
        if hub.role() == HubRole::Leader {
            record.heard_ms = hub.quorum_ack_ms;
        }
        record.term = Some(hub.term);
        record.last_log = hub.last_log;
        record.committed = hub.committed;
        record.applied = hub.applied;
        record.snapshot = hub.snapshot;
        record.snapshot_bytes = Some(hub.snapshot_bytes);
        record.disk_bytes = Some(hub.disk_bytes);
        record.refused_sessions = Some(hub.refused_sessions);
        record
    }
}
