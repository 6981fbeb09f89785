//! A new configuration: all that can fail is done first, then every worker goes by it.

use super::{EXIT_TIMEOUT, WebTier, WebTierError, finish_log};
use super::{
    changes::Changes,
    run::{LogChange, Reload, Told},
};
use crate::{
    access::Access,
    cache::Cache,
    limit::LimitTables,
    listen::listeners::NextListeners,
    observe::access_log::{LogWriter, Logs, NextLogs},
    route::{Plan, pages::Pages},
    upstream::{breaks::Breaks, foreign::ForeignServers},
};
use common::config::Config;
use std::{sync::Arc, time::Duration};
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
    /// `None`: they stay.
    logs: Option<NextLogs>,
    foreign: ForeignServers,
    access: Access,
    pages: Pages,
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
    /// The configuration does not have this server, a new address can't be bound, certificates are not valid, a page can't be read, or
    /// the access log can't be opened: nothing has changed then.
    pub async fn reload(&mut self, config: Arc<Config>) -> Result<Changes, WebTierError> {
        let Prepared { listeners: next, logs, foreign, access, pages } = self.prepare(config.clone()).await?;
        let Some((cluster, _)) = config.server(&self.me) else {
            return Err(WebTierError::UnknownServer(self.me.clone()));
        };
        let limit_tables = Arc::new(LimitTables::new((cluster, &self.me), Some(&self.plan.limit_tables)));
        let cache = self.prepare_cache(config.clone()).await?;
        let former = self.plan.cache.clone();
        // From here on nothing fails.
        let mut changes = Changes::default();
        changes.add_list("listeners added", &next.added);
        changes.add_list("listeners removed", &next.removed);
        changes.add_list("listeners changed", &next.changed);
        let (pipe, ended) = self.take_logs(logs, &mut changes);
        let others = Changes::between(&self.plan.config, &config, &self.me);
        self.plan = Plan {
            breaks: Arc::new(Breaks::keeping(&config, &self.plan.breaks)),
            cache,
            limit_tables,
            access: Arc::new(access),
            pages: Arc::new(pages),
            foreign: Arc::new(foreign),
            config,
        };
        self.listeners = next.listeners;
        self.addresses = self.listeners.addresses();
        let public =
            self.plan.config.server(&self.me).map_or_else(Vec::new, |(_, server)| server.listeners());
        let secured = self.listeners.secured().cloned().collect();
        self.shown.set(&self.addresses, (&public, secured), &self.plan);
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
        for log in ended {
            let losses = log.losses();
            finish_log(log, deadline + EXIT_TIMEOUT).await;
            self.lines_lost += losses.lines();
        }
        changes.append(others);
        Ok(changes)
    }

    /// All of a reload that can fail, on a thread of its own: names are looked up, and files opened.
    async fn prepare(&self, config: Arc<Config>) -> Result<Prepared, WebTierError> {
        let (listeners, me) = (self.listeners.clone(), self.me.clone());
        let (former, credentials) = (self.plan.foreign.clone(), self.credentials.clone());
        let known = self.plan.access.clone();
        let logs = self.access_log.as_ref().map(|logs| logs.settings().clone());
        let preparing = spawn_blocking(move || {
            let Some((cluster, server)) = config.server(&me) else {
                return Err(WebTierError::UnknownServer(me));
            };
            let pages = Pages::read(cluster)?;
            let foreign = ForeignServers::new((cluster, &me), credentials.key(), Some(&former))?;
            let access = Access::new(cluster, Some(&known))?;
            // Addresses come last: nobody should connect to a listener that is given up again.
            let wanted = cluster.access_log.as_ref().map(|it| it.of(&me));
            let logs = NextLogs::prepare(logs.as_ref(), wanted)?;
            Ok(Prepared { listeners: listeners.prepare(&server.listeners())?, logs, foreign, access, pages })
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

    /// Exchanges the access log. Returns what workers are told, and the writers that end.
    fn take_logs(&mut self, next: Option<NextLogs>, changes: &mut Changes) -> (LogChange, Vec<LogWriter>) {
        let Some(next) = next else { return (LogChange::None, Vec::new()) };
        let (logs, ended) = Logs::exchange(self.access_log.take(), next);
        self.access_log = logs;
        changes.add(self.access_log.as_ref().map_or_else(|| "no access log".to_owned(), Logs::to_string));
        (LogChange::To(self.access_log.as_ref().map(Logs::pipes)), ended)
    }
}
