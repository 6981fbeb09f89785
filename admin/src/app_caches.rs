//! The caches of apps: what the hub keeps of each, and how near each server finds what its apps read.

use crate::{HUB_WAIT, Inner, refusal::Refusal, sign_in::SignedIn, status::collect::Snapshot};
use common::config::Config;
use proto::{
    hub::v1::{CacheCleared, CachesDescribed, ClearCache},
    status::v1::Caches,
};
use serde::Serialize;
use triad_client::HubError;

/// `GET /api/v1/app-caches`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct AppCachesRecord {
    /// That all of them take on each server of the hub; none: see `unknown`.
    pub(crate) bytes: Option<u64>,
    /// `cache-memory-max`.
    pub(crate) capacity_bytes: Option<u64>,
    /// The largest first.
    pub(crate) caches: Vec<AppCacheRecord>,
    /// Why the hub has not said; none when it has.
    pub(crate) unknown: Option<String>,
    /// What apps ask of their caches on each server.
    pub(crate) servers: Vec<ServerAppCachesRecord>,
}

/// A cache on the hub.
#[derive(Debug, Serialize)]
pub(crate) struct AppCacheRecord {
    pub(crate) name: String,
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    /// Entries that made room for others.
    pub(crate) evicted: u64,
}

/// Counts are since the server's start.
#[derive(Debug, Serialize)]
pub(crate) struct ServerAppCachesRecord {
    pub(crate) server: String,
    /// Reads that were answered from the server's memory.
    pub(crate) near: u64,
    /// And by the hub.
    pub(crate) hub: u64,
    /// Reads of what there was not.
    pub(crate) misses: u64,
    /// Reads of old copies, as the hub was not heard.
    pub(crate) stale: u64,
    pub(crate) writes: u64,
    /// Values in the server's memory.
    pub(crate) copies: u64,
    pub(crate) copied_bytes: u64,
}

impl AppCachesRecord {
    fn of(snapshot: &Snapshot, described: Result<CachesDescribed, String>) -> Self {
        let servers = snapshot.answers().filter_map(|(server, answer)| {
            let caches = answer.status.app_tier.as_ref()?.caches.as_ref()?;
            Some(ServerAppCachesRecord::of(server, caches))
        });
        let servers = servers.collect();
        let described = match described {
            Ok(described) => described,
            Err(why) => return Self { unknown: Some(why), servers, ..Self::default() },
        };
        let mut caches: Vec<_> = described
            .caches
            .into_iter()
            .map(|it| AppCacheRecord {
                name: it.name,
                entries: it.entries,
                bytes: it.bytes,
                evicted: it.evicted,
            })
            .collect();
        caches.sort_by(|one, other| other.bytes.cmp(&one.bytes).then_with(|| one.name.cmp(&other.name)));
        let (bytes, capacity_bytes) = (Some(described.bytes), Some(described.max_bytes));
        Self { bytes, capacity_bytes, caches, unknown: None, servers }
    }
}

impl ServerAppCachesRecord {
    fn of(server: &str, caches: &Caches) -> Self {
        Self {
            server: server.to_owned(),
            near: caches.near_hits,
            hub: caches.hub_hits,
            misses: caches.misses,
            stale: caches.stale,
            writes: caches.writes,
            copies: caches.copies,
            copied_bytes: caches.copied_bytes,
        }
    }
}

/// What came of clearing a cache.
#[derive(Debug, Serialize)]
pub(crate) struct CacheClearedRecord {
    /// That the hub had.
    pub(crate) entries: u64,
    /// The hub had nothing of it: it is in the memory of servers alone, if it is there at all.
    pub(crate) unknown: bool,
}

impl Inner {
    /// The caches of apps, on the hub and in the servers' memories.
    pub(crate) async fn app_caches(&self, config: &Config) -> AppCachesRecord {
        let wait = HUB_WAIT / 5;
        let described = async {
            match tokio::time::timeout(wait, self.hub.describe_caches(wait)).await {
                Ok(described) => described.map_err(|why| why.to_string()),
                Err(_late) => Err("the hub does not answer".to_owned()),
            }
        };
        let (described, snapshot) = tokio::join!(described, self.snapshot(config));
        AppCachesRecord::of(&snapshot, described)
    }

    /// Clears a cache; whoever reads it on a server afterwards finds nothing of before. A `local` one is each server's own.
    ///
    /// # Errors
    /// The user may not, or it is no cache's name.
    pub(crate) async fn clear_app_cache(
        &self,
        asker: &SignedIn,
        cache: &str,
    ) -> Result<CacheClearedRecord, Refusal> {
        asker.must_operate()?;
        let clear = ClearCache { cache: cache.to_owned(), author: Some(asker.author("")) };
        let CacheCleared { entries, unknown } = match self.hub.clear_cache(clear, HUB_WAIT).await {
            Err(HubError::Refused(why)) => return Err(Refusal::Body(why)),
            cleared => cleared?,
        };
        tracing::info!(user = asker.user.name, cache, entries, "an operator has cleared a cache of apps");
        Ok(CacheClearedRecord { entries, unknown })
    }
}
