//! Requests: how many, how long they took, and which of them failed or took long, of each web-tier server.

use crate::{
    Inner,
    ask::{Answers, SilentServer, ask_all},
    status::{collect::Snapshot, quantile::quantile, record::RateRecord},
    timestamp,
};
use common::config::Config;
use proto::{
    requests::v1::{GetNotable, NotableRequest, NotableRequests, requests_client::RequestsClient},
    status::v1::{Histogram, Traffic},
};
use serde::Serialize;

/// Requests of a kind that are told.
const TOLD_MAX: usize = 200;

/// `GET /api/v1/requests`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct RequestsRecord {
    /// Each that answers.
    pub(crate) web_tiers: Vec<WebTierRequestsRecord>,
    /// Answered 5xx, or broken off by their server; of all web-tiers, the newest first.
    pub(crate) failed: Vec<NotableRecord>,
    /// Of the last five to ten minutes; of all web-tiers, the slowest first.
    pub(crate) slow: Vec<NotableRecord>,
    pub(crate) silent: Vec<SilentServer>,
}

/// A web-tier server's requests of the last minute.
#[derive(Debug, Serialize)]
pub(crate) struct WebTierRequestsRecord {
    pub(crate) server: String,
    pub(crate) rate: RateRecord,
    pub(crate) requests: u64,
    /// By the first digit of their status.
    pub(crate) answers: [u64; 6],
    /// Quantiles in milliseconds; none without requests.
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p90_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) latency: LatencyRecord,
}

/// How many requests took how long.
#[derive(Debug, Default, Serialize)]
pub(crate) struct LatencyRecord {
    /// Upper bounds in microseconds, inclusive.
    pub(crate) bounds_us: Vec<u64>,
    /// One more than there are bounds.
    pub(crate) counts: Vec<u64>,
}

/// A request that failed or took long.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct NotableRecord {
    pub(crate) web_tier: String,
    pub(crate) time: Option<String>,
    /// `X-Request-Id`; none if it had none yet.
    pub(crate) id: Option<String>,
    pub(crate) method: String,
    pub(crate) host: String,
    /// Without the query and without session ids.
    pub(crate) path: String,
    /// Where it was sent last; none: nowhere.
    pub(crate) server: Option<String>,
    pub(crate) status: u32,
    /// Why it failed; empty for one that did not.
    pub(crate) why: String,
    pub(crate) taken_us: u64,
}

impl RequestsRecord {
    /// Of what is known of all servers, and what web-tiers said.
    pub(crate) fn of(snapshot: &Snapshot, answers: Answers<NotableRequests>) -> Self {
        let web_tiers = snapshot.answers().filter_map(|(server, answer)| {
            let web_tier = answer.status.web_tier.as_ref()?;
            let recent = web_tier.recent.clone().unwrap_or_default();
            Some(WebTierRequestsRecord::of(server, &recent, web_tier.recent_ms))
        });
        let (mut failed, mut slow) = (Vec::new(), Vec::new());
        for (server, told) in &answers.said {
            failed.extend(told.failed.iter().map(|it| (server, it)));
            slow.extend(told.slow.iter().map(|it| (server, it)));
        }
        failed.sort_by_key(|(_, it)| std::cmp::Reverse(it.time_ms));
        slow.sort_by_key(|(_, it)| std::cmp::Reverse(it.taken_us));
        let told = |all: Vec<(&String, &NotableRequest)>| {
            all.into_iter().take(TOLD_MAX).map(|(server, it)| NotableRecord::of(server, it)).collect()
        };
        Self {
            web_tiers: web_tiers.collect(),
            failed: told(failed),
            slow: told(slow),
            silent: answers.silent,
        }
    }
}

impl WebTierRequestsRecord {
    fn of(server: &str, recent: &Traffic, passed_ms: u64) -> Self {
        let time = |q| Some(quantile(recent.latency.as_ref()?, q)? / 1000.0);
        Self {
            server: server.to_owned(),
            rate: RateRecord::of(recent, passed_ms),
            requests: recent.requests,
            answers: std::array::from_fn(|class| recent.answers.get(class).copied().unwrap_or_default()),
            p50_ms: time(0.5),
            p90_ms: time(0.9),
            p99_ms: time(0.99),
            latency: recent.latency.as_ref().map(LatencyRecord::of).unwrap_or_default(),
        }
    }
}

impl LatencyRecord {
    fn of(histogram: &Histogram) -> Self {
        Self { bounds_us: histogram.bounds_us.clone(), counts: histogram.counts.clone() }
    }
}

impl NotableRecord {
    fn of(web_tier: &str, request: &NotableRequest) -> Self {
        let some = |text: &String| Some(text.clone()).filter(|it| !it.is_empty());
        Self {
            web_tier: web_tier.to_owned(),
            time: timestamp::format(request.time_ms),
            id: some(&request.id),
            method: request.method.clone(),
            host: request.host.clone(),
            path: request.path.clone(),
            server: some(&request.server),
            status: request.status,
            why: request.why.clone(),
            taken_us: request.taken_us,
        }
    }
}

impl Inner {
    /// The requests of all web-tiers.
    pub(crate) async fn requests(&self, config: &Config) -> RequestsRecord {
        let mut servers = self.collector.channels(config).await;
        let listens = |id: &str| config.servers().any(|(_, it)| it.id.as_str() == id && it.listens());
        servers.retain(|(id, _)| listens(id));
        let asked = ask_all(servers, |_, channel| async move {
            RequestsClient::new(channel).notable(GetNotable {}).await
        });
        let (answers, snapshot) = tokio::join!(asked, self.snapshot(config));
        RequestsRecord::of(&snapshot, answers)
    }
}
