//! The queues of apps: what waits in each, who takes it, and pausing it.

use super::{
    Figure, Frame,
    format::{NONE, bytes, count, duration, millis, path_part, short},
    list::{List, ListQuery},
};
use crate::{
    pipelines::step_of,
    queues::{QueueConsumerRecord, QueueRecord, QueuesRecord},
};
use askama::Template;
use std::cmp::Reverse;

/// Queues on a page, and consumers of each that are named there.
pub(super) const QUEUES: usize = 100;
const CONSUMERS: usize = 3;

/// In which order: its word in an address, and its name.
const ORDERS: [(&str, &str); 5] = [
    ("name", "by name"),
    ("ready", "most ready"),
    ("dead", "most dead"),
    ("oldest", "oldest message"),
    ("size", "largest"),
];

#[derive(Debug, Template)]
#[template(path = "queues.html")]
pub(super) struct Queues {
    frame: Frame,
    figures: Vec<Figure>,
    list: List,
    /// That lead back to the same rows.
    fields: String,
    unknown: Option<String>,
    none: bool,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: String,
    path: String,
    kind: Kind,
    paused: bool,
    /// In the order of the table's head: before the dead, and after them.
    waits: Vec<String>,
    dead: String,
    has_dead: bool,
    oldest: String,
    numbers: Vec<String>,
    consumers: String,
}

/// What a queue is for, by its name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) word: &'static str,
    /// The same at length; empty for one that an app has named.
    pub(super) words: String,
    /// The job whose runs it has, as a part of a query.
    pub(super) job: Option<String>,
    /// The pipeline to which it belongs, as a part of a path.
    pub(super) pipeline: Option<String>,
}

impl Kind {
    pub(super) fn of(name: &str) -> Self {
        let none = Self { word: "queue", words: String::new(), job: None, pipeline: None };
        if let Some(job) = name.strip_prefix("job:") {
            let words = format!("runs of the job {job}");
            return Self { word: "job", words, job: Some(path_part(job)), ..none };
        }
        if let Some((pipeline, step)) = step_of(name) {
            let words = format!("step {step} of the pipeline {pipeline}");
            return Self { word: "step", words, pipeline: Some(path_part(pipeline)), ..none };
        }
        match name.strip_prefix("topic:").and_then(|it| it.split_once(':')) {
            Some((topic, it)) => {
                let words = format!("durable subscription {it} of the topic {topic}");
                Self { word: "topic", words, ..none }
            }
            None => none,
        }
    }
}

impl Queues {
    pub(super) fn new(frame: Frame, queues: &QueuesRecord, query: &ListQuery) -> Self {
        let mut wanted: Vec<_> = queues.queues.iter().filter(|it| query.is_wanted(&it.name)).collect();
        match query.order(&ORDERS) {
            "ready" => wanted.sort_by_key(|it| Reverse(it.ready)),
            "dead" => wanted.sort_by_key(|it| Reverse(it.dead)),
            "oldest" => wanted.sort_by_key(|it| Reverse(it.oldest_ms)),
            "size" => wanted.sort_by_key(|it| Reverse(it.bytes)),
            _ => {}
        }
        let rows = wanted[query.range(wanted.len(), QUEUES)].iter().map(|it| Row::of(it)).collect();
        Self {
            frame,
            figures: figures(queues),
            list: query.above(("/queues", "Which queues"), &ORDERS, (wanted.len(), QUEUES)),
            fields: query.fields(),
            unknown: queues.unknown.clone(),
            none: queues.queues.is_empty() && queues.unknown.is_none(),
            rows,
        }
    }
}

/// All of them together.
fn figures(all: &QueuesRecord) -> Vec<Figure> {
    let (Some(taken), Some(capacity)) = (all.bytes, all.capacity_bytes) else { return Vec::new() };
    let sum = |of: fn(&QueueRecord) -> u64| count(all.queues.iter().map(of).sum());
    let paused = all.queues.iter().filter(|it| it.paused).count() as u64;
    vec![
        Figure::new("Queues", count(all.queues.len() as u64), ""),
        Figure::new("Paused", count(paused), ""),
        Figure::new("Ready", sum(|it| it.ready), ""),
        Figure::new("Delayed", sum(|it| it.delayed), ""),
        Figure::new("Waiting", sum(|it| it.waiting), ""),
        Figure::new("Assigned", sum(|it| it.assigned), ""),
        Figure::new("Dead", sum(|it| it.dead), ""),
        Figure::new("Memory", bytes(taken), format!("of {}", bytes(capacity))),
    ]
}

/// A rate, or that it is not known.
fn per_second(rate: Option<f64>) -> String {
    rate.map_or(NONE.to_owned(), short)
}

/// How old the oldest message is.
pub(super) fn oldest(queue: &QueueRecord) -> String {
    queue.oldest_ms.map_or(NONE.to_owned(), |ms| duration(ms / 1000))
}

impl Row {
    fn of(queue: &QueueRecord) -> Self {
        Self {
            name: queue.name.clone(),
            path: path_part(&queue.name),
            kind: Kind::of(&queue.name),
            paused: queue.paused,
            waits: [queue.ready, queue.delayed, queue.waiting, queue.assigned].map(count).into(),
            dead: count(queue.dead),
            has_dead: queue.dead > 0,
            oldest: oldest(queue),
            numbers: vec![
                bytes(queue.bytes),
                count(queue.published),
                count(queue.settled),
                count(queue.failed),
                per_second(queue.published_per_s),
                per_second(queue.settled_per_s),
                millis(queue.took_ms),
            ],
            consumers: consumers(&queue.consumers),
        }
    }
}

/// Who takes messages, the first ones by name.
fn consumers(all: &[QueueConsumerRecord]) -> String {
    let named =
        all.iter().take(CONSUMERS).map(|it| format!("{} {} of {}", it.server, it.assigned, it.window));
    let more =
        all.len().checked_sub(CONSUMERS).filter(|more| *more > 0).map(|more| format!("and {more} more"));
    match named.chain(more).collect::<Vec<_>>() {
        none if none.is_empty() => "nobody".to_owned(),
        named => named.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_what_a_queue_is_for() {
        let of = |name: &str| (Kind::of(name).word, Kind::of(name).words);
        assert_eq!(of("orders"), ("queue", String::new()));
        assert_eq!(of("job:report"), ("job", "runs of the job report".to_owned()));
        let billing = "durable subscription billing of the topic orders".to_owned();
        assert_eq!(of("topic:orders:billing"), ("topic", billing));
        assert_eq!(of("pipe:album:first"), ("step", "step first of the pipeline album".to_owned()));
        assert_eq!((of("topic:x").0, of("pipe:x").0), ("queue", "queue"));
    }

    #[test]
    fn many_consumers_are_counted() {
        let one = |number: u32| QueueConsumerRecord {
            server: format!("app-{number}"),
            app: "shop".to_owned(),
            window: 4,
            assigned: number,
        };
        let of = |number: u32| consumers(&(0..number).map(one).collect::<Vec<_>>());
        assert_eq!((of(0).as_str(), of(1).as_str()), ("nobody", "app-0 0 of 4"));
        assert_eq!(of(5), "app-0 0 of 4, app-1 1 of 4, app-2 2 of 4, and 2 more");
    }
}
