//! The first page: is anything wrong?

use super::{Figure, Frame, format, graph::Graphs, picture::Picture, since};
use crate::status::{
    problem::{Problem, Severity},
    record::ClusterRecord,
};
use askama::Template;

#[derive(Debug, Template)]
#[template(path = "overview.html")]
pub(super) struct Overview {
    frame: Frame,
    verdict_class: &'static str,
    verdict: String,
    problems: Vec<Row>,
    figures: Vec<Figure>,
    picture: Picture,
    graphs: Graphs,
}

/// Something that is wrong.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) class: &'static str,
    pub(super) severity: &'static str,
    pub(super) what: String,
    pub(super) since: String,
    pub(super) remedy: Vec<Part>,
}

/// Of more problems the worst are told.
const PROBLEMS: usize = 60;

impl Row {
    fn all(cluster: &ClusterRecord) -> Vec<Self> {
        let mut rows: Vec<Self> =
            cluster.problems.iter().take(PROBLEMS).map(|it| Self::of(it, cluster)).collect();
        rows.extend(cluster.problems.get(PROBLEMS).map(|it| Self {
            class: class(it.severity),
            severity: it.severity.word(),
            what: format!("… and {} more", cluster.problems.len() - PROBLEMS),
            since: String::new(),
            remedy: parts("The pages of the servers and the JSON have all of them."),
        }));
        rows
    }

    pub(super) fn of(problem: &Problem, cluster: &ClusterRecord) -> Self {
        Self {
            class: class(problem.severity),
            severity: problem.severity.word(),
            what: problem.what.clone(),
            since: since(problem.since.as_ref(), cluster),
            remedy: parts(&problem.remedy),
        }
    }
}

/// A part of a text: words, or what is typed.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) is_code: bool,
    pub(super) text: String,
}

/// What stands between backticks is typed.
fn parts(text: &str) -> Vec<Part> {
    let parts = text.split('`').enumerate().filter(|(_, text)| !text.is_empty());
    parts.map(|(place, text)| Part { is_code: place % 2 == 1, text: text.to_owned() }).collect()
}

impl Overview {
    pub(super) fn new(frame: Frame, cluster: &ClusterRecord) -> Self {
        let (verdict_class, verdict) = verdict(cluster);
        let traffic = &cluster.traffic;
        let figures = vec![
            Figure::new("Requests", format::short(traffic.requests_per_s), "/s"),
            Figure::new("Errors (5xx)", format::short(traffic.errors_per_s), "/s"),
            Figure::new("Latency p50", format::millis(traffic.p50_ms), ""),
            Figure::new("Latency p99", format::millis(traffic.p99_ms), ""),
            Figure::new("Sent", format::bytes(traffic.sent_bytes_per_s as u64), "/s"),
            Figure::new("Clients", format::count(cluster.connections_open), "open"),
            Figure::new("Sessions", format::count(cluster.sessions), ""),
            Figure::new("Their size", format::bytes(cluster.session_bytes), ""),
        ];
        Self {
            frame,
            verdict_class,
            verdict,
            problems: Row::all(cluster),
            figures,
            picture: Picture::of(cluster),
            graphs: Graphs::default(),
        }
    }

    /// The same with graphs.
    pub(super) fn with(self, graphs: Graphs) -> Self {
        Self { graphs, ..self }
    }
}

/// All of it in a line, and how that is shown.
pub(super) fn verdict(cluster: &ClusterRecord) -> (&'static str, String) {
    let of = |severity| cluster.problems.iter().filter(|it| it.severity == severity).count();
    let (faults, warnings) = (of(Severity::Fault), of(Severity::Warning));
    let things = |count: usize, one: &str, more: &str| match count {
        1 => one.to_owned(),
        count => format!("{count} {more}"),
    };
    match (faults, warnings) {
        (0, 0) => ("ok", "All is well".to_owned()),
        (0, _) => ("warn", things(warnings, "One thing may become a fault", "things may become faults")),
        (_, 0) => ("bad", things(faults, "One thing is wrong", "things are wrong")),
        _ => {
            let first = things(faults, "One thing is wrong", "things are wrong");
            ("bad", format!("{first}, {warnings} more may become faults"))
        }
    }
}

fn class(severity: Severity) -> &'static str {
    match severity {
        Severity::Fault => "bad",
        Severity::Warning => "warn",
        Severity::Notice => "off",
    }
}
