//! `topics` of an `app.yaml`: topics that an app hears.

use super::{
    app_yaml::health_path,
    daemons::service_name,
    decode::{Context, Fields},
    keys,
    node::Node,
    queues::{Retry, TIMEOUT, retry},
};
use crate::service_name::ServiceName;
use std::time::Duration;

/// A topic that an app hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredTopic {
    /// `name`: the whole cluster's.
    pub name: ServiceName,
    /// `path`: each message is posted to it.
    pub path: String,
    /// `durable`: the name of a subscription that is there whether the app is or not; of its messages each comes to one server. Without one each
    /// server hears what is told while it listens.
    pub durable: Option<ServiceName>,
    /// `concurrency` (1), `timeout` (60 s) and `retry` of a durable one.
    pub concurrency: u32,
    /// See `concurrency`.
    pub timeout: Duration,
    /// See `concurrency`.
    pub retry: Retry,
}

/// The most of one app.
const TOPICS_MAX: usize = 100;

pub(super) fn decode(fields: &Fields<'_>) -> Vec<DeclaredTopic> {
    let context = fields.context;
    let nodes = fields.items("topics");
    if nodes.len() > TOPICS_MAX {
        context
            .error(fields.span("topics"), format!("{} topics: expected at most {TOPICS_MAX}", nodes.len()));
    }
    let mut topics: Vec<DeclaredTopic> = Vec::new();
    for node in nodes {
        let Some(topic) = topic(context, node) else { continue };
        if topics.iter().any(|it| it.name == topic.name && it.durable == topic.durable) {
            context.error(node.span, "a second topic of this name: expected another `durable`");
        } else {
            topics.push(topic);
        }
    }
    topics
}

fn topic(context: Context<'_>, node: &Node) -> Option<DeclaredTopic> {
    let fields = Fields::open(context, node, &keys::TOPIC)?;
    let name = fields.required("name", "such as `orders`").and_then(|node| service_name(context, node));
    let path = fields.required("path", "that messages are posted to, such as `/on/order`");
    let path = path.and_then(|node| context.checked(node, health_path));
    let durable = fields.get("durable").filter(|node| !node.is_null());
    if durable.is_none() {
        for key in ["concurrency", "timeout", "retry"] {
            if let Some(entry) = fields.entry(key) {
                let text =
                    format!("`{key}` belongs to a topic that is `durable`: of others nothing is tried again");
                context.error(entry.key_span, text);
            }
        }
    }
    let retry = fields.get("retry").filter(|node| !node.is_null()).and_then(|node| retry(context, node));
    Some(DeclaredTopic {
        concurrency: fields.integer("concurrency", 1..=1000).unwrap_or(1),
        timeout: fields.duration("timeout", TIMEOUT).unwrap_or(Duration::from_secs(60)),
        retry: retry.unwrap_or_default(),
        // When all faults have been told.
        durable: match durable {
            Some(node) => Some(service_name(context, node)?),
            None => None,
        },
        name: name?,
        path: path?,
    })
}
