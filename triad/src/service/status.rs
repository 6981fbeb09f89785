//! `triad.proto`'s service: how this hub server does.

use crate::{hub::Hub, hub_status::HubRole};
use proto::hub::v1::{AskTriad, TriadRole, TriadStatus, triad_server::Triad};
use std::{path::PathBuf, sync::Arc};
use tonic::{Request, Response, Status};

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct StatusService {
    hub: Arc<Hub>,
    /// On the disk that is told of.
    folder: PathBuf,
}

impl StatusService {
    pub(crate) fn new(hub: Arc<Hub>, folder: PathBuf) -> Self {
        Self { hub, folder }
    }

    /// Bytes that can still be written there, and bytes that there are in all; `None` when the system does not say.
    async fn disk(&self) -> Option<(u64, u64)> {
        let folder = self.folder.clone();
        let asked = tokio::task::spawn_blocking(move || rustix::fs::statvfs(&folder)).await;
        let disk = asked.ok()?.ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        Some((bytes(disk.f_bavail), bytes(disk.f_blocks)))
    }
}

#[tonic::async_trait]
impl Triad for StatusService {
    async fn status(&self, _: Request<AskTriad>) -> Result<Response<TriadStatus>, Status> {
        let disk = self.disk().await;
        let node = self.hub.node();
        let position = node.position();
        let (sessions, session_bytes) = {
            let applied = node.view().read();
            (applied.state.session_count() as u64, applied.state.memory().bytes())
        };
        let leader = position.leader.and_then(|it| self.hub.name(it)).map(|it| it.as_str().to_owned());
        let confirmed = position.quorum_ack.filter(|_| position.is_leader);
        Ok(Response::new(TriadStatus {
            role: role(node.role()).into(),
            leader: leader.unwrap_or_default(),
            term: position.term,
            last_log: position.last_log.unwrap_or_default(),
            committed: position.committed.unwrap_or_default(),
            applied: position.applied.unwrap_or_default(),
            sessions,
            session_bytes,
            disk_free_bytes: disk.map(|(free, _)| free),
            disk_bytes: disk.map(|(_, all)| all),
            confirmed_ms_ago: confirmed.map(|it| it.as_millis().try_into().unwrap_or(u64::MAX)),
        }))
    }
}

fn role(role: HubRole) -> TriadRole {
    match role {
        HubRole::Leader => TriadRole::Leader,
        HubRole::Follower => TriadRole::Follower,
        HubRole::Candidate => TriadRole::Candidate,
        HubRole::Joining => TriadRole::Joining,
        HubRole::Stopped => TriadRole::Stopped,
    }
}
