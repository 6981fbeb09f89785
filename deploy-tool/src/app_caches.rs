//! `app-cache …`: what apps have in their caches, on the hub and in the servers' memories, and clearing one.

use crate::{cli::AppCacheCommand, client, progress::size, say, table, target::Target, tell};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

/// `GET /api/v1/app-caches`, as far as tables need it.
#[derive(Debug, Deserialize)]
struct AppCaches {
    bytes: Option<u64>,
    capacity_bytes: Option<u64>,
    caches: Vec<AppCache>,
    unknown: Option<String>,
    servers: Vec<Server>,
}

#[derive(Debug, Deserialize)]
struct AppCache {
    name: String,
    entries: u64,
    bytes: u64,
    evicted: u64,
}

#[derive(Debug, Deserialize)]
struct Server {
    server: String,
    near: u64,
    hub: u64,
    misses: u64,
    stale: u64,
    writes: u64,
    copies: u64,
    copied_bytes: u64,
}

#[derive(Debug, Deserialize)]
struct Cleared {
    entries: u64,
    unknown: bool,
}

/// Does what is asked; false if the hub has not said what it has.
///
/// # Errors
/// It could not be had, or was refused.
pub(crate) async fn run(target: &Target, command: &AppCacheCommand, json: bool) -> anyhow::Result<bool> {
    match command {
        AppCacheCommand::List => list(target, json).await,
        AppCacheCommand::Clear { cache } => clear(target, cache, json).await,
    }
}

async fn clear(target: &Target, cache: &str, json: bool) -> anyhow::Result<bool> {
    let path = format!("/api/v1/app-caches/{}/clear", utf8_percent_encode(cache, NON_ALPHANUMERIC));
    let answer = client::ask(target, Method::POST, &path, client::Body::none()).await?;
    if json {
        say(answer.text());
        return Ok(true);
    }
    let Cleared { entries, unknown } = answer.read()?;
    say(&if unknown {
        format!(
            "the hub had nothing of a cache {cache}: what servers have of an invalidated one is gone, a local one is each server's own and stays"
        )
    } else {
        format!("the cache {cache} is cleared: {entries} entries are gone")
    });
    Ok(true)
}

/// Prints both tables; false if the hub has not said what it has.
///
/// # Errors
/// They could not be had.
async fn list(target: &Target, json: bool) -> anyhow::Result<bool> {
    let answer = client::ask(target, Method::GET, "/api/v1/app-caches", client::Body::none()).await?;
    if json {
        say(answer.text());
        return Ok(true);
    }
    let caches: AppCaches = answer.read()?;
    let mut rows = vec![["CACHE", "ENTRIES", "MEMORY", "EVICTED"].map(str::to_owned).to_vec()];
    rows.extend(
        caches
            .caches
            .iter()
            .map(|it| vec![it.name.clone(), it.entries.to_string(), size(it.bytes), it.evicted.to_string()]),
    );
    if let (Some(bytes), Some(capacity)) = (caches.bytes, caches.capacity_bytes) {
        let all = format!("{} of {}", size(bytes), size(capacity));
        rows.push(vec!["(all)".to_owned(), String::new(), all, String::new()]);
        table::lines(&rows).iter().for_each(|line| say(line));
    }
    let heading = ["SERVER", "NEAR", "HUB", "MISSES", "STALE", "WRITES", "COPIES", "MEMORY"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(caches.servers.iter().map(|it| {
        let counts = [it.near, it.hub, it.misses, it.stale, it.writes, it.copies].map(|it| it.to_string());
        [vec![it.server.clone()], counts.to_vec(), vec![size(it.copied_bytes)]].concat()
    }));
    table::lines(&rows).iter().for_each(|line| say(line));
    if let Some(why) = &caches.unknown {
        tell(&format!("note: what the hub has is unknown: {why}"));
    }
    Ok(caches.unknown.is_none())
}
