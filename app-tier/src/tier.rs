//! The app-tier of one server: starts its apps, serves its connections, stops in order.

use crate::{
    app::{App, Deployed},
    error::AppTierError,
    hosts::Hosts,
    process::{Launch, PidFile, Processes, RunDir},
    process_app::ProcessApp,
    serve::Front,
    spec,
};
use common::{
    clock::Clock,
    cluster_port::Peer,
    config::{Config, Host, WebApp},
    id::ServerId,
};
use proto::hub::v1::Event;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use triad_client::Hub;

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
    /// The time.
    pub clock: Arc<dyn Clock>,
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
    processes: Vec<Arc<ProcessApp>>,
    connections: TaskTracker,
    shutdown_wait_max: Duration,
}

impl AppTier {
    /// Reads every app of this server's cluster, starts their processes and returns; needs a running tokio runtime. When
    /// `shutdown` is cancelled, connections are drained; [`AppTier::stop`] does the rest.
    ///
    /// # Errors
    /// A folder or an `app.yaml` is wrong, or a socket or file can't be made: see [`AppTierError`].
    pub fn start(config: AppTierConfig, shutdown: CancellationToken) -> Result<Self, AppTierError> {
        let unknown = || AppTierError::UnknownServer(config.me.clone());
        let (cluster, server) = config.config.server(&config.me).ok_or_else(unknown)?;
        let pids = Arc::new(PidFile::open(&config.data_dir)?);
        let run_dir = Arc::new(RunDir::make(&config.data_dir)?);
        let mut starting = Starting {
            config: &config,
            run_dir,
            pids,
            answer_timeout: server.balance_socket_timeout,
            processes: Vec::new(),
        };
        let mut hosts = Vec::new();
        for host in &cluster.hosts {
            let mut apps = Vec::new();
            for web_app in &host.web_apps {
                apps.push(Arc::new(starting.deploy(host, web_app)?));
            }
            hosts.push((host.clone(), apps));
        }
        let front = Arc::new(Front::new(Hosts::new(hosts), server, shutdown));
        Ok(Self {
            inner: Arc::new(Inner {
                me: config.me.clone(),
                front,
                processes: starting.processes,
                connections: TaskTracker::new(),
                shutdown_wait_max: server.shutdown_wait_max,
            }),
        })
    }

    /// Follows the hub's events (of [`Hub::watch`]) until they end: what they say decides which sessions in memory may be
    /// served without asking the hub.
    pub fn follow(&self, mut events: mpsc::Receiver<Event>) {
        tokio::spawn(async move { while events.recv().await.is_some() {} });
    }

    /// Waits until every app process is healthy.
    ///
    /// # Errors
    /// [`AppTierError::NotReady`] past `timeout`, or as soon as a process has failed to start three times on end.
    pub async fn ready(&self, timeout: Duration) -> Result<(), AppTierError> {
        let began = tokio::time::Instant::now();
        for app in &self.inner.processes {
            app.processes.ready(&self.inner.me, timeout.saturating_sub(began.elapsed())).await?;
        }
        Ok(())
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
        for app in &inner.processes {
            app.processes.stop().await;
        }
    }
}

/// What deploying the apps needs and gathers.
struct Starting<'a> {
    config: &'a AppTierConfig,
    run_dir: Arc<RunDir>,
    pids: Arc<PidFile>,
    answer_timeout: Duration,
    processes: Vec<Arc<ProcessApp>>,
}

impl Starting<'_> {
    fn deploy(&mut self, host: &Host, web_app: &WebApp) -> Result<Deployed, AppTierError> {
        let host_name = if host.id.is_empty() { "default" } else { &host.id };
        let name = format!("{host_name}{}", if web_app.id.is_empty() { "/" } else { &web_app.id });
        let root = web_app.root_directory.canonicalize().map_err(|cause| AppTierError::Root {
            app: name.clone(),
            root: web_app.root_directory.clone(),
            cause,
        })?;
        let spec = spec::load(&name, &root)?;
        let launch = Launch {
            root,
            app: name.clone(),
            socket_name: format!("app-{}", self.processes.len()),
            server: self.config.me.clone(),
            hub: self.run_dir.socket("api"),
            token: format!("{:032x}", rand::random::<u128>()),
            run_dir: self.run_dir.clone(),
            pids: self.pids.clone(),
        };
        let processes = Processes::start(&name, &spec, &launch, self.answer_timeout);
        let app = Arc::new(ProcessApp { processes });
        self.processes.push(app.clone());
        let app: Arc<dyn App> = app;
        Ok(Deployed { name, path: web_app.id.clone(), app })
    }
}
