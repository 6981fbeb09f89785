//! Topics: `POST /v1/topics/{topic}` tells all who have subscribed, `GET …/events` listens, `…/subscriptions/{name}` are durable.

use super::{
    Activity, LocalApi,
    answer::{Problem, hub_lost, json_body, no_content},
    input::{self, Query},
    route::not_allowed,
};
use crate::{
    content::{TYPE, content_type_is_ok, told},
    queue::{QueueError, of_headers},
    registry::Running,
    topic::{TopicEvent, Topics},
};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use proto::hub::v1::QueueMessage;
use serde_json::{Map, Value, json};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tonic::body::Body;

/// The longest message, in bytes.
const MESSAGE_MAX: usize = 256 << 10;

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
    let kind = head.headers.get(header::CONTENT_TYPE).map_or(Ok(TYPE), |it| it.to_str());
    let kind = kind.map_err(|_| Problem::bad("the content type is no text"))?.to_owned();
    content_type_is_ok(&kind)?;
    let body = input::bytes(body, MESSAGE_MAX).await?;
    let message = of_headers(&head.headers, body, kind)?;
    let (queue, app) = (name.as_str().to_owned(), caller.app.sessions.app().to_owned());
    let message = QueueMessage { queue, app, ..message };
    // Those that keep it first: who is told of it may look for what they do.
    let queues = api.queues.as_ref().ok_or_else(|| hub_lost("this server has no hub"))?;
    let kept = queues.publish_to_topic(message.clone(), fence).await?;
    let servers = topics.tell(name.as_str(), message).await.map_err(QueueError::from);
    let ids: Vec<String> = kept.ids.iter().map(u64::to_string).collect();
    let servers = match servers {
        Ok(servers) => servers,
        // It is kept, and who listens knows that it may have missed something.
        Err(_) if !ids.is_empty() => 0,
        Err(cause) => return Err(cause.into()),
    };
    let status = if ids.is_empty() { StatusCode::ACCEPTED } else { StatusCode::CREATED };
    Ok(json_body(status, &json!({"ids": ids, "listening-servers": servers})))
}

/// `GET …/events`: what is told as it comes (server-sent events).
pub(super) fn events(
    api: &LocalApi,
    name: &str,
    request: &Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    let (name, topics) = (input::name("topic", name)?, topics(api)?);
    Query::of(request.uri().query(), &[])?;
    if request.method() != Method::GET {
        return Ok(not_allowed("GET", request.method()));
    }
    let full =
        || Problem::new(StatusCode::TOO_MANY_REQUESTS, "full", "too many listen on this server already");
    let listener = topics.listen(name.as_str()).ok_or_else(|| full().again(5))?;
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
    let queues = api.queues.as_ref().ok_or_else(|| hub_lost("this server has no hub"))?;
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
    super::queues::receive_of(api, caller, &format!("topic:{topic}:{name}"), request).await
}

fn topics(api: &LocalApi) -> Result<&Topics, Problem> {
    api.topics.as_ref().ok_or_else(|| hub_lost("this server has no hub"))
}
