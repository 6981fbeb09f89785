//! The web tier of one server: starts its workers, tells them of new configurations, and stops them.

use crate::{
    access_log::LogWriter,
    bind::{BindError, Bound},
    breaks::Breaks,
    changes::Changes,
    counters::{Counters, Totals},
    foreign::{BackendHealth, ForeignServers},
    listeners::{Listeners, NextListeners},
    tls::{Changed, TicketKeys, TlsError},
    worker::{self, LogChange, Plan, Reload, Setup},
};
use common::{
    clock::SystemClock,
    cluster_port::ClusterKey,
    config::{AccessLogFormat, Cluster, Config},
    hub_age::LastHeard,
    id::ServerId,
};
use proto::hub::v1::Member;
use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, thread, time::Duration};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::spawn_blocking,
    time::{Instant, timeout, timeout_at},
};

/// What a closed worker may need beyond the wait: its thread only has to return.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a reload waits for the workers: they only have to come to it.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the names of new listeners, certificates and a new access log may take until a reload is given up.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(20);

/// Reloads that a worker has not come to.
const RELOADS_WAITING: usize = 4;

/// What [`WebTier::start`] needs.
#[derive(Debug)]
pub struct WebTierConfig {
    /// The whole file.
    pub config: Arc<Config>,
    /// This server.
    pub me: ServerId,
    /// Its listeners, from [`bind`](crate::bind()).
    pub bound: Bound,
    /// Proves to the app tier's servers that this is one of the cluster.
    pub key: ClusterKey,
    /// Who is there, as the hub says: servers that it knows to be down are passed over before a request pays for it. May be
    /// empty for as long as the hub is not known.
    pub members: watch::Receiver<Arc<Vec<Member>>>,
    /// When the hub was last heard: forwarded requests tell of it, so that an app server that is cut off knows that it is.
    pub heard: LastHeard,
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
    /// The certificates of a listener.
    #[error("{}", .0.problems().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Tls(#[from] TlsError),
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
}

/// A running web tier. Dropped, it stops at once; [`stop`](Self::stop) lets requests finish.
#[derive(Debug)]
pub struct WebTier {
    workers: Vec<RunningWorker>,
    listeners: Listeners,
    addresses: Vec<SocketAddr>,
    stop: watch::Sender<Option<Instant>>,
    access_log: Option<LogWriter>,
    /// By access logs that have been replaced.
    lines_lost: u64,
    me: ServerId,
    key: ClusterKey,
    plan: Plan,
}

#[derive(Debug)]
struct RunningWorker {
    counters: Arc<Counters>,
    reloads: mpsc::Sender<Reload>,
    /// The number of connections that it had to cut.
    ended: oneshot::Receiver<u64>,
}

/// What a reload makes of the access log.
#[derive(Debug)]
enum NextLog {
    /// It stays.
    Same,
    /// Its lines look otherwise from now on.
    Format(AccessLogFormat),
    /// Another file, or none any more.
    Other(Option<LogWriter>),
}

impl WebTier {
    /// Starts a thread for each worker of `config.bound`. When it returns, all of them accept.
    ///
    /// # Errors
    /// See [`WebTierError`].
    pub fn start(config: WebTierConfig) -> Result<Self, WebTierError> {
        let WebTierConfig { config, me, bound, key, members, heard } = config;
        let Some((cluster, _)) = config.server(&me) else { return Err(WebTierError::UnknownServer(me)) };
        let access_log = start_access_log(cluster, &me)?;
        let (stop, stopped) = watch::channel(None);
        let count = bound.workers;
        let breaks = Arc::new(Breaks::new(&config));
        let foreign = Arc::new(ForeignServers::new(cluster, &key, None));
        let plan = Plan { config: config.clone(), breaks, foreign };
        let keys = Arc::new(TicketKeys::new(&config.cluster_key, Arc::new(SystemClock)));
        let http = config.server(&me).map(|(_, server)| server.http.as_slice()).unwrap_or_default();
        let (listeners, doors) = Listeners::start(http, bound, keys)?;
        let mut workers = Vec::with_capacity(count);
        for (number, doors) in doors.into_iter().enumerate() {
            let counters = Arc::new(Counters::default());
            let (reloads, followed) = mpsc::channel(RELOADS_WAITING);
            let setup = Setup {
                plan: plan.clone(),
                me: me.clone(),
                workers: count,
                number,
                doors,
                key: key.clone(),
                members: members.clone(),
                heard: heard.clone(),
                counters: counters.clone(),
                access_log: access_log.as_ref().map(LogWriter::pipe),
                reloads: followed,
                stop: stopped.clone(),
            };
            let ended = start_worker(number, setup)
                .map_err(|cause| WebTierError::Worker { worker: number, cause })?;
            workers.push(RunningWorker { counters, reloads, ended });
        }
        let addresses = listeners.addresses();
        Ok(Self { workers, listeners, addresses, stop, access_log, lines_lost: 0, me, key, plan })
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

    /// How the backends of `http-proxy` rules are, in the order of the file.
    pub fn health(&self) -> Vec<BackendHealth> {
        self.plan.foreign.report()
    }

    /// Goes by another configuration: its listeners and access log, hosts and rules, clusters and servers, limits and time-outs,
    /// trusted proxies. `workers` stays as it is until a restart.
    ///
    /// Requests in flight end by what they began with, and no connection is closed. Those that came by a listener that is gone,
    /// or has other terms now, end with their present request or their next one. Clusters that have not changed keep their
    /// servers' states and sockets. Returns when all workers go by it.
    ///
    /// # Errors
    /// The configuration does not have this server, a new address can't be bound, certificates are not valid, or the access log
    /// can't be opened: nothing has changed then.
    pub async fn reload(&mut self, config: Arc<Config>) -> Result<Changes, WebTierError> {
        let (next, log) = self.prepare(config.clone()).await?;
        let Some((cluster, _)) = config.server(&self.me) else {
            return Err(WebTierError::UnknownServer(self.me.clone()));
        };
        // From here on nothing fails.
        let mut changes = Changes::default();
        changes.add_list("listeners added", &next.added);
        changes.add_list("listeners removed", &next.removed);
        changes.add_list("listeners changed", &next.changed);
        let (pipe, ended) = self.take_log(log, &mut changes);
        let others = Changes::between(&self.plan.config, &config, &self.me);
        self.plan = Plan {
            breaks: Arc::new(Breaks::keeping(&config, &self.plan.breaks)),
            foreign: Arc::new(ForeignServers::new(cluster, &self.key, Some(&self.plan.foreign))),
            config,
        };
        self.listeners = next.listeners;
        self.addresses = self.listeners.addresses();
        let deadline = Instant::now() + RELOAD_TIMEOUT;
        let mut waiting = Vec::with_capacity(self.workers.len());
        for (worker, doors) in self.workers.iter().zip(next.changes) {
            let (done, is_done) = oneshot::channel();
            let reload = Reload { plan: self.plan.clone(), doors, access_log: pipe.clone(), done };
            // One that takes nothing closes the sockets that it was to have, and others take its connections.
            let _ = timeout_at(deadline, worker.reloads.send(reload)).await;
            waiting.push(is_done);
        }
        drop(pipe);
        for is_done in waiting {
            if !matches!(timeout_at(deadline, is_done).await, Ok(Ok(()))) {
                tracing::warn!("not every web-tier worker goes by the new configuration yet");
                break;
            }
        }
        if let Some(log) = ended {
            self.lines_lost += log.lost();
            finish_log(log, deadline + EXIT_TIMEOUT).await;
        }
        changes.append(others);
        Ok(changes)
    }

    /// All of a reload that can fail, on a thread of its own: names are looked up, and files opened.
    async fn prepare(&self, config: Arc<Config>) -> Result<(NextListeners, NextLog), WebTierError> {
        let (listeners, me) = (self.listeners.clone(), self.me.clone());
        let log = self.access_log.as_ref().map(|log| (log.path().to_owned(), log.format()));
        let preparing = spawn_blocking(move || {
            let Some((cluster, server)) = config.server(&me) else {
                return Err(WebTierError::UnknownServer(me));
            };
            // Addresses come last: nobody should connect to a listener that is given up again.
            let log = next_log(log, cluster, &me)?;
            Ok((listeners.prepare(&server.http)?, log))
        });
        let prepared = timeout(PREPARE_TIMEOUT, preparing).await;
        prepared.map_err(|_| WebTierError::Late(PREPARE_TIMEOUT))?.map_err(WebTierError::Broken)?
    }

    /// Exchanges the access log. Returns what workers are told, and the log that ends.
    fn take_log(&mut self, next: NextLog, changes: &mut Changes) -> (LogChange, Option<LogWriter>) {
        let ended = match next {
            NextLog::Same => return (LogChange::None, None),
            NextLog::Format(format) => {
                if let Some(log) = &mut self.access_log {
                    log.set_format(format);
                }
                None
            }
            NextLog::Other(log) => std::mem::replace(&mut self.access_log, log),
        };
        changes.add(match &self.access_log {
            Some(log) => {
                let format = format!("{:?}", log.format()).to_lowercase();
                format!("access log {} ({format})", log.path().display())
            }
            None => "no access log".to_owned(),
        });
        (LogChange::To(self.access_log.as_ref().map(LogWriter::pipe)), ended)
    }

    /// The sum of the workers' counters.
    pub fn totals(&self) -> Totals {
        let mut totals: Totals = self.workers.iter().map(|worker| worker.counters.totals()).sum();
        totals.log_lines_lost = self.lines_lost + self.access_log.as_ref().map_or(0, LogWriter::lost);
        totals
    }

    /// Lets go of the access log's file, which was renamed, and writes on in a new one of its old name. Returns at once.
    pub fn reopen_logs(&self) {
        if let Some(log) = &self.access_log {
            log.reopen();
        }
    }

    /// Stops to accept, answers what is in flight with `Connection: close` for up to `wait`, then closes what is left. Returns
    /// the number of connections that were cut.
    pub async fn stop(self, wait: Duration) -> u64 {
        let deadline = Instant::now() + wait;
        self.stop.send_replace(Some(deadline));
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
        if let Some(log) = self.access_log {
            finish_log(log, deadline + EXIT_TIMEOUT).await;
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

/// What becomes of the access log, which has a path and a format if there is one. Blocks.
fn next_log(
    before: Option<(PathBuf, AccessLogFormat)>,
    cluster: &Cluster,
    me: &ServerId,
) -> Result<NextLog, WebTierError> {
    let wanted = cluster.access_log.as_ref().map(|log| (log.file(me), log.format));
    Ok(match (before, wanted) {
        (None, None) => NextLog::Same,
        (Some(before), Some(wanted)) if before == wanted => NextLog::Same,
        (Some((before, _)), Some((wanted, format))) if before == wanted => NextLog::Format(format),
        _ => NextLog::Other(start_access_log(cluster, me)?),
    })
}

/// Opens the access log, if this cluster has one.
fn start_access_log(cluster: &Cluster, me: &ServerId) -> Result<Option<LogWriter>, WebTierError> {
    let Some(log) = &cluster.access_log else { return Ok(None) };
    let path = log.file(me);
    let started = LogWriter::start(path.clone(), log.format);
    started.map(Some).map_err(|cause| WebTierError::AccessLog { path, cause })
}

/// Starts a worker's thread and waits until its runtime stands and it accepts.
fn start_worker(number: usize, setup: Setup) -> io::Result<oneshot::Receiver<u64>> {
    let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
    let (end, ended) = oneshot::channel();
    thread::Builder::new().name(format!("web-{number}")).spawn(move || {
        let _ = end.send(worker::run(setup, &ready));
    })?;
    is_ready.recv().unwrap_or_else(|_| Err(io::Error::other("its thread ended at once")))?;
    Ok(ended)
}
