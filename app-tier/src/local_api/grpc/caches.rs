//! The service `Caches`.

use super::{Answers, InFlight, Services, answers, caller};
use crate::{
    cache::{self, Found, Listener, Source},
    content,
    local_api::{
        LocalApi,
        answer::{Problem, hub_lost},
        caches::{self, CLAIM, HEARTBEAT, TIME, VALUE_MAX},
        input::{self, millis},
    },
    registry::Running,
};
use futures_util::stream;
use proto::{
    app::v1::{
        CacheClearReply, CacheClearRequest, CacheCondition, CacheDeleteReply, CacheDeleteRequest, CacheEntry,
        CacheEvent, CacheEventsRequest, CacheGetReply, CacheGetRequest, CacheIncrementReply,
        CacheIncrementRequest, CacheItem, CachePutAllReply, CachePutAllRequest, CachePutReply,
        CachePutRequest, cache_condition::Condition as Wanted, cache_event::Kind,
        cache_get_reply::Source as Place, caches_server::Caches,
    },
    hub::v1::{
        self as hub, CacheClear, CacheIncrement, CachePut, CachePutAll, CacheRemove, CacheValue, CachedEntry,
        cache_condition::Condition, cache_outcome::Outcome, cache_write::Write,
    },
};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl Caches for Services {
    async fn get(&self, request: Request<CacheGetRequest>) -> Result<Response<CacheGetReply>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(get(&self.0, &caller, request.into_inner()).await?))
    }

    async fn put(&self, request: Request<CachePutRequest>) -> Result<Response<CachePutReply>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(put(&self.0, &caller, request.into_inner()).await?))
    }

    async fn delete(
        &self,
        request: Request<CacheDeleteRequest>,
    ) -> Result<Response<CacheDeleteReply>, Status> {
        let CacheDeleteRequest { cache, key, condition, fence } = request.into_inner();
        let (cache, fence) = (input::name("cache", &cache)?, input::told_fence(fence)?);
        let remove = CacheRemove { key: caches::key(&key)?, condition: wanted(condition)? };
        caches::removed(&self.0, &cache, remove, fence).await?;
        Ok(Response::new(CacheDeleteReply {}))
    }

    async fn increment(
        &self,
        request: Request<CacheIncrementRequest>,
    ) -> Result<Response<CacheIncrementReply>, Status> {
        Ok(Response::new(increment(&self.0, request.into_inner()).await?))
    }

    async fn put_all(
        &self,
        request: Request<CachePutAllRequest>,
    ) -> Result<Response<CachePutAllReply>, Status> {
        let CachePutAllRequest { cache, items, fence } = request.into_inner();
        let (cache, fence) = (input::name("cache", &cache)?, input::told_fence(fence)?);
        caches::not_many(items.len())?;
        let entries = items.into_iter().enumerate().map(|(place, it)| item(place, it));
        let entries = entries.collect::<Result<_, _>>()?;
        caches::write(&self.0, &cache, Write::PutAll(CachePutAll { entries }), fence).await?;
        Ok(Response::new(CachePutAllReply {}))
    }

    async fn clear(&self, request: Request<CacheClearRequest>) -> Result<Response<CacheClearReply>, Status> {
        let CacheClearRequest { cache, fence } = request.into_inner();
        let (cache, fence) = (input::name("cache", &cache)?, input::told_fence(fence)?);
        caches::write(&self.0, &cache, Write::Clear(CacheClear {}), fence).await?;
        Ok(Response::new(CacheClearReply {}))
    }

    type EventsStream = Answers<CacheEvent>;

    async fn events(
        &self,
        request: Request<CacheEventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        let in_flight = InFlight::of(&request)?;
        let listener = caches::listener(&self.0, &input::name("cache", &request.into_inner().cache)?)?;
        let events = stream::unfold((listener, false), |(mut listener, is_told)| async move {
            Some((Ok(event(&mut listener, is_told).await), (listener, true)))
        });
        Ok(answers(in_flight, events))
    }
}

async fn get(api: &LocalApi, caller: &Running, request: CacheGetRequest) -> Result<CacheGetReply, Problem> {
    let CacheGetRequest { cache, key, strong, claim_ms } = request;
    let (cache, key) = (input::name("cache", &cache)?, caches::key(&key)?);
    let claim = millis("claim_ms", claim_ms, &CLAIM)?;
    let (Found { entry, from }, claim) = caches::found(api, caller, (&cache, &key), strong, claim).await?;
    let (source, stale_ms) = match from {
        Source::Hub => (Place::Hub, 0),
        Source::Near => (Place::Near, 0),
        Source::Stale(age) => (Place::Stale, content::millis(age)),
    };
    let (entry, source, claim) = (entry.map(told), source.into(), claim.unwrap_or_default());
    Ok(CacheGetReply { entry, source, stale_ms, claim })
}

fn told(entry: CachedEntry) -> CacheEntry {
    let CachedEntry { value, version, left_ms } = entry;
    let CacheValue { value, content_type, .. } = value.unwrap_or_default();
    CacheEntry { value, content_type, version, left_ms }
}

async fn put(api: &LocalApi, caller: &Running, request: CachePutRequest) -> Result<CachePutReply, Problem> {
    let CachePutRequest { cache, key, value, content_type, ttl_ms, idle_ms, condition, fence, claim } =
        request;
    let (cache, fence) = (input::name("cache", &cache)?, input::told_fence(fence)?);
    let item = CacheItem { key, value, content_type, ttl_ms, idle_ms };
    let put = CachePut { condition: wanted(condition)?, ..one(item, str::to_owned)? };
    let claim = Some(claim).filter(|it| *it > 0);
    match caches::put_claimed(api, caller, &cache, (put, fence), claim).await? {
        Outcome::Stored(stored) => Ok(CachePutReply { version: stored.version, created: stored.created }),
        _ => Err(hub_lost("nobody knows what came of it")),
    }
}

async fn increment(api: &LocalApi, request: CacheIncrementRequest) -> Result<CacheIncrementReply, Problem> {
    let CacheIncrementRequest { cache, key, by, initial, ttl_ms, idle_ms, fence } = request;
    let (cache, fence) = (input::name("cache", &cache)?, input::told_fence(fence)?);
    millis("ttl_ms", ttl_ms, &TIME)?;
    millis("idle_ms", idle_ms, &TIME)?;
    let key = caches::key(&key)?;
    let increment = CacheIncrement { key, by: by.unwrap_or(1), initial, ttl_ms, idle_ms };
    match caches::write(api, &cache, Write::Increment(increment), fence).await? {
        Outcome::Number(number) => Ok(CacheIncrementReply { value: number.value, version: number.version }),
        _ => Err(hub_lost("nobody knows what came of it")),
    }
}

/// One of the items of `PutAll`.
fn item(place: usize, item: CacheItem) -> Result<CachePut, Problem> {
    one(item, |key| format!("items[{place}].{key}"))
}

/// A value for a key; `field` names a member.
fn one(item: CacheItem, field: impl Fn(&str) -> String) -> Result<CachePut, Problem> {
    let CacheItem { key, value, content_type, ttl_ms, idle_ms } = item;
    let key = caches::key(&key)?;
    input::not_longer(&field("value"), &value, VALUE_MAX)?;
    millis(&field("ttl_ms"), ttl_ms, &TIME)?;
    millis(&field("idle_ms"), idle_ms, &TIME)?;
    let value = CacheValue { value, content_type: input::content_type(content_type)?, ttl_ms, idle_ms };
    Ok(CachePut { key, value: Some(value), condition: None })
}

/// What has to be there.
fn wanted(condition: Option<CacheCondition>) -> Result<Option<hub::CacheCondition>, Problem> {
    let Some(condition) = condition else { return Ok(None) };
    let condition = match condition.condition {
        Some(Wanted::IfAbsent(true)) => Condition::Absent(true),
        Some(Wanted::IfPresent(true)) => Condition::Present(true),
        Some(Wanted::IfVersion(version)) if version > 0 => Condition::Version(version),
        _ => {
            let text =
                "condition: expected if_absent or if_present, which are true, or an if_version from 1 on";
            return Err(Problem::bad(text));
        }
    };
    Ok(Some(hub::CacheCondition { condition: Some(condition) }))
}

/// The next event; `is_told`: not the first one.
async fn event(listener: &mut Listener, is_told: bool) -> CacheEvent {
    let of = |kind: Kind, key| CacheEvent { kind: kind.into(), key };
    if !is_told {
        while !listener.is_told(HEARTBEAT).await {}
        return of(Kind::Ready, String::new());
    }
    match listener.next().await {
        cache::CacheEvent::Changed(key) => of(Kind::Changed, key),
        cache::CacheEvent::Cleared => of(Kind::Cleared, String::new()),
        cache::CacheEvent::Missed => of(Kind::Missed, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_as_of_http() {
        let of = |it| wanted(Some(CacheCondition { condition: it })).map(|it| it.unwrap().condition.unwrap());
        assert!(wanted(None).unwrap().is_none());
        assert_eq!(of(Some(Wanted::IfAbsent(true))).unwrap(), Condition::Absent(true));
        assert_eq!(of(Some(Wanted::IfPresent(true))).unwrap(), Condition::Present(true));
        assert_eq!(of(Some(Wanted::IfVersion(7))).unwrap(), Condition::Version(7));
        for wrong in
            [None, Some(Wanted::IfAbsent(false)), Some(Wanted::IfPresent(false)), Some(Wanted::IfVersion(0))]
        {
            assert!(of(wrong).is_err());
        }
    }

    #[test]
    fn what_is_refused_is_named() {
        let whole = || CacheItem { key: "k".to_owned(), ..CacheItem::default() };
        assert_eq!(item(0, whole()).unwrap().value.unwrap().content_type, content::TYPE);
        for (it, text) in [
            (CacheItem { key: String::new(), ..whole() }, "the key has 0 bytes"),
            (CacheItem { key: "x".repeat(513), ..whole() }, "the key has 513 bytes"),
            (
                CacheItem { value: vec![0; VALUE_MAX + 1].into(), ..whole() },
                "items[2].value has 1048577 bytes",
            ),
            (CacheItem { content_type: "a\nb".to_owned(), ..whole() }, "the content type has 3 bytes"),
            (CacheItem { ttl_ms: u64::MAX, ..whole() }, "items[2].ttl_ms is"),
            (CacheItem { idle_ms: u64::MAX, ..whole() }, "items[2].idle_ms is"),
        ] {
            let found = format!("{:?}", item(2, it).unwrap_err());
            assert!(found.contains(text), "{found}");
        }
    }
}
