//! The pipelines of apps: how many runs each has, and what waits at its steps.

use super::{
    Figure, Frame,
    format::{count, path_part},
    list::{List, ListQuery},
};
use crate::pipelines::{PipelineRecord, PipelinesRecord, StepRecord};
use askama::Template;
use std::cmp::Reverse;

/// Pipelines on a page.
pub(super) const PIPELINES: usize = 100;

/// In which order: its word in an address, and its name.
const ORDERS: [(&str, &str); 4] = [
    ("name", "by name"),
    ("going-on", "most that go on"),
    ("failed", "most failed"),
    ("dead", "most dead messages"),
];

#[derive(Debug, Template)]
#[template(path = "pipelines.html")]
pub(super) struct Pipelines {
    frame: Frame,
    figures: Vec<Figure>,
    list: List,
    unknown: Option<String>,
    none: bool,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: String,
    path: String,
    /// In the order of the table's head: before the failed ones, and after them.
    runs: Vec<String>,
    failed: String,
    has_failed: bool,
    steps: Vec<String>,
}

/// What all steps of a pipeline have together.
pub(super) fn sum(pipeline: &PipelineRecord, of: fn(&StepRecord) -> u64) -> u64 {
    pipeline.steps.iter().map(of).fold(0, u64::saturating_add)
}

impl Pipelines {
    pub(super) fn new(frame: Frame, told: &PipelinesRecord, query: &ListQuery) -> Self {
        let mut wanted: Vec<_> = told.pipelines.iter().filter(|it| query.is_wanted(&it.name)).collect();
        match query.order(&ORDERS) {
            "going-on" => wanted.sort_by_key(|it| Reverse(it.going_on)),
            "failed" => wanted.sort_by_key(|it| Reverse(it.failed)),
            "dead" => wanted.sort_by_key(|it| Reverse(sum(it, |step| step.dead))),
            _ => {}
        }
        let rows = wanted[query.range(wanted.len(), PIPELINES)].iter().map(|it| Row::of(it)).collect();
        Self {
            frame,
            figures: if told.unknown.is_none() { figures(told) } else { Vec::new() },
            list: query.above(("/pipelines", "Which pipelines"), &ORDERS, (wanted.len(), PIPELINES)),
            unknown: told.unknown.clone(),
            none: told.pipelines.is_empty() && told.unknown.is_none(),
            rows,
        }
    }
}

/// All of them together.
fn figures(all: &PipelinesRecord) -> Vec<Figure> {
    let sum =
        |of: fn(&PipelineRecord) -> u64| count(all.pipelines.iter().map(of).fold(0, u64::saturating_add));
    vec![
        Figure::new("Pipelines", count(all.pipelines.len() as u64), ""),
        Figure::new("Going on", sum(|it| it.going_on), "runs"),
        Figure::new("Done", sum(|it| it.done), ""),
        Figure::new("Halted", sum(|it| it.halted), ""),
        Figure::new("Failed", sum(|it| it.failed), ""),
    ]
}

impl Row {
    fn of(it: &PipelineRecord) -> Self {
        let messages: [fn(&StepRecord) -> u64; 4] =
            [|it| it.ready, |it| it.delayed, |it| it.assigned, |it| it.dead];
        let messages = messages.map(|of| sum(it, of));
        Self {
            name: it.name.clone(),
            path: path_part(&it.name),
            runs: [it.going_on, it.done, it.halted].map(count).into(),
            failed: count(it.failed),
            has_failed: it.failed > 0,
            steps: [it.steps.len() as u64].into_iter().chain(messages).map(count).collect(),
        }
    }
}
