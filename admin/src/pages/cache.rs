//! The proxy cache: how much each web-tier keeps, what is asked for most, what is not kept and why; a form to purge.

use super::{
    Frame,
    format::{NONE, bytes, count},
};
use crate::cache::{CacheEntryRecord, CacheRecord, WebTierCacheRecord};
use askama::Template;

/// Rows of a list.
const ROWS: usize = 10;

#[derive(Debug, Template)]
#[template(path = "cache.html")]
pub(super) struct Cache {
    frame: Frame,
    silent: Vec<crate::ask::SilentServer>,
    web_tiers: Vec<WebTier>,
}

#[derive(Debug)]
struct WebTier {
    server: String,
    /// In the order of the table's head.
    numbers: Vec<String>,
    hottest: Vec<Entry>,
    largest: Vec<Entry>,
    not_kept: Vec<(String, String)>,
    lately: Vec<(String, String)>,
}

#[derive(Debug)]
struct Entry {
    url: String,
    hits: String,
    bytes: String,
    age: String,
}

impl Cache {
    pub(super) fn new(frame: Frame, cache: CacheRecord) -> Self {
        Self { frame, silent: cache.silent, web_tiers: cache.web_tiers.iter().map(WebTier::of).collect() }
    }
}

impl WebTier {
    fn of(it: &WebTierCacheRecord) -> Self {
        let ratio = it.hit_ratio.map_or(NONE.to_owned(), |ratio| format!("{:.1} %", ratio * 100.0));
        let entries = |list: &[CacheEntryRecord]| list.iter().take(ROWS).map(Entry::of).collect();
        Self {
            server: it.server.clone(),
            numbers: vec![
                ratio,
                count(it.hits),
                count(it.misses),
                count(it.collapsed),
                count(it.revalidated),
                count(it.stale + it.stale_on_error),
                count(it.passed),
                count(it.entries),
                format!("{} of {}", bytes(it.bytes), bytes(it.capacity_bytes)),
                it.disk.as_ref().map_or(NONE.to_owned(), |it| {
                    format!("{} in {} of {}", count(it.entries), bytes(it.bytes), bytes(it.capacity_bytes))
                }),
                count(it.evicted),
            ],
            hottest: entries(&it.hottest),
            largest: entries(&it.largest),
            not_kept: it.not_kept.iter().map(|it| (it.why.clone(), count(it.count))).collect(),
            lately: it.lately_not_kept.iter().take(ROWS).map(|it| (it.url.clone(), it.why.clone())).collect(),
        }
    }
}

impl Entry {
    fn of(it: &CacheEntryRecord) -> Self {
        Self {
            url: it.url.clone(),
            hits: count(it.hits),
            bytes: bytes(it.bytes),
            age: format!("{} s of {} s", count(it.age_s), count(it.lifetime_s)),
        }
    }
}
