//! One server: its roles, wired. Started in the order in which they need each other, stopped in the reverse.

mod handing;
mod roles;

use crate::{
    administration, app_purge,
    certificates::Certificates,
    data_folder::DataFolder,
    deployed::Deployed,
    handover::takeover::Given,
    history::{self, Kept},
    inquiry, launch_app,
    metrics::Scraped,
    open_files, port, purges,
    spans::Spans,
    status::{self, Knows},
};
use admin::{Admin, AdminConfig, HealthView};
use anyhow::{Context, anyhow};
use app_tier::{AppTier, AppTierConfig, Apps, DeployConfig, Launcher, ServicesConfig};
use cluster_port::{Acceptor, Credentials, Port, Reread, Roster};
use common::{
    clock::{Clock, SystemClock},
    config::{Cluster, Config, FilePath, PublicListener, Server},
    hub_age::LastHeard,
    id::ServerId,
    machine_memory::machine_memory,
};
use handing::{Places, Ports, may_take_over};
use proto::hub::v1::{Member, MemberState};
use roles::{
    hub, lines, member, or_without_apps, routes, start_acceptor, start_admin, start_app_tier, start_triad,
    start_web_tier, watch_health, watched,
};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{net::TcpListener, sync::watch, task::AbortHandle, time::Instant};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::service::Routes;
use triad::{HubServerConfig, SessionLimits, Triad};
use triad_client::{Hub, HubConfig, Leases, Membership, Purges, Tokens, WatchStream, WatchTask};
use web_tier::{Bound, Changes, WebTier, WebTierConfig, WebTierView};

/// The servers as last heard.
type Members = watch::Receiver<Arc<Vec<Member>>>;

/// How long a start waits for its apps; each has its own, usually shorter `start-timeout`.
const APPS_READY_MAX: Duration = Duration::from_secs(120);

/// A start waits this long for a hub with a majority; without one it serves all the same.
const HUB_READY_MAX: Duration = Duration::from_secs(10);

/// A graceful stop tells the hub, but does not wait for one that is gone.
const LEAVE_MAX: Duration = Duration::from_secs(1);

/// A hub server that stops waits so much longer than for its own requests until others that stop have saved.
const OTHERS_SAVE_MAX: Duration = Duration::from_secs(10);

/// How often it looks whether there still is a hub to wait with.
const OTHERS_LOOK: Duration = Duration::from_millis(200);

/// A running server.
#[derive(Debug)]
pub(crate) struct RunningServer {
    id: ServerId,
    config: Arc<Config>,
    member: Member,
    hub: Hub,
    shutdown_wait: Duration,
    web_tier: Option<WebTier>,
    /// Those of ACME.
    certificates: Certificates,
    app_tier: Option<Arc<AppTier>>,
    admin: Admin,
    /// Who is there, as the hub says.
    members: Members,
    triad: Option<Arc<Triad>>,
    credentials: Credentials,
    /// Who may come in at the cluster port.
    roster: watch::Sender<Arc<Roster>>,
    membership: Option<Membership>,
    /// The same, when its apps failed at the start and were healthy later.
    late_membership: Arc<Mutex<Option<Membership>>>,
    /// Waits for that.
    joining: Option<AbortHandle>,
    /// Why there are no apps, where the hub's part does not need them.
    no_apps: Option<anyhow::Error>,
    listeners: Vec<String>,
    cluster_port: AbortHandle,
    ports: Ports,
    files: AbortHandle,
    /// Tells scrapers and probes.
    scraped: Scraped,
    _history: Option<Kept>,
    upkeep: Option<AbortOnDropHandle<()>>,
    _health: Option<AbortOnDropHandle<()>>,
    _watch: WatchTask,
    _spans: Spans,
    data: DataFolder,
}

impl RunningServer {
    /// Binds, opens storage, starts every role that the file gives to `id`.
    ///
    /// # Errors
    /// An address in use, a data folder that is locked or can't be written, an app that can't be started.
    #[expect(clippy::too_many_lines, reason = "the roles, in the order in which they need each other")]
    pub(crate) async fn start(config: Arc<Config>, id: ServerId, given: Given) -> anyhow::Result<Self> {
        let (cluster, server) = config.server(&id).ok_or_else(|| unknown_server(&config, &id))?;
        let Places { data, listener, public, scraped, ports } =
            Places::take(&config, &id, server, given).await?;
        let credentials = Credentials::load(&config, &id).context("cluster-tls")?;
        let spans = Spans::start(&config, id.as_str())?;
        let triad = start_triad(&config, &id, &credentials, &data).await?.map(Arc::new);
        let member = member(&config, cluster, server, data.started_ms(SystemClock.unix_ms()));
        let hub = hub(&config, &id, &credentials);
        let watch = hub.watch();
        let apps = (watch.apps.clone(), ports.takes_over);
        let deployed = Deployed::open(&config, &id, &credentials, data.path(), &hub, apps)?;
        let told = (&hub, &watch.members, watch.tokens, watch.heard.clone());
        let admin = start_admin(&config, &id, &credentials, told, deployed.as_ref());
        let deploy = (deployed.as_ref().map(|it| it.deploy(member.started_ms)), member.started_ms, &spans);
        let heard = (watch.leases, watch.stream, watch.members.clone());
        let started = start_app_tier(&config, &id, &data, (heard, &hub, &admin), deploy);
        let (app_tier, no_apps) = or_without_apps(started, triad.is_some())?;
        may_take_over(ports.takes_over, app_tier.as_ref(), &watch.members).await?;
        let _following = app_tier.as_ref().map(|it| it.follow(watch.events));
        let listeners = lines(&id, server, &public);
        let (acceptor, roster) = start_acceptor(listener, server, &credentials, &config);
        let own = (hub.clone(), watch.secrets);
        let certificates = Certificates::start(&config, &id, own, member.started_ms, data.path());
        let told = (&watch.heard, &spans, watch.apps, watch.purges, certificates.live());
        let web_tier = start_web_tier(&config, &id, public, &credentials, &watch.members, told)?;
        let roles = (web_tier.as_ref().map(WebTier::view), app_tier.clone(), triad.clone());
        let knows = Knows::new(&member, data.path(), roles, watched(&config, &id, &admin), watch.heard);
        let history = history::start(&config, &id, data.path(), &admin);
        let serves = (web_tier.as_ref(), app_tier.clone(), deployed.as_ref(), history.as_ref());
        let grpc = spans.around(routes(&knows, serves, &admin));
        let serving = port::serve(acceptor, roster.subscribe(), app_tier.clone(), grpc, ports.retired());

        Ok(Self {
            config: config.clone(),
            member,
            upkeep: deployed.as_ref().map(|it| it.upkeep(triad.is_some())),
            hub,
            membership: None,
            late_membership: Arc::default(),
            joining: None,
            no_apps,
            shutdown_wait: server.shutdown_wait_max,
            id,
            web_tier,
            certificates,
            app_tier,
            _health: triad.as_ref().map(|triad| watch_health(&admin, triad)),
            admin,
            members: watch.members,
            triad,
            files: tokio::spawn(cluster_port::watch(credentials.clone())).abort_handle(),
            credentials,
            roster,
            listeners,
            cluster_port: tokio::spawn(serving).abort_handle(),
            ports,
            scraped: scraped.serve(&knows),
            _history: history,
            _watch: watch.task,
            _spans: spans,
            data,
        })
    }

    /// Waits until every app is healthy, then joins the members, so that web-tiers send no request before.
    ///
    /// # Errors
    /// An app that does not get healthy, with what it said.
    pub(crate) async fn ready(&mut self) -> anyhow::Result<()> {
        if let Some(cause) = self.no_apps.take() {
            return Err(cause);
        }
        if let Some(app_tier) = &self.app_tier {
            app_tier.ready(APPS_READY_MAX).await?;
        }
        let membership =
            self.membership.insert(self.hub.join(self.member.clone(), self.config.heartbeat_interval));
        // A web tier that has not heard of the members would send requests to one that is disabled.
        let known = async { tokio::join!(membership.registered(), hear_members(&self.members)) };
        if tokio::time::timeout(HUB_READY_MAX, known).await.is_err() {
            tracing::warn!(server = %self.id, "the hub has no majority yet: serving without it, and trying on");
        }
        self.scraped.ready().send_replace(true);
        Ok(())
    }

    /// Whether it is a part of the hub, which others need whatever its own apps do.
    pub(crate) fn is_hub(&self) -> bool {
        self.triad.is_some()
    }

    /// [`RunningServer::ready`] has failed: joins the members once every app is healthy. Until then requests go to other servers.
    pub(crate) fn join_when_apps_recover(&mut self) {
        let Some(app_tier) = self.app_tier.clone() else { return };
        let (hub, member, interval) = (self.hub.clone(), self.member.clone(), self.config.heartbeat_interval);
        let (membership, server) = (self.late_membership.clone(), self.id.clone());
        let ready = self.scraped.ready().clone();
        let joining = tokio::spawn(async move {
            app_tier.recovered().await;
            tracing::info!(%server, "all apps are healthy: requests may come");
            *lock(&membership) = Some(hub.join(member, interval));
            ready.send_replace(true);
        });
        self.joining = Some(joining.abort_handle());
    }

    /// One line a listener, as start-up prints them.
    pub(crate) fn listeners(&self) -> &[String] {
        &self.listeners
    }

    /// Its id.
    pub(crate) fn id(&self) -> &ServerId {
        &self.id
    }

    /// The configuration that it was started with.
    pub(crate) fn started_with(&self) -> &Config {
        &self.config
    }

    /// Whether it has public listeners, or had some when it started.
    pub(crate) fn is_web_tier(&self) -> bool {
        self.web_tier.is_some()
    }

    /// Asks the web tier's workers.
    pub(crate) fn web_view(&self) -> Option<WebTierView> {
        self.web_tier.as_ref().map(WebTier::view)
    }

    /// Lets go of log files that were renamed, and writes on in new ones.
    pub(crate) fn reopen_logs(&self) {
        if let Some(web_tier) = &self.web_tier {
            web_tier.reopen_logs();
        }
    }

    /// Reads the certificates again.
    pub(crate) fn reload_certificates(&self) {
        if let Some(web_tier) = &self.web_tier {
            web_tier.reload_certificates();
        }
        let credentials = self.credentials.clone();
        tokio::task::spawn_blocking(move || match credentials.reread() {
            Ok(Reread::Same) => {}
            Ok(Reread::New) => {
                tracing::info!("new files of cluster-tls: new connections between servers get them");
            }
            Err(cause) => tracing::warn!(%cause, "the files of cluster-tls are refused: the old ones stay"),
        });
    }

    /// Certificates that could not be ordered (ACME) are tried again now.
    pub(crate) fn try_certificates(&self) {
        self.certificates.try_now();
    }

    /// Goes by another configuration, as far as that needs no restart.
    ///
    /// # Errors
    /// It does not have this server, or what it says can't be had, such as the address of a new listener: nothing has changed.
    pub(crate) async fn reload(&mut self, config: Arc<Config>) -> anyhow::Result<Changes> {
        let (_, server) = config.server(&self.id).ok_or_else(|| unknown_server(&config, &self.id))?;
        let wait = server.shutdown_wait_max;
        let mut changes = match &mut self.web_tier {
            Some(web_tier) => web_tier.reload(config.clone()).await?,
            None => Changes::default(),
        };
        self.certificates.go_by(&config);
        if let Some(app_tier) = &self.app_tier {
            app_tier.reload(&config);
        }
        let roster = Arc::new(Roster::of(&config));
        if self.admin.reload(config) {
            changes.add("admin users");
        }
        if *roster != **self.roster.borrow() {
            self.roster.send_replace(roster);
            changes.add("who may do what on the cluster port");
        }
        self.shutdown_wait = wait;
        Ok(changes)
    }

    /// Resolves when the server can't go on: its hub storage has failed. What is returned holds nothing of the server, which may
    /// be changed meanwhile.
    pub(crate) fn failed(&self) -> impl Future<Output = anyhow::Error> + use<> {
        let triad = self.triad.clone();
        async move {
            match triad {
                Some(triad) => triad.failed().await.into(),
                None => std::future::pending().await,
            }
        }
    }

    /// First half of a graceful stop: no new requests, those in flight end, sessions are saved. The hub goes on.
    pub(crate) async fn drain(&mut self) {
        self.scraped.ready().send_replace(false);
        if let Some(joining) = self.joining.take() {
            joining.abort();
        }
        // Beside the requests that still run: servers that stop at the same time may take the hub with them before those have ended.
        if let Some(app_tier) = self.app_tier.clone() {
            tokio::spawn(async move { tokio::join!(app_tier.save(), app_tier.stop_daemons()) });
        }
        let mut membership = self.membership.take().or_else(|| lock(&self.late_membership).take());
        if let Some(member) = &membership
            && let Err(cause) = member.stand_by(LEAVE_MAX).await
        {
            tracing::info!(server = %self.id, %cause, "the hub was not told of the stop");
            // Nor will it hear the second word.
            membership = None;
        }
        if let Some(web_tier) = self.web_tier.take() {
            tracing::info!(server = %self.id, wait = ?self.shutdown_wait, "stopping: what is under way has this long to end");
            let cut = web_tier.stop(self.shutdown_wait).await;
            tracing::info!(server = %self.id, cut, "no client is served any more: so many connections were cut off");
        }
        if let Some(app_tier) = self.app_tier.take() {
            app_tier.stop().await;
        }
        // Only now: it makes the web tier break off what still waits for this server.
        if let Some(member) = membership
            && let Err(cause) = member.leave(LEAVE_MAX).await
        {
            tracing::info!(server = %self.id, %cause, "the hub was not told of the end");
        }
    }

    /// Second half: a hub leader hands over, storage is closed.
    pub(crate) async fn stop(self) {
        if let Some(triad) = &self.triad {
            self.outlast_others(triad).await;
            triad.stop().await;
        }
        self.cluster_port.abort();
        self.files.abort();
    }

    /// Servers that were told to stop at the same time have sessions to save: the hub goes on until they have left, for a while.
    async fn outlast_others(&self, triad: &Triad) {
        let stops = |it: &Member| it.id != self.id.as_str() && it.state() == MemberState::Standby;
        let end = Instant::now() + self.shutdown_wait + OTHERS_SAVE_MAX;
        let mut members = self.members.clone();
        while members.borrow_and_update().iter().any(stops) && Instant::now() < end {
            // Without a majority there is nothing that they could wait for.
            if !triad.ready(Duration::ZERO).await {
                return;
            }
            // Past the limit it is looked at again; an error means that nobody follows the members any more.
            if let Ok(Err(_)) = tokio::time::timeout(OTHERS_LOOK, members.changed()).await {
                return;
            }
        }
    }
}

/// Waits until the hub has told of the members, for ever if it does not.
async fn hear_members(members: &Members) {
    // What `wait_for` gives is a lock, which must not outlive it; an error means that the server ends.
    let _ = members.clone().wait_for(|all| !all.is_empty()).await.is_ok();
}

fn lock(membership: &Mutex<Option<Membership>>) -> std::sync::MutexGuard<'_, Option<Membership>> {
    membership.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn unknown_server(config: &Config, id: &ServerId) -> anyhow::Error {
    let known = config.servers().map(|(_, server)| server.id.to_string()).collect::<Vec<_>>().join(", ");
    anyhow!("{} has no server `{id}`: expected one of {known}", config.file.display())
}
