//! `jobs` of an `app.yaml`: what of an app is called at times.

use super::{
    app_yaml::health_path,
    daemons::service_name,
    decode::{Context, Fields},
    keys,
    node::Node,
    queues::{Retry, TIMEOUT, retry},
    quoted::quoted,
};
use crate::{
    schedule::{Schedule, Times},
    service_name::ServiceName,
};
use jiff::Timestamp;
use std::{ops::RangeInclusive, time::Duration};

/// What of an app is called at times, on one server of its cluster, one run at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredJob {
    /// `name`: the whole cluster's.
    pub name: ServiceName,
    /// `path`: it is posted to.
    pub path: String,
    /// `cron` with `timezone`, `every`, or neither: once.
    pub times: Times,
    /// `at`: its first time, or from when on; in milliseconds since 1970.
    pub at_ms: Option<u64>,
    /// `in`: the same, so long after it was declared.
    pub after: Option<Duration>,
    /// `until`: no time after this one.
    pub until_ms: Option<u64>,
    /// `repeat`: so many times; 0: without end.
    pub repeat: u64,
    /// `missed` (`once`).
    pub missed: MissedTimes,
    /// `timeout` (60 s): how long a run may take.
    pub timeout: Duration,
    /// `retry`: what becomes of a run that failed.
    pub retry: Retry,
}

/// What becomes of times at which nobody could run a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissedTimes {
    /// Of several one, late.
    Once,
    /// Nothing.
    Skip,
    /// Each, one after the other.
    All,
}

/// The bounds of intervals.
const EVERY: RangeInclusive<Duration> = crate::schedule::EVERY_MIN..=Duration::from_secs(366 * 24 * 3600);

/// The most of one app.
const JOBS_MAX: usize = 1000;

pub(super) fn decode(fields: &Fields<'_>) -> Vec<DeclaredJob> {
    let context = fields.context;
    let nodes = fields.items("jobs");
    if nodes.len() > JOBS_MAX {
        context.error(fields.span("jobs"), format!("{} jobs: expected at most {JOBS_MAX}", nodes.len()));
    }
    let mut jobs: Vec<DeclaredJob> = Vec::new();
    for node in nodes {
        let Some(job) = job(context, node) else { continue };
        if jobs.iter().any(|it| it.name == job.name) {
            let name = quoted(job.name.as_str());
            context.error(node.span, format!("a second job {name}: expected another name"));
        } else {
            jobs.push(job);
        }
    }
    jobs
}

fn job(context: Context<'_>, node: &Node) -> Option<DeclaredJob> {
    const MISSED: [(&str, MissedTimes); 3] =
        [("once", MissedTimes::Once), ("skip", MissedTimes::Skip), ("all", MissedTimes::All)];
    let fields = Fields::open(context, node, &keys::JOB)?;
    let name = fields.required("name", "such as `report`").and_then(|node| service_name(context, node));
    let path = fields.required("path", "that is posted to, such as `/jobs/report`");
    let path = path.and_then(|node| context.checked(node, health_path));
    let times = times(context, node, &fields);
    let (at_ms, after) = (instant(context, &fields, "at"), fields.duration("in", EVERY));
    if let (Some(_), Some(entry)) = (fields.entry("at"), fields.entry("in")) {
        context.error(entry.key_span, "a job begins `at` a time or `in` a while, not both");
    }
    let retry = fields.get("retry").filter(|node| !node.is_null()).and_then(|node| retry(context, node));
    Some(DeclaredJob {
        at_ms,
        after,
        until_ms: instant(context, &fields, "until"),
        repeat: fields.integer("repeat", 1..=1_000_000_000).unwrap_or(0),
        missed: fields.choice("missed", &MISSED).unwrap_or(MissedTimes::Once),
        timeout: fields.duration("timeout", TIMEOUT).unwrap_or(Duration::from_secs(60)),
        retry: retry.unwrap_or_default(),
        // When all faults have been told.
        name: name?,
        path: path?,
        times: times?,
    })
}

/// One of `cron` and `every`, or neither.
fn times(context: Context<'_>, node: &Node, fields: &Fields<'_>) -> Option<Times> {
    let cron = fields.entry("cron");
    let timezone = fields.get("timezone").and_then(|node| context.string(node)).unwrap_or_default();
    if let (Some(entry), None) = (fields.entry("timezone"), cron) {
        context.error(entry.key_span, "`timezone` belongs to `cron`: `at` and `until` have their own");
    }
    match (cron, fields.entry("every")) {
        (Some(_), Some(entry)) => {
            context.error(entry.key_span, "a job has a `cron` or comes `every` so often, not both");
            None
        }
        (Some(_), None) => {
            let of = |text: &str| Times::Cron { expression: text.to_owned(), timezone: timezone.clone() };
            let expression = fields.get("cron").and_then(|node| {
                context.checked(node, |text| Schedule::new(&of(text)).map(drop).map_err(|it| it.to_string()))
            })?;
            Some(of(&expression))
        }
        (None, Some(_)) => fields.duration("every", EVERY).map(Times::Every),
        (None, None) => {
            if fields.entry("at").or(fields.entry("in")).is_none() {
                context.error(
                    node.span,
                    "a job has a `cron`, or comes `every` so often, `at` a time or `in` a while",
                );
            }
            Some(Times::Once)
        }
    }
}

/// A time of the clock, in milliseconds since 1970.
fn instant(context: Context<'_>, fields: &Fields<'_>, key: &str) -> Option<u64> {
    let read = |text: &str| u64::try_from(text.parse::<Timestamp>().ok()?.as_millisecond()).ok();
    let text = context.checked(fields.get(key)?, |text| {
        let refused = || format!("expected a time such as 2026-12-01T09:00:00+01:00, found {}", quoted(text));
        read(text).map(drop).ok_or_else(refused)
    })?;
    read(&text)
}
