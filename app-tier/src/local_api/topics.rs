//! Topics: `POST /v1/topics/{topic}` tells all who have subscribed, `GET …/events` listens, `…/subscriptions/{name}` are durable.

use super::{
    Activity, LocalApi,
    answer::{Problem, hub_lost, json_body, no_content},
    input::{self, Query},
    queues::queues,
    route::not_allowed,
};
use crate::{
    content::told,
    queue::{QueueError, of_headers},
    registry::Running,
    topic::{TopicEvent, TopicListener, Topics},
};
use bytes::Bytes;
use common::service_name::ServiceName;
use futures_util::stream;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use proto::hub::v1::{Fence, QueueMessage};
use serde_json::{Map, Value, json};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tonic::body::Body;

/// The longest message, in bytes.
pub(super) const MESSAGE_MAX: usize = 256 << 10;

/// How often something comes on a stream of events, if nothing happens.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Tells all who have subscribed: 201 if some of them are durable, 202 if none is.
pub(super) async fn publish(
    api: &LocalApi,
    caller: &Running,
    name: &str,
    request: Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    let (name, topics) = (input::name("topic", name)?, topics(api)?);
    Query::of(request.uri().query(), &[])?;
    if request.method() != Method::POST {
        return Ok(not_allowed("POST", request.method()));
    }
    let fence = input::fence(request.headers())?;
    let (head, body) = request.into_parts();
    let kind = input::content_type_of(&head.headers)?;
    let body = input::bytes(body, MESSAGE_MAX).await?;
    let message = super::queues::addressed(caller, &name, of_headers(&head.headers, body, kind)?);
    let (ids, servers) = published(api, topics, message, fence).await?;
    let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
    let status = if ids.is_empty() { StatusCode::ACCEPTED } else { StatusCode::CREATED };
    Ok(json_body(status, &json!({"ids": ids, "listening-servers": servers})))
}

/// Tells all who have subscribed; the ids of a message's copies in durable subscriptions, and how many servers have someone who listens.
pub(super) async fn published(
    api: &LocalApi,
    topics: &Topics,
    message: QueueMessage,
    fence: Option<Fence>,
) -> Result<(Vec<u64>, u32), Problem> {
    let name = message.queue.clone();
    // Those that keep it first: who is told of it may look for what they do.
    let kept = queues(api)?.publish_to_topic(message.clone(), fence).await?;
    match topics.tell(&name, message).await.map_err(QueueError::from) {
        Ok(servers) => Ok((kept.ids, servers)),
        // It is kept, and who listens knows that it may have missed something.
        Err(_) if !kept.ids.is_empty() => Ok((kept.ids, 0)),
        Err(cause) => Err(cause.into()),
    }
}

/// `GET …/events`: what is told as it comes (server-sent events).
pub(super) fn events(
    api: &LocalApi,
    name: &str,
    request: &Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    let name = input::name("topic", name)?;
    Query::of(request.uri().query(), &[])?;
    if request.method() != Method::GET {
        return Ok(not_allowed("GET", request.method()));
    }
    let listener = listener(api, &name)?;
    let active = request.extensions().get::<Arc<Activity>>().map(Activity::begin);
    let stream = stream::unfold((listener, active), |(mut listener, active)| async move {
        let text = match tokio::time::timeout(HEARTBEAT, listener.next()).await {
            Ok(TopicEvent::Ready) => "event: ready\ndata: {}\n\n".to_owned(),
            Ok(TopicEvent::Missed) => "event: missed\ndata: {}\n\n".to_owned(),
            Ok(TopicEvent::Message(message)) => {
                format!("event: message\ndata: {}\n\n", message_told(&message))
            }
            Err(_) => ":\n\n".to_owned(),
        };
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from(text))), (listener, active)))
    });
    let mut response = Response::new(Body::new(StreamBody::new(stream)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Someone who hears what is told from now on.
pub(super) fn listener(api: &LocalApi, name: &ServiceName) -> Result<TopicListener, Problem> {
    let full =
        || Problem::new(StatusCode::TOO_MANY_REQUESTS, "full", "too many listen on this server already");
    topics(api)?.listen(name.as_str()).ok_or_else(|| full().again(5))
}

fn message_told(message: &QueueMessage) -> Value {
    let mut map = Map::new();
    told(&mut map, &message.body, &message.content_type);
    if !message.correlation.is_empty() {
        map.insert("correlation".to_owned(), message.correlation.as_str().into());
    }
    if !message.meta.is_empty() {
        let meta = message.meta.iter().map(|it| (it.name.clone(), it.value.as_str().into()));
        map.insert("meta".to_owned(), Value::Object(meta.collect()));
    }
    Value::Object(map)
}

/// `PUT …/subscriptions/{subscription}` makes a durable one, `DELETE` ends it: its messages are those of the queue `topic:TOPIC:SUBSCRIPTION`.
pub(super) async fn subscription(
    api: &LocalApi,
    caller: &Running,
    (topic, name): (&str, &str),
    request: &Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    let (topic, name) = (input::name("topic", topic)?, input::name("subscription", name)?);
    Query::of(request.uri().query(), &[])?;
    let queues = queues(api)?;
    match *request.method() {
        Method::PUT => {
            queues.subscribe(topic.as_str(), name.as_str(), caller.app.sessions.app()).await?;
            Ok(no_content())
        }
        Method::DELETE => {
            queues.unsubscribe(topic.as_str(), name.as_str()).await?;
            Ok(no_content())
        }
        _ => Ok(not_allowed("PUT, DELETE", request.method())),
    }
}

/// `POST …/subscriptions/{subscription}/receive`.
pub(super) async fn receive(
    api: &LocalApi,
    caller: &Running,
    (topic, name): (&str, &str),
    request: &Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    let (topic, name) = (input::name("topic", topic)?, input::name("subscription", name)?);
    super::queues::receive_of(api, caller, &queue_of(&topic, &name), request).await
}

/// The queue of a durable subscription.
pub(super) fn queue_of(topic: &ServiceName, name: &ServiceName) -> String {
    format!("topic:{topic}:{name}")
}

pub(super) fn topics(api: &LocalApi) -> Result<&Topics, Problem> {
    api.topics.as_ref().ok_or_else(|| hub_lost("this server has no hub"))
}
