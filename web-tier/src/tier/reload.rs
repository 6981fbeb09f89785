//! A new configuration: all that can fail is done first, then every worker goes by it.

use super::{EXIT_TIMEOUT, WebTier, WebTierError, finish_log, start_access_log};
use super::{
    changes::Changes,
    run::{LogChange, Reload, Told},
};
use crate::{
    access::Access,
    cache::Cache,
    limit::LimitTables,
    listen::listeners::NextListeners,
    observe::access_log::LogWriter,
    route::Plan,
    upstream::{breaks::Breaks, foreign::ForeignServers},
};
use common::{
    config::{AccessLogFormat, Cluster, Config},
    id::ServerId,
};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    sync::oneshot,
    task::spawn_blocking,
    time::{Instant, timeout, timeout_at},
};

/// How long a reload waits for the workers: they only have to come to it.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the names of new listeners, certificates and a new access log may take until a reload is given up.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(20);

/// All of a reload that could fail, done.
#[derive(Debug)]
struct Prepared {
    listeners: NextListeners,
    log: NextLog,
    foreign: ForeignServers,
    access: Access,
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
    /// Goes by another configuration: its listeners and access log, hosts and rules, clusters and servers, limits and time-outs,
    /// trusted proxies. `workers` stays as it is until a restart.
    ///
    /// Requests in flight end by what they began with, and no connection is closed. Those that came by a listener that is gone,
    /// or has other terms now, end with their present request or their next one. Servers whose settings have
    /// not changed keep their states and sockets. Returns when all workers go by it.
    ///
    /// # Errors
    /// The configuration does not have this server, a new address can't be bound, certificates are not valid, or the access log
    /// can't be opened: nothing has changed then.
    pub async fn reload(&mut self, config: Arc<Config>) -> Result<Changes, WebTierError> {
        let Prepared { listeners: next, log, foreign, access } = self.prepare(config.clone()).await?;
        let Some((cluster, _)) = config.server(&self.me) else {
            return Err(WebTierError::UnknownServer(self.me.clone()));
        };
        let limit_tables = Arc::new(LimitTables::new(cluster, Some(&self.plan.limit_tables)));
        let cache = self.prepare_cache(config.clone()).await?;
        let former = self.plan.cache.clone();
        // From here on nothing fails.
        let mut changes = Changes::default();
        changes.add_list("listeners added", &next.added);
        changes.add_list("listeners removed", &next.removed);
        changes.add_list("listeners changed", &next.changed);
        let (pipe, ended) = self.take_log(log, &mut changes);
        let others = Changes::between(&self.plan.config, &config, &self.me);
        self.plan = Plan {
            breaks: Arc::new(Breaks::keeping(&config, &self.plan.breaks)),
            cache,
            limit_tables,
            access: Arc::new(access),
            foreign: Arc::new(foreign),
            config,
        };
        self.listeners = next.listeners;
        self.addresses = self.listeners.addresses();
        let http = self.plan.config.server(&self.me).map_or(&[][..], |(_, server)| &server.http);
        let secured = self.listeners.secured().cloned().collect();
        self.shown.set(&self.addresses, (http, secured), &self.plan);
        let deadline = Instant::now() + RELOAD_TIMEOUT;
        let mut waiting = Vec::with_capacity(self.workers.len());
        for (worker, sockets) in self.workers.iter().zip(next.changes) {
            let (done, is_done) = oneshot::channel();
            let reload = Reload { plan: self.plan.clone(), sockets, access_log: pipe.clone(), done };
            let reload = Told::Reload(Box::new(reload));
            // One that takes nothing closes the sockets that it was to have, and others take its connections.
            let _ = timeout_at(deadline, worker.told.send(reload)).await;
            waiting.push(is_done);
        }
        drop(pipe);
        for is_done in waiting {
            if !matches!(timeout_at(deadline, is_done).await, Ok(Ok(()))) {
                tracing::warn!("not every web-tier worker goes by the new configuration yet");
                break;
            }
        }
        self.retire_cache(former);
        if let Some(log) = ended {
            self.lines_lost += log.lost();
            finish_log(log, deadline + EXIT_TIMEOUT).await;
        }
        changes.append(others);
        Ok(changes)
    }

    /// All of a reload that can fail, on a thread of its own: names are looked up, and files opened.
    async fn prepare(&self, config: Arc<Config>) -> Result<Prepared, WebTierError> {
        let (listeners, me) = (self.listeners.clone(), self.me.clone());
        let (former, credentials) = (self.plan.foreign.clone(), self.credentials.clone());
        let known = self.plan.access.clone();
        let log = self.access_log.as_ref().map(|log| (log.path().to_owned(), log.format()));
        let preparing = spawn_blocking(move || {
            let Some((cluster, server)) = config.server(&me) else {
                return Err(WebTierError::UnknownServer(me));
            };
            let foreign = ForeignServers::new(cluster, credentials.key(), Some(&former))?;
            let access = Access::new(cluster, Some(&known))?;
            // Addresses come last: nobody should connect to a listener that is given up again.
            let log = next_log(log, cluster, &me)?;
            Ok(Prepared { listeners: listeners.prepare(&server.http)?, log, foreign, access })
        });
        let prepared = timeout(PREPARE_TIMEOUT, preparing).await;
        prepared.map_err(|_| WebTierError::Late(PREPARE_TIMEOUT))?.map_err(WebTierError::Broken)?
    }

    /// Opens what answers are to be kept in.
    async fn prepare_cache(&self, config: Arc<Config>) -> Result<Option<Arc<Cache>>, WebTierError> {
        let (former, me) = (self.plan.cache.clone(), self.me.clone());
        let preparing = spawn_blocking(move || {
            let Some((cluster, _)) = config.server(&me) else { return Err(WebTierError::UnknownServer(me)) };
            let former = (false, former.as_ref());
            Plan::cache_for(&config, (cluster, &me), former).map_err(WebTierError::cache)
        });
        let prepared = timeout(PREPARE_TIMEOUT, preparing).await;
        prepared.map_err(|_| WebTierError::Late(PREPARE_TIMEOUT))?.map_err(WebTierError::Broken)?
    }

    /// The former cache has no part in what comes any more.
    fn retire_cache(&self, former: Option<Arc<Cache>>) {
        let present = self.plan.cache.as_ref();
        let Some(former) = former.filter(|it| present.is_none_or(|present| !Arc::ptr_eq(it, present))) else {
            return;
        };
        former.is_former();
        let Some(disk) = former.disk().cloned() else { return };
        let same = present.filter(|it| it.disk().is_some_and(|it| Arc::ptr_eq(it, &disk))).cloned();
        // In the background, as both wait for the disk.
        spawn_blocking(move || match same {
            Some(present) => disk.set_rules(present.rules()),
            // What changes from now on it would not know of.
            None => {
                disk.forget_all();
                disk.close();
            }
        });
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
