//! The cluster as the pages and the JSON have it: every server with what the file, the hub and itself say of it.

use super::{
    app::{DeployedRecord, Known, RunningRecord},
    collect::{Answer, Asked, Snapshot},
    hub::{HubRecord, HubServerRecord},
    problem::{self, Problem},
    quantile::{quantile, sum},
    upstream::UpstreamRecord,
};
use crate::{servers, timestamp};
use common::config::Config;
use proto::status::v1::{
    AcmeOrder, App, AppKind, Certificate, Limit, Process, RefusedKey, TcpListener, Traffic, WebTier,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// `GET /api/v1/status`.
#[derive(Debug, Serialize)]
pub(crate) struct ClusterRecord {
    /// When it was so.
    pub(crate) taken: Option<String>,
    #[serde(skip)]
    pub(crate) taken_ms: u64,
    /// The server that asked the others.
    pub(crate) asked_by: String,
    /// The worst first; none when all is well.
    pub(crate) problems: Vec<Problem>,
    /// All web-tiers together, in the last minute.
    pub(crate) traffic: RateRecord,
    /// Clients' connections that are open.
    pub(crate) connections_open: u64,
    /// Sessions of all apps on the hub.
    pub(crate) sessions: u64,
    pub(crate) session_bytes: u64,
    /// In the order of the file; then those that the hub alone knows.
    pub(crate) servers: Vec<ServerRecord>,
    pub(crate) hub: HubRecord,
    /// What is deployed, by tag.
    pub(crate) apps: Vec<DeployedRecord>,
}

/// `GET /api/v1/servers/ID`.
#[derive(Debug, Serialize)]
pub(crate) struct OneRecord<'a> {
    taken: Option<&'a str>,
    asked_by: &'a str,
    /// What is wrong with it.
    problems: Vec<&'a Problem>,
    server: &'a ServerRecord,
    /// Its place in the hub; none where it is no part of it.
    hub: Option<&'a HubServerRecord>,
}

impl<'a> OneRecord<'a> {
    /// `None`: there is no such server.
    pub(crate) fn of(cluster: &'a ClusterRecord, id: &str) -> Option<Self> {
        let problems = cluster.problems.iter();
        Some(Self {
            taken: cluster.taken.as_deref(),
            asked_by: &cluster.asked_by,
            problems: problems.filter(|it| it.server.as_deref() == Some(id)).collect(),
            server: cluster.servers.iter().find(|it| it.known.id == id)?,
            hub: cluster.hub.servers.iter().find(|it| it.id == id),
        })
    }
}

/// A server.
#[derive(Debug, Serialize)]
pub(crate) struct ServerRecord {
    /// What the file and the hub say.
    #[serde(flatten)]
    pub(crate) known: servers::ServerRecord,
    /// Some of `web-tier`, `app-tier` and `hub`, by what it says of itself.
    pub(crate) roles: Vec<&'static str>,
    /// Whether the file gives it public listeners.
    pub(crate) listens: bool,
    /// CPU time of its machine between its last two heartbeats, in thousandths of all cores; none where that is not known.
    pub(crate) cpu_per_mille: Option<u32>,
    /// Why it says nothing; none when it does.
    pub(crate) silent: Option<SilentRecord>,
    pub(crate) answer: Option<AnswerRecord>,
}

/// A server that did not answer.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SilentRecord {
    pub(crate) why: String,
    /// As far as the server that asked knows.
    pub(crate) since: Option<String>,
}

/// What a server says of itself.
#[derive(Debug, Serialize)]
pub(crate) struct AnswerRecord {
    pub(crate) started: Option<String>,
    pub(crate) uptime_s: u64,
    /// How far its clock is ahead of that of the server that asked.
    pub(crate) clock_ahead_ms: i64,
    /// How long ago it heard the hub's leader; none: never.
    pub(crate) hub_heard_ms: Option<u64>,
    /// Those that it shows.
    pub(crate) certificates: Vec<CertificateRecord>,
    pub(crate) process: ProcessRecord,
    pub(crate) web_tier: Option<WebTierRecord>,
    /// Of the app tier; none where it is none.
    pub(crate) apps: Vec<RunningRecord>,
}

/// A certificate that a server shows.
#[derive(Debug, Serialize)]
pub(crate) struct CertificateRecord {
    /// Its file, without the folders; of one that ACME brings, its first name.
    pub(crate) name: String,
    /// The last moment of its validity.
    pub(crate) ends: Option<String>,
    #[serde(skip)]
    pub(crate) not_after_ms: u64,
    /// Of one that ACME brings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) acme: Option<AcmeRecord>,
}

/// How it goes with the orders of a certificate.
#[derive(Debug, Serialize)]
pub(crate) struct AcmeRecord {
    /// When it is ordered next.
    pub(crate) next: Option<String>,
    /// Orders that failed since the last one that did not.
    pub(crate) failures: u32,
    /// Why the last of them did.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) last_error: String,
}

/// A server's process; 0 is what its system does not tell.
#[derive(Debug, Serialize)]
pub(crate) struct ProcessRecord {
    pub(crate) pid: u32,
    /// Of all cores' time since it started, in thousandths of one core.
    pub(crate) cpu_per_mille: u64,
    pub(crate) resident_bytes: u64,
    pub(crate) open_files: u64,
    pub(crate) open_files_max: u64,
    pub(crate) threads: u32,
    pub(crate) disk_free_bytes: u64,
    pub(crate) disk_total_bytes: u64,
    pub(crate) memory_free_bytes: u64,
    pub(crate) memory_total_bytes: u64,
    pub(crate) cores: u32,
    /// The machine's load average of a minute, in thousandths.
    pub(crate) load_per_mille: u64,
}

/// A server with public listeners.
#[derive(Debug, Serialize)]
pub(crate) struct WebTierRecord {
    pub(crate) workers: u32,
    pub(crate) silent_workers: u32,
    pub(crate) listeners: Vec<String>,
    pub(crate) connections_open: u64,
    pub(crate) total: CountRecord,
    /// The last minute.
    pub(crate) recent: CountRecord,
    pub(crate) rate: RateRecord,
    pub(crate) upstreams: Vec<UpstreamRecord>,
    pub(crate) limits: Vec<LimitRecord>,
    pub(crate) tcp: Vec<TcpRecord>,
}

/// A listener of `tcp-proxy`. Counts are since the start.
#[derive(Debug, Serialize)]
pub(crate) struct TcpRecord {
    pub(crate) name: String,
    pub(crate) connections: u64,
    pub(crate) connections_open: u64,
    /// Connections that were not passed on, by the reason; only those that there were.
    pub(crate) refused: BTreeMap<String, u64>,
    pub(crate) connects_failed: u64,
    pub(crate) timed_out: u64,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
}

/// A `rate-limit` or `connection-limit`. Counts are since the start.
#[derive(Debug, Serialize)]
pub(crate) struct LimitRecord {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) allows: String,
    pub(crate) passed: u64,
    pub(crate) refused: u64,
    pub(crate) keys: u64,
    /// The most first.
    pub(crate) most_refused: Vec<RefusedRecord>,
}

/// Whose requests were refused.
#[derive(Debug, Serialize)]
pub(crate) struct RefusedRecord {
    pub(crate) key: String,
    pub(crate) count: u64,
}

/// What was counted.
#[derive(Debug, Serialize)]
pub(crate) struct CountRecord {
    pub(crate) connections: u64,
    pub(crate) requests: u64,
    pub(crate) requests_active: u64,
    /// By the first digit of their status.
    pub(crate) answers: [u64; 6],
    pub(crate) retries: u64,
    pub(crate) upstream_failures: u64,
    pub(crate) queue_refusals: u64,
    pub(crate) handshakes: u64,
    pub(crate) handshakes_failed: u64,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
    /// Answers that were compressed, the bytes of their bodies before, and what was sent of them.
    pub(crate) compressed: u64,
    pub(crate) compressed_plain_bytes: u64,
    pub(crate) compressed_bytes: u64,
}

/// How much that is a second, and how long it took.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub(crate) struct RateRecord {
    /// The time that is looked at.
    pub(crate) seconds: f64,
    pub(crate) requests_per_s: f64,
    /// Answers 5xx.
    pub(crate) errors_per_s: f64,
    pub(crate) sent_bytes_per_s: f64,
    /// From a request's head to its answer's, in milliseconds; none without requests.
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
}

impl ClusterRecord {
    /// Of what was said; its problems do not all know since when they are.
    pub(crate) fn of(snapshot: &Snapshot, config: &Config) -> Self {
        let known = servers::list(config, &snapshot.members);
        let servers = known.into_iter().map(|known| {
            let asked = snapshot.servers.iter().find(|it| it.id == known.id);
            let server = config.servers().map(|(_, it)| it).find(|it| it.id.as_str() == known.id);
            let listens = server.is_some_and(common::config::Server::listens);
            let member = snapshot.members.iter().find(|it| it.id == known.id);
            let mut record = ServerRecord::of((known, listens), asked, snapshot.taken_ms);
            record.cpu_per_mille = member.and_then(|it| it.cpu_load);
            record
        });
        let hub = HubRecord::of(snapshot, config);
        let web_tiers = || snapshot.answers().filter_map(|(_, it)| it.status.web_tier.as_ref());
        let recent = sum(web_tiers().filter_map(|it| it.recent.as_ref()));
        let passed = web_tiers().map(|it| it.recent_ms).max().unwrap_or_default();
        let mut record = Self {
            taken: timestamp::format(snapshot.taken_ms),
            taken_ms: snapshot.taken_ms,
            asked_by: snapshot.me.to_string(),
            problems: Vec::new(),
            traffic: RateRecord::of(&recent, passed),
            connections_open: web_tiers()
                .filter_map(|it| it.total.as_ref())
                .map(|it| it.connections_open)
                .sum(),
            sessions: hub.sessions,
            session_bytes: hub.session_bytes,
            servers: servers.collect(),
            apps: {
                let known = Known::of(snapshot, config);
                snapshot.apps.values().filter_map(|it| DeployedRecord::of(it, &known, config)).collect()
            },
            hub,
        };
        record.problems = problem::find(&record, &config.health);
        record
    }
}

impl Snapshot {
    /// The servers that answered, with what they said.
    pub(crate) fn answers(&self) -> impl Iterator<Item = (&str, &Answer)> {
        self.servers.iter().filter_map(|it| Some((it.id.as_str(), &**it.answer.as_ref().ok()?)))
    }

    /// What a server said.
    pub(crate) fn answer(&self, id: &str) -> Option<&Answer> {
        self.answers().find(|(it, _)| *it == id).map(|(_, answer)| answer)
    }
}

impl ServerRecord {
    fn of((known, listens): (servers::ServerRecord, bool), asked: Option<&Asked>, now_ms: u64) -> Self {
        let answer = asked.and_then(|it| it.answer.as_ref().ok());
        let silent = asked.and_then(|it| it.answer.as_ref().err());
        let mut roles = Vec::new();
        if let Some(answer) = answer {
            let status = &answer.status;
            let plays = [
                (status.web_tier.is_some(), "web-tier"),
                // The administration alone makes none.
                (status.app_tier.as_ref().is_some_and(|it| it.apps.iter().any(is_users)), "app-tier"),
                (status.hub.is_some(), "hub"),
            ];
            roles.extend(plays.into_iter().filter(|(plays, _)| *plays).map(|(_, role)| role));
        }
        Self {
            known,
            roles,
            listens,
            cpu_per_mille: None,
            silent: silent
                .map(|it| SilentRecord { why: it.why.clone(), since: timestamp::format(it.since_ms) }),
            answer: answer.map(|it| AnswerRecord::of(it, now_ms)),
        }
    }

    /// One word for how it is: `silent`, an administrator's word, or the hub's.
    pub(crate) fn shown(&self) -> &'static str {
        match (self.known.state, &self.silent, self.known.admin) {
            ("up", Some(_), _) => "silent",
            ("up", None, "enabled") => "up",
            ("up", None, admin) => admin,
            (state, ..) => state,
        }
    }

    /// What it says of its public side.
    pub(crate) fn web_tier(&self) -> Option<&WebTierRecord> {
        self.answer.as_ref()?.web_tier.as_ref()
    }

    /// Whether it does not hear the hub.
    pub(crate) fn cut_off(&self) -> bool {
        self.answer.as_ref().is_some_and(|it| it.hub_heard_ms.is_none_or(|ms| ms > 5000))
    }
}

/// Whether an app is one for users.
fn is_users(app: &App) -> bool {
    app.kind() != AppKind::BuiltIn
}

impl AnswerRecord {
    fn of(answer: &Answer, now_ms: u64) -> Self {
        let status = &answer.status;
        let uptime_ms = status.now_ms.saturating_sub(status.started_ms);
        let process = status.process.unwrap_or_default();
        Self {
            started: timestamp::format(status.started_ms),
            uptime_s: uptime_ms / 1000,
            clock_ahead_ms: answer.clock_ahead_ms,
            hub_heard_ms: status.hub_heard_ms,
            certificates: status.certificates.iter().map(CertificateRecord::of).collect(),
            process: ProcessRecord::of(&process, uptime_ms),
            web_tier: status.web_tier.as_ref().map(|it| WebTierRecord::of(it, now_ms)),
            apps: status.app_tier.iter().flat_map(|it| &it.apps).map(RunningRecord::of).collect(),
        }
    }
}

impl CertificateRecord {
    fn of(certificate: &Certificate) -> Self {
        let Certificate { name, not_after_ms, acme } = certificate.clone();
        let acme = acme.map(|AcmeOrder { next_ms, failures, last_error }| AcmeRecord {
            next: timestamp::format(next_ms),
            failures,
            last_error,
        });
        Self { name, ends: timestamp::format(not_after_ms), not_after_ms, acme }
    }
}

impl ProcessRecord {
    fn of(process: &Process, uptime_ms: u64) -> Self {
        Self {
            pid: process.pid,
            cpu_per_mille: process.cpu_us.checked_div(uptime_ms).unwrap_or_default(),
            resident_bytes: process.resident_bytes,
            open_files: process.open_files,
            open_files_max: process.open_files_max,
            threads: process.threads,
            disk_free_bytes: process.disk_free_bytes,
            disk_total_bytes: process.disk_total_bytes,
            memory_free_bytes: process.memory_free_bytes,
            memory_total_bytes: process.memory_total_bytes,
            cores: process.cores,
            load_per_mille: process.load_per_mille,
        }
    }
}

impl WebTierRecord {
    fn of(web_tier: &WebTier, now_ms: u64) -> Self {
        let (total, recent) =
            (web_tier.total.clone().unwrap_or_default(), web_tier.recent.clone().unwrap_or_default());
        let listener = |it: &proto::status::v1::Listener| match it {
            it if it.tcp => format!("tcp://{}", it.address),
            it => format!("{}://{}/", if it.tls { "https" } else { "http" }, it.address),
        };
        Self {
            workers: web_tier.workers,
            silent_workers: web_tier.silent_workers,
            listeners: web_tier.listeners.iter().map(listener).collect(),
            connections_open: total.connections_open,
            rate: RateRecord::of(&recent, web_tier.recent_ms),
            total: CountRecord::of(&total),
            recent: CountRecord::of(&recent),
            upstreams: web_tier.upstreams.iter().map(|it| UpstreamRecord::of(it, now_ms)).collect(),
            limits: web_tier.limits.iter().map(LimitRecord::of).collect(),
            tcp: web_tier.tcp.iter().map(TcpRecord::of).collect(),
        }
    }
}

impl TcpRecord {
    fn of(listener: &TcpListener) -> Self {
        let refused = listener.refused.iter().filter(|it| it.count > 0);
        Self {
            name: listener.name.clone(),
            connections: listener.connections,
            connections_open: listener.connections_open,
            refused: refused.map(|it| (it.why.clone(), it.count)).collect(),
            connects_failed: listener.connects_failed,
            timed_out: listener.timed_out,
            received_bytes: listener.received_bytes,
            sent_bytes: listener.sent_bytes,
        }
    }
}

impl LimitRecord {
    fn of(limit: &Limit) -> Self {
        let refused = |it: &RefusedKey| RefusedRecord { key: it.key.clone(), count: it.count };
        Self {
            name: limit.name.clone(),
            kind: limit.kind.clone(),
            allows: limit.allows.clone(),
            passed: limit.passed,
            refused: limit.refused,
            keys: limit.keys,
            most_refused: limit.most_refused.iter().map(refused).collect(),
        }
    }
}

impl CountRecord {
    fn of(traffic: &Traffic) -> Self {
        Self {
            connections: traffic.connections,
            requests: traffic.requests,
            requests_active: traffic.requests_active,
            answers: std::array::from_fn(|class| traffic.answers.get(class).copied().unwrap_or_default()),
            retries: traffic.retries,
            upstream_failures: traffic.upstream_failures,
            queue_refusals: traffic.queue_refusals,
            handshakes: traffic.handshakes,
            handshakes_failed: traffic.handshakes_failed,
            received_bytes: traffic.received_bytes,
            sent_bytes: traffic.sent_bytes,
            compressed: traffic.compressed,
            compressed_plain_bytes: traffic.compressed_plain_bytes,
            compressed_bytes: traffic.compressed_bytes,
        }
    }
}

impl RateRecord {
    pub(crate) fn of(traffic: &Traffic, passed_ms: u64) -> Self {
        let seconds = passed_ms as f64 / 1000.0;
        let rate = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let time = |q| Some(quantile(traffic.latency.as_ref()?, q)? / 1000.0);
        Self {
            seconds,
            requests_per_s: rate(traffic.requests),
            errors_per_s: rate(traffic.answers.get(5).copied().unwrap_or_default()),
            sent_bytes_per_s: rate(traffic.sent_bytes),
            p50_ms: time(0.5),
            p99_ms: time(0.99),
        }
    }
}
