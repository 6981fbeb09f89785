//! One server: its roles, wired. Started in the order in which they need each other, stopped in the reverse.

use crate::{
    administration, app_purge,
    data_folder::DataFolder,
    deployed::Deployed,
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
    config::{Cluster, Config, FilePath, HttpListener, Server},
    hub_age::LastHeard,
    id::ServerId,
    machine_memory::machine_memory,
};
use proto::hub::v1::{Member, MemberState};
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
use web_tier::{Bound, Changes, WebTier, WebTierConfig};

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
    files: AbortHandle,
    /// Tells scrapers and probes.
    scraped: Scraped,
    _history: Option<Kept>,
    _upkeep: Option<AbortOnDropHandle<()>>,
    _health: Option<AbortOnDropHandle<()>>,
    _watch: WatchTask,
    _spans: Spans,
    _data: DataFolder,
}

impl RunningServer {
    /// Binds, opens storage, starts every role that the file gives to `id`.
    ///
    /// # Errors
    /// An address in use, a data folder that is locked or can't be written, an app that can't be started.
    pub(crate) async fn start(config: Arc<Config>, id: ServerId) -> anyhow::Result<Self> {
        let (cluster, server) = config.server(&id).ok_or_else(|| unknown_server(&config, &id))?;
        let data = DataFolder::take(&config.data_dir.join(id.as_str()))?;
        let listener = bind(server).await?;
        let public = web_tier::bind(&config, &id)?;
        let scraped = Scraped::bind(server.metrics.as_ref()).await?;
        let credentials = Credentials::load(&config, &id).context("cluster-tls")?;
        let spans = Spans::start(&config, id.as_str())?;
        let triad = start_triad(&config, &id, &credentials, &data).await?.map(Arc::new);
        let member = member(&config, cluster, server, data.started_ms(SystemClock.unix_ms()));
        let hub = hub(&config, &id, &credentials);
        let watch = hub.watch();
        let deployed = Deployed::open(&config, &id, &credentials, data.path(), &hub, watch.apps.clone())?;
        let told = (&hub, &watch.members, watch.tokens, watch.heard.clone());
        let admin = start_admin(&config, &id, &credentials, told, deployed.as_ref());
        let deploy = (deployed.as_ref().map(|it| it.deploy(member.started_ms)), member.started_ms, &spans);
        let heard = (watch.leases, watch.stream, watch.members.clone());
        let started = start_app_tier(&config, &id, &data, (heard, &hub, &admin), deploy);
        let (app_tier, no_apps) = or_without_apps(started, triad.is_some())?;
        let _following = app_tier.as_ref().map(|it| it.follow(watch.events));
        let listeners = lines(&id, server, &public);
        let (acceptor, roster) = start_acceptor(listener, server, &credentials, &config);
        let told = (&watch.heard, &spans, watch.apps, watch.purges);
        let web_tier = start_web_tier(&config, &id, public, &credentials, &watch.members, told)?;
        let roles = (web_tier.as_ref().map(WebTier::view), app_tier.clone(), triad.clone());
        let knows = Knows::new(&member, data.path(), roles, watched(&config, &id, &admin), watch.heard);
        let history = history::start(&config, &id, data.path(), &admin);
        let serves = (web_tier.as_ref(), app_tier.clone(), deployed.as_ref(), history.as_ref());
        let grpc = spans.around(routes(&knows, serves, &admin));
        let serving = port::serve(acceptor, roster.subscribe(), app_tier.clone(), grpc);

        Ok(Self {
            config: config.clone(),
            member,
            _upkeep: deployed.as_ref().map(|it| it.upkeep(triad.is_some())),
            hub,
            membership: None,
            late_membership: Arc::default(),
            joining: None,
            no_apps,
            shutdown_wait: server.shutdown_wait_max,
            id,
            web_tier,
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
            scraped: scraped.serve(&knows),
            _history: history,
            _watch: watch.task,
            _spans: spans,
            _data: data,
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
        let mut members = self.members.clone();
        // What `wait_for` gives is a lock, which must not outlive it.
        let heard = async { members.wait_for(|all| !all.is_empty()).await.is_ok() };
        let known = async { tokio::join!(membership.registered(), heard) };
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
            web_tier.stop(self.shutdown_wait).await;
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

fn lock(membership: &Mutex<Option<Membership>>) -> std::sync::MutexGuard<'_, Option<Membership>> {
    membership.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn bind(server: &Server) -> anyhow::Result<TcpListener> {
    let address = server.cluster_address();
    TcpListener::bind(&address)
        .await
        .with_context(|| format!("server {}: cluster port {address} can't be bound", server.id))
}

fn start_acceptor(
    listener: TcpListener,
    server: &Server,
    credentials: &Credentials,
    config: &Config,
) -> (Acceptor, watch::Sender<Arc<Roster>>) {
    let (roster, current) = watch::channel(Arc::new(Roster::of(config)));
    let (me, address) = (server.id.clone(), server.cluster_address());
    let port = Port { me, address, credentials: credentials.clone(), roster: current };
    (Acceptor::start(listener, port), roster)
}

async fn start_triad(
    config: &Config,
    id: &ServerId,
    credentials: &Credentials,
    data: &DataFolder,
) -> anyhow::Result<Option<Triad>> {
    if !config.triad.contains(id) {
        return Ok(None);
    }
    let triad = Triad::start(HubServerConfig {
        me: id.clone(),
        servers: hub_addresses(config),
        credentials: credentials.clone(),
        data_dir: data.path().to_owned(),
        heartbeat_interval: config.heartbeat_interval,
        session_limits: session_limits(config, id),
        cache_memory_max: config.services_memory.caches,
        queue_memory_max: config.services_memory.queues,
        clock: Arc::new(SystemClock),
    });
    Ok(Some(triad.await?))
}

/// A handle on the hub.
fn hub(config: &Config, id: &ServerId, credentials: &Credentials) -> Hub {
    let servers = hub_addresses(config);
    Hub::new(HubConfig { me: id.clone(), credentials: credentials.clone(), servers })
}

/// What sessions take when the system does not say how much memory there is.
const SESSION_MEMORY: u64 = 1 << 30;

/// As the file says, or a quarter of what this process may use: the server has other work, a snapshot takes some more, and beside it
/// there may be apps.
fn session_limits(config: &Config, id: &ServerId) -> SessionLimits {
    let memory = config.session_memory;
    let machine = machine_memory();
    let max = memory.max.unwrap_or_else(|| machine.map_or(SESSION_MEMORY, |machine| machine / 4));
    if let Some(machine) = machine.filter(|machine| max > machine / 2) {
        tracing::warn!(
            server = %id,
            max,
            machine,
            "session-memory-max is more than half of the memory that this server may use: the hub may run out of it"
        );
    }
    tracing::info!(server = %id, max, "bytes that the hub's sessions may take here (session-memory-max)");
    SessionLimits { max, app_max: memory.app_max, first_timeout: memory.first_timeout }
}

fn start_admin(
    config: &Arc<Config>,
    id: &ServerId,
    credentials: &Credentials,
    (hub, members, tokens, heard): (&Hub, &Members, Tokens, LastHeard),
    deployed: Option<&Deployed>,
) -> Admin {
    administration::warn_without_users(config);
    Admin::new(AdminConfig {
        config: config.clone(),
        me: id.clone(),
        credentials: credentials.clone(),
        hub: hub.clone(),
        members: members.clone(),
        tokens,
        heard,
        deployments: deployed.map(Deployed::administered),
        clock: Arc::new(SystemClock),
    })
}

/// What it shows other servers, and what it has found as the hub's leader.
fn watched(config: &Config, id: &ServerId, admin: &Admin) -> (Option<FilePath>, HealthView) {
    (config.cluster_tls.as_ref().map(|it| it.of(id).cert), admin.health_view())
}

/// The hub's leader watches the cluster's health.
fn watch_health(admin: &Admin, triad: &Arc<Triad>) -> AbortOnDropHandle<()> {
    let triad = triad.clone();
    AbortOnDropHandle::new(tokio::spawn(admin.watch_health(move || triad.leads())))
}

fn start_app_tier(
    config: &Arc<Config>,
    id: &ServerId,
    data: &DataFolder,
    ((leases, stream, members), hub, admin): ((Leases, WatchStream, Members), &Hub, &Admin),
    (deploy, started_ms, spans): (Option<DeployConfig>, u64, &Spans),
) -> anyhow::Result<Option<Arc<AppTier>>> {
    let Some((cluster, _)) = config.server(id) else { return Ok(None) };
    let deploy = deploy.filter(|_| config.app_clusters().contains(&cluster.id));
    if deploy.is_none() && cluster.hosts.iter().all(|host| host.web_apps.is_empty()) {
        return Ok(None);
    }
    let app_tier = AppTier::start(
        AppTierConfig {
            config: config.clone(),
            me: id.clone(),
            data_dir: data.path().to_owned(),
            hub: Some(hub.clone()),
            leases: Some(ServicesConfig { hub: hub.clone(), heard: leases, stream, members, started_ms }),
            admin: Some(administration::service(admin.clone())),
            deploy,
            traces: spans.exporter.clone(),
            clock: Arc::new(SystemClock),
            launcher: Some(launcher()),
        },
        CancellationToken::new(),
    )?;
    Ok(Some(Arc::new(app_tier)))
}

/// A server of the hub goes on without its apps: the hub does not need them.
fn or_without_apps(
    started: anyhow::Result<Option<Arc<AppTier>>>,
    is_hub: bool,
) -> anyhow::Result<(Option<Arc<AppTier>>, Option<anyhow::Error>)> {
    match started {
        Err(cause) if is_hub => Ok((None, Some(cause))),
        started => Ok((started?, None)),
    }
}

/// This very program, whatever has taken its place on the disk meanwhile.
fn launcher() -> Launcher {
    Launcher { program: "/proc/self/exe".into(), landlock: launch_app::landlock_version() }
}

/// Who answers calls at the cluster port.
type Serves<'a> = (Option<&'a WebTier>, Option<Arc<AppTier>>, Option<&'a Deployed>, Option<&'a Kept>);

/// The gRPC services of the roles that this server plays.
fn routes(knows: &Arc<Knows>, (web_tier, app_tier, deployed, history): Serves<'_>, admin: &Admin) -> Routes {
    let triad = knows.triad.clone();
    let status = status::service(knows.clone());
    let mut routes = match &triad {
        Some(triad) => triad.routes().add_service(status),
        None => Routes::new(status),
    };
    // Objects are the hub's: other servers have copies.
    if let Some(deployed) = deployed.filter(|_| triad.is_some()) {
        routes = routes.add_service(deployed.objects());
    }
    if let Some(kept) = history {
        routes = routes.add_service(kept.service());
    }
    if let Some(web_tier) = web_tier {
        routes = routes.add_service(web_tier::balancer(web_tier.picture().clone()));
    }
    inquiry::add(routes, admin, web_tier.map(WebTier::view), app_tier).prepare()
}

/// What start-up prints of the listeners, the cluster port last.
fn lines(id: &ServerId, server: &Server, public: &Bound) -> Vec<String> {
    let http = public.addresses().iter().zip(&server.http).map(|(at, http)| line(id, *at, http));
    let metrics =
        server.metrics.iter().map(|it| format!("{id}  metrics http://{}:{}/metrics", it.address, it.port));
    http.chain(metrics).chain([format!("{id}  cluster port {}", server.cluster_address())]).collect()
}

/// A listener as start-up prints it.
fn line(id: &ServerId, at: SocketAddr, http: &HttpListener) -> String {
    let scheme = if http.tls.is_some() { "https" } else { "http" };
    format!("{id}  {scheme}://{at}/")
}

/// A server without public listeners is no web-tier.
fn start_web_tier(
    config: &Arc<Config>,
    id: &ServerId,
    bound: Bound,
    credentials: &Credentials,
    members: &Members,
    (heard, spans, apps, purged): (&LastHeard, &Spans, Apps, Purges),
) -> anyhow::Result<Option<WebTier>> {
    if bound.addresses().is_empty() {
        return Ok(None);
    }
    let web_tier = WebTier::start(WebTierConfig {
        config: config.clone(),
        me: id.clone(),
        bound,
        clients_max: open_files::clients_max(),
        credentials: credentials.clone(),
        members: members.clone(),
        heard: heard.clone(),
        traces: spans.exporter.clone(),
    })?;
    app_purge::follow(apps, web_tier.view());
    purges::follow(purged, web_tier.view());
    Ok(Some(web_tier))
}

fn hub_addresses(config: &Config) -> Vec<(ServerId, String)> {
    config.hub().into_iter().map(|server| (server.id.clone(), server.cluster_address())).collect()
}

fn member(config: &Config, cluster: &Cluster, server: &Server, started_ms: u64) -> Member {
    Member {
        id: server.id.as_str().to_owned(),
        cluster: cluster.id.as_str().to_owned(),
        index: server.index.0.into(),
        address: server.cluster_address(),
        started_ms,
        state: MemberState::Active.into(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        config_hash: common::config::topology_hash(config),
        since_ms: started_ms,
        stage: config.deployments.stage.clone(),
        ..Member::default()
    }
}

pub(crate) fn unknown_server(config: &Config, id: &ServerId) -> anyhow::Error {
    let known = config.servers().map(|(_, server)| server.id.to_string()).collect::<Vec<_>>().join(", ");
    anyhow!("{} has no server `{id}`: expected one of {known}", config.file.display())
}
