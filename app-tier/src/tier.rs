//! The app-tier of one server: starts its apps, serves its connections, stops in order.

use crate::{
    app::{App, Deployed},
    cache::Caches,
    deploy::{DeployConfig, Deployer, Place},
    error::AppTierError,
    in_process::InProcessService,
    lease::ServicesConfig,
    loader::{Folder, Loader},
    local_api::LocalApi,
    process::Launcher,
    process_app::ProcessApp,
    registry::{Registry, Running},
    serve::Front,
    session::{Link, SessionStats},
};
use cluster_port::Peer;
use common::{
    clock::Clock,
    config::{Cluster, Config, Content, Host},
    id::ServerId,
    session_id::SessionId,
};
use futures_util::future::join_all;
use proto::{hub::v1::event, session::v1::HeldSession, status::v1 as status};
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use triad_client::{Heard, Hub};

/// What an app-tier needs to start.
#[derive(Debug, Clone)]
pub struct AppTierConfig {
    /// The whole configuration.
    pub config: Arc<Config>,
    /// This server.
    pub me: ServerId,
    /// This server's data folder; it exists and nobody else uses it.
    pub data_dir: PathBuf,
    /// Where sessions are saved; without one they live in memory alone.
    pub hub: Option<Hub>,
    /// Where leases are had: without it nobody runs daemons.
    pub leases: Option<ServicesConfig>,
    /// What answers at web-apps with `admin: true`; without it they are left out.
    pub admin: Option<InProcessService>,
    /// Where deployed apps come from; without it there are none.
    pub deploy: Option<DeployConfig>,
    /// Where spans of requests go; nowhere without it.
    pub traces: Option<traces::Exporter>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What starts apps that have less rights than this process; without it none has, and a `user` is an error.
    pub launcher: Option<Launcher>,
}

/// The app-tier of one server; clones are the same one.
#[derive(Debug, Clone)]
pub struct AppTier {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    me: ServerId,
    front: Arc<Front>,
    registry: Arc<Registry>,
    loader: Arc<Loader>,
    deployer: Option<Deployer>,
    connections: TaskTracker,
    shutdown_wait_max: Duration,
    /// Cancelled at the very end: the app API and the background tasks.
    end: CancellationToken,
}

/// Time between two looks for sessions that nobody uses any more.
const SWEEP: Duration = Duration::from_secs(10);

/// The least time that the last saves get at a stop.
const LAST_SAVES_MIN: Duration = Duration::from_secs(5);

impl AppTier {
    /// Reads every app of this server's cluster, starts their processes and returns; needs a running tokio runtime. When
    /// `shutdown` is cancelled, connections are drained; [`AppTier::stop`] does the rest.
    ///
    /// # Errors
    /// A folder or an `app.yaml` is wrong, or a socket or file can't be made: see [`AppTierError`].
    pub fn start(config: AppTierConfig, shutdown: CancellationToken) -> Result<Self, AppTierError> {
        let unknown = || AppTierError::UnknownServer(config.me.clone());
        let (cluster, server) = config.config.server(&config.me).ok_or_else(unknown)?;
        let (loader, bound) = Loader::new(&config, cluster, server)?;
        let loader = Arc::new(loader);
        let (hosts, running) = start_web_apps(&config, cluster, &loader)?;
        running.iter().for_each(|it| it.app.begin());
        let registry = Arc::new(Registry::new(hosts, running, &cluster.session_cookie));
        let end = CancellationToken::new();
        let (leases, queues) = (loader.leases().cloned(), loader.queues().cloned());
        let topics = loader.topics().cloned();
        tokio::spawn(sweep(registry.clone(), end.clone()));
        tokio::spawn(hear_returns(loader.link.clone(), registry.clone(), end.clone()));
        let front =
            Arc::new(Front::new(registry.clone(), &config.config, server, config.traces.clone(), shutdown));
        LocalApi::new(registry.clone(), leases, loader.caches.clone(), (queues, topics)).serve(
            bound,
            front.drain.clone(),
            end.clone(),
        );
        let shutdown_wait_max = server.shutdown_wait_max;
        let deployer = config.deploy.clone().map(|deploy| {
            let place =
                Place { config: config.config.clone(), cluster: cluster.clone(), data_dir: config.data_dir };
            Deployer::start(deploy, place, loader.clone(), registry.clone(), &end)
        });
        let inner = Inner {
            me: config.me,
            front,
            registry,
            loader,
            deployer,
            connections: TaskTracker::new(),
            shutdown_wait_max,
            end,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Follows the hub's events (of [`Hub::watch`]) until they end: what they say decides which sessions in memory may be
    /// served without asking the hub.
    pub fn follow(&self, mut events: mpsc::Receiver<Heard>) {
        let inner = self.inner.clone();
        tokio::spawn(async move {
            while let Some(Some(Heard { event, sent, stream })) =
                inner.end.run_until_cancelled(events.recv()).await
            {
                if let Some(event) = event.event {
                    inner.heard(&event, sent, stream);
                }
            }
        });
    }

    /// Ends what runs here alone in the cluster, and what is handed to this server, for good: others take it over at once.
    pub async fn stop_daemons(&self) {
        self.inner.loader.stop_daemons();
        let running = self.inner.registry.running();
        join_all(running.iter().map(|it| it.app.end())).await;
    }

    /// Saves what is unsaved, beside the requests that go on: what is saved early needs no hub later.
    pub async fn save(&self) {
        let running = self.inner.registry.running();
        join_all(running.iter().map(|it| it.app.sessions.save_all(last_saves_limit(&it.app)))).await;
    }

    /// Whether processes of apps run here, or may: apart from them there are static files and the administration.
    pub fn runs_apps(&self) -> bool {
        self.inner.deployer.is_some() || !self.inner.registry.running().is_empty()
    }

    /// How the apps are, for the status page.
    pub fn status(&self) -> status::AppTier {
        let connections = u64::try_from(self.inner.connections.len()).unwrap_or(u64::MAX);
        let caches = self.inner.loader.caches.as_ref().map(Caches::report);
        status::AppTier { apps: self.inner.registry.report(), connections, caches }
    }

    /// The sessions of each process app, in numbers.
    pub fn sessions(&self) -> Vec<SessionStats> {
        self.inner.registry.running().iter().map(|it| it.app.sessions.stats()).collect()
    }

    /// What is in memory of a session's id, of whatever app; without the values.
    pub fn inquire(&self, id: &str) -> Vec<HeldSession> {
        let Some(id) = SessionId::parse(id) else { return Vec::new() };
        self.inner.registry.running().iter().filter_map(|it| it.app.sessions.inquire(&id)).collect()
    }

    /// An operator has ended the sessions of an id: what is in memory of them is not used again before the hub has been asked.
    /// Returns the names of the apps that had one.
    pub fn end_session(&self, id: &str) -> Vec<String> {
        let Some(id) = SessionId::parse(id) else { return Vec::new() };
        let running = self.inner.registry.running();
        let ended = running.iter().filter(|it| it.app.sessions.end_by_operator(&id));
        ended.map(|it| it.app.sessions.app().to_owned()).collect()
    }

    /// Waits until every app process is healthy, however long that takes and however often it fails.
    pub async fn recovered(&self) {
        for it in self.inner.registry.running().iter() {
            it.app.processes.recovered().await;
        }
    }

    /// Waits until every app process is healthy, and deployed apps are as the hub has them.
    ///
    /// # Errors
    /// [`AppTierError::NotReady`] past `timeout`, or as soon as a process of a web-app of the file has failed to start three times on
    /// end. A deployed app that fails holds up nothing else.
    pub async fn ready(&self, timeout: Duration) -> Result<(), AppTierError> {
        let began = tokio::time::Instant::now();
        for it in self.inner.registry.running().iter() {
            it.app.processes.ready(&self.inner.me, timeout.saturating_sub(began.elapsed())).await?;
        }
        if let Some(deployer) = &self.inner.deployer {
            deployer.caught_up(timeout.saturating_sub(began.elapsed())).await;
        }
        Ok(())
    }

    /// Goes by the limits of requests (`header-max`) of another configuration, from the next connection on.
    pub fn reload(&self, config: &Config) {
        self.inner.front.reload(config);
    }

    /// Serves one authenticated connection until it ends or the app-tier stops.
    pub async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: Peer) {
        tracing::debug!(peer = %peer.id, "connection");
        self.inner.connections.track_future(self.inner.front.clone().serve(stream)).await;
    }

    /// Stops in order: requests in flight end (up to `shutdown-wait-max`), sessions are saved, processes end.
    pub async fn stop(&self) {
        let inner = &self.inner;
        self.stop_daemons().await;
        inner.front.drain.cancel();
        inner.connections.close();
        if tokio::time::timeout(inner.shutdown_wait_max, inner.connections.wait()).await.is_err() {
            tracing::warn!(connections = inner.connections.len(), waited = ?inner.shutdown_wait_max, "closing connections whose requests did not end");
        }
        inner.front.abort.cancel();
        // Before the deployer lets go of its apps: their sessions are saved, and their processes ended, like any others'.
        let running = inner.registry.running();
        if let Some(deployer) = &inner.deployer {
            deployer.stop();
        }
        let saved = running.iter().map(|it| last_saves(&it.app));
        let stopped = running.iter().map(|it| it.app.processes.stop());
        tokio::join!(join_all(saved), join_all(stopped));
        inner.end.cancel();
    }
}

/// Without a stop: the processes are killed when the last of their tasks is gone.
impl Drop for Inner {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

impl Inner {
    fn heard(&self, event: &event::Event, sent: Option<Instant>, stream: u64) {
        if let event::Event::SessionMoved(moved) = event
            && let Some(key) = &moved.key
        {
            let running = self.registry.running();
            for it in running.iter().filter(|it| it.app.sessions.app() == key.app) {
                it.app.sessions.moved(&key.id);
            }
        }
        if let Some(caches) = &self.loader.caches {
            caches.heard(event, stream);
        }
        self.loader.link.heard(event, sent);
    }
}

fn last_saves_limit(app: &ProcessApp) -> Duration {
    app.sessions.save_timeout().max(LAST_SAVES_MIN)
}

async fn last_saves(app: &Arc<ProcessApp>) {
    let limit = last_saves_limit(app);
    let unsaved = app.sessions.save_all(limit).await;
    if unsaved > 0 {
        tracing::error!(
            app = app.sessions.app(),
            unsaved,
            ?limit,
            "stopping with sessions that the hub does not have: their last changes are lost"
        );
    }
}

/// Whenever the hub is back after a loss.
async fn hear_returns(link: Arc<Link>, apps: Arc<Registry>, end: CancellationToken) {
    while end.run_until_cancelled(link.returned()).await.is_some() {
        join_all(apps.running().iter().map(|it| it.app.sessions.hub_has_returned())).await;
    }
}

async fn sweep(apps: Arc<Registry>, end: CancellationToken) {
    while end.run_until_cancelled(tokio::time::sleep(SWEEP)).await.is_some() {
        for it in apps.running().iter() {
            it.app.sessions.sweep();
        }
    }
}

/// A host of the file with its web-apps.
type WithApps = (Host, Vec<Arc<Deployed>>);

/// The web-apps of the file: their files are read, then, if all are right, their processes started.
fn start_web_apps(
    config: &AppTierConfig,
    cluster: &Cluster,
    loader: &Loader,
) -> Result<(Vec<WithApps>, Vec<Running>), AppTierError> {
    let mut plans = Vec::new();
    for host in &cluster.hosts {
        for web_app in &host.web_apps {
            let name =
                format!("{}{}", host.tag_name(), if web_app.id.is_empty() { "/" } else { &web_app.id });
            let folder = match &web_app.content {
                Content::Folder(root) => {
                    let key = loader.key(&host.id, &web_app.id);
                    Some(loader.read(&name, key, root, &web_app.rights, false)?)
                }
                Content::Admin | Content::Deploy(_) => None,
            };
            plans.push((host, web_app, name, folder));
        }
    }
    let mut hosts: Vec<WithApps> = cluster.hosts.iter().map(|host| (host.clone(), Vec::new())).collect();
    if hosts.is_empty() {
        hosts.push((Host::default(), Vec::new()));
    }
    let mut running = Vec::new();
    for (host, web_app, name, folder) in plans {
        let app: Arc<dyn App> = match (&web_app.content, folder) {
            (Content::Folder(_), Some(folder)) => {
                let session = web_app.session_with(&folder.spec.session);
                let sessions = |folder: &Folder| loader.sessions(folder.key.clone(), session);
                let started = loader.start(&name, folder, sessions);
                running.extend(started.running);
                started.app
            }
            (Content::Admin, _) => match config.admin.clone() {
                Some(admin) => Arc::new(admin),
                None => continue,
            },
            _ => continue,
        };
        let deployed = Arc::new(Deployed { name, path: web_app.id.clone(), app });
        hosts.iter_mut().filter(|(it, _)| it.id == host.id).for_each(|(_, apps)| apps.push(deployed.clone()));
    }
    Ok((hosts, running))
}
