//! `caches` of an `app.yaml`: how caches are to be that are not as the defaults.

use super::{
    daemons::service_name,
    decode::{Context, Fields},
    keys,
    node::Node,
    quoted::quoted,
};
use crate::service_name::ServiceName;
use std::{ops::RangeInclusive, time::Duration};

/// A cache that an app declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredCache {
    /// `name`: the whole cluster's.
    pub name: ServiceName,
    /// `mode` (`distributed`).
    pub mode: CacheMode,
    /// `ttl`, `idle`: of values that are put without a time.
    pub ttl: Option<Duration>,
    /// See `ttl`.
    pub idle: Option<Duration>,
}

/// Where the values of a cache are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheMode {
    /// On the hub; each server keeps copies of what it reads.
    Distributed,
    /// The same; each server reads at once what changes.
    Replicated,
    /// Each server has its own, and forgets what another changes.
    Invalidated,
    /// Each server has its own.
    Local,
}

/// The bounds of times.
const TIME: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(366 * 24 * 3600);

/// The most of one app.
const CACHES_MAX: usize = 100;

pub(super) fn decode(fields: &Fields<'_>) -> Vec<DeclaredCache> {
    let context = fields.context;
    let nodes = fields.items("caches");
    if nodes.len() > CACHES_MAX {
        context
            .error(fields.span("caches"), format!("{} caches: expected at most {CACHES_MAX}", nodes.len()));
    }
    let mut caches: Vec<DeclaredCache> = Vec::new();
    for node in nodes {
        let Some(cache) = cache(context, node) else { continue };
        if caches.iter().any(|it| it.name == cache.name) {
            let name = quoted(cache.name.as_str());
            context.error(node.span, format!("a second cache {name}: expected another name"));
        } else {
            caches.push(cache);
        }
    }
    caches
}

fn cache(context: Context<'_>, node: &Node) -> Option<DeclaredCache> {
    const MODES: [(&str, CacheMode); 4] = [
        ("distributed", CacheMode::Distributed),
        ("replicated", CacheMode::Replicated),
        ("invalidated", CacheMode::Invalidated),
        ("local", CacheMode::Local),
    ];
    let fields = Fields::open(context, node, &keys::CACHE)?;
    let name = fields.required("name", "such as `counters`").and_then(|node| service_name(context, node));
    Some(DeclaredCache {
        mode: fields.choice("mode", &MODES).unwrap_or(CacheMode::Distributed),
        ttl: fields.duration("ttl", TIME),
        idle: fields.duration("idle", TIME),
        // When all faults have been told.
        name: name?,
    })
}
