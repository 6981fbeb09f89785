//! Requests: how many, how long they took, which failed and which took long.

use super::{
    Figure, Frame,
    format::{NONE, ago, count, duration, millis, short},
};
use crate::{
    ask::SilentServer,
    requests::{LatencyRecord, NotableRecord, RequestsRecord, WebTierRequestsRecord},
    status::record::ClusterRecord,
};
use askama::Template;

/// The histogram's picture: the height of its tallest bar, where its ground is, and the width of a bar with its gap.
const TALL: u64 = 90;
const GROUND: u64 = 104;
const STEP: u64 = 24;

#[derive(Debug, Template)]
#[template(path = "requests.html")]
pub(super) struct Requests {
    frame: Frame,
    web_tiers: Vec<WebTier>,
    silent: Vec<SilentServer>,
    failed: Vec<Row>,
    slow: Vec<Row>,
}

#[derive(Debug)]
struct WebTier {
    server: String,
    anchor: String,
    figures: Vec<Figure>,
    classes: Vec<Class>,
    bars: Vec<Bar>,
    width: u64,
    words: String,
}

/// Answers of a class of statuses.
#[derive(Debug)]
struct Class {
    name: &'static str,
    count: String,
    share: String,
}

/// Requests of a class of times.
#[derive(Debug)]
struct Bar {
    x: u64,
    y: u64,
    height: u64,
    label: String,
    words: String,
}

#[derive(Debug)]
struct Row {
    ago: String,
    time: String,
    status: u32,
    class: &'static str,
    method: String,
    host: String,
    path: String,
    taken: String,
    why: String,
    server: String,
    web_tier: String,
    id: String,
}

impl Requests {
    pub(super) fn new(frame: Frame, cluster: &ClusterRecord, requests: &RequestsRecord) -> Self {
        let now = cluster.taken.as_deref();
        let rows = |all: &[NotableRecord]| all.iter().map(|it| Row::of(it, now)).collect();
        let web_tiers = requests.web_tiers.iter().enumerate();
        Self {
            frame,
            web_tiers: web_tiers.map(|(place, it)| WebTier::of(place, it)).collect(),
            silent: requests.silent.clone(),
            failed: rows(&requests.failed),
            slow: rows(&requests.slow),
        }
    }
}

impl WebTier {
    fn of(place: usize, web_tier: &WebTierRequestsRecord) -> Self {
        let rate = &web_tier.rate;
        let figures = vec![
            Figure::new("Requests", short(rate.requests_per_s), "/s"),
            Figure::new("5xx", short(rate.errors_per_s), "/s"),
            Figure::new("p50", millis(web_tier.p50_ms), ""),
            Figure::new("p90", millis(web_tier.p90_ms), ""),
            Figure::new("p99", millis(web_tier.p99_ms), ""),
            Figure::new("Looked at", duration(rate.seconds.round() as u64), ""),
        ];
        let all: u64 = web_tier.answers.iter().sum();
        let names = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];
        let classes = names.into_iter().zip(web_tier.answers).filter(|(_, count)| *count > 0);
        let share = |count: u64| format!("{} %", short(count as f64 * 100.0 / all as f64));
        let bars = bars(&web_tier.latency);
        Self {
            server: web_tier.server.clone(),
            anchor: format!("web-tier-{place}"),
            figures,
            classes: classes
                .map(|(name, number)| Class { name, count: count(number), share: share(number) })
                .collect(),
            width: (bars.len() as u64 * STEP + 40).max(200),
            words: bars.iter().map(|it| it.words.as_str()).collect::<Vec<_>>().join(", "),
            bars,
        }
    }
}

/// From the fastest class with a request to the slowest.
fn bars(latency: &LatencyRecord) -> Vec<Bar> {
    let counts = &latency.counts;
    let Some(first) = counts.iter().position(|it| *it > 0) else { return Vec::new() };
    let last = counts.iter().rposition(|it| *it > 0).unwrap_or(first);
    let most = counts.iter().copied().max().unwrap_or(1).max(1);
    let bound = |place: usize| latency.bounds_us.get(place).map(|us| millis(Some(*us as f64 / 1000.0)));
    let bar = |(x, place): (u64, usize)| {
        let number = counts[place];
        // One is to be seen beside a million.
        let height = (number.saturating_mul(TALL) / most).max(u64::from(number > 0));
        let range = match (bound(place), place.checked_sub(1).and_then(bound)) {
            (Some(to), _) => format!("up to {to}"),
            (None, Some(from)) => format!("above {from}"),
            (None, None) => "any time".to_owned(),
        };
        Bar {
            x: x * STEP,
            y: GROUND - height,
            height,
            // Each second one, or they would overlap.
            label: bound(place).filter(|_| x.is_multiple_of(2)).unwrap_or_default(),
            words: format!("{range}: {}", count(number)),
        }
    };
    (0..).zip(first..=last).map(bar).collect()
}

impl Row {
    fn of(request: &NotableRecord, now: Option<&str>) -> Self {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| NONE.to_owned());
        let at = request.time.as_deref();
        Self {
            ago: ago(at, now),
            time: at.unwrap_or_default().to_owned(),
            status: request.status,
            class: match request.status {
                500.. => "bad",
                400..500 => "warn",
                _ => "off",
            },
            method: request.method.clone(),
            host: request.host.clone(),
            path: request.path.clone(),
            taken: millis(Some(request.taken_us as f64 / 1000.0)),
            why: request.why.clone(),
            server: or_none(&request.server),
            web_tier: request.web_tier.clone(),
            id: or_none(&request.id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_from_the_fastest_to_the_slowest_and_none_vanishes() {
        let latency =
            LatencyRecord { bounds_us: vec![128, 192, 256, 384], counts: vec![0, 1_000_000, 0, 1, 3] };
        let bars = bars(&latency);
        let seen: Vec<_> = bars.iter().map(|it| (it.x, it.height, it.words.as_str())).collect();
        assert_eq!(
            seen,
            [
                (0, 90, "up to 0.19 ms: 1\u{202f}000\u{202f}000"),
                (24, 0, "up to 0.26 ms: 0"),
                (48, 1, "up to 0.38 ms: 1"),
                (72, 1, "above 0.38 ms: 3"),
            ]
        );
        assert!(super::bars(&LatencyRecord::default()).is_empty());
    }
}
