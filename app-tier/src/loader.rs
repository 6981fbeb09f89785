//! Makes an app of a folder: reads its `app.yaml`, starts its processes, gives it its sessions.

use crate::{
    app::App,
    cache::Caches,
    daemon::{DaemonHost, Guard},
    duties::{Duties, Making},
    error::AppTierError,
    lease::Leases,
    local_api::{Addresses, Bound},
    process::{
        AppFolders, Asked, Confinement, IsDeclared, Launch, PidFile, PrepareError, Processes, RunDir,
        open_passage, prepare,
    },
    process_app::ProcessApp,
    queue::{QueueHost, Queues},
    registry::Running,
    session::{Link, MEMORY_MAX, SessionHub, Sessions, SessionsConfig},
    spec::{self, DeployedAs, Spec},
    static_files::StaticFiles,
    tier::AppTierConfig,
    topic::Topics,
};
use common::{
    config::{AppRights, Cluster, Server, ServersOwn, SessionConfig, SessionOverrides},
    id::ServerId,
};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio_util::sync::CancellationToken;

/// The local API's socket in the folder of sockets.
const API: &str = "api";

/// Who has declared what the cluster's file has.
const FILE: &str = "(the cluster's file)";

/// What all apps of a server are started with.
#[derive(Debug)]
pub(crate) struct Loader {
    config: AppTierConfig,
    cluster: Cluster,
    server: Server,
    run_dir: Arc<RunDir>,
    /// Where apps call this server.
    api: Addresses,
    pids: Arc<PidFile>,
    pub(crate) link: Arc<Link>,
    /// What of the environment apps don't get.
    servers_own: ServersOwn,
    /// What apps have cached; `None`: there is no hub.
    pub(crate) caches: Option<Caches>,
    /// What daemons need; `None`: there is no hub, and nobody runs them.
    daemons: Option<DaemonHost>,
    /// What queues need; the same.
    queues: Option<QueueHost>,
    /// Apps with processes so far: their sockets have numbers.
    started: AtomicUsize,
}

/// An app's folder, its files read: nothing runs yet.
#[derive(Debug)]
pub(crate) struct Folder {
    /// The app's name on the hub: see [`Loader::key`].
    pub(crate) key: String,
    root: PathBuf,
    statics: Option<PathBuf>,
    pub(crate) spec: Spec,
    /// What its processes are started with, if it has any.
    launch: Option<Launch>,
    pub(crate) deployed_as: DeployedAs,
}

/// An app that runs, or is about to.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) app: Arc<dyn App>,
    /// `None`: static files alone.
    pub(crate) running: Option<Running>,
}

impl Loader {
    pub(crate) fn new(
        config: &AppTierConfig,
        cluster: &Cluster,
        server: &Server,
    ) -> Result<(Self, Bound), AppTierError> {
        AppFolders::empty_tmp(&config.data_dir);
        let link = Arc::new(Link::new(config.clock.clone(), cluster.servers.len() > 1));
        let caches = config
            .leases
            .as_ref()
            .map(|it| Caches::start(it.hub.clone(), it.stream.clone(), link.clone(), it.started_ms));
        if let Some(caches) = &caches {
            caches.declare(FILE, &cluster.caches);
        }
        let stop = CancellationToken::new();
        let queues = config.leases.as_ref().zip(caches.clone()).map(|(it, caches)| QueueHost {
            queues: Queues::start(it, config.me.as_str(), link.clone()),
            topics: Topics::start(it.hub.clone(), it.stream.clone()),
            caches,
            stop: stop.clone(),
        });
        let daemons = config.leases.clone().map(|leases| DaemonHost {
            leases: leases.start(config.me.as_str()),
            guard: Guard::new(config.launcher.as_ref().map(|it| it.program.as_path())),
            stop,
        });
        let pids = Arc::new(PidFile::open(&config.data_dir)?);
        let run_dir = Arc::new(RunDir::make(&config.data_dir)?);
        let bound = Bound::bind(run_dir.socket(API))?;
        let loader = Self {
            pids,
            run_dir,
            api: bound.addresses().clone(),
            link,
            caches,
            servers_own: ServersOwn::new(&config.config),
            config: config.clone(),
            cluster: cluster.clone(),
            server: server.clone(),
            daemons,
            queues,
            started: AtomicUsize::new(0),
        };
        Ok((loader, bound))
    }

    /// No daemon begins here any more, and no message comes.
    pub(crate) fn stop_daemons(&self) {
        if let Some(host) = &self.daemons {
            host.stop.cancel();
        }
    }

    /// The queues; `None` without a hub.
    pub(crate) fn queues(&self) -> Option<&Queues> {
        self.queues.as_ref().map(|it| &it.queues)
    }

    /// The topics; `None` without a hub.
    pub(crate) fn topics(&self) -> Option<&Topics> {
        self.queues.as_ref().map(|it| &it.topics)
    }

    /// This server's leases; `None` without a hub.
    pub(crate) fn leases(&self) -> Option<&Leases> {
        self.daemons.as_ref().map(|it| &it.leases)
    }

    /// This server.
    pub(crate) fn me(&self) -> &ServerId {
        &self.config.me
    }

    /// The name of an app's sessions on the hub, and of its data here: the same on every server of the cluster, after every restart, and
    /// for every version.
    pub(crate) fn key(&self, host: &str, path: &str) -> String {
        format!("{}|{host}|{path}", self.cluster.id)
    }

    /// Reads what an app's folder says of it; a `deployed` one is not the operator's own.
    ///
    /// # Errors
    /// [`AppTierError::Root`], [`AppTierError::AppYaml`], [`AppTierError::Rights`].
    pub(crate) fn read(
        &self,
        name: &str,
        key: String,
        root: &Path,
        rights: &AppRights,
        deployed: bool,
    ) -> Result<Folder, AppTierError> {
        // It has to be there now; but a link in it stays one, so that files and restarted processes follow it to another release.
        let existing = |path: &Path| {
            let absolute = path.canonicalize().and_then(|_| std::path::absolute(path));
            absolute.map_err(|cause| AppTierError::Root {
                app: name.to_owned(),
                root: path.to_owned(),
                cause,
            })
        };
        let root = existing(root)?;
        let spec = spec::load(name, &root, &self.servers_own)?;
        // A deployed app's `prepare` may make it.
        let statics = spec.static_dir.clone().filter(|_| !deployed);
        let statics = statics.as_ref().map(|dir| existing(dir)).transpose()?;
        let launch = if spec.command.is_empty() && spec.prepare.is_empty() {
            None
        } else {
            let asked = Asked { name, key: &key, rights, spec: &spec, deployed };
            let confinement = Confinement::new(&self.config, asked);
            let confinement =
                confinement.map_err(|cause| AppTierError::Rights { app: name.to_owned(), cause })?;
            Some(self.launch(name, &root, confinement))
        };
        Ok(Folder { key, root, statics, spec, launch, deployed_as: DeployedAs::default() })
    }

    fn launch(&self, name: &str, root: &Path, confinement: Confinement) -> Launch {
        Launch {
            root: root.to_owned(),
            app: name.to_owned(),
            socket_name: format!("app-{}", self.started.fetch_add(1, Ordering::Relaxed)),
            server: self.config.me.clone(),
            api: self.api.clone(),
            token: format!("{:032x}", rand::random::<u128>()),
            servers_own: self.servers_own.clone(),
            run_dir: self.run_dir.clone(),
            pids: self.pids.clone(),
            confinement,
        }
    }

    /// Makes a checked-out folder ready for its app: see [`prepare()`].
    ///
    /// # Errors
    /// [`PrepareError`].
    pub(crate) async fn prepare(&self, folder: &Folder) -> Result<(), PrepareError> {
        let Some(launch) = &folder.launch else { return Ok(()) };
        if launch.confinement.has_user() {
            let between = folder.root.ancestors().skip(1).take_while(|it| **it != self.config.data_dir);
            for folder in between {
                // What can't be opened the app's start will tell of.
                let _closed = open_passage(folder);
            }
        }
        prepare(launch, &folder.spec).await
    }

    /// Starts an app's processes, if it has any; returns at once.
    pub(crate) fn start(
        &self,
        name: &str,
        folder: Folder,
        sessions: impl FnOnce(&Folder) -> Arc<Sessions>,
    ) -> Started {
        let statics = folder.statics.clone().or_else(|| folder.spec.static_dir.clone()).map(StaticFiles::new);
        let Some(launch) = folder.launch.as_ref().filter(|_| !folder.spec.command.is_empty()) else {
            let app = Arc::new(statics.unwrap_or_else(|| StaticFiles::new(folder.root)));
            return Started { app, running: None };
        };
        let token = launch.token.clone();
        let (timeout, is_declared) = (self.server.balance_socket_timeout, IsDeclared::new(&folder.spec));
        let processes = Arc::new(Processes::start(name, &folder.spec, launch, (timeout, &is_declared)));
        let making = Making {
            name: name.to_owned(),
            key: folder.key.clone(),
            deployed_as: folder.deployed_as.clone(),
            env: folder.spec.env.clone(),
            launch: launch.clone(),
            processes: processes.clone(),
            daemons: self.daemons.clone(),
            queues: self.queues.clone(),
            caches: self.caches.clone(),
        };
        let duties = Duties::new(making, &folder.spec, is_declared);
        let app = ProcessApp { statics, processes, sessions: sessions(&folder), duties };
        let app = Arc::new(app);
        Started { app: app.clone(), running: Some(Running { token, app }) }
    }

    /// The sessions of an app.
    pub(crate) fn sessions(&self, key: String, session: SessionConfig) -> Arc<Sessions> {
        let sessions = SessionsConfig {
            app: key,
            me: self.config.me.clone(),
            index: self.server.index,
            cookie_name: self.cluster.session_cookie.clone(),
            session,
            memory_max: MEMORY_MAX,
        };
        let hub = self.config.hub.clone().map(|hub| Arc::new(hub) as Arc<dyn SessionHub>);
        Arc::new(Sessions::new(sessions, hub, self.link.clone(), self.config.clock.clone()))
    }

    /// How the sessions of a deployed app behave that no web-app of the file names: as the defaults above its host say, then as the
    /// app says.
    pub(crate) fn session_config(defaults: &SessionOverrides, app: &SessionOverrides) -> SessionConfig {
        defaults.apply(&app.apply(&SessionConfig::default()))
    }
}
