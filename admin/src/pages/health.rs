//! The health checks: what is looked at, each server's value now, what is wrong since when, and what was done lately.

use super::{Frame, since};
use crate::{
    audit::EntryRecord,
    health::record::{CheckRecord, FoundRecord, HealthRecord, action_name},
    status::record::ClusterRecord,
};
use askama::Template;

#[derive(Debug, Template)]
#[template(path = "health.html")]
pub(super) struct Health {
    frame: Frame,
    /// Who watches, how often, and for how long a problem has to last.
    watched: String,
    servers: Vec<String>,
    measured: Vec<Row>,
    others: Vec<Other>,
    problems: Vec<Found>,
    webhooks: Vec<String>,
    restarts: String,
    actions: Vec<Action>,
    actions_unknown: Option<String>,
}

/// A check with numbers: a cell a server.
#[derive(Debug)]
struct Row {
    name: &'static str,
    threshold: String,
    on: bool,
    cells: Vec<Vec<Cell>>,
}

#[derive(Debug)]
struct Cell {
    class: &'static str,
    value: String,
    subject: String,
}

#[derive(Debug)]
struct Other {
    name: &'static str,
    threshold: String,
    class: &'static str,
    state: String,
}

#[derive(Debug)]
struct Found {
    class: &'static str,
    severity: &'static str,
    what: String,
    since: String,
    begun: String,
}

#[derive(Debug)]
struct Action {
    time: String,
    server: String,
    action: String,
    target: String,
    detail: String,
    outcome: String,
}

impl Health {
    pub(super) fn new(frame: Frame, cluster: &ClusterRecord, health: HealthRecord) -> Self {
        let seconds = |ms: u64| format!("{} s", ms as f64 / 1000.0);
        let (each, lasts) = (seconds(health.interval_ms), seconds(health.for_ms));
        let watched = match &health.watched_by {
            Some(id) => format!(
                "{id} leads the hub and looks every {each}; something is done about a problem that has lasted for {lasts}"
            ),
            None => "Nobody watches at the moment: the hub has no leader that answers, or it has just been elected".to_owned(),
        };
        let servers: Vec<String> = cluster.servers.iter().map(|it| it.known.id.clone()).collect();
        let (measured, others): (Vec<_>, Vec<_>) = health.checks.iter().partition(|it| !it.values.is_empty());
        Self {
            frame,
            watched,
            measured: measured.into_iter().map(|it| Row::of(it, &servers)).collect(),
            others: others.into_iter().map(Other::of).collect(),
            servers,
            problems: health.problems.iter().map(|it| Found::of(it, cluster)).collect(),
            webhooks: health
                .webhooks
                .iter()
                .map(|it| match it.checks.is_empty() {
                    true => format!("{}: {} and worse", it.to, it.severity),
                    false => format!("{}: {} and worse, of {}", it.to, it.severity, it.checks.join(", ")),
                })
                .collect(),
            restarts: match health.restarts_per_hour {
                Some(times) => format!("An app that is down is started anew, {times} times an hour at most."),
                None => "Apps are not started anew (restart-apps).".to_owned(),
            },
            actions: health.actions.into_iter().map(Action::of).collect(),
            actions_unknown: health.actions_unknown,
        }
    }
}

impl Row {
    fn of(check: &CheckRecord, servers: &[String]) -> Self {
        let cells = servers.iter().map(|id| {
            let own = check.values.iter().filter(|it| it.server == *id);
            own.map(|it| Cell {
                class: class(it.wrong),
                value: it.value.clone(),
                subject: it.subject.clone(),
            })
            .collect()
        });
        Self { name: check.name, threshold: check.threshold.clone(), on: check.on, cells: cells.collect() }
    }
}

impl Other {
    fn of(check: &CheckRecord) -> Self {
        let (class, state) = match (check.on, check.problems) {
            (false, _) => ("off", "off".to_owned()),
            (true, 0) => ("ok", "well".to_owned()),
            (true, count) => ("warn", count.to_string()),
        };
        Self { name: check.name, threshold: check.threshold.clone(), class, state }
    }
}

impl Found {
    fn of(found: &FoundRecord, cluster: &ClusterRecord) -> Self {
        let severity = found.problem.severity.word();
        Self {
            class: class(Some(severity)),
            severity,
            what: found.problem.what.clone(),
            since: since(found.problem.since.as_ref(), cluster),
            begun: since(found.begun.as_ref(), cluster),
        }
    }
}

impl Action {
    fn of(entry: EntryRecord) -> Self {
        let time = entry.time.unwrap_or_default();
        Self {
            time: time.split('.').next().unwrap_or_default().replace('T', " "),
            server: entry.server.unwrap_or_default(),
            action: action_name(&entry.action).to_owned(),
            target: entry.target,
            detail: entry.detail,
            outcome: entry.outcome,
        }
    }
}

fn class(wrong: Option<&str>) -> &'static str {
    match wrong {
        Some("fault") => "bad",
        Some("warning") => "warn",
        Some(_) => "off",
        None => "",
    }
}
