//! `cache …`: what web-tiers keep of answers, and what they are to forget.

use crate::{cli::PurgeArguments, client, progress::size, say, table, target::Target, tell};
use http::Method;
use serde::{Deserialize, Serialize};

/// `GET /api/v1/cache`, as far as a table needs it.
#[derive(Debug, Deserialize)]
struct Cache {
    web_tiers: Vec<WebTier>,
    silent: Vec<Silent>,
}

#[derive(Debug, Deserialize)]
struct WebTier {
    server: String,
    capacity_bytes: u64,
    bytes: u64,
    entries: u64,
    hits: u64,
    misses: u64,
    collapsed: u64,
    evicted: u64,
    disk: Option<Disk>,
    hit_ratio: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Disk {
    capacity_bytes: u64,
    bytes: u64,
}

#[derive(Debug, Deserialize)]
struct Silent {
    server: String,
    why: String,
}

/// Prints how much each web-tier keeps.
///
/// # Errors
/// It could not be had.
pub(crate) async fn status(target: &Target, json: bool) -> anyhow::Result<bool> {
    let answer = client::ask(target, Method::GET, "/api/v1/cache", client::Body::none()).await?;
    if json {
        say(answer.text());
        return Ok(true);
    }
    let cache: Cache = answer.read()?;
    let heading =
        ["WEB-TIER", "HIT RATIO", "HITS", "MISSES", "COLLAPSED", "ENTRIES", "MEMORY", "DISK", "EVICTED"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(cache.web_tiers.iter().map(|it| {
        let ratio = it.hit_ratio.map_or("-".to_owned(), |ratio| format!("{:.1} %", ratio * 100.0));
        let memory = format!("{} of {}", size(it.bytes), size(it.capacity_bytes));
        let disk = it.disk.as_ref();
        let disk =
            disk.map_or("-".to_owned(), |it| format!("{} of {}", size(it.bytes), size(it.capacity_bytes)));
        let [hits, misses, collapsed, entries, evicted] =
            [it.hits, it.misses, it.collapsed, it.entries, it.evicted].map(|it| it.to_string());
        vec![it.server.clone(), ratio, hits, misses, collapsed, entries, memory, disk, evicted]
    }));
    table::lines(&rows).iter().for_each(|line| say(line));
    if cache.web_tiers.is_empty() {
        tell("note: no web-tier has a `proxy-cache`");
    }
    cache.silent.iter().for_each(|it| tell(&format!("note: {} can't be asked: {}", it.server, it.why)));
    Ok(true)
}

#[derive(Debug, Serialize)]
struct Purge<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pattern: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<&'a str>,
    all: bool,
    soft: bool,
}

#[derive(Debug, Deserialize)]
struct Purged {
    web_tiers: Vec<PurgedOn>,
    silent: Vec<Silent>,
    written: bool,
}

#[derive(Debug, Deserialize)]
struct PurgedOn {
    server: String,
    count: u64,
}

/// Has all web-tiers forget answers; false if one of them has not said that it did.
///
/// # Errors
/// It was refused.
pub(crate) async fn purge(target: &Target, arguments: &PurgeArguments, json: bool) -> anyhow::Result<bool> {
    let what = Purge {
        url: arguments.what_url.as_deref(),
        prefix: arguments.prefix.as_deref(),
        pattern: arguments.pattern.as_deref(),
        tag: arguments.tag.as_deref(),
        all: arguments.all,
        soft: arguments.soft,
    };
    let answer = client::ask(target, Method::POST, "/api/v1/cache/purge", client::Body::json(&what)?).await?;
    let purged: Purged = answer.read()?;
    if json {
        say(answer.text());
        return Ok(purged.silent.is_empty());
    }
    for it in &purged.web_tiers {
        let entries = if it.count == 1 { "entry" } else { "entries" };
        say(&format!("{}: {} {entries}", it.server, it.count));
    }
    if purged.web_tiers.is_empty() {
        tell("note: no web-tier has a `proxy-cache`");
    }
    for it in &purged.silent {
        let until = if purged.written { ", until it hears the hub again" } else { "" };
        tell(&format!("warning: {} has not answered and may still have it{until}: {}", it.server, it.why));
    }
    if !purged.written {
        tell("warning: the hub has not written it down: a web-tier that is cut off will not hear of it");
    }
    Ok(purged.silent.is_empty())
}
