//! The app-tier of one server: starts its apps, serves its connections, stops in order.

use crate::{
    app::{App, Deployed},
    app_api::AppApi,
    error::AppTierError,
    hosts::Hosts,
    in_process::InProcessService,
    process::{AppFolders, Asked, Confinement, Launch, Launcher, PidFile, Processes, RunDir},
    process_app::ProcessApp,
    serve::Front,
    session::{Link, MEMORY_MAX, SessionHub, SessionStats, Sessions, SessionsConfig},
    spec::{self, Spec},
    static_files::StaticFiles,
};
use cluster_port::Peer;
use common::{
    clock::Clock,
    config::{Cluster, Config, Content, Host, Server, ServersOwn, WebApp},
    id::ServerId,
};
use futures_util::future::join_all;
use proto::hub::v1::event;
use std::{
    path::{Path, PathBuf},
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
    /// What answers at web-apps with `admin: true`; without it they are left out.
    pub admin: Option<InProcessService>,
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
    apps: Vec<Arc<ProcessApp>>,
    link: Arc<Link>,
    connections: TaskTracker,
    shutdown_wait_max: Duration,
    /// Cancelled at the very end: the app API and the background tasks.
    end: CancellationToken,
    /// Held for its Drop: it removes the sockets.
    _run_dir: Arc<RunDir>,
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
        let mut starting = Starting::new(&config, cluster, server)?;
        let mut hosts = Vec::new();
        for host in &cluster.hosts {
            let web_apps = host.web_apps.iter().map(|web_app| starting.read(host, web_app));
            hosts.push((host.clone(), web_apps.collect::<Result<Vec<_>, _>>()?));
        }
        // Every file has been read without an error: now processes may start.
        let hosts: Vec<_> = hosts
            .into_iter()
            .map(|(host, plans)| (host, plans.into_iter().filter_map(|plan| starting.deploy(plan)).collect()))
            .collect();
        let end = CancellationToken::new();
        let api = AppApi::new(
            starting.apps.iter().map(|(token, app)| (token.clone(), app.sessions.clone())).collect(),
        );
        api.serve(starting.run_dir.socket(API), end.clone())?;
        let apps: Vec<_> = starting.apps.into_iter().map(|(_, app)| app).collect();
        tokio::spawn(sweep(apps.clone(), end.clone()));
        tokio::spawn(hear_returns(starting.link.clone(), apps.clone(), end.clone()));
        let front = Arc::new(Front::new(Hosts::new(hosts), &config.config, server, shutdown));
        let (link, run_dir) = (starting.link, starting.run_dir);
        let shutdown_wait_max = server.shutdown_wait_max;
        let inner = Inner {
            me: config.me,
            front,
            apps,
            link,
            connections: TaskTracker::new(),
            shutdown_wait_max,
            end,
            _run_dir: run_dir,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Follows the hub's events (of [`Hub::watch`]) until they end: what they say decides which sessions in memory may be
    /// served without asking the hub.
    pub fn follow(&self, mut events: mpsc::Receiver<Heard>) {
        let inner = self.inner.clone();
        tokio::spawn(async move {
            while let Some(Some(Heard { event, sent })) = inner.end.run_until_cancelled(events.recv()).await {
                if let Some(event) = event.event {
                    inner.heard(&event, sent);
                }
            }
        });
    }

    /// Saves what is unsaved, beside the requests that go on: what is saved early needs no hub later.
    pub async fn save(&self) {
        join_all(self.inner.apps.iter().map(|app| app.sessions.save_all(last_saves_limit(app)))).await;
    }

    /// The sessions of each process app, in numbers.
    pub fn sessions(&self) -> Vec<SessionStats> {
        self.inner.apps.iter().map(|app| app.sessions.stats()).collect()
    }

    /// Waits until every app process is healthy, however long that takes and however often it fails.
    pub async fn recovered(&self) {
        for app in &self.inner.apps {
            app.processes.recovered().await;
        }
    }

    /// Waits until every app process is healthy.
    ///
    /// # Errors
    /// [`AppTierError::NotReady`] past `timeout`, or as soon as a process has failed to start three times on end.
    pub async fn ready(&self, timeout: Duration) -> Result<(), AppTierError> {
        let began = tokio::time::Instant::now();
        for app in &self.inner.apps {
            app.processes.ready(&self.inner.me, timeout.saturating_sub(began.elapsed())).await?;
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
        inner.front.drain.cancel();
        inner.connections.close();
        if tokio::time::timeout(inner.shutdown_wait_max, inner.connections.wait()).await.is_err() {
            tracing::warn!(connections = inner.connections.len(), waited = ?inner.shutdown_wait_max, "closing connections whose requests did not end");
        }
        inner.front.abort.cancel();
        let (saved, stopped) =
            (inner.apps.iter().map(last_saves), inner.apps.iter().map(|app| app.processes.stop()));
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
    fn heard(&self, event: &event::Event, sent: Option<Instant>) {
        if let event::Event::SessionMoved(moved) = event
            && let Some(key) = &moved.key
        {
            for app in self.apps.iter().filter(|app| app.sessions.app() == key.app) {
                app.sessions.moved(&key.id);
            }
        }
        self.link.heard(event, sent);
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
async fn hear_returns(link: Arc<Link>, apps: Vec<Arc<ProcessApp>>, end: CancellationToken) {
    while end.run_until_cancelled(link.returned()).await.is_some() {
        join_all(apps.iter().map(|app| app.sessions.hub_has_returned())).await;
    }
}

async fn sweep(apps: Vec<Arc<ProcessApp>>, end: CancellationToken) {
    while end.run_until_cancelled(tokio::time::sleep(SWEEP)).await.is_some() {
        for app in &apps {
            app.sessions.sweep();
        }
    }
}

/// The app API's socket in the folder of sockets.
const API: &str = "api";

/// What deploying the apps needs and gathers.
struct Starting<'a> {
    config: &'a AppTierConfig,
    cluster: &'a Cluster,
    server: &'a Server,
    run_dir: Arc<RunDir>,
    pids: Arc<PidFile>,
    link: Arc<Link>,
    /// What of the environment apps don't get.
    servers_own: ServersOwn,
    /// With their tokens.
    apps: Vec<(String, Arc<ProcessApp>)>,
}

/// A web-app, as far as it can be known before anything is started.
struct Plan {
    name: String,
    web_app: WebApp,
    /// `None`: the administration.
    folder: Option<Folder>,
}

/// A web-app's folder, its files read.
struct Folder {
    key: String,
    root: PathBuf,
    statics: Option<PathBuf>,
    spec: Spec,
    /// Of its processes, if it has a command.
    confinement: Option<Confinement>,
}

impl<'a> Starting<'a> {
    fn new(
        config: &'a AppTierConfig,
        cluster: &'a Cluster,
        server: &'a Server,
    ) -> Result<Self, AppTierError> {
        let pids = Arc::new(PidFile::open(&config.data_dir)?);
        let run_dir = Arc::new(RunDir::make(&config.data_dir)?);
        AppFolders::empty_tmp(&config.data_dir);
        let link = Arc::new(Link::new(config.clock.clone(), cluster.servers.len() > 1));
        let servers_own = ServersOwn::new(&config.config);
        Ok(Self { config, cluster, server, run_dir, pids, link, servers_own, apps: Vec::new() })
    }

    fn read(&self, host: &Host, web_app: &WebApp) -> Result<Plan, AppTierError> {
        let host_name = if host.id.is_empty() { "default" } else { &host.id };
        let name = format!("{host_name}{}", if web_app.id.is_empty() { "/" } else { &web_app.id });
        // It has to be there now; but a link in it stays one, so that files and restarted processes follow it to another release.
        let existing = |path: &Path| {
            let absolute = path.canonicalize().and_then(|_| std::path::absolute(path));
            absolute.map_err(|cause| AppTierError::Root { app: name.clone(), root: path.to_owned(), cause })
        };
        let folder = match &web_app.content {
            Content::Admin => None,
            Content::Folder(root) => {
                let root = existing(root)?;
                let spec = spec::load(&name, &root, &self.servers_own)?;
                let statics = spec.static_dir.as_ref().map(|dir| existing(dir)).transpose()?;
                // The same on every server of the cluster, and after every restart.
                let key = format!("{}|{}|{}", self.cluster.id, host.id, web_app.id);
                let rights = &web_app.rights;
                let asked = Asked { name: &name, key: &key, rights, spec: &spec, deployed: false };
                let confinement = (!spec.command.is_empty()).then(|| Confinement::new(self.config, asked));
                let confinement = confinement
                    .transpose()
                    .map_err(|cause| AppTierError::Rights { app: name.clone(), cause })?;
                Some(Folder { key, root, statics, spec, confinement })
            }
        };
        Ok(Plan { name, web_app: web_app.clone(), folder })
    }

    fn deploy(&mut self, plan: Plan) -> Option<Arc<Deployed>> {
        let Plan { name, web_app, folder } = plan;
        let app: Arc<dyn App> = match folder {
            None => match self.config.admin.clone() {
                Some(admin) => Arc::new(admin),
                None => return None,
            },
            Some(mut folder) => {
                let statics = folder.statics.clone().map(StaticFiles::new);
                match folder.confinement.take() {
                    Some(confinement) => self.process(&name, &web_app, folder, statics, confinement),
                    None => Arc::new(statics.unwrap_or_else(|| StaticFiles::new(folder.root))),
                }
            }
        };
        Some(Arc::new(Deployed { name, path: web_app.id, app }))
    }

    fn process(
        &mut self,
        name: &str,
        web_app: &WebApp,
        folder: Folder,
        statics: Option<StaticFiles>,
        confinement: Confinement,
    ) -> Arc<ProcessApp> {
        let Folder { key, root, spec, .. } = folder;
        let sessions = SessionsConfig {
            app: key,
            me: self.config.me.clone(),
            index: self.server.index,
            cookie_name: self.cluster.session_cookie.clone(),
            session: web_app.session_with(&spec.session),
            memory_max: MEMORY_MAX,
        };
        let hub = self.config.hub.clone().map(|hub| Arc::new(hub) as Arc<dyn SessionHub>);
        let sessions = Sessions::new(sessions, hub, self.link.clone(), self.config.clock.clone());
        let token = format!("{:032x}", rand::random::<u128>());
        let launch = Launch {
            root,
            app: name.to_owned(),
            socket_name: format!("app-{}", self.apps.len()),
            server: self.config.me.clone(),
            hub: self.run_dir.socket(API),
            token: token.clone(),
            servers_own: self.servers_own.clone(),
            run_dir: self.run_dir.clone(),
            pids: self.pids.clone(),
            confinement,
        };
        let processes = Processes::start(name, &spec, &launch, self.server.balance_socket_timeout);
        let app = Arc::new(ProcessApp { statics, processes, sessions: Arc::new(sessions) });
        self.apps.push((token, app.clone()));
        app
    }
}
