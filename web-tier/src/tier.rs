//! The web tier of one server: starts its workers, tells them of new configurations (`reload`), and stops them.

pub(crate) mod changes;
mod late_quic;
mod reload;
mod run;
pub(crate) mod service;

use crate::{
    limit::LimitReport,
    listen::{
        bind::{BindError, Bound},
        inherited::ListenerSockets,
        listeners::{Listeners, ListenersError},
    },
    observe::{
        access_log::{LogWriter, Logs, OpenError},
        counters::{Counters, Totals},
        status::{Asked, Shown, WebTierView},
    },
    route::{Plan, PlanError, pages::PageError},
    transport::{
        listener::ListenerKeys,
        quic::QuicKeys,
        tls::{Changed, Staples, TicketKeys, TlsContext, TlsError},
    },
    upstream::foreign::BackendHealth,
    worker::{Setup, picture::Picture},
};
use cluster_port::Credentials;
use common::{
    clock::SystemClock,
    config::{Config, limit_below_workers_text, limits_below_workers},
    hub_age::LastHeard,
    id::ServerId,
};
use proto::hub::v1::Member;
use run::{Orders, Stop, Told, run};
use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, thread, time::Duration};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

/// What a closed worker may need beyond the wait: its thread only has to return.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long workers may take to give copies of their sockets.
const COPY_TIMEOUT: Duration = Duration::from_secs(5);

/// Reloads and the like that a worker has not come to.
const TOLD_WAITING: usize = 4;

/// Questions that a worker has not come to.
const ASKS_WAITING: usize = 4;

/// What [`WebTier::start`] needs.
#[derive(Debug)]
pub struct WebTierConfig {
    /// The whole file.
    pub config: Arc<Config>,
    /// This server.
    pub me: ServerId,
    /// Its listeners, from [`bind`](crate::listen::bind()).
    pub bound: Bound,
    /// How many connections of clients there may be at once, over all workers: beyond it idle ones end, or new ones wait. The
    /// process needs file descriptors for other things too.
    pub clients_max: usize,
    /// Proves to the app tier's servers that this is one of the cluster.
    pub credentials: Credentials,
    /// Who is there, as the hub says: servers that it knows to be down are passed over before a request pays for it. May be
    /// empty for as long as the hub is not known.
    pub members: watch::Receiver<Arc<Vec<Member>>>,
    /// When the hub was last heard: forwarded requests tell of it, so that an app server that is cut off knows that it is.
    pub heard: LastHeard,
    /// Where spans of requests go; nowhere without it.
    pub traces: Option<traces::Exporter>,
    /// What ACME brings; none for who has none.
    pub acme: acme::Live,
}

/// Why a web tier did not start.
#[derive(Debug, thiserror::Error)]
pub enum WebTierError {
    /// The configuration has no such server.
    #[error("server {0} is not in the configuration file")]
    UnknownServer(ServerId),
    /// A listener that a reload was to add.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A reload's names, certificates or access log.
    #[error("looking up names and opening files took longer than {0:?}")]
    Late(Duration),
    /// It ended in the middle of these.
    #[error("looking up names and opening files: {0}")]
    Broken(tokio::task::JoinError),
    /// The certificates of a listener, or the files of TLS to backends.
    #[error("{}", .0.problems().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Tls(#[from] TlsError),
    /// A page for errors, or for a host that is closed.
    #[error(transparent)]
    Page(#[from] PageError),
    /// A worker's thread or runtime.
    #[error("worker {worker} of the web tier can't start: {cause}")]
    Worker {
        /// Its number, from 0.
        worker: usize,
        /// The system's answer.
        cause: io::Error,
    },
    /// The access log's file.
    #[error("the access log {path} can't be opened: {cause}", path = path.display())]
    AccessLog {
        /// Where it was to be.
        path: PathBuf,
        /// The system's answer.
        cause: io::Error,
    },
    /// The folder of what is kept on disk.
    #[error("the folder {path} of the proxy cache can't be used: {cause}", path = path.display())]
    Cache {
        /// Where it was to be.
        path: PathBuf,
        /// The system's answer.
        cause: io::Error,
    },
}

impl From<PlanError> for WebTierError {
    fn from(cause: PlanError) -> Self {
        match cause {
            PlanError::Cache(path, cause) => Self::Cache { path, cause },
            PlanError::Tls(cause) => Self::Tls(cause),
            PlanError::Page(cause) => Self::Page(cause),
        }
    }
}

impl WebTierError {
    fn cache((path, cause): (PathBuf, io::Error)) -> Self {
        Self::Cache { path, cause }
    }
}

impl From<OpenError> for WebTierError {
    fn from(OpenError { path, cause }: OpenError) -> Self {
        Self::AccessLog { path, cause }
    }
}

impl From<ListenersError> for WebTierError {
    fn from(cause: ListenersError) -> Self {
        match cause {
            ListenersError::Bind(cause) => Self::Bind(cause),
            ListenersError::Tls(cause) => Self::Tls(cause),
        }
    }
}

/// A running web tier. Dropped, it stops at once; [`stop`](Self::stop) lets requests finish.
#[derive(Debug)]
pub struct WebTier {
    workers: Vec<RunningWorker>,
    listeners: Listeners,
    addresses: Vec<SocketAddr>,
    stop: watch::Sender<Option<Stop>>,
    access_log: Option<Logs>,
    /// By access logs that have been replaced.
    lines_lost: u64,
    me: ServerId,
    credentials: Credentials,
    plan: Plan,
    picture: Picture,
    shown: Shown,
    acme: acme::Live,
}

#[derive(Debug)]
struct RunningWorker {
    counters: Arc<Counters>,
    told: mpsc::Sender<Told>,
    asks: mpsc::Sender<Asked>,
    /// The number of connections that it had to cut.
    ended: oneshot::Receiver<u64>,
}

impl WebTier {
    /// Starts a thread for each worker of `config.bound`. When it returns, all of them accept.
    ///
    /// # Errors
    /// See [`WebTierError`].
    pub fn start(config: WebTierConfig) -> Result<Self, WebTierError> {
        let WebTierConfig { config, me, bound, clients_max, credentials, members, heard, traces, acme } =
            config;
        let Some((cluster, server)) = config.server(&me) else { return Err(WebTierError::UnknownServer(me)) };
        let access_log = Logs::start(cluster.access_log.as_ref().map(|it| it.of(&me)))?;
        let (stop, stopped) = watch::channel(None);
        let count = bound.workers;
        for limit in limits_below_workers(&config, cluster, count) {
            tracing::warn!("{}", limit_below_workers_text(&limit, count));
        }
        let plan = Plan::new(&config, (cluster, &me), &credentials)?;
        let tickets = Arc::new(TicketKeys::new(&config.cluster_key, Arc::new(SystemClock)));
        let keys = ListenerKeys {
            tls: TlsContext { tickets, acme: acme.clone(), staples: Staples::default() },
            quic: QuicKeys::new(&config.cluster_key, &me),
        };
        let public = server.listeners();
        let (listeners, sockets) = Listeners::start(&public, bound, keys)?;
        let picture = Picture::new(count);
        let mut workers = Vec::with_capacity(count);
        for (number, sockets) in sockets.into_iter().enumerate() {
            let counters = Arc::new(Counters::default());
            let (told, is_told) = mpsc::channel(TOLD_WAITING);
            let (asks, asked) = mpsc::channel(ASKS_WAITING);
            let setup = Setup {
                plan: plan.clone(),
                me: me.clone(),
                workers: count,
                number,
                clients_max,
                credentials: credentials.clone(),
                members: members.clone(),
                picture: picture.clone(),
                heard: heard.clone(),
                counters: counters.clone(),
                access_log: access_log.as_ref().map(Logs::pipes),
                spans: traces.clone(),
                acme: acme.clone(),
            };
            let orders = Orders { setup, sockets, told: is_told, asked, stop: stopped.clone() };
            let ended = start_worker(number, orders)
                .map_err(|cause| WebTierError::Worker { worker: number, cause })?;
            workers.push(RunningWorker { counters, told, asks, ended });
        }
        late_quic::follow(listeners.without_quic(), workers.iter().map(|it| it.told.clone()).collect());
        let (addresses, shown) = (listeners.addresses(), Shown::default());
        shown.set(&addresses, (&public, listeners.secured().cloned().collect()), &plan);
        Ok(Self {
            workers,
            listeners,
            addresses,
            stop,
            access_log,
            lines_lost: 0,
            me,
            credentials,
            plan,
            picture,
            shown,
            acme,
        })
    }

    /// The addresses that it listens on, in the order of the file.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Reads the certificates again, and says in the log what came of it: bad ones change nothing. (Their files are looked at
    /// every few seconds too.)
    pub fn reload_certificates(&self) {
        for tls in self.listeners.secured() {
            match tls.reload() {
                Ok(Changed::Certificates) => tracing::info!(certificate = tls.name(), "new certificates"),
                Ok(Changed::Nothing) => {
                    tracing::info!(certificate = tls.name(), "the certificates are the same");
                }
                Err(cause) => tracing::error!(%cause, "the certificates are refused: the old ones stay"),
            }
        }
    }

    /// Which members the workers go by.
    pub fn picture(&self) -> &Picture {
        &self.picture
    }

    /// What asks the workers how they are, from any thread.
    pub fn view(&self) -> WebTierView {
        let workers = self.workers.iter().map(|it| (it.counters.clone(), it.asks.clone())).collect();
        WebTierView::new(workers, self.shown.clone(), self.acme.clone())
    }

    /// How the backends of `http-proxy` rules are, in the order of the file.
    pub fn health(&self) -> Vec<BackendHealth> {
        self.plan.foreign.report()
    }

    /// How limits are, in the order of the file.
    pub fn limits(&self) -> Vec<LimitReport> {
        self.plan.limit_tables.report()
    }

    /// The sum of the workers' counters.
    pub fn totals(&self) -> Totals {
        let mut totals: Totals = self.workers.iter().map(|worker| worker.counters.totals()).sum();
        totals.log_lines_lost = self.lines_lost + self.access_log.as_ref().map_or(0, Logs::lost);
        totals
    }

    /// Whether its proxy cache is on disk too, where one process alone can use it.
    pub fn keeps_on_disk(&self) -> bool {
        self.plan.cache.as_ref().is_some_and(|it| it.disk().is_some())
    }

    /// Copies of the listening sockets, for a process that is to accept on them too.
    ///
    /// # Errors
    /// A worker did not answer, or there are too many open files.
    pub async fn listening_sockets(&self) -> io::Result<Vec<ListenerSockets>> {
        let deadline = Instant::now() + COPY_TIMEOUT;
        let silent = || io::Error::new(io::ErrorKind::TimedOut, "a worker of the web tier does not answer");
        let mut copies = Vec::new();
        for worker in &self.workers {
            let (asked, answer) = oneshot::channel();
            let sent = timeout_at(deadline, worker.told.send(Told::CopySockets(asked))).await;
            sent.map_err(|_| silent())?.map_err(|_| silent())?;
            copies.extend(timeout_at(deadline, answer).await.map_err(|_| silent())?.map_err(|_| silent())??);
        }
        Ok(self.listeners.gather(copies))
    }

    /// Lets go of the access log's files, which were renamed, and writes on in new ones of their old names. Returns at once.
    pub fn reopen_logs(&self) {
        if let Some(log) = &self.access_log {
            log.reopen();
        }
    }

    /// Stops to accept, answers what is in flight with `Connection: close` for up to `wait`, then closes what is left. Returns
    /// the number of connections that were cut.
    pub async fn stop(self, wait: Duration) -> u64 {
        self.end(Stop { deadline: Instant::now() + wait, closes_idle: true }).await
    }

    /// Stops to accept, as another process does on the same sockets. Connections end with the request that they have, or with their
    /// next one, and what is left after `wait` is closed. Returns the number of connections that were cut.
    pub async fn retire(self, wait: Duration) -> u64 {
        self.end(Stop { deadline: Instant::now() + wait, closes_idle: false }).await
    }

    async fn end(self, stop: Stop) -> u64 {
        let deadline = stop.deadline;
        self.stop.send_replace(Some(stop));
        let mut cut = 0;
        for worker in self.workers {
            match timeout_at(deadline + EXIT_TIMEOUT, worker.ended).await {
                Ok(left) => cut += left.unwrap_or_default(),
                Err(_) => {
                    tracing::warn!("a web-tier worker does not end: leaving it behind");
                    cut += worker.counters.totals().connections_open;
                }
            }
        }
        for log in self.access_log.into_iter().flat_map(Logs::into_writers) {
            finish_log(log, deadline + EXIT_TIMEOUT).await;
        }
        if let Some(cache) = self.plan.cache {
            let closing = spawn_blocking(move || cache.disk().map(|it| it.close()));
            let _ = timeout_at(deadline + EXIT_TIMEOUT, closing).await;
        }
        cut
    }
}

/// Waits until the last lines of a log are written.
async fn finish_log(log: LogWriter, deadline: Instant) {
    if timeout_at(deadline, log.finish()).await.is_err() {
        tracing::warn!("the access log's writer does not end: its last lines may be lost");
    }
}

/// Starts a worker's thread and waits until its runtime stands and it accepts.
fn start_worker(number: usize, orders: Orders) -> io::Result<oneshot::Receiver<u64>> {
    let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
    let (end, ended) = oneshot::channel();
    thread::Builder::new().name(format!("web-{number}")).spawn(move || {
        let _ = end.send(run(orders, &ready));
    })?;
    is_ready.recv().unwrap_or_else(|_| Err(io::Error::other("its thread ended at once")))?;
    Ok(ended)
}
