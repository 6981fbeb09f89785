//! Makes points of what servers say: counts become rates by what was said before.

use crate::Point;
use proto::{
    history::v1::Series,
    quantile::quantile,
    status::v1::{Histogram, ServerStatus, Traffic},
};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// What was said longer ago makes no rate.
const BEFORE_MAX: Duration = Duration::from_secs(60);

/// How much a server's clock may differ from this one's over the same time, before it is taken to have been set.
const CLOCK_OFF_MS: u64 = 1500;

/// What servers said last.
#[derive(Debug, Default)]
pub struct Sampler {
    before: HashMap<String, Said>,
}

/// What a server said, as far as rates are made of it.
#[derive(Debug, Clone, Default)]
struct Said {
    at: Option<Instant>,
    started_ms: u64,
    now_ms: u64,
    cpu_us: u64,
    applied: Option<u64>,
    traffic: Option<Traffic>,
}

impl Sampler {
    /// A point for each server that said something, now.
    pub fn points(&mut self, said: &[(String, ServerStatus)], now: Instant) -> Vec<(String, Point)> {
        let points = said.iter().map(|(id, status)| {
            let said = Said::of(status, now);
            let point = point(status, self.before.get(id), &said);
            self.before.insert(id.clone(), said);
            (id.clone(), point)
        });
        let points = points.collect();
        let is_new = |it: &Said| it.at.is_some_and(|at| now.saturating_duration_since(at) < BEFORE_MAX);
        self.before.retain(|_, it| is_new(it));
        points
    }
}

impl Said {
    fn of(status: &ServerStatus, now: Instant) -> Self {
        Self {
            at: Some(now),
            started_ms: status.started_ms,
            now_ms: status.now_ms,
            cpu_us: status.process.unwrap_or_default().cpu_us,
            applied: status.hub.as_ref().and_then(|it| it.applied),
            traffic: status.web_tier.as_ref().and_then(|it| it.total.clone()),
        }
    }

    /// Before a process that has just started there was nothing: its counts began at 0. Its log had been applied elsewhere.
    fn start(&self) -> Option<Self> {
        let age_ms = self.now_ms.saturating_sub(self.started_ms);
        let is_new = (1..BEFORE_MAX.as_millis()).contains(&u128::from(age_ms));
        let traffic = Some(Traffic { answers: vec![0; 6], ..Traffic::default() });
        let start = Self { started_ms: self.started_ms, now_ms: self.started_ms, traffic, ..Self::default() };
        is_new.then_some(start)
    }

    /// Milliseconds since another word of the same process, by its own clock, as its counts are; by ours if its clock was set.
    fn passed_ms(&self, before: &Self) -> Option<u64> {
        if self.now_ms == before.now_ms {
            // The same word again.
            return None;
        }
        let own = self.now_ms.checked_sub(before.now_ms);
        let (Some(now), Some(at)) = (self.at, before.at) else { return own };
        let here = now.saturating_duration_since(at);
        let here_ms = u64::try_from(here.as_millis()).unwrap_or(u64::MAX);
        let passed = own.filter(|own| own.abs_diff(here_ms) <= CLOCK_OFF_MS).unwrap_or(here_ms);
        (passed > 0 && here < BEFORE_MAX).then_some(passed)
    }
}

fn point(status: &ServerStatus, before: Option<&Said>, now: &Said) -> Point {
    let mut point = Point::sample();
    let start = now.start();
    let before = before.filter(|it| it.started_ms == now.started_ms).or(start.as_ref());
    levels(&mut point, status);
    if let Some((before, passed_ms)) = before.and_then(|it| Some((it, now.passed_ms(it)?))) {
        rates(&mut point, before, now, passed_ms as f64 / 1000.0);
    }
    point
}

/// What there is at the moment.
fn levels(point: &mut Point, status: &ServerStatus) {
    if let Some(process) = &status.process {
        // 0: its system does not tell.
        let known = [
            (Series::ResidentBytes, process.resident_bytes),
            (Series::OpenFiles, process.open_files),
            (Series::DiskFreeBytes, process.disk_free_bytes),
        ];
        let told = known.into_iter().filter(|(series, it)| {
            *it > 0 || (*series == Series::DiskFreeBytes && process.disk_total_bytes > 0)
        });
        told.for_each(|(series, it)| point.set(series, it as f64));
        point.set(Series::Load, process.load_per_mille as f64 / 1000.0);
    }
    if let Some(total) = status.web_tier.as_ref().and_then(|it| it.total.as_ref()) {
        point.set(Series::ConnectionsOpen, total.connections_open as f64);
        point.set(Series::RequestsActive, total.requests_active as f64);
    }
    if let Some(hub) = &status.hub {
        point.set(Series::Sessions, hub.sessions as f64);
        point.set(Series::SessionBytes, hub.session_bytes as f64);
    }
    if let Some(app_tier) = &status.app_tier {
        let held = app_tier.apps.iter().filter_map(|it| it.sessions.as_ref()).map(|it| it.held);
        if let Some(held) = held.reduce(u64::saturating_add) {
            point.set(Series::AppSessions, held as f64);
        }
    }
}

/// What was counted in the meantime. A count that has become less tells nothing.
fn rates(point: &mut Point, before: &Said, now: &Said, seconds: f64) {
    let mut rate = |series, before: u64, now: u64, unit: f64| {
        if let Some(more) = now.checked_sub(before) {
            point.set(series, more as f64 / unit / seconds);
        }
    };
    if now.cpu_us > 0 {
        rate(Series::CpuCores, before.cpu_us, now.cpu_us, 1e6);
    }
    if let (Some(before), Some(now)) = (before.applied, now.applied) {
        rate(Series::AppliedPerS, before, now, 1.0);
    }
    let (Some(before), Some(now)) = (&before.traffic, &now.traffic) else { return };
    let answers = |it: &Traffic, class: usize| it.answers.get(class).copied().unwrap_or_default();
    rate(Series::RequestsPerS, before.requests, now.requests, 1.0);
    rate(Series::Errors4xxPerS, answers(before, 4), answers(now, 4), 1.0);
    rate(Series::Errors5xxPerS, answers(before, 5), answers(now, 5), 1.0);
    rate(Series::SentBytesPerS, before.sent_bytes, now.sent_bytes, 1.0);
    if let Some(latency) = now.latency.as_ref().and_then(|now| since(before.latency.as_ref(), now)) {
        for (series, q) in [(Series::P50Ms, 0.5), (Series::P99Ms, 0.99)] {
            if let Some(us) = quantile(&latency, q) {
                point.set(series, us / 1000.0);
            }
        }
    }
}

/// What has come to a histogram; `None` where it is another one.
fn since(before: Option<&Histogram>, now: &Histogram) -> Option<Histogram> {
    let Some(before) = before else { return Some(now.clone()) };
    if before.bounds_us != now.bounds_us || before.counts.len() != now.counts.len() {
        return None;
    }
    let counts = now.counts.iter().zip(&before.counts).map(|(now, before)| now.checked_sub(*before));
    let sum_us = now.sum_us.saturating_sub(before.sum_us);
    Some(Histogram {
        bounds_us: now.bounds_us.clone(),
        counts: counts.collect::<Option<_>>()?,
        sum_us,
        exemplars: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::status::v1::{App, AppTier, Hub, Process, Sessions, WebTier};

    const STARTED: u64 = 1_772_352_000_000;

    /// What a server that plays all roles says `age_s` after its start, having counted `requests`.
    fn said(started_ms: u64, age_s: u64, requests: u64) -> ServerStatus {
        let latency = Histogram {
            bounds_us: vec![1000, 2000],
            counts: vec![requests, requests, 0],
            sum_us: 0,
            exemplars: Vec::new(),
        };
        let total = Traffic {
            requests,
            answers: vec![0, 0, requests, 0, requests / 2, requests / 10],
            sent_bytes: requests * 100,
            connections_open: 5,
            requests_active: 2,
            latency: Some(latency),
            ..Traffic::default()
        };
        let process = Process {
            cpu_us: age_s * 250_000,
            resident_bytes: 1000,
            load_per_mille: 1500,
            ..Process::default()
        };
        let sessions =
            |held| App { sessions: Some(Sessions { held, ..Sessions::default() }), ..App::default() };
        ServerStatus {
            started_ms,
            now_ms: started_ms + age_s * 1000,
            process: Some(process),
            web_tier: Some(WebTier { total: Some(total), ..WebTier::default() }),
            hub: Some(Hub { applied: Some(requests * 2), sessions: 9, ..Hub::default() }),
            app_tier: Some(AppTier {
                apps: vec![sessions(3), App::default(), sessions(4)],
                ..AppTier::default()
            }),
            ..ServerStatus::default()
        }
    }

    fn next(sampler: &mut Sampler, status: &ServerStatus, now: Instant) -> Point {
        sampler.points(&[("a".into(), status.clone())], now)[0].1
    }

    const RATES: [Series; 7] = [
        Series::RequestsPerS,
        Series::Errors4xxPerS,
        Series::Errors5xxPerS,
        Series::SentBytesPerS,
        Series::CpuCores,
        Series::P50Ms,
        Series::AppliedPerS,
    ];

    #[test]
    fn counts_become_rates_and_levels_stay() {
        let (mut sampler, now) = (Sampler::default(), Instant::now());
        let first = next(&mut sampler, &said(STARTED, 1000, 500), now);
        assert_eq!(RATES.map(|it| first.get(it)), [None; 7], "of an old process there is nothing before");
        let levels = [
            Series::ConnectionsOpen,
            Series::RequestsActive,
            Series::ResidentBytes,
            Series::Load,
            Series::Sessions,
            Series::AppSessions,
            Series::OpenFiles,
        ];
        let expected = [Some(5.0), Some(2.0), Some(1000.0), Some(1.5), Some(9.0), Some(7.0), None];
        assert_eq!(levels.map(|it| first.get(it)), expected);
        let second = next(&mut sampler, &said(STARTED, 1010, 700), now + Duration::from_millis(10_400));
        let rates = RATES.map(|it| second.get(it));
        assert_eq!(rates, [20.0, 10.0, 2.0, 2000.0, 0.25, 1.0, 40.0].map(Some));
        let idle = next(&mut sampler, &said(STARTED, 1020, 700), now + Duration::from_secs(20));
        assert_eq!((idle.get(Series::RequestsPerS), idle.get(Series::P99Ms)), (Some(0.0), None));
    }

    #[test]
    fn a_restarted_process_counts_from_its_start() {
        let (mut sampler, now) = (Sampler::default(), Instant::now());
        next(&mut sampler, &said(STARTED, 1000, 500), now);
        let again = next(&mut sampler, &said(STARTED + 1_005_000, 5, 100), now + Duration::from_secs(10));
        assert_eq!((again.get(Series::RequestsPerS), again.get(Series::AppliedPerS)), (Some(20.0), None));
        let late = next(&mut sampler, &said(STARTED + 1_005_000, 15, 110), now + Duration::from_secs(20));
        assert_eq!(late.get(Series::RequestsPerS), Some(1.0));
        // Fewer than before, and no restart: a part of it was reloaded away.
        let fewer = next(&mut sampler, &said(STARTED + 1_005_000, 25, 10), now + Duration::from_secs(30));
        assert_eq!((fewer.get(Series::RequestsPerS), fewer.get(Series::P50Ms)), (None, None));
    }

    #[test]
    fn a_clock_that_was_set_and_a_long_silence_make_no_wrong_rates() {
        let (mut sampler, now) = (Sampler::default(), Instant::now());
        next(&mut sampler, &said(STARTED, 1000, 500), now);
        let ahead = next(&mut sampler, &said(STARTED, 5000, 600), now + Duration::from_secs(10));
        assert_eq!(ahead.get(Series::RequestsPerS), Some(10.0));
        let back = next(&mut sampler, &said(STARTED, 900, 700), now + Duration::from_secs(20));
        assert_eq!(back.get(Series::RequestsPerS), Some(10.0));
        let same = next(&mut sampler, &said(STARTED, 900, 700), now + Duration::from_secs(21));
        assert_eq!(same.get(Series::RequestsPerS), None, "the same word again");
        let silent = next(&mut sampler, &said(STARTED, 1000, 5000), now + Duration::from_secs(120));
        assert_eq!(silent.get(Series::RequestsPerS), None);
        assert!(sampler.points(&[], now + Duration::from_secs(300)).is_empty() && sampler.before.is_empty());
    }
}
