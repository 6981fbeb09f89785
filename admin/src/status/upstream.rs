//! Servers as a web-tier's balancer sees them: its workers' views, and these put together.

use crate::timestamp;
use proto::status::v1::{Standing, Trouble, Upstream, UpstreamKind, UpstreamServer, WorkerView};
use serde::Serialize;

/// Where a web-tier sends requests.
#[derive(Debug, Serialize)]
pub(crate) struct UpstreamRecord {
    pub(crate) name: String,
    /// `cluster`, `self` (the web-tier's own apps) or `http-proxy`.
    pub(crate) kind: &'static str,
    pub(crate) servers: Vec<UpstreamServerRecord>,
}

/// A server, all workers' views together: counts are sums, the rest is as the worker has it that sees it worst.
#[derive(Debug, Serialize)]
pub(crate) struct UpstreamServerRecord {
    pub(crate) id: String,
    /// `well`, `warming`, `probe`, `busy`, `failing`, `draining`, `disabled-soft`, `disabled`, `stopping`, `down`, `unhealthy` or `ejected`.
    pub(crate) state: &'static str,
    /// What that comes from, in words.
    pub(crate) why: String,
    pub(crate) active: u64,
    pub(crate) idle: u64,
    pub(crate) waiting: u64,
    /// Its share while it warms up, of 16.
    pub(crate) warmup: u32,
    pub(crate) answers: u64,
    pub(crate) troubles: u64,
    /// When the last of them was.
    pub(crate) trouble_since: Option<String>,
    pub(crate) trouble_ago_ms: Option<u64>,
    /// When it is tried again.
    pub(crate) probe_in_ms: Option<u64>,
    /// Times that a worker has ejected it.
    pub(crate) ejections: u64,
    pub(crate) latency_ms: Option<f64>,
    pub(crate) workers: Vec<WorkerRecord>,
}

/// As one worker sees it.
#[derive(Debug, Serialize)]
pub(crate) struct WorkerRecord {
    pub(crate) worker: u32,
    pub(crate) state: &'static str,
    pub(crate) active: u32,
    pub(crate) idle: u32,
    pub(crate) waiting: u32,
    pub(crate) troubles: u64,
}

impl UpstreamRecord {
    pub(crate) fn of(upstream: &Upstream, now_ms: u64) -> Self {
        let kind = match upstream.kind() {
            UpstreamKind::Cluster | UpstreamKind::Unspecified => "cluster",
            UpstreamKind::Self_ => "self",
            UpstreamKind::Foreign => "http-proxy",
            UpstreamKind::Tcp => "tcp-proxy",
        };
        let servers = upstream.servers.iter().map(|it| UpstreamServerRecord::of(it, now_ms)).collect();
        Self { name: upstream.name.clone(), kind, servers }
    }
}

impl UpstreamServerRecord {
    fn of(server: &UpstreamServer, now_ms: u64) -> Self {
        let views = &server.workers;
        let worst = views.iter().max_by_key(|it| rank(it)).copied().unwrap_or_default();
        let latest = views.iter().filter(|it| it.trouble_ago_ms.is_some()).min_by_key(|it| it.trouble_ago_ms);
        let ago = latest.and_then(|it| it.trouble_ago_ms);
        let answers: u64 = views.iter().map(|it| it.answers).sum();
        let weighed = views.iter().filter_map(|it| Some((it.latency_us? as f64, it.answers as f64)));
        let (time, weight) = weighed.fold((0.0, 0.0), |sum, it| (sum.0 + it.0 * it.1, sum.1 + it.1));
        Self {
            id: server.id.clone(),
            state: state(&worst),
            why: why(&worst, latest.map_or(Trouble::None, WorkerView::trouble), &server.check),
            active: views.iter().map(|it| u64::from(it.active)).sum(),
            idle: views.iter().map(|it| u64::from(it.idle)).sum(),
            waiting: views.iter().map(|it| u64::from(it.waiting)).sum(),
            warmup: views.iter().map(|it| it.warmup).min().unwrap_or(16),
            answers,
            troubles: views.iter().map(|it| it.troubles).sum(),
            trouble_since: ago.and_then(|ago| timestamp::format(now_ms.saturating_sub(ago))),
            trouble_ago_ms: ago,
            probe_in_ms: views.iter().filter_map(|it| it.probe_in_ms).min(),
            ejections: views.iter().map(|it| it.ejections).sum(),
            latency_ms: (weight > 0.0).then(|| time / weight / 1000.0),
            workers: views.iter().map(WorkerRecord::of).collect(),
        }
    }
}

impl WorkerRecord {
    fn of(view: &WorkerView) -> Self {
        Self {
            worker: view.worker,
            state: state(view),
            active: view.active,
            idle: view.idle,
            waiting: view.waiting,
            troubles: view.troubles,
        }
    }
}

/// How bad a view is.
fn rank(view: &WorkerView) -> u8 {
    match view.standing() {
        Standing::Unspecified => 0,
        Standing::Well if view.warmup >= 16 => 1,
        Standing::Well => 2,
        Standing::Draining => 3,
        Standing::DisabledSoft => 4,
        Standing::Probe => 5,
        Standing::Busy => 6,
        Standing::Ejected => 7,
        Standing::Failing => 8,
        Standing::Disabled => 9,
        Standing::Stopping => 10,
        Standing::Unhealthy => 11,
        Standing::Down => 12,
    }
}

fn state(view: &WorkerView) -> &'static str {
    match view.standing() {
        Standing::Well if view.warmup < 16 => "warming",
        Standing::Well | Standing::Unspecified => "well",
        Standing::Probe => "probe",
        Standing::Busy => "busy",
        Standing::Failing => "failing",
        Standing::Draining => "draining",
        Standing::DisabledSoft => "disabled-soft",
        Standing::Disabled => "disabled",
        Standing::Stopping => "stopping",
        Standing::Down => "down",
        Standing::Unhealthy => "unhealthy",
        Standing::Ejected => "ejected",
    }
}

fn why(view: &WorkerView, trouble: Trouble, check: &str) -> String {
    let text = match (view.standing(), trouble) {
        (Standing::Well | Standing::Unspecified, _) if view.warmup < 16 => "it has just come, and warms up",
        (Standing::Well | Standing::Unspecified, _) => "",
        (Standing::Failing | Standing::Probe, Trouble::Unreachable) => "no connection can be made",
        (Standing::Failing | Standing::Probe, _) => {
            "a connection broke or fell silent in the middle of a request"
        }
        (Standing::Busy, _) => "it answers 503",
        (Standing::Ejected, _) => "more of its requests fail than of other servers'",
        (Standing::Draining, _) => "it is about to stop, and serves its own sessions to their end",
        (Standing::DisabledSoft, _) => "an administrator: requests of its own sessions alone",
        (Standing::Disabled, _) => "an administrator: nothing new",
        (Standing::Stopping, _) => "it stops",
        (Standing::Down, _) => "the hub says that it is down",
        (Standing::Unhealthy, _) => return format!("its health check fails: {check}"),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(worker: u32, standing: Standing) -> WorkerView {
        WorkerView {
            worker,
            standing: standing.into(),
            warmup: 16,
            active: 2,
            answers: 10,
            ..WorkerView::default()
        }
    }

    #[test]
    fn the_worst_view_is_shown_and_counts_are_added() {
        let failing = WorkerView {
            trouble: Trouble::Unreachable.into(),
            trouble_ago_ms: Some(2000),
            probe_in_ms: Some(500),
            troubles: 3,
            latency_us: Some(4000),
            ..view(1, Standing::Failing)
        };
        let server = UpstreamServer {
            id: "a".into(),
            workers: vec![view(0, Standing::Well), failing],
            check: String::new(),
        };
        let record = UpstreamServerRecord::of(&server, 10_000);
        assert_eq!((record.state, record.why.as_str()), ("failing", "no connection can be made"));
        assert_eq!((record.active, record.answers, record.troubles), (4, 20, 3));
        assert_eq!(record.trouble_since.as_deref(), Some("1970-01-01T00:00:08.000Z"));
        assert_eq!((record.probe_in_ms, record.workers.len()), (Some(500), 2));
        assert!((record.latency_ms.unwrap() - 4.0).abs() < 1e-9);
    }
}
