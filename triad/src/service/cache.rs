//! `cache.proto`'s service.

use super::{audit, input};
use crate::{
    copies::{Place, place},
    hub::Hub,
    serve::Caller,
    state::Reply,
};
use prost::Message;
use proto::hub::v1::{
    CacheCleared, CachePut, CacheValue, CacheWrite, CachedLoaded, CachesDescribed, CachesWritten, ClearCache,
    Command, DescribeCaches, LoadCached, WriteCaches, cache_write::Write, caches_server::Caches, command,
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// Writes in one call.
const WRITES_MAX: usize = 4096;

/// Entries of one write, and keys.
const ENTRIES_MAX: usize = 10_000;

/// The longest key, content type and value, in bytes.
const KEY_MAX: usize = 512;
const TYPE_MAX: usize = 256;
const VALUE_MAX: usize = 1 << 20;

/// The longest time: ten years.
const TIME_MAX_MS: u64 = 10 * 366 * 24 * 3600 * 1000;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct CacheService(pub(crate) Arc<Hub>);

#[tonic::async_trait]
impl Caches for CacheService {
    async fn write(&self, request: Request<WriteCaches>) -> Result<Response<CachesWritten>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let mut call = request.into_inner();
        input::server("server", &call.server)?;
        input::own("server", &call.server, caller.as_ref())?;
        if call.writes.len() > WRITES_MAX {
            let text = format!("writes has {} entries: expected at most {WRITES_MAX}", call.writes.len());
            return Err(Status::invalid_argument(text));
        }
        for (place, write) in call.writes.iter().enumerate() {
            check(place, write)?;
        }
        let (count, bytes, written) = (call.writes.len(), call.encoded_len(), places(&call.writes));
        call.max_bytes = self.0.cache_memory_max();
        let command = Command { command: Some(command::Command::WriteCaches(call)) };
        let Some(Reply::CachesWritten(outcomes)) = self.0.propose(vec![command], bytes).await?.pop() else {
            return Err(Status::internal("the hub's state answered another question"));
        };
        if outcomes.outcomes.len() != count {
            return Err(Status::internal(format!(
                "{count} writes have {} outcomes",
                outcomes.outcomes.len()
            )));
        }
        self.0.feed().copies_are_gone(&written).await;
        Ok(Response::new(outcomes))
    }

    async fn load(&self, request: Request<LoadCached>) -> Result<Response<CachedLoaded>, Status> {
        let LoadCached { cache, key, watch } = request.into_inner();
        input::service_name("cache", &cache)?;
        key_is_ok("key", &key)?;
        self.0.confirm_read().await?;
        // Before it is looked up: what changes from here on is told.
        let told = self.0.feed().takes_copy(watch, &cache, &key);
        let now_ms = self.0.time_ms();
        let (entry, lingers) = {
            let applied = self.0.node().view().read();
            let caches = applied.state.caches();
            (caches.get(&cache, &key, now_ms), caches.lingers(&cache, &key))
        };
        // One that is over, and was read elsewhere a moment ago, may be there again without a word.
        let told = told && (entry.is_some() || !lingers);
        Ok(Response::new(CachedLoaded { entry, told }))
    }

    async fn describe(&self, _request: Request<DescribeCaches>) -> Result<Response<CachesDescribed>, Status> {
        self.0.confirm_read().await?;
        let applied = self.0.node().view().read();
        let caches = applied.state.caches();
        let (bytes, max_bytes) = (caches.bytes(), self.0.cache_memory_max());
        Ok(Response::new(CachesDescribed { caches: caches.describe().collect(), bytes, max_bytes }))
    }

    async fn manage(&self, request: Request<ClearCache>) -> Result<Response<CacheCleared>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let mut call = request.into_inner();
        input::service_name("cache", &call.cache)?;
        audit::check(call.author.as_ref())?;
        call.author = audit::signed(&self.0, call.author, caller.as_ref());
        let (bytes, cleared) = (call.encoded_len(), [place(&call.cache, "")]);
        let command = Command { command: Some(command::Command::ClearCache(call)) };
        let Some(Reply::CacheCleared(reply)) = self.0.propose(vec![command], bytes).await?.pop() else {
            return Err(Status::internal("the hub's state answered another question"));
        };
        self.0.feed().copies_are_gone(&cleared).await;
        Ok(Response::new(reply))
    }
}

/// Of what there may be copies that are outdated. To have read a value changes none.
pub(super) fn places(writes: &[CacheWrite]) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for CacheWrite { cache, write, .. } in writes {
        match write {
            Some(Write::Put(it)) => places.push(place(cache, &it.key)),
            Some(Write::PutAll(all)) => places.extend(all.entries.iter().map(|it| place(cache, &it.key))),
            Some(Write::Remove(it)) => places.push(place(cache, &it.key)),
            Some(Write::Increment(it)) => places.push(place(cache, &it.key)),
            Some(Write::Clear(_)) => places.push(place(cache, "")),
            Some(Write::Touch(_)) | None => {}
        }
    }
    places
}

fn key_is_ok(field: &str, key: &str) -> Result<(), Status> {
    if (1..=KEY_MAX).contains(&key.len()) {
        return Ok(());
    }
    Err(Status::invalid_argument(format!("{field} has {} bytes: expected 1 to {KEY_MAX}", key.len())))
}

/// What a write may hold; `place` is its place in the list.
pub(super) fn check(place: usize, write: &CacheWrite) -> Result<(), Status> {
    let field = |name: &str| format!("writes[{place}].{name}");
    input::service_name(&field("cache"), &write.cache)?;
    match &write.write {
        Some(Write::Put(put)) => entry(&field("put"), put),
        Some(Write::PutAll(all)) => {
            few(&field("put_all"), all.entries.len())?;
            all.entries.iter().try_for_each(|it| entry(&field("put_all"), it))
        }
        Some(Write::Remove(remove)) => key_is_ok(&field("remove.key"), &remove.key),
        Some(Write::Increment(increment)) => {
            key_is_ok(&field("increment.key"), &increment.key)?;
            times(&field("increment"), increment.ttl_ms, increment.idle_ms)
        }
        Some(Write::Touch(touch)) => {
            few(&field("touch"), touch.keys.len())?;
            touch.keys.iter().try_for_each(|it| key_is_ok(&field("touch.keys"), it))
        }
        Some(Write::Clear(_)) => Ok(()),
        None => Err(Status::invalid_argument(format!("{} is missing", field("write")))),
    }
}

fn few(field: &str, count: usize) -> Result<(), Status> {
    if count <= ENTRIES_MAX {
        return Ok(());
    }
    Err(Status::invalid_argument(format!("{field} has {count} entries: expected at most {ENTRIES_MAX}")))
}

fn entry(field: &str, put: &CachePut) -> Result<(), Status> {
    key_is_ok(&format!("{field}.key"), &put.key)?;
    let missing = || Status::invalid_argument(format!("{field}.value is missing"));
    let CacheValue { value, content_type, ttl_ms, idle_ms } = put.value.as_ref().ok_or_else(missing)?;
    if value.len() > VALUE_MAX {
        let text = format!("{field}.value has {} bytes: expected at most {VALUE_MAX}", value.len());
        return Err(Status::invalid_argument(text));
    }
    input::text(&format!("{field}.content_type"), content_type, TYPE_MAX)?;
    times(field, *ttl_ms, *idle_ms)
}

fn times(field: &str, ttl_ms: u64, idle_ms: u64) -> Result<(), Status> {
    if ttl_ms.max(idle_ms) <= TIME_MAX_MS {
        return Ok(());
    }
    let text = format!("{field} has the times {ttl_ms} and {idle_ms} ms: expected at most {TIME_MAX_MS}");
    Err(Status::invalid_argument(text))
}
