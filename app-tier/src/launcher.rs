//! Makes an app of a folder: reads its `app.yaml`, starts its processes, gives it its sessions.

use crate::{
    app::App,
    error::AppTierError,
    process::{Launch, PidFile, Processes, RunDir},
    process_app::ProcessApp,
    registry::Running,
    session::{Link, MEMORY_MAX, SessionHub, Sessions, SessionsConfig},
    spec::{self, Spec},
    static_files::StaticFiles,
    tier::AppTierConfig,
};
use common::{
    config::{Cluster, Server, ServersOwn, SessionConfig, SessionOverrides},
    id::ServerId,
};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The app API's socket in the folder of sockets.
const API: &str = "api";

/// What all apps of a server are started with.
#[derive(Debug)]
pub(crate) struct Launcher {
    config: AppTierConfig,
    cluster: Cluster,
    server: Server,
    run_dir: Arc<RunDir>,
    pids: Arc<PidFile>,
    pub(crate) link: Arc<Link>,
    /// What of the environment apps don't get.
    servers_own: ServersOwn,
    /// Apps with processes so far: their sockets have numbers.
    started: AtomicUsize,
}

/// An app's folder, its files read: nothing runs yet.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    statics: Option<PathBuf>,
    pub(crate) spec: Spec,
}

/// An app that runs, or is about to.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) app: Arc<dyn App>,
    /// `None`: static files alone.
    pub(crate) running: Option<Running>,
}

impl Launcher {
    pub(crate) fn new(
        config: &AppTierConfig,
        cluster: &Cluster,
        server: &Server,
    ) -> Result<Self, AppTierError> {
        Ok(Self {
            pids: Arc::new(PidFile::open(&config.data_dir)?),
            run_dir: Arc::new(RunDir::make(&config.data_dir)?),
            link: Arc::new(Link::new(config.clock.clone(), cluster.servers.len() > 1)),
            servers_own: ServersOwn::new(&config.config),
            config: config.clone(),
            cluster: cluster.clone(),
            server: server.clone(),
            started: AtomicUsize::new(0),
        })
    }

    /// The app API's socket.
    pub(crate) fn api(&self) -> PathBuf {
        self.run_dir.socket(API)
    }

    /// This server.
    pub(crate) fn me(&self) -> &ServerId {
        &self.config.me
    }

    /// The name of an app's sessions on the hub: the same on every server of the cluster, after every restart, and for every version.
    pub(crate) fn session_key(&self, host: &str, path: &str) -> String {
        format!("{}|{host}|{path}", self.cluster.id)
    }

    /// Reads what an app's folder says of it.
    ///
    /// # Errors
    /// [`AppTierError::Root`], [`AppTierError::AppYaml`].
    pub(crate) fn read(&self, name: &str, root: &Path) -> Result<Folder, AppTierError> {
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
        let statics = spec.static_dir.as_ref().map(|dir| existing(dir)).transpose()?;
        Ok(Folder { root, statics, spec })
    }

    /// Starts an app's processes, if it has any; returns at once.
    pub(crate) fn start(
        &self,
        name: &str,
        folder: Folder,
        sessions: impl FnOnce() -> Arc<Sessions>,
    ) -> Started {
        let Folder { root, statics, spec } = folder;
        let statics = statics.map(StaticFiles::new);
        if spec.command.is_empty() {
            let app = Arc::new(statics.unwrap_or_else(|| StaticFiles::new(root)));
            return Started { app, running: None };
        }
        let token = format!("{:032x}", rand::random::<u128>());
        let launch = Launch {
            root,
            app: name.to_owned(),
            socket_name: format!("app-{}", self.started.fetch_add(1, Ordering::Relaxed)),
            server: self.config.me.clone(),
            hub: self.api(),
            token: token.clone(),
            servers_own: self.servers_own.clone(),
            run_dir: self.run_dir.clone(),
            pids: self.pids.clone(),
        };
        let processes = Processes::start(name, &spec, &launch, self.server.balance_socket_timeout);
        let app = Arc::new(ProcessApp { statics, processes, sessions: sessions() });
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
