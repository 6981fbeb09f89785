//! `queues` of an `app.yaml`: queues whose messages this app is called with.

use super::{
    app_yaml::health_path,
    daemons::service_name,
    decode::{Context, Fields},
    keys,
    node::Node,
    quoted::quoted,
};
use crate::service_name::ServiceName;
use std::{ops::RangeInclusive, time::Duration};

/// A queue that an app consumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredQueue {
    /// `name`: the whole cluster's.
    pub name: ServiceName,
    /// `path`: each message is posted to it.
    pub path: String,
    /// `concurrency` (1): messages that one process of the app has at once.
    pub concurrency: u32,
    /// `timeout` (60 s): how long a message may take.
    pub timeout: Duration,
    /// `retry`: what becomes of one that failed.
    pub retry: Retry,
}

/// How messages that failed are tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// `attempts` (10): after so many a message is dead; 0: never.
    pub attempts: u32,
    /// `delay` (1 s): before the second attempt.
    pub delay: Duration,
    /// `factor` (2), in thousandths: by which the delay grows from attempt to attempt.
    pub factor: u32,
    /// `max` (10 min): the longest delay.
    pub max: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        let (delay, max) = (Duration::from_secs(1), Duration::from_secs(600));
        Self { attempts: 10, delay, factor: 2000, max }
    }
}

/// The bounds of times.
pub(super) const TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
const DELAY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(30 * 24 * 3600);

/// The most of one app.
const QUEUES_MAX: usize = 100;

/// The greatest factor.
const FACTOR_MAX: f64 = 100.0;

pub(super) fn decode(fields: &Fields<'_>) -> Vec<DeclaredQueue> {
    let context = fields.context;
    let nodes = fields.items("queues");
    if nodes.len() > QUEUES_MAX {
        context
            .error(fields.span("queues"), format!("{} queues: expected at most {QUEUES_MAX}", nodes.len()));
    }
    let mut queues: Vec<DeclaredQueue> = Vec::new();
    for node in nodes {
        let Some(queue) = queue(context, node) else { continue };
        if queues.iter().any(|it| it.name == queue.name) {
            let name = quoted(queue.name.as_str());
            context.error(node.span, format!("a second queue {name}: expected another name"));
        } else {
            queues.push(queue);
        }
    }
    queues
}

fn queue(context: Context<'_>, node: &Node) -> Option<DeclaredQueue> {
    let fields = Fields::open(context, node, &keys::QUEUE)?;
    let name = fields.required("name", "such as `orders`").and_then(|node| service_name(context, node));
    let path = fields.required("path", "that messages are posted to, such as `/on/order`");
    let path = path.and_then(|node| context.checked(node, health_path));
    let retry = fields.get("retry").filter(|node| !node.is_null()).and_then(|node| retry(context, node));
    Some(DeclaredQueue {
        concurrency: fields.integer("concurrency", 1..=1000).unwrap_or(1),
        timeout: fields.duration("timeout", TIMEOUT).unwrap_or(Duration::from_secs(60)),
        retry: retry.unwrap_or_default(),
        // When all faults have been told.
        name: name?,
        path: path?,
    })
}

/// What becomes of what failed.
pub(super) fn retry(context: Context<'_>, node: &Node) -> Option<Retry> {
    let fields = Fields::open(context, node, &keys::RETRY)?;
    let default = Retry::default();
    Some(Retry {
        attempts: fields.integer("attempts", 0..=10_000).unwrap_or(default.attempts),
        delay: fields.duration("delay", DELAY).unwrap_or(default.delay),
        factor: fields.get("factor").and_then(|node| factor(context, node)).unwrap_or(default.factor),
        max: fields.duration("max", DELAY).unwrap_or(default.max),
    })
}

/// A factor, in thousandths.
fn factor(context: Context<'_>, node: &Node) -> Option<u32> {
    let read = |text: &str| text.parse::<f64>().ok().filter(|it| (1.0..=FACTOR_MAX).contains(it));
    let text = context.checked(node, |text| {
        let refused = || format!("expected a number from 1 to {FACTOR_MAX}, found {}", quoted(text));
        read(text).map(drop).ok_or_else(refused)
    })?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is 1000 to 100000")]
    read(&text).map(|it| (it * 1000.0).round() as u32)
}
