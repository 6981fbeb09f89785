//! The hub: a replicated state machine over Raft and its gRPC services. docs/hub.md says what it promises.

mod absence;
mod admission;
mod command;
mod config;
mod copies;
mod dial;
mod disk;
mod error;
mod feed;
mod hand_over;
mod heartbeats;
mod hub;
mod hub_status;
mod message_size;
mod probe;
mod probes;
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
pub use config::HubServerConfig;
pub use error::TriadError;
pub use hub_status::{HubRole, HubStatus};
pub use serve::{Caller, serve_grpc};

use common::{id::ServerId, witness::TIMES};
use feed::Feed;
use hub::Hub;
use message_size::MESSAGE_MAX;
use proto::hub::v1::{
    apps_server::AppsServer, audits_server::AuditsServer, caches_server::CachesServer,
    jobs_server::JobsServer, lead_server::LeadServer, leases_server::LeasesServer,
    members_server::MembersServer, purges_server::PurgesServer, queues_server::QueuesServer,
    raft_server::RaftServer, secrets_server::SecretsServer, session_admin_server::SessionAdminServer,
    sessions_server::SessionsServer, tokens_server::TokensServer, topics_server::TopicsServer,
    triad_server::TriadServer, watch_server::WatchServer,
};
use raft::node::{Disks, Node};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

/// A hand-over of the leadership is waited for so long.
const HAND_OVER: Duration = Duration::from_secs(2);

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
        tokio::spawn(hub.clone().expire_leases(stop.clone()));
        tokio::spawn(hub.clone().expire_queues(stop.clone()));
        tokio::spawn(hub.clone().fire_jobs(stop.clone()));
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
        let caches = CachesServer::new(service::CacheService(self.hub.clone()))
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(MESSAGE_MAX);
        let leases = LeasesServer::new(service::LeaseService(self.hub.clone()));
        let purges = PurgesServer::new(service::PurgeService(self.hub.clone()));
        let secrets = SecretsServer::new(service::SecretService(self.hub.clone()));
        let queues = QueuesServer::new(service::QueueService::new(self.hub.clone()))
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(MESSAGE_MAX);
        let topics = TopicsServer::new(service::TopicService(self.hub.clone()));
        let jobs = JobsServer::new(service::JobService(self.hub.clone()));
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
            .add_service(purges)
            .add_service(secrets)
            .add_service(leases)
            .add_service(caches)
            .add_service(queues)
            .add_service(jobs)
            .add_service(topics)
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

    /// Stops: a leader hands over first (at most two seconds), then Raft ends and the log is closed. False: it led, and no other has
    /// taken the leadership over.
    pub async fn stop(&self) -> bool {
        self.hub.retire();
        if self.hub.must_lead().is_ok() {
            // Whoever leads next does not know who believes this server's last word: nobody does any more then.
            tokio::time::sleep(TIMES.believed).await;
        }
        let handed = self.hub.node().hand_over(HAND_OVER).await;
        if !handed {
            tracing::warn!("no other hub server has taken the leadership over");
        }
        self.stop.cancel();
        self.hub.node().stop().await;
        handed
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
