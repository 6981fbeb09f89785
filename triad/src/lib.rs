//! The hub: a replicated state machine over Raft and its gRPC services. docs/hub.md says what it promises.

mod absence;
mod admission;
mod command;
mod disk;
mod feed;
mod hand_over;
mod heartbeats;
mod hub;
mod probe;
mod proposer;
mod raft;
mod reader;
mod refusal;
mod report;
mod rights;
mod serve;
mod service;
mod state;
#[cfg(test)]
mod tests;
mod time;
mod versions;

pub use admission::SessionLimits;
pub use serve::{Caller, serve_grpc};

use cluster_port::Credentials;
use common::{clock::Clock, id::ServerId};
use feed::Feed;
use hub::Hub;
use proto::hub::v1::{
    Member, apps_server::AppsServer, audits_server::AuditsServer, lead_server::LeadServer,
    members_server::MembersServer, raft_server::RaftServer, session_admin_server::SessionAdminServer,
    sessions_server::SessionsServer, tokens_server::TokensServer, triad_server::TriadServer,
    watch_server::WatchServer,
};
use raft::node::{Disks, Node};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

/// The largest gRPC message: a session may be larger than gRPC's usual 4 MiB.
pub(crate) const MESSAGE_MAX: usize = 64 << 20;

/// A hand-over of the leadership is waited for so long.
const HAND_OVER: Duration = Duration::from_secs(2);

/// What a hub server needs to know.
#[derive(Debug, Clone)]
pub struct HubServerConfig {
    /// This server.
    pub me: ServerId,
    /// The hub's servers and the `host:port` of their cluster ports, in the configuration's order; this one among them.
    pub servers: Vec<(ServerId, String)>,
    /// What it shows the others.
    pub credentials: Credentials,
    /// This server's data folder, there and locked; `hub` is made in it.
    pub data_dir: PathBuf,
    /// Members that miss three of these are down.
    pub heartbeat_interval: Duration,
    /// How much of this server's memory sessions may take.
    pub session_limits: SessionLimits,
    /// Where time comes from. The hub's own goes by the median of its servers' clocks.
    pub clock: Arc<dyn Clock>,
}

/// Why a hub server can't start.
#[derive(Debug, thiserror::Error)]
pub enum TriadError {
    /// This server is not in the list, or the list is empty or too long.
    #[error(
        "server {me} can't be a hub server: the hub has {servers:?}, expected one to three with {me} among them"
    )]
    NotInHub {
        /// This server.
        me: ServerId,
        /// The hub's servers.
        servers: Vec<ServerId>,
    },
    /// A folder can't be made.
    #[error(transparent)]
    Io(std::io::Error),
    /// What is on disk can't be used.
    #[error("{0}")]
    Storage(String),
    /// The Raft library refuses.
    #[error("the hub's Raft can't start: {0}")]
    Raft(String),
    /// The storage, or Raft itself, has failed while running.
    #[error("the hub has failed: {0}")]
    Failed(String),
}

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

/// This server's part of the hub. Dropped without [`Triad::stop`], it stops without a hand-over.
#[derive(Debug)]
pub struct Triad {
    hub: Arc<Hub>,
    me: ServerId,
    data_dir: PathBuf,
    stop: CancellationToken,
    _stop_on_drop: tokio_util::sync::DropGuard,
}

impl Triad {
    /// Opens the storage and starts Raft; does not wait for a leader. Needs a tokio runtime with time and I/O.
    ///
    /// # Errors
    /// See [`TriadError`].
    pub async fn start(config: HubServerConfig) -> Result<Self, TriadError> {
        let disks = Disks::open(&config.data_dir).map_err(TriadError::Io)?;
        Self::start_on(config, disks).await
    }

    async fn start_on(config: HubServerConfig, disks: Disks) -> Result<Self, TriadError> {
        let names = || config.servers.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
        let place = config.servers.iter().position(|(id, _)| *id == config.me);
        let Some(me) = place.filter(|_| config.servers.len() <= 3) else {
            return Err(TriadError::NotInHub { me: config.me.clone(), servers: names() });
        };
        let stop = CancellationToken::new();
        let feed = Arc::new(Feed::default());
        let node = Node::start(&config, me as u64, disks, feed.clone(), stop.clone()).await?;
        let hub = Arc::new(Hub::new(node, feed, &config));
        tokio::spawn(hub.clone().run(stop.clone()));
        tokio::spawn(hub.clone().vouch(stop.clone()));
        tokio::spawn(hub.clone().hear_clocks(stop.clone()));
        let (me, data_dir) = (config.me, config.data_dir);
        Ok(Self { hub, me, data_dir, _stop_on_drop: stop.clone().drop_guard(), stop })
    }

    /// All the hub's services, Raft among them, for the cluster port (see [`serve_grpc`]).
    pub fn routes(&self) -> Routes {
        let raft = RaftServer::new(self.hub.node().service())
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(MESSAGE_MAX);
        let sessions = SessionsServer::new(service::SessionService(self.hub.clone()))
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(MESSAGE_MAX);
        let session_admin = SessionAdminServer::new(service::SessionAdminService(self.hub.clone()));
        let members = MembersServer::new(service::MemberService(self.hub.clone()));
        let apps = AppsServer::new(service::AppService(self.hub.clone()));
        let audits = AuditsServer::new(service::AuditService(self.hub.clone()));
        let lead = LeadServer::new(service::LeadService(self.hub.clone()));
        let tokens = TokensServer::new(service::TokenService(self.hub.clone()));
        let status = TriadServer::new(service::StatusService::new(self.hub.clone(), self.data_dir.clone()));
        let watch = WatchServer::new(service::WatchService(self.hub.clone()));
        Routes::new(raft)
            .add_service(sessions)
            .add_service(session_admin)
            .add_service(members)
            .add_service(apps)
            .add_service(tokens)
            .add_service(audits)
            .add_service(lead)
            .add_service(status)
            .add_service(watch)
            .prepare()
    }

    /// Waits until a leader is known and this server takes part; false when that did not come within `timeout`.
    pub async fn ready(&self, timeout: Duration) -> bool {
        let ready = async {
            while !self.hub.node().is_ready() {
                self.hub.node().changed(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(timeout, ready).await.is_ok()
    }

    /// Stops: a leader hands over first (at most two seconds), then Raft ends and the log is closed.
    pub async fn stop(&self) {
        self.hub.retire();
        if !self.hub.node().hand_over(HAND_OVER).await {
            tracing::warn!("no other hub server has taken the leadership over");
        }
        self.stop.cancel();
        self.hub.node().stop().await;
    }

    /// Whether this server leads, as a majority has confirmed lately.
    pub fn leads(&self) -> bool {
        self.hub.must_be_confirmed().is_ok()
    }

    /// Where this server stands.
    pub fn status(&self) -> HubStatus {
        let position = self.hub.node().position();
        let (sessions, session_bytes, members) = {
            let applied = self.hub.node().view().read();
            let state = &applied.state;
            (state.session_count(), state.memory().bytes(), state.members().iter().cloned().collect())
        };
        HubStatus {
            me: self.me.clone(),
            leader: position.leader.and_then(|it| self.hub.name(it).cloned()),
            role: self.hub.node().role(),
            term: position.term,
            last_log: position.last_log,
            committed: position.committed,
            applied: position.applied,
            sessions,
            session_bytes,
            refused_sessions: self.hub.admission().refused(),
            members,
            quorum_ack: position.quorum_ack,
        }
    }

    /// Resolves to the cause when the storage, or Raft itself, has failed for good: this server acknowledges nothing more and
    /// should end. Pending otherwise.
    pub async fn failed(&self) -> TriadError {
        TriadError::Failed(self.hub.node().failure().await)
    }
}
