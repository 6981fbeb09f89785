//! The caches of apps: what the hub keeps of each, and how near servers find what their apps read.

use super::{
    Figure, Frame,
    format::{bytes, count},
    list::{List, ListQuery},
};
use crate::app_caches::{AppCacheRecord, AppCachesRecord, ServerAppCachesRecord};
use askama::Template;

/// Caches on a page.
const CACHES: usize = 100;

#[derive(Debug, Template)]
#[template(path = "app_caches.html")]
pub(super) struct AppCaches {
    frame: Frame,
    figures: Vec<Figure>,
    list: List,
    unknown: Option<String>,
    none: bool,
    rows: Vec<Row>,
    servers: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: String,
    /// In the order of the table's head.
    numbers: Vec<String>,
}

impl AppCaches {
    pub(super) fn new(frame: Frame, caches: &AppCachesRecord, query: &ListQuery) -> Self {
        let wanted: Vec<_> = caches.caches.iter().filter(|it| query.is_wanted(&it.name)).collect();
        let sum = |of: fn(&AppCacheRecord) -> u64| caches.caches.iter().map(of).sum();
        let mut figures = Vec::new();
        if let (Some(taken), Some(capacity)) = (caches.bytes, caches.capacity_bytes) {
            figures = vec![
                Figure::new("Caches", count(caches.caches.len() as u64), "on the hub"),
                Figure::new("Entries", count(sum(|it| it.entries)), ""),
                Figure::new("Memory", bytes(taken), format!("of {}", bytes(capacity))),
                Figure::new("Made room for others", count(sum(|it| it.evicted)), "entries"),
            ];
        }
        Self {
            frame,
            figures,
            list: query.above(("/app-caches", "Which caches"), &[], (wanted.len(), CACHES)),
            unknown: caches.unknown.clone(),
            none: caches.caches.is_empty(),
            rows: wanted[query.range(wanted.len(), CACHES)].iter().map(|it| Row::of(it)).collect(),
            servers: caches.servers.iter().map(Row::of_server).collect(),
        }
    }
}

impl Row {
    fn of(cache: &AppCacheRecord) -> Self {
        let numbers = vec![count(cache.entries), bytes(cache.bytes), count(cache.evicted)];
        Self { name: cache.name.clone(), numbers }
    }

    fn of_server(it: &ServerAppCachesRecord) -> Self {
        let reads = it.near + it.hub + it.misses + it.stale;
        let ratio = (it.near + it.hub + it.stale) as f64 / reads.max(1) as f64;
        let ratio =
            if reads == 0 { super::format::NONE.to_owned() } else { format!("{:.1} %", ratio * 100.0) };
        let counts = [it.near, it.hub, it.stale, it.misses, it.writes, it.copies].map(count);
        let numbers = [ratio].into_iter().chain(counts).chain([bytes(it.copied_bytes)]).collect();
        Self { name: it.server.clone(), numbers }
    }
}
