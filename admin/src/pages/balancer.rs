//! The balancer as each web-tier sees it.

use super::{
    Figure, Frame, class_of,
    format::{self, NONE, bytes, count, millis, short},
};
use crate::status::{
    record::{ClusterRecord, LimitRecord, TcpRecord, WebTierRecord},
    upstream::{UpstreamRecord, UpstreamServerRecord},
};
use askama::Template;

#[derive(Debug, Template)]
#[template(path = "balancer.html")]
pub(super) struct Balancer {
    frame: Frame,
    web_tiers: Vec<Seen>,
}

/// What one web-tier sees.
#[derive(Debug)]
struct Seen {
    id: String,
    anchor: String,
    listeners: String,
    workers: String,
    figures: Vec<Figure>,
    upstreams: Vec<Upstream>,
    limits: Vec<Limit>,
    tcp: Vec<Tcp>,
}

/// A listener of `tcp-proxy`.
#[derive(Debug)]
struct Tcp {
    name: String,
    open: String,
    connections: String,
    refused: String,
    failed: String,
    timed_out: String,
    received: String,
    sent: String,
}

#[derive(Debug)]
struct Limit {
    name: String,
    kind: String,
    allows: String,
    passed: String,
    refused: String,
    keys: String,
    most: String,
}

#[derive(Debug)]
struct Upstream {
    name: String,
    anchor: String,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    id: String,
    class: &'static str,
    state: &'static str,
    active: String,
    idle: String,
    waiting: String,
    warmup: String,
    latency: String,
    answers: String,
    troubles: String,
    last: String,
    probe: String,
    why: String,
    workers: String,
}

impl Balancer {
    pub(super) fn new(frame: Frame, cluster: &ClusterRecord) -> Self {
        let seen = cluster.servers.iter().filter_map(|it| Some((&it.known.id, it.web_tier()?)));
        Self {
            web_tiers: seen.enumerate().map(|(number, (id, it))| Seen::of(number, id, it)).collect(),
            frame,
        }
    }
}

impl Seen {
    fn of(number: usize, id: &str, web_tier: &WebTierRecord) -> Self {
        let (rate, recent, total) = (&web_tier.rate, &web_tier.recent, &web_tier.total);
        let mut figures = vec![
            Figure::new("Requests", short(rate.requests_per_s), "/s"),
            Figure::new("2xx", count(recent.answers[2]), "in a minute"),
            Figure::new("3xx", count(recent.answers[3]), ""),
            Figure::new("4xx", count(recent.answers[4]), ""),
            Figure::new("5xx", count(recent.answers[5]), ""),
            Figure::new("Latency p50", millis(rate.p50_ms), ""),
            Figure::new("Latency p99", millis(rate.p99_ms), ""),
            Figure::new("Retries", count(total.retries), "since start"),
            Figure::new("Failures", count(total.upstream_failures), "since start"),
            Figure::new("Sent", bytes(total.sent_bytes), "since start"),
        ];
        let saved = total.compressed_plain_bytes.saturating_sub(total.compressed_bytes);
        let saved = Figure::new("Compressed", bytes(saved), "saved since start");
        figures.extend(Some(saved).filter(|_| total.compressed > 0));
        let upstreams = web_tier.upstreams.iter().enumerate();
        Self {
            id: id.to_owned(),
            anchor: format!("web-{number}"),
            listeners: web_tier.listeners.join(" "),
            workers: match web_tier.workers {
                1 => "1 worker".to_owned(),
                workers => format!("{workers} workers"),
            },
            figures,
            upstreams: upstreams
                .map(|(place, it)| Upstream::of(format!("up-{number}-{place}"), it))
                .collect(),
            limits: web_tier.limits.iter().map(Limit::of).collect(),
            tcp: web_tier.tcp.iter().map(Tcp::of).collect(),
        }
    }
}

impl Tcp {
    fn of(listener: &TcpRecord) -> Self {
        let refused = listener.refused.iter().map(|(why, times)| format!("{why} ({})", count(*times)));
        Self {
            name: listener.name.clone(),
            open: count(listener.connections_open),
            connections: count(listener.connections),
            refused: refused.collect::<Vec<_>>().join(", "),
            failed: count(listener.connects_failed),
            timed_out: count(listener.timed_out),
            received: bytes(listener.received_bytes),
            sent: bytes(listener.sent_bytes),
        }
    }
}

impl Limit {
    fn of(limit: &LimitRecord) -> Self {
        let most = limit.most_refused.iter().map(|it| format!("{} ({})", it.key, count(it.count)));
        Self {
            name: limit.name.clone(),
            kind: limit.kind.clone(),
            allows: limit.allows.clone(),
            passed: count(limit.passed),
            refused: count(limit.refused),
            keys: count(limit.keys),
            most: most.collect::<Vec<_>>().join(", "),
        }
    }
}

impl Upstream {
    fn of(anchor: String, upstream: &UpstreamRecord) -> Self {
        let name = match upstream.kind {
            "self" => "This server's own apps".to_owned(),
            "http-proxy" | "tcp-proxy" => format!("{} to {}", upstream.kind, upstream.name),
            _ => format!("Cluster {}", upstream.name),
        };
        Self { name, anchor, rows: upstream.servers.iter().map(Row::of).collect() }
    }
}

impl Row {
    fn of(server: &UpstreamServerRecord) -> Self {
        let seconds = |ms: u64| format::duration(ms / 1000);
        // One word where all workers agree.
        let differ = server.workers.iter().any(|it| it.state != server.workers[0].state);
        let each = server.workers.iter().map(|it| format!("{}: {}", it.worker, it.state));
        Self {
            id: server.id.clone(),
            class: class_of(server.state),
            state: server.state,
            active: count(server.active),
            idle: count(server.idle),
            waiting: count(server.waiting),
            warmup: if server.warmup < 16 { format!("{} of 16", server.warmup) } else { "warm".to_owned() },
            latency: millis(server.latency_ms),
            answers: count(server.answers),
            troubles: count(server.troubles),
            last: server.trouble_ago_ms.map_or(NONE.to_owned(), |ms| format!("{} ago", seconds(ms))),
            probe: match server.probe_in_ms {
                None => NONE.to_owned(),
                Some(0) => "with the next request".to_owned(),
                Some(ms) => format!("in {}", millis(Some(ms as f64))),
            },
            why: server.why.clone(),
            workers: if differ { each.collect::<Vec<_>>().join(", ") } else { "alike".to_owned() },
        }
    }
}
