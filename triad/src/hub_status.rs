//! Where a hub server stands: its part, the log, the sessions and the cluster's members.

use common::id::ServerId;
use proto::hub::v1::Member;
use std::time::Duration;

/// Where a hub server stands, for logs and the status page.
#[derive(Debug, Clone)]
pub struct HubStatus {
    /// This server.
    pub me: ServerId,
    /// Who leads, as far as this server knows.
    pub leader: Option<ServerId>,
    /// Leader, follower, candidate …
    pub role: HubRole,
    /// Raft's term.
    pub term: u64,
    /// Index of the log's last entry.
    pub last_log: Option<u64>,
    /// Index up to which the log is on a majority, as far as this server knows.
    pub committed: Option<u64>,
    /// Index up to which the log is in the state.
    pub applied: Option<u64>,
    /// Sessions in the state.
    pub sessions: usize,
    /// Bytes that they take in memory.
    pub session_bytes: u64,
    /// New sessions that this server has refused as leader since its start, for want of memory.
    pub refused_sessions: u64,
    /// The cluster's members, by id.
    pub members: Vec<Member>,
    /// On the leader: how long ago a majority confirmed it.
    pub quorum_ack: Option<Duration>,
}

/// A hub server's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubRole {
    /// Takes the writes.
    Leader,
    /// Follows a leader.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Has lost its data, or is new: takes everything in before it votes.
    Joining,
    /// Has stopped.
    Stopped,
}
