//! Queues: `POST /v1/queues/{queue}` publishes, `…/batch` many, `…/receive` takes messages, which `DELETE` or `PATCH /v1/deliveries/{token}` settles;
//! `…/dead` are those that failed for good.

use super::{
    LocalApi,
    answer::{Problem, hub_lost, json_body, no_content},
    input::{self, Query},
    route::not_allowed,
};
use crate::{
    content::told,
    queue::{HeldDelivery, Queues, of_headers, of_json},
    registry::Running,
};
use bytes::Bytes;
use common::service_name::ServiceName;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use proto::hub::v1::{
    BrowseQueue, BrowsedMessage, Delivery, DeliveryDone, DeliveryFailed, DeliveryGivenBack, Fence,
    MessagesPublished, QueueDescription, QueueMessage, QueuePolicy, SettleDelivery, browse_queue::Which,
    message_reply, settle_delivery::Outcome,
};
use serde_json::{Map, Value, json};
use std::{ops::RangeInclusive, sync::Arc, time::Duration};
use tonic::body::Body;

/// The longest message, and the longest body of many, in bytes.
pub(super) const MESSAGE_MAX: usize = 256 << 10;
const BATCH_MAX: usize = 4 << 20;

/// Messages of one batch, and that are received at a time.
pub(super) const MESSAGES_MAX: usize = 1000;
pub(super) const RECEIVE_MAX: u32 = 100;

/// The bounds of a wait: for a reply, for messages.
pub(super) const WAIT: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(60);

/// The bounds of a delivery's time, and of the wait before another attempt.
pub(super) const TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
pub(super) const AFTER: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(30 * 24 * 3600);

/// Dead messages that are told at a time, and bytes of their bodies.
const DEAD_MAX: u32 = 100;
const DEAD_BODY_MAX: u32 = 4 << 10;

/// Why a message is dead, in bytes.
pub(super) const WHY_MAX: usize = 1024;

/// All of them.
pub(super) async fn all(api: &LocalApi, request: &Request<Incoming>) -> Result<Response<Body>, Problem> {
    Query::of(request.uri().query(), &[])?;
    if request.method() != Method::GET {
        return Ok(not_allowed("GET", request.method()));
    }
    let described = queues(api)?.describe().await?;
    let list: Vec<Value> = described.queues.iter().map(described_queue).collect();
    let told = json!({"queues": list, "bytes": described.bytes, "max-bytes": described.max_bytes});
    Ok(json_body(StatusCode::OK, &told))
}

/// What is told of a queue.
pub(super) fn described_queue(queue: &QueueDescription) -> Value {
    let counts = queue.counts.unwrap_or_default();
    let QueuePolicy { timeout_ms, attempts, .. } = queue.policy.clone().unwrap_or_default();
    let oldest_ms = if queue.oldest_ms == 0 { 0 } else { queue.now_ms.saturating_sub(queue.oldest_ms) };
    json!({
        "name": queue.name,
        "paused": queue.paused,
        "ready": queue.ready,
        "delayed": queue.delayed,
        "assigned": queue.assigned,
        "waiting": queue.waiting,
        "dead": queue.dead,
        "bytes": queue.bytes,
        "oldest-ms": oldest_ms,
        "published": counts.published,
        "settled": counts.settled,
        "delivered": counts.delivered,
        "failed": counts.failed,
        "expired": counts.expired,
        "timeout-ms": timeout_ms,
        "attempts": attempts,
        "consumers": queue.consumers.iter().map(|it| json!({
            "server": it.server, "app": it.app, "window": it.window, "assigned": it.assigned,
        })).collect::<Vec<_>>(),
    })
}

/// One of them.
pub(super) async fn of_name(
    api: &LocalApi,
    caller: &Running,
    name: &str,
    request: Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    let queues = queues(api)?;
    match *request.method() {
        Method::GET => {
            let name = input::queue_to_look_at(name)?;
            Query::of(request.uri().query(), &[])?;
            let described = queues.describe().await?;
            let found = described.queues.iter().find(|it| it.name == name);
            // One that nobody has published to is empty.
            let empty = QueueDescription { name: name.to_owned(), ..QueueDescription::default() };
            Ok(json_body(StatusCode::OK, &described_queue(found.unwrap_or(&empty))))
        }
        Method::POST => {
            let name = input::name("queue", name)?;
            let wait = Query::of(request.uri().query(), &["wait"])?.duration("wait", &WAIT)?;
            let fence = input::fence(request.headers())?;
            let message = addressed(caller, &name, message_of(request).await?);
            match wait.filter(|it| !it.is_zero()) {
                None => Ok(published(&queues.publish(vec![message], fence).await?)),
                Some(wait) => ask(queues, message, fence, wait).await,
            }
        }
        _ => Ok(not_allowed("GET, POST", request.method())),
    }
}

/// The message that a request is.
pub(super) async fn message_of(request: Request<Incoming>) -> Result<QueueMessage, Problem> {
    let (head, body) = request.into_parts();
    let kind = input::content_type_of(&head.headers)?;
    let body = input::bytes(body, MESSAGE_MAX).await?;
    Ok(of_headers(&head.headers, body, kind)?)
}

/// A message of the app that calls, for a queue.
pub(super) fn addressed(caller: &Running, name: &ServiceName, message: QueueMessage) -> QueueMessage {
    let (queue, app) = (name.as_str().to_owned(), caller.app.sessions.app().to_owned());
    QueueMessage { queue, app, ..message }
}

/// Publishes and waits for what the handler answers.
async fn ask(
    queues: &Queues,
    message: QueueMessage,
    fence: Option<Fence>,
    wait: Duration,
) -> Result<Response<Body>, Problem> {
    let (_, DeliveryDone { body, content_type }) = asked(queues, message, fence, wait).await?;
    Ok(content(StatusCode::OK, body, &content_type))
}

/// The same: the message's id, and its reply.
pub(super) async fn asked(
    queues: &Queues,
    message: QueueMessage,
    fence: Option<Fence>,
    wait: Duration,
) -> Result<(u64, DeliveryDone), Problem> {
    let (came, reply) = queues.ask(message, fence, wait).await?;
    let id = came.ids.first().copied().unwrap_or_default();
    let problem = match reply.and_then(|it| it.outcome) {
        Some(message_reply::Outcome::Done(done) | message_reply::Outcome::Halted(done)) => {
            return Ok((id, done));
        }
        Some(message_reply::Outcome::Failed(why)) => {
            Problem::new(StatusCode::BAD_GATEWAY, "failed", format!("the message has failed: {why}"))
        }
        None if !came.repeated.is_empty() => {
            let text = "the message was published before: its reply is for whoever did so";
            Problem::new(StatusCode::CONFLICT, "repeated", text)
        }
        None => {
            let text = format!("no reply has come within {wait:?}");
            Problem::new(StatusCode::GATEWAY_TIMEOUT, "late", text)
        }
    };
    Err(problem.with("id", id.to_string()))
}

/// What an app has answered.
pub(super) fn content(status: StatusCode, body: Bytes, content_type: &str) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::from(body)));
    *response.status_mut() = status;
    if let Ok(kind) = HeaderValue::from_str(content_type)
        && !content_type.is_empty()
    {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// One message that was published, or was there before. An id is a text: JavaScript's numbers have 53 bits.
fn published(came: &MessagesPublished) -> Response<Body> {
    let id = came.ids.first().copied().unwrap_or_default().to_string();
    match came.repeated.is_empty() {
        true => json_body(StatusCode::CREATED, &json!({"id": id})),
        false => json_body(StatusCode::OK, &json!({"id": id, "repeated": true})),
    }
}

/// `POST …/batch`: all or none.
pub(super) async fn batch(
    api: &LocalApi,
    caller: &Running,
    name: &str,
    request: Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    let (name, queues) = (input::name("queue", name)?, queues(api)?);
    Query::of(request.uri().query(), &[])?;
    if request.method() != Method::POST {
        return Ok(not_allowed("POST", request.method()));
    }
    let fence = input::fence(request.headers())?;
    let body = input::object_of(request.into_body(), &["messages"], BATCH_MAX).await?;
    let list = body.list("messages")?;
    input::not_many("messages", list.len(), MESSAGES_MAX)?;
    let messages = list.iter().enumerate().map(|(place, it)| {
        let message = of_json(&format!("messages[{place}]"), it, &[], MESSAGE_MAX)?;
        Ok::<_, Problem>(addressed(caller, &name, message))
    });
    let messages = messages.collect::<Result<Vec<_>, _>>()?;
    let came = queues.publish(messages, fence).await?;
    let ids: Vec<String> = came.ids.iter().map(u64::to_string).collect();
    Ok(json_body(StatusCode::CREATED, &json!({"ids": ids, "repeated": came.repeated})))
}

/// `POST …/receive`.
pub(super) async fn receive(
    api: &LocalApi,
    caller: &Running,
    name: &str,
    request: &Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    receive_of(api, caller, input::name("queue", name)?.as_str(), request).await
}

/// The same of a queue whose name no app can use.
pub(super) async fn receive_of(
    api: &LocalApi,
    caller: &Running,
    name: &str,
    request: &Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    let queues = queues(api)?;
    if request.method() != Method::POST {
        return Ok(not_allowed("POST", request.method()));
    }
    let query = Query::of(request.uri().query(), &["wait", "max", "timeout"])?;
    let wait = query.duration("wait", &WAIT)?.unwrap_or_default();
    let timeout = query.duration("timeout", &TIMEOUT)?;
    let max = query.number("max", &(1..=RECEIVE_MAX))?.unwrap_or(1);
    let app = caller.app.sessions.app();
    let held = queues.receive((name, app), max, wait, timeout).await?;
    let list: Vec<Value> = held.iter().map(|it| delivered(it)).collect();
    Ok(json_body(StatusCode::OK, &json!({"messages": list})))
}

/// What is told of a message that someone has received.
fn delivered(held: &HeldDelivery) -> Value {
    let Delivery { id, attempt, left_ms, published_ms, message, .. } = held.delivery();
    let message = message.clone().unwrap_or_default();
    let mut map = message_told(&message);
    map.insert("token".to_owned(), held.number().to_string().into());
    map.insert("id".to_owned(), id.to_string().into());
    map.insert("attempt".to_owned(), (*attempt).into());
    map.insert("ttl-ms".to_owned(), (*left_ms).into());
    map.insert("published-ms".to_owned(), (*published_ms).into());
    Value::Object(map)
}

fn message_told(message: &QueueMessage) -> Map<String, Value> {
    let mut map = Map::new();
    told(&mut map, &message.body, &message.content_type);
    for (name, text) in [("group", &message.group), ("correlation", &message.correlation)] {
        if !text.is_empty() {
            map.insert(name.to_owned(), text.as_str().into());
        }
    }
    if message.run > 0 {
        map.insert("run".to_owned(), message.run.to_string().into());
    }
    if !message.meta.is_empty() {
        let meta = message.meta.iter().map(|it| (it.name.clone(), it.value.as_str().into()));
        map.insert("meta".to_owned(), Value::Object(meta.collect()));
    }
    map
}

/// A delivery that the app has: `GET` says how long it is its, `DELETE` that the message is done, `PATCH` something else.
pub(super) async fn of_delivery(
    api: &LocalApi,
    caller: &Running,
    token: &str,
    request: Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    let (number, queues) = (input::token(token)?, queues(api)?);
    Query::of(request.uri().query(), &[])?;
    let held = || held(queues, caller, number);
    match *request.method() {
        Method::GET => {
            let left = held()?.until().saturating_duration_since(tokio::time::Instant::now());
            Ok(json_body(StatusCode::OK, &json!({"ttl-ms": crate::content::millis(left)})))
        }
        Method::DELETE => {
            let (held, fence) = (held()?, input::fence(request.headers())?);
            let kind = request.headers().get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
            let content_type = kind.unwrap_or_default().chars().take(crate::content::TYPE_MAX).collect();
            // A reply, if someone waits for one.
            let body = input::bytes(request.into_body(), MESSAGE_MAX).await?;
            settle(queues, &held, Outcome::Done(DeliveryDone { body, content_type }), fence).await?;
            Ok(no_content())
        }
        Method::PATCH => {
            let (held, fence) = (held()?, input::fence(request.headers())?);
            let body = input::object(request.into_body(), &["extend", "retry", "give-back", "dead"]).await?;
            let time = |key, bounds: &RangeInclusive<Duration>| {
                body.duration(key, bounds).map(|it| it.map(crate::content::millis))
            };
            let outcome = match (
                time("extend", &TIMEOUT)?,
                time("retry", &AFTER)?,
                time("give-back", &AFTER)?,
                body.text("dead", WHY_MAX)?,
            ) {
                (Some(extend_ms), None, None, None) => Outcome::ExtendMs(extend_ms),
                (None, Some(after_ms), None, None) => another_attempt(after_ms),
                (None, None, Some(after_ms), None) => Outcome::GivenBack(DeliveryGivenBack { after_ms }),
                (None, None, None, Some(why)) => Outcome::Dead(why.to_owned()),
                _ => {
                    let text =
                        "expected one of extend, retry, give-back (times, such as \"5s\") and dead (why)";
                    return Err(Problem::bad(text));
                }
            };
            settle(queues, &held, outcome, fence).await?;
            Ok(no_content())
        }
        _ => Ok(not_allowed("GET, DELETE, PATCH", request.method())),
    }
}

/// A delivery that the app has, by its token.
pub(super) fn held(queues: &Queues, caller: &Running, number: u64) -> Result<Arc<HeldDelivery>, Problem> {
    let held = queues.held(number, caller.app.sessions.app());
    held.ok_or_else(|| {
        let text = "no delivery with this token is this app's on this server; it may be over";
        Problem::new(StatusCode::CONFLICT, "delivery-over", text)
    })
}

/// Says what has come of one.
pub(super) async fn settle(
    queues: &Queues,
    held: &HeldDelivery,
    outcome: Outcome,
    fence: Option<Fence>,
) -> Result<(), Problem> {
    let extend = if let Outcome::ExtendMs(ms) = outcome { Some(Duration::from_millis(ms)) } else { None };
    let settle =
        SettleDelivery { delivery: held.number(), outcome: Some(outcome), ..SettleDelivery::default() };
    queues.settle(held, settle, fence).await?;
    if let Some(time) = extend {
        held.extend(time);
    }
    Ok(())
}

/// This one has failed.
pub(super) fn another_attempt(after_ms: u64) -> Outcome {
    let why = "its receiver asked for another attempt".to_owned();
    Outcome::Failed(DeliveryFailed { why, after_ms: after_ms.max(1) })
}

/// `GET …/dead`.
pub(super) async fn dead(
    api: &LocalApi,
    name: &str,
    request: &Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    let (name, queues) = (input::queue_to_look_at(name)?, queues(api)?);
    if request.method() != Method::GET {
        return Ok(not_allowed("GET", request.method()));
    }
    let query = Query::of(request.uri().query(), &["max", "after"])?;
    let browse = BrowseQueue {
        queue: name.to_owned(),
        which: Which::Dead.into(),
        after: query.number("after", &(0..=u64::MAX))?.unwrap_or(0),
        limit: query.number("max", &(1..=DEAD_MAX))?.unwrap_or(DEAD_MAX),
        body_max: DEAD_BODY_MAX,
    };
    // A queue that is not there has no dead.
    let described = queues.describe().await?;
    let found = match described.queues.iter().any(|it| it.name == name) {
        true => queues.browse(browse).await?,
        false => Vec::new(),
    };
    let list: Vec<Value> = found.iter().map(dead_told).collect();
    Ok(json_body(StatusCode::OK, &json!({"messages": list})))
}

fn dead_told(dead: &BrowsedMessage) -> Value {
    let mut map = message_told(dead.message.as_ref().unwrap_or(&QueueMessage::default()));
    map.insert("id".to_owned(), dead.id.to_string().into());
    map.insert("attempts".to_owned(), dead.attempts.into());
    map.insert("why".to_owned(), dead.why.as_str().into());
    map.insert("died-ms".to_owned(), dead.at_ms.into());
    map.insert("published-ms".to_owned(), dead.published_ms.into());
    map.insert("bytes".to_owned(), dead.body_bytes.into());
    Value::Object(map)
}

/// `POST …/dead/replay`: all, or those of `ids`.
pub(super) async fn replay(
    api: &LocalApi,
    name: &str,
    request: Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    let (name, queues) = (input::queue_to_look_at(name)?, queues(api)?);
    Query::of(request.uri().query(), &[])?;
    if request.method() != Method::POST {
        return Ok(not_allowed("POST", request.method()));
    }
    let body = input::object(request.into_body(), &["ids"]).await?;
    let ids = match body.has("ids") {
        false => Vec::new(),
        true => {
            let list = body.list("ids")?;
            if !(1..=MESSAGES_MAX).contains(&list.len()) {
                let text = format!(
                    "ids has {} entries: expected 1 to {MESSAGES_MAX}, or no ids for all",
                    list.len()
                );
                return Err(Problem::bad(text));
            }
            let read = |it: &Value| it.as_str().and_then(|it| it.parse().ok()).or_else(|| it.as_u64());
            let bad = || Problem::bad("ids: expected ids as texts, such as \"17\"");
            list.iter().map(|it| read(it).ok_or_else(bad)).collect::<Result<_, _>>()?
        }
    };
    let replayed = queues.replay(name, ids).await?;
    Ok(json_body(StatusCode::ACCEPTED, &json!({"replayed": replayed.count})))
}

pub(super) fn queues(api: &LocalApi) -> Result<&Queues, Problem> {
    api.queues.as_ref().ok_or_else(|| hub_lost("this server has no hub"))
}
