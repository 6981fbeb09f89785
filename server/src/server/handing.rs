//! A server that another process takes over from while it runs, and one that takes over: for those that have web-tiers alone. What keeps
//! sessions, runs apps or is the hub's can't be two processes at once.

use super::{HUB_READY_MAX, Members, RunningServer, hear_members, roles::bind};
use crate::{
    data_folder::DataFolder,
    handover::{Message, takeover::Given, upgrade::Handed},
    metrics::{self, Scraped},
};
use anyhow::{bail, ensure};
use app_tier::AppTier;
use common::{
    config::{Config, Server},
    id::ServerId,
};
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};
use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;
use web_tier::Inherited;

/// Copies of the sockets that are not public listeners.
#[derive(Debug)]
pub(super) struct Ports {
    cluster: OwnedFd,
    metrics: Option<OwnedFd>,
    /// Whether another process had them, and serves yet.
    pub(super) takes_over: bool,
    /// Cancelled when another process has taken over.
    retired: CancellationToken,
}

/// What one process of a server has alone, or shares with the one that takes over: taken before anything else is begun.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) data: DataFolder,
    pub(super) listener: TcpListener,
    pub(super) public: web_tier::Bound,
    pub(super) scraped: metrics::Bound,
    pub(super) ports: Ports,
}

impl Places {
    /// Takes what was given, and the rest from the system.
    pub(super) async fn take(
        config: &Config,
        id: &ServerId,
        server: &Server,
        mut given: Given,
    ) -> anyhow::Result<Self> {
        let data = data_folder(config, id, &given)?;
        let listener = bind(server, &mut given).await?;
        let public = web_tier::bind(config, id, &mut given.http)?;
        warn_of_sockets(&given.http);
        let scraped = Scraped::bind(server.metrics.as_ref(), &mut given).await?;
        let ports = Ports::copy(&listener, scraped.socket(), given.takes_over())?;
        Ok(Self { data, listener, public, scraped, ports })
    }
}

impl Ports {
    fn copy(cluster: &TcpListener, metrics: Option<&TcpListener>, takes_over: bool) -> io::Result<Self> {
        let copy = |it: &TcpListener| it.as_fd().try_clone_to_owned();
        let metrics = metrics.map(copy).transpose()?;
        Ok(Self { cluster: copy(cluster)?, metrics, takes_over, retired: CancellationToken::new() })
    }

    /// When the cluster port is to accept no more.
    pub(super) fn retired(&self) -> CancellationToken {
        self.retired.clone()
    }
}

impl RunningServer {
    /// What a process that takes over gets.
    ///
    /// # Errors
    /// This server can't be taken over while it runs: why.
    pub(crate) async fn handed(&self) -> anyhow::Result<Handed> {
        let Some(web_tier) = &self.web_tier else { bail!("{}", refusal("has no public listener")) };
        ensure!(self.triad.is_none(), refusal("is one of the hub's"));
        ensure!(!self.app_tier.as_ref().is_some_and(|it| it.runs_apps()), refusal("runs apps"));
        ensure!(!web_tier.keeps_on_disk(), refusal("keeps its proxy cache on disk"));
        let mut handed = vec![
            (Message::Lock, vec![self.data.lock()?]),
            (Message::ClusterPort, vec![self.ports.cluster.try_clone()?]),
        ];
        if let Some(metrics) = &self.ports.metrics {
            handed.push((Message::Metrics, vec![metrics.try_clone()?]));
        }
        for listener in web_tier.listening_sockets().await? {
            handed.push((Message::Http { asked: listener.asked }, listener.sockets));
        }
        Ok(handed)
    }

    /// Another process is to be this member: no more heartbeats, but no word that it is gone.
    pub(crate) fn leave_members(&mut self) {
        self.membership = None;
    }

    /// The other process did not become it.
    pub(crate) fn join_members(&mut self) {
        self.membership = Some(self.hub.join(self.member.clone(), self.config.heartbeat_interval));
    }

    /// Another process has taken over: accepts no more, and lets what is open end, up to `shutdown-wait-max`.
    pub(crate) async fn retire(&mut self) {
        self.ports.retired.cancel();
        self.scraped.close();
        self.upkeep = None;
        if let Some(web_tier) = self.web_tier.take() {
            let cut = web_tier.retire(self.shutdown_wait).await;
            if cut > 0 {
                tracing::info!(server = %self.id, cut, wait = ?self.shutdown_wait, "connections that did not end in time were closed");
            }
        }
        if let Some(app_tier) = self.app_tier.take() {
            app_tier.stop().await;
        }
    }

    /// This process has taken over: who looks for the server's process finds it.
    pub(crate) fn sign(&self) {
        if let Err(cause) = self.data.sign() {
            tracing::warn!(server = %self.id, %cause, "the process's id can't be written down");
        }
    }

    /// What became of an upgrade, for who waits for it.
    pub(crate) fn note_upgrade(&self, failure: &str) {
        self.data.note_upgrade(failure);
    }
}

fn refusal(why: &str) -> String {
    format!("this server {why}, which two processes can't share: restart it (docs/upgrading.md)")
}

/// Takes the data folder, or shares it with the process that this one takes over from.
fn data_folder(config: &Config, id: &ServerId, given: &Given) -> anyhow::Result<DataFolder> {
    let folder = config.data_dir.join(id.as_str());
    if !given.takes_over() {
        return DataFolder::take(&folder);
    }
    ensure!(!config.triad.contains(id), refusal("is one of the hub's by the new file"));
    DataFolder::share(&folder, given.share_lock()?)
}

/// Before a process that takes over accepts: it must run no apps, and know of the members what the process before it knew.
pub(super) async fn may_take_over(
    takes_over: bool,
    app_tier: Option<&Arc<AppTier>>,
    members: &Members,
) -> anyhow::Result<()> {
    if !takes_over {
        return Ok(());
    }
    ensure!(!app_tier.is_some_and(|it| it.runs_apps()), refusal("runs apps by the new file"));
    if timeout(HUB_READY_MAX, hear_members(members)).await.is_err() {
        tracing::warn!("the hub does not tell of the members: taking over without");
    }
    Ok(())
}

/// Of sockets that are at no address of the file.
fn warn_of_sockets(sockets: &Inherited) {
    for address in sockets.left() {
        tracing::warn!(
            %address,
            "this process was given a socket at an address at which the file has no listener: nobody is served there"
        );
    }
}
