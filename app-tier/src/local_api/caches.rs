//! Caches: `GET`, `PUT` and `DELETE` of `/v1/caches/{cache}/{key}`, `POST …/increment`, and the whole: `PATCH` puts many, `DELETE` clears.

use super::{
    Activity, LocalApi,
    answer::{Problem, hub_lost, json_body, no_content},
    input::{self, Query},
    route::not_allowed,
};
use crate::{
    cache::{CacheError, CacheEvent, Caches, Found, Listener, Source},
    content::{ObjectAt, millis},
    lease::{Held, LeaseError, Name},
    registry::Running,
};
use bytes::Bytes;
use common::service_name::ServiceName;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{Full, StreamBody};
use hyper::body::{Frame, Incoming};
use proto::hub::v1::{
    CacheClear, CacheCondition, CacheDescription, CacheIncrement, CachePut, CachePutAll, CacheRemove,
    CacheValue, CachedEntry, Fence, cache_condition::Condition, cache_outcome::Outcome, cache_write::Write,
};
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    hash::{DefaultHasher, Hash, Hasher},
    ops::RangeInclusive,
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;

/// The longest value, and the longest body of many, in bytes.
pub(super) const VALUE_MAX: usize = 1 << 20;
const MANY_MAX: usize = 4 << 20;

/// Entries of one `PATCH`.
const ENTRIES_MAX: usize = 10_000;

/// The longest key, in bytes.
const KEY_MAX: usize = 512;

/// The bounds of times.
pub(super) const TIME: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(366 * 24 * 3600);

/// How long a claim is good, the longest wait for another's, and what names it.
pub(super) const CLAIM: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
const WAIT_MAX: Duration = Duration::from_secs(60);
const CLAIM_TOKEN: HeaderName = HeaderName::from_static("x-copal-claim");

/// What was heard of the hub may be older than its answer.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How often something comes on a stream of events, if nothing happens.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);

/// Where a value was found, and how old it is when the hub can't be asked.
const FROM: HeaderName = HeaderName::from_static("x-copal-cache");
const STALE: HeaderName = HeaderName::from_static("x-copal-stale");

/// What is left of a value's time, in milliseconds.
const LEFT: HeaderName = HeaderName::from_static("x-copal-ttl-ms");

/// All of them.
pub(super) async fn all(api: &LocalApi, request: Request<Incoming>) -> Result<Response<Body>, Problem> {
    Query::of(request.uri().query(), &[])?;
    if request.method() != Method::GET {
        return Ok(not_allowed("GET", request.method()));
    }
    let described = caches(api)?.describe().await?;
    let list: Vec<Value> = described.caches.iter().map(told).collect();
    let told = json!({"caches": list, "bytes": described.bytes, "max-bytes": described.max_bytes});
    Ok(json_body(StatusCode::OK, &told))
}

fn told(cache: &CacheDescription) -> Value {
    json!({"name": cache.name, "entries": cache.entries, "bytes": cache.bytes, "evicted": cache.evicted})
}

/// One as a whole.
pub(super) async fn of_name(
    api: &LocalApi,
    name: &str,
    request: Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    let name = input::name("cache", name)?;
    Query::of(request.uri().query(), &[])?;
    let fence = input::fence(request.headers())?;
    match *request.method() {
        Method::GET => {
            let described = caches(api)?.describe().await?;
            let found = described.caches.iter().find(|it| it.name == name.as_str());
            // One that nobody has written to is empty.
            let empty = CacheDescription { name: name.as_str().to_owned(), ..CacheDescription::default() };
            Ok(json_body(StatusCode::OK, &told(found.unwrap_or(&empty))))
        }
        Method::PATCH => {
            let body = input::object_of(request.into_body(), &["entries"], MANY_MAX).await?;
            let list = body.list("entries")?;
            not_many(list.len())?;
            let entries = list.iter().enumerate().map(|(place, it)| entry(place, it));
            let entries = entries.collect::<Result<_, _>>()?;
            Ok(written(write(api, &name, Write::PutAll(CachePutAll { entries }), fence).await?))
        }
        Method::DELETE => Ok(written(write(api, &name, Write::Clear(CacheClear {}), fence).await?)),
        _ => Ok(not_allowed("GET, PATCH, DELETE", request.method())),
    }
}

/// One of the entries of `PATCH`.
fn entry(place: usize, value: &Value) -> Result<CachePut, Problem> {
    const KEYS: [&str; 7] = ["key", "value", "base64", "json", "content-type", "ttl", "idle"];
    let place = format!("entries[{place}]");
    let object = ObjectAt::new(&place, value, &KEYS)?;
    let name =
        object.text("key")?.ok_or_else(|| Problem::bad(format!("{} is missing", object.field("key"))))?;
    let (value, content_type) = object.required_content(VALUE_MAX)?;
    let time = |name: &str| object.duration(name, &TIME).map(|it| it.map_or(0, millis));
    let (ttl_ms, idle_ms) = (time("ttl")?, time("idle")?);
    let value = CacheValue { value, content_type, ttl_ms, idle_ms };
    Ok(CachePut { key: key(name)?, value: Some(value), condition: None })
}

/// What is put at once.
pub(super) fn not_many(entries: usize) -> Result<(), Problem> {
    if entries <= ENTRIES_MAX {
        return Ok(());
    }
    let text = format!("entries has {entries}: expected at most {ENTRIES_MAX}");
    Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", text))
}

pub(super) fn key(text: &str) -> Result<String, Problem> {
    if (1..=KEY_MAX).contains(&text.len()) {
        return Ok(text.to_owned());
    }
    Err(Problem::bad(format!("the key has {} bytes: expected 1 to {KEY_MAX}", text.len())))
}

/// One value.
pub(super) async fn of_key(
    api: &LocalApi,
    caller: &Running,
    (cache, name): (&str, &str),
    request: Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    let (cache, key) = (input::name("cache", cache)?, key(&input::decoded("key", name)?)?);
    match *request.method() {
        Method::GET | Method::HEAD => {
            let query = Query::of(request.uri().query(), &["consistency", "claim"])?;
            let strong = query.choice("consistency", &["near", "strong"])?.is_some_and(|it| it == "strong");
            let time = query.duration("claim", &CLAIM)?;
            let (found, claim) = found(api, caller, (&cache, &key), strong, time).await?;
            let mut response = match found.entry {
                Some(entry) => value(entry, request.headers()),
                None => nothing(&cache).into_response(),
            };
            if let Some(token) = claim {
                response.headers_mut().insert(CLAIM_TOKEN, HeaderValue::from(token));
            }
            let from = match found.from {
                Source::Hub => "hub",
                Source::Near => "near",
                Source::Stale(age) => {
                    response.headers_mut().insert(STALE, HeaderValue::from(age.as_secs()));
                    "stale"
                }
            };
            response.headers_mut().insert(FROM, HeaderValue::from_static(from));
            Ok(response)
        }
        Method::PUT => put(api, caller, (&cache, key), request).await,
        Method::DELETE => {
            Query::of(request.uri().query(), &[])?;
            let (condition, fence) = (condition(request.headers())?, input::fence(request.headers())?);
            removed(api, &cache, CacheRemove { key, condition }, fence).await?;
            Ok(no_content())
        }
        _ => Ok(not_allowed("GET, HEAD, PUT, DELETE", request.method())),
    }
}

fn nothing(cache: &ServiceName) -> Problem {
    Problem::not_found(format!("the cache {cache} has nothing at this key"))
}

/// What is at a key. If nothing is there, and a claim is wanted for so long: that, or what whoever has it puts.
pub(super) async fn found(
    api: &LocalApi,
    caller: &Running,
    (cache, key): (&ServiceName, &str),
    strong: bool,
    claim: Option<Duration>,
) -> Result<(Found, Option<u64>), Problem> {
    let found = caches(api)?.get(cache.as_str(), key, strong).await?;
    match claim.filter(|_| found.entry.is_none()) {
        Some(time) => claimed(api, caller, (cache.as_str(), key), time).await,
        None => Ok((found, None)),
    }
}

/// Writes, once.
pub(super) async fn write(
    api: &LocalApi,
    cache: &ServiceName,
    write: Write,
    fence: Option<Fence>,
) -> Result<Outcome, Problem> {
    done(caches(api)?.write(cache.as_str(), write, fence).await?)
}

/// Removes a value.
pub(super) async fn removed(
    api: &LocalApi,
    cache: &ServiceName,
    remove: CacheRemove,
    fence: Option<Fence>,
) -> Result<(), Problem> {
    match write(api, cache, Write::Remove(remove), fence).await? {
        Outcome::Done(false) => Err(nothing(cache)),
        _ => Ok(()),
    }
}

/// Puts a value; whoever had a claim on it gives that back, so that those who wait for the value read it now.
pub(super) async fn put_claimed(
    api: &LocalApi,
    caller: &Running,
    cache: &ServiceName,
    (put, fence): (CachePut, Option<Fence>),
    claim: Option<u64>,
) -> Result<Outcome, Problem> {
    let name = claim_name(cache.as_str(), &put.key);
    let put = write(api, cache, Write::Put(put), fence).await?;
    let is_claim = |it: &Arc<Held>| {
        it.app() == caller.app.sessions.app() && it.name().app.is_empty() && it.name().name == name
    };
    if let (Some(leases), Some(token)) = (&api.leases, claim)
        && let Some(held) = leases.held(token).filter(is_claim)
    {
        leases.give_back(&held).await;
    }
    Ok(put)
}

/// One caller of the cluster computes what is not there, and gets a claim; the others wait for what it puts.
async fn claimed(
    api: &LocalApi,
    caller: &Running,
    (cache, key): (&str, &str),
    time: Duration,
) -> Result<(Found, Option<u64>), Problem> {
    let leases = api.leases.as_ref().ok_or_else(|| hub_lost("this server has no hub"))?;
    let (caches, name) = (caches(api)?, Name { app: String::new(), name: claim_name(cache, key) });
    let until = Instant::now() + WAIT_MAX;
    loop {
        match leases.acquire_for(&name, caller.app.sessions.app(), time).await {
            Ok(held) => {
                // Whoever had the claim before may have put it.
                let found = caches.get(cache, key, true).await;
                if matches!(&found, Ok(found) if found.entry.is_none()) {
                    return Ok((found?, Some(held.token())));
                }
                leases.give_back(&held).await;
                return Ok((found?, None));
            }
            Err(LeaseError::Held { .. }) if Instant::now() < until => {
                let free = async {
                    tokio::time::sleep(LOOK_AGAIN).await;
                    leases.is_free(&name).await;
                };
                let _ = timeout_at(until, free).await;
                let found = caches.get(cache, key, true).await?;
                if found.entry.is_some() {
                    return Ok((found, None));
                }
            }
            Err(cause) => return Err(cause.into()),
        }
    }
}

/// The lease of who computes a value: the same on every server that runs the same version, whatever the key is.
fn claim_name(cache: &str, key: &str) -> ServiceName {
    let hash = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, cache, key).hash(&mut hasher);
        hasher.finish()
    };
    ServiceName::new(&format!("claim.{:016x}{:016x}", hash(1), hash(2))).expect("hexadecimal digits")
}

/// Tells of changes as they come (server-sent events).
pub(super) fn events(
    api: &LocalApi,
    name: &str,
    request: &Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    if request.method() != Method::GET {
        return Ok(not_allowed("GET", request.method()));
    }
    let cache = input::name("cache", name)?;
    Query::of(request.uri().query(), &[])?;
    let listener = listener(api, &cache)?;
    let active = request.extensions().get::<Arc<Activity>>().map(Activity::begin);
    let stream = stream::unfold((listener, active, false), |(mut listener, active, is_told)| async move {
        let text = if is_told {
            match tokio::time::timeout(HEARTBEAT, listener.next()).await {
                Ok(CacheEvent::Changed(key)) => {
                    format!("event: changed\ndata: {}\n\n", json!({"key": key}))
                }
                Ok(CacheEvent::Cleared) => "event: cleared\ndata: {}\n\n".to_owned(),
                Ok(CacheEvent::Missed) => "event: missed\ndata: {}\n\n".to_owned(),
                Err(_) => ":\n\n".to_owned(),
            }
        } else if listener.is_told(HEARTBEAT).await {
            "event: ready\ndata: {}\n\n".to_owned()
        } else {
            ":\n\n".to_owned()
        };
        let is_told = is_told || text.starts_with("event: ready");
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from(text))), (listener, active, is_told)))
    });
    let mut response = Response::new(Body::new(StreamBody::new(stream)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Someone who hears of changes from now on.
pub(super) fn listener(api: &LocalApi, cache: &ServiceName) -> Result<Listener, Problem> {
    let full =
        || Problem::new(StatusCode::TOO_MANY_REQUESTS, "full", "too many listen on this server already");
    caches(api)?.listen(cache.as_str()).ok_or_else(|| full().again(5))
}

async fn put(
    api: &LocalApi,
    caller: &Running,
    (cache, key): (&ServiceName, String),
    request: Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    let claim = request.headers().get(CLAIM_TOKEN).and_then(|it| it.to_str().ok()?.parse().ok());
    let query = Query::of(request.uri().query(), &["ttl", "idle"])?;
    let time = |name: &str| query.duration(name, &TIME).map(|it| it.map_or(0, millis));
    let (ttl_ms, idle_ms) = (time("ttl")?, time("idle")?);
    let (condition, fence) = (condition(request.headers())?, input::fence(request.headers())?);
    let content_type = input::content_type_of(request.headers())?;
    let value = input::bytes(request.into_body(), VALUE_MAX).await?;
    let value = CacheValue { value, content_type, ttl_ms, idle_ms };
    let put = CachePut { key, value: Some(value), condition };
    Ok(written(put_claimed(api, caller, cache, (put, fence), claim).await?))
}

/// `POST …/{key}/increment`.
pub(super) async fn increment(
    api: &LocalApi,
    (cache, name): (&str, &str),
    request: Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    if request.method() != Method::POST {
        return Ok(not_allowed("POST", request.method()));
    }
    let (cache, key) = (input::name("cache", cache)?, key(&input::decoded("key", name)?)?);
    Query::of(request.uri().query(), &[])?;
    let fence = input::fence(request.headers())?;
    let body = input::object(request.into_body(), &["by", "initial", "ttl", "idle"]).await?;
    let time = |name: &str| body.duration(name, &TIME).map(|it| it.map_or(0, millis));
    let increment = CacheIncrement {
        key,
        by: body.integer("by")?.unwrap_or(1),
        initial: body.integer("initial")?.unwrap_or(0),
        ttl_ms: time("ttl")?,
        idle_ms: time("idle")?,
    };
    Ok(written(write(api, &cache, Write::Increment(increment), fence).await?))
}

/// A value, or the word that the caller has it (RFC 9110 §13.1.2).
fn value(entry: CachedEntry, asked: &HeaderMap) -> Response<Body> {
    let CachedEntry { value, version, left_ms } = entry;
    let CacheValue { value, content_type, .. } = value.unwrap_or_default();
    let tag = tag(version);
    let had = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|it| it.to_str().ok());
    let is_had = had.flat_map(|it| it.split(',')).any(|it| it.trim() == tag);
    let mut response = Response::new(match is_had {
        true => Body::empty(),
        false => Body::new(Full::from(value)),
    });
    if is_had {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    if let Ok(kind) = HeaderValue::from_str(&content_type) {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    if left_ms != 0 {
        headers.insert(LEFT, HeaderValue::from(left_ms));
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn tag(version: u64) -> String {
    format!("\"{version}\"")
}

/// What `If-Match` and `If-None-Match` want to be there.
fn condition(headers: &HeaderMap) -> Result<Option<CacheCondition>, Problem> {
    let text = |name: HeaderName| headers.get(&name).map(|it| it.to_str().unwrap_or("?").trim().to_owned());
    let condition = match (text(header::IF_MATCH).as_deref(), text(header::IF_NONE_MATCH).as_deref()) {
        (None, None) => return Ok(None),
        (Some("*"), None) => Condition::Present(true),
        (None, Some("*")) => Condition::Absent(true),
        (Some(tag), None) => {
            let number =
                tag.strip_prefix('"').and_then(|it| it.strip_suffix('"')).and_then(|it| it.parse().ok());
            let number = number.filter(|it| *it > 0);
            Condition::Version(number.ok_or_else(|| {
                Problem::bad(format!("If-Match is {tag:?}: expected * or the ETag of a value, such as \"7\""))
            })?)
        }
        (None, Some(other)) => {
            return Err(Problem::bad(format!("If-None-Match is {other:?}: expected *, nothing is there")));
        }
        (Some(_), Some(_)) => return Err(Problem::bad("If-Match and If-None-Match: expected one of them")),
    };
    Ok(Some(CacheCondition { condition: Some(condition) }))
}

/// What was carried out.
fn done(outcome: Outcome) -> Result<Outcome, Problem> {
    Err(match outcome {
        Outcome::Stored(_) | Outcome::Number(_) | Outcome::Done(_) => return Ok(outcome),
        Outcome::Unmet(version) => {
            let found = if version == 0 { "nothing".to_owned() } else { format!("the version {version}") };
            let text = format!("the condition does not hold: {found} is there");
            let problem = Problem::new(StatusCode::PRECONDITION_FAILED, "precondition-failed", text);
            problem.with("version", version)
        }
        Outcome::StaleFence(_) => {
            let text = "the lease of X-Copal-Fence is not held with this token any more";
            Problem::new(StatusCode::CONFLICT, "stale-fence", text)
        }
        Outcome::NotANumber(_) => {
            let text = "what is there is no whole number, or would become greater than 64 bits hold";
            Problem::new(StatusCode::CONFLICT, "not-a-number", text)
        }
        Outcome::Full(max) => {
            let text = format!("there is no room: the bound is {max}");
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "full", text).again(5)
        }
        Outcome::Settled(_) => hub_lost("nobody knows what came of it"),
    })
}

fn written(outcome: Outcome) -> Response<Body> {
    let with_tag = |mut response: Response<Body>, version| {
        if let Ok(tag) = HeaderValue::from_str(&tag(version)) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    };
    match outcome {
        Outcome::Stored(stored) => {
            let mut response = no_content();
            if stored.created {
                *response.status_mut() = StatusCode::CREATED;
            }
            with_tag(response, stored.version)
        }
        Outcome::Number(number) => {
            with_tag(json_body(StatusCode::OK, &json!({"value": number.value})), number.version)
        }
        _ => no_content(),
    }
}

impl From<CacheError> for Problem {
    fn from(error: CacheError) -> Self {
        let text = error.to_string();
        match error {
            CacheError::HubLost(_) => hub_lost(text),
            CacheError::NoFence => Self::bad(text),
            CacheError::Refused(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "refused", text).again(1),
        }
    }
}

fn caches(api: &LocalApi) -> Result<&Caches, Problem> {
    api.caches.as_ref().ok_or_else(|| hub_lost("this server has no hub"))
}
