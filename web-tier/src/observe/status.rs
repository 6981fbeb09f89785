//! How a web tier is, for the status page: its workers' counters are read, and its workers asked how they see their servers.

use crate::{
    cache::{Cache, purge::Purge as Purging},
    limit::LimitReport,
    observe::{
        cache_counters::CacheTotals,
        counters::{Counters, Totals},
        histogram::Times,
        notable::{NotableReport, newest},
        tcp_counters,
    },
    route::{Plan, normalise::normal_url},
    transport::tls::TlsListener,
    upstream::foreign::ForeignServers,
};
use acme::{Live, OrderReport};
use common::config::{Config, PublicListener};
use futures_util::future::join_all;
use http_cache::store::WhyNot;
use proto::{
    hub::v1::Purge,
    requests::v1::NotableRequests,
    status::v1::{
        DiskTier, Exemplar, Histogram, Limit, Listener, NotKeptCount, ProxyCache, RefusedKey, TcpListener,
        Traffic, Upstream, UpstreamKind, WebTier,
    },
    web::v1::{CachePurged, CacheReport, PurgeCache, purge_cache::What},
};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// Requests of a kind that are told of a server.
const NOTABLE_MAX: usize = 100;

/// A worker that lives has answered by then; it may be in the middle of much work.
const WAIT: Duration = Duration::from_millis(500);

/// Who wants to know what of a worker.
#[derive(Debug)]
pub(crate) enum Asked {
    /// How it is.
    Status(oneshot::Sender<WorkerReport>),
    /// Which requests failed or took long.
    Notable(oneshot::Sender<NotableReport>),
}

/// What a worker says.
#[derive(Debug)]
pub(crate) struct WorkerReport {
    /// What it has counted lately, and for how long.
    pub(crate) recent: Totals,
    pub(crate) passed: Duration,
    pub(crate) upstreams: Vec<Upstream>,
    pub(crate) tcp: Vec<TcpListener>,
    /// Of what it has counted ever.
    pub(crate) exemplars: Vec<Exemplar>,
}

/// What a reload changes; clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shown(Arc<RwLock<Present>>);

/// What there is at present.
#[derive(Debug, Clone, Default)]
struct Present {
    listeners: Vec<Listener>,
    secured: Vec<TlsListener>,
    plan: Option<Plan>,
}

impl Shown {
    /// The listeners with the addresses that they have, and what all workers go by.
    pub(crate) fn set(
        &self,
        addresses: &[SocketAddr],
        (public, secured): (&[PublicListener], Vec<TlsListener>),
        plan: &Plan,
    ) {
        let listeners = addresses.iter().zip(public);
        let listeners = listeners
            .map(|(address, public)| Listener {
                address: address.to_string(),
                tls: public.scheme() == "https",
                tcp: public.scheme() == "tcp",
            })
            .collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) =
            Present { listeners, secured, plan: Some(plan.clone()) };
    }
}

/// What asks a web tier's workers, from any thread. Clones are the same one; it outlives the web tier, whose workers are silent then.
#[derive(Debug, Clone)]
pub struct WebTierView {
    workers: Arc<[(Arc<Counters>, mpsc::Sender<Asked>)]>,
    shown: Shown,
    acme: Live,
}

impl WebTierView {
    pub(crate) fn new(workers: Vec<(Arc<Counters>, mpsc::Sender<Asked>)>, shown: Shown, acme: Live) -> Self {
        Self { workers: workers.into(), shown, acme }
    }

    /// How it is with the certificates that ACME brings.
    pub fn orders(&self) -> Arc<Vec<OrderReport>> {
        self.acme.report()
    }

    /// The certificates of files that its listeners show: each file, and the last second of its validity since the Unix epoch.
    pub fn certificates(&self) -> Vec<(String, i64)> {
        let secured = self.shown.0.read().unwrap_or_else(PoisonError::into_inner).secured.clone();
        let mut ends: Vec<_> = secured.iter().flat_map(TlsListener::ends).collect();
        ends.sort();
        ends.dedup();
        ends
    }

    /// Asks all workers at once; those that are silent are left out.
    async fn ask<T>(&self, question: fn(oneshot::Sender<T>) -> Asked) -> Vec<T> {
        let asked = self.workers.iter().map(|(_, asks)| async move {
            let (sender, answer) = oneshot::channel();
            asks.try_send(question(sender)).ok()?;
            timeout(WAIT, answer).await.ok()?.ok()
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// Whether every worker answers. Takes half a second at most; needs a tokio runtime.
    pub async fn answers(&self) -> bool {
        self.ask(Asked::Notable).await.len() == self.workers.len()
    }

    /// The requests that failed or took long. Takes half a second at most; needs a tokio runtime.
    pub async fn notable(&self) -> NotableRequests {
        let reports = self.ask(Asked::Notable).await;
        let count = |it: usize| u32::try_from(it).unwrap_or(u32::MAX);
        let (workers, silent_workers) =
            (count(self.workers.len()), count(self.workers.len() - reports.len()));
        let passed = reports.iter().map(|it| it.passed).max().unwrap_or_default();
        let (mut failed, mut slow) = (Vec::new(), Vec::new());
        for report in reports {
            failed.extend(report.failed);
            slow.extend(report.slow);
        }
        failed.sort_by_key(|it| std::cmp::Reverse(it.time_ms));
        slow.sort_by_key(|it| std::cmp::Reverse(it.taken_us));
        failed.truncate(NOTABLE_MAX);
        slow.truncate(NOTABLE_MAX);
        let slow_ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        NotableRequests { failed, slow, slow_ms, workers, silent_workers }
    }

    /// How it is now. Takes half a second at most; needs a tokio runtime.
    pub async fn status(&self) -> WebTier {
        let reports = self.ask(Asked::Status).await;
        let total: Totals = self.workers.iter().map(|(counters, _)| counters.totals()).sum();
        let Present { listeners, plan, .. } =
            self.shown.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let limits = plan.as_ref().map_or_else(Vec::new, |it| it.limit_tables.report());
        let (foreign, cache) = plan.map(|it| (it.foreign, it.cache)).unzip();
        let cache = cache.flatten();
        let recent: Totals = reports.iter().map(|it| it.recent).sum();
        let passed = reports.iter().map(|it| it.passed).max().unwrap_or_default();
        let silent = self.workers.len() - reports.len();
        let exemplars = newest(reports.iter().flat_map(|it| it.exemplars.clone()));
        let (upstreams, tcp): (Vec<_>, Vec<_>) = reports.into_iter().map(|it| (it.upstreams, it.tcp)).unzip();
        let mut upstreams = merged(upstreams.into_iter());
        if let Some(foreign) = foreign {
            add_checks(&mut upstreams, &foreign);
        }
        WebTier {
            workers: u32::try_from(self.workers.len()).unwrap_or(u32::MAX),
            silent_workers: u32::try_from(silent).unwrap_or(u32::MAX),
            listeners,
            total: Some(traffic(&total, exemplars)),
            recent: Some(traffic(&recent, Vec::new())),
            recent_ms: u64::try_from(passed.as_millis()).unwrap_or(u64::MAX),
            upstreams,
            cache: cache.map(|it| proxy_cache(&it, &total.cache)),
            limits: limits.into_iter().map(limit).collect(),
            tcp: tcp_counters::merged(tcp.into_iter()),
        }
    }

    /// What this server keeps of answers.
    fn cache(&self) -> Option<Arc<Cache>> {
        self.shown.0.read().unwrap_or_else(PoisonError::into_inner).plan.as_ref()?.cache.clone()
    }

    /// The configuration that it goes by.
    ///
    /// # Panics
    /// Before the web tier has started; whoever has a view has it later.
    pub fn config(&self) -> Arc<Config> {
        let shown = self.shown.0.read().unwrap_or_else(PoisonError::into_inner);
        shown.plan.as_ref().map(|it| it.config.clone()).expect("a web tier that has started goes by a plan")
    }

    /// Forgets answers. May take a while: not for a thread that serves requests.
    ///
    /// # Errors
    /// What is wrong with what is asked.
    pub fn purge(&self, asked: &PurgeCache) -> Result<CachePurged, String> {
        let purge = purge(asked)?;
        let Some(cache) = self.cache() else { return Ok(CachePurged { count: 0, off: true }) };
        let count = cache.purged.once(asked.number, || cache.purge(&[purge]));
        Ok(CachePurged { count: count as u64, off: false })
    }

    /// Forgets what the hub says was purged and this server has not done yet; what makes no sense was refused when it was asked for. May
    /// take a while: not for a thread that serves requests. Returns how many answers it was.
    pub fn catch_up(&self, told: &BTreeMap<u64, Purge>) -> usize {
        let Some(cache) = self.cache() else { return 0 };
        let numbers: Vec<u64> = told.keys().copied().collect();
        let asked: Vec<_> = told.values().collect();
        let (before, mut is_noted) = (cache.purged.done(), true);
        let count = cache.purged.catch_up(&numbers, |places| {
            let missed = match places {
                Some(places) => {
                    places.into_iter().filter_map(|it| purge(asked[it].what.as_ref()?).ok()).collect()
                }
                None => vec![Purging::all()],
            };
            let (count, noted) = cache.purge(&missed);
            is_noted = noted;
            count
        });
        // What is on disk at the next start is as it is now.
        if let Some(disk) = cache.disk() {
            let done = cache.purged.done().filter(|it| Some(*it) != before && is_noted);
            done.into_iter().for_each(|it| disk.set_done(it));
            disk.purges_are_done();
        }
        count
    }

    /// What [`Self::apps_changed`] was last told, if it is as it was: by which versions of apps the answers on disk are.
    pub fn apps(&self) -> Option<Vec<u8>> {
        self.cache()?.disk()?.apps()
    }

    /// Forgets the answers of these paths and all below them, of apps that are others now: what is kept from now on is by these versions. Waits for
    /// the disk. Returns how many answers it was.
    pub fn apps_changed<'a>(&self, paths: impl Iterator<Item = &'a String>, apps: &[u8]) -> usize {
        let Some(cache) = self.cache() else { return 0 };
        let of_path = |path: &String| {
            let what = Some(What::Prefix(path.clone()));
            purge(&PurgeCache { what, ..PurgeCache::default() }).ok()
        };
        let purges: Vec<Purging> = paths.filter_map(of_path).collect();
        let (count, is_noted) = if purges.is_empty() { (0, true) } else { cache.purge(&purges) };
        if let Some(disk) = cache.disk() {
            if is_noted && !purges.is_empty() {
                disk.set_apps(apps);
            }
            disk.apps_are_known();
        }
        count
    }

    /// What is kept, `most` of the largest and of what is asked for most. May take a while.
    pub fn cache_report(&self, most: usize) -> CacheReport {
        self.cache().map(|it| it.report(most)).unwrap_or_default()
    }
}

/// What is asked for.
fn purge(asked: &PurgeCache) -> Result<Purging, String> {
    let mut asked = asked.clone();
    if let Some(What::Url(url) | What::Prefix(url)) = &mut asked.what {
        // As requests for it are, however it is written.
        *url = normal_url(url)?;
    }
    Purging::of(&asked)
}

fn limit(report: LimitReport) -> Limit {
    let LimitReport { name, kind, allows, passed, refused, keys, most_refused } = report;
    let most_refused = most_refused.into_iter().map(|(key, count)| RefusedKey { key, count }).collect();
    Limit { name, kind: kind.to_owned(), allows, passed, refused, keys, most_refused }
}

fn proxy_cache(cache: &Cache, totals: &CacheTotals) -> ProxyCache {
    let (bytes, entries) = cache.taken();
    let not_kept = WhyNot::ALL.into_iter().zip(totals.not_kept);
    let not_kept = not_kept.map(|(why, count)| NotKeptCount { why: why.words().to_owned(), count });
    let too_large =
        NotKeptCount { why: "too large, or too much was coming".to_owned(), count: totals.too_large };
    ProxyCache {
        capacity_bytes: cache.capacity(),
        bytes,
        entries,
        hits: totals.hits,
        stale: totals.stale,
        misses: totals.misses,
        revalidated: totals.revalidated,
        stale_on_error: totals.stale_on_error,
        collapsed: totals.collapsed,
        passed: totals.passed,
        stored: cache.counters.stored.load(Relaxed),
        evicted: cache.counters.evicted.load(Relaxed),
        from_disk: totals.from_disk,
        disk: cache.disk().map(|it| disk(&it.totals())),
        not_kept: not_kept.chain([too_large]).filter(|it| it.count > 0).collect(),
    }
}

fn disk(totals: &disk_cache::Totals) -> DiskTier {
    DiskTier {
        capacity_bytes: totals.capacity,
        bytes: totals.bytes,
        entries: totals.entries,
        written: totals.written,
        read: totals.read,
        damaged: totals.damaged,
        dropped: totals.dropped,
        failed: totals.failed,
    }
}

/// Each upstream once, with all workers' views of its servers.
fn merged(of_workers: impl Iterator<Item = Vec<Upstream>>) -> Vec<Upstream> {
    // One without servers is told for itself: another rule may begin with the same service.
    fn key(it: &Upstream) -> (&str, i32, bool) {
        (&it.name, it.kind, it.servers.is_empty())
    }
    let mut all: Vec<Upstream> = Vec::new();
    for upstream in of_workers.flatten() {
        let Some(known) = all.iter_mut().find(|it| key(it) == key(&upstream)) else {
            all.push(upstream);
            continue;
        };
        for server in upstream.servers {
            match known.servers.iter_mut().find(|it| it.id == server.id) {
                Some(seen) => seen.workers.extend(server.workers),
                None => known.servers.push(server),
            }
        }
    }
    all
}

fn add_checks(upstreams: &mut [Upstream], foreign: &ForeignServers) {
    let failed = foreign.report().into_iter().filter_map(|it| {
        let why = it.last?.result.err()?;
        Some((it.backend, why))
    });
    let failed: Vec<_> = failed.collect();
    let is_checked = |it: &&mut Upstream| matches!(it.kind(), UpstreamKind::Foreign | UpstreamKind::Tcp);
    for server in upstreams.iter_mut().filter(is_checked).flat_map(|it| &mut it.servers) {
        if let Some((_, why)) = failed.iter().find(|(backend, _)| *backend == server.id) {
            server.check = why.to_string();
        }
    }
}

fn traffic(totals: &Totals, exemplars: Vec<Exemplar>) -> Traffic {
    Traffic {
        connections: totals.connections,
        connections_open: totals.connections_open,
        requests: totals.requests,
        requests_active: totals.requests_active,
        retries: totals.retries,
        upstream_failures: totals.upstream_failures,
        queue_refusals: totals.queue_refusals,
        connections_refused: totals.connections_refused,
        connections_held: totals.connections_held,
        connections_shed: totals.connections_shed,
        handshakes: totals.handshakes,
        handshakes_resumed: totals.handshakes_resumed,
        handshakes_failed: totals.handshakes_failed.iter().sum(),
        answers: totals.answers.to_vec(),
        received_bytes: totals.received_bytes,
        sent_bytes: totals.sent_bytes,
        compressed: totals.compression.answers,
        compressed_plain_bytes: totals.compression.plain_bytes,
        compressed_bytes: totals.compression.packed_bytes,
        mirrored: totals.mirrored,
        mirrors_left_out: totals.mirrors_left_out,
        quic_connections: totals.quic_connections,
        quic_retries: totals.quic_retries,
        latency: Some(Histogram {
            bounds_us: Times::bounds_us().collect(),
            counts: totals.latency.counts.to_vec(),
            sum_us: totals.latency.sum_us,
            exemplars,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::status::v1::{UpstreamServer, WorkerView};

    #[test]
    fn workers_views_of_the_same_server_come_together() {
        let view = |worker: u32| WorkerView { worker, ..WorkerView::default() };
        let server = |id: &str, worker| UpstreamServer {
            id: id.into(),
            workers: vec![view(worker)],
            ..UpstreamServer::default()
        };
        let upstream = |name: &str, servers| Upstream { name: name.into(), kind: 1, servers };
        let of_workers = [
            vec![upstream("x", vec![server("a", 0), server("b", 0)]), upstream("y", vec![])],
            vec![upstream("x", vec![server("b", 1)])],
        ];
        let merged = merged(of_workers.into_iter());
        assert_eq!(merged.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["x", "y"]);
        let workers =
            |at: usize| merged[0].servers[at].workers.iter().map(|it| it.worker).collect::<Vec<_>>();
        assert_eq!((workers(0), workers(1)), (vec![0], vec![0, 1]));
    }

    #[tokio::test]
    async fn counters_of_workers_that_are_gone_still_count() {
        let (counters, (asks, _)) = (Arc::new(Counters::default()), mpsc::channel(1));
        counters.requests.up();
        let status =
            WebTierView::new(vec![(counters, asks)], Shown::default(), Live::default()).status().await;
        assert_eq!((status.workers, status.silent_workers), (1, 1));
        assert_eq!(status.total.unwrap().requests, 1);
    }
}
