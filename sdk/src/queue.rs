//! Queues (docs/queues.md): messages that are published here, and a handler that is called with each of a queue, on one server at a time.

use crate::{
    Copal, Environment, ServiceError, daemon::Fence, dev::DevMessage, environment::Token, services::Place,
};
use axum::{
    Router,
    body::Bytes,
    extract::State,
    response::{IntoResponse, Response},
    routing::post,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

/// An answer of this kind says what else is to be done.
const OUTCOME: &str = "application/vnd.copal.outcome+json";

/// A queue of the cluster. Messages are JSON.
///
/// ```
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sdk::ServiceError> {
/// let environment = sdk::Environment::in_memory();
/// // What it gives is for the app's router: Copal calls that.
/// let routes = sdk::consume(&environment, "squares", |message: sdk::Message<i64>| async move {
///     Ok::<_, std::io::Error>(sdk::Outcome::reply(&(message.body * message.body)))
/// });
///
/// let squares = sdk::Copal::of(&environment).queue("squares");
/// squares.publish(&3).await?;
/// assert_eq!(squares.ask::<_, i64>(&4, Duration::from_secs(10)).await?, 16);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Queue {
    copal: Copal,
    name: String,
    fence: Option<Fence>,
}

/// A message that is about to be published.
#[derive(Debug, Clone)]
pub struct Publish<'a> {
    queue: &'a Queue,
    body: Result<Value, String>,
    headers: Vec<(&'static str, String)>,
}

impl Copal {
    /// A queue of the cluster.
    pub fn queue(&self, name: &str) -> Queue {
        Queue { copal: self.clone(), name: name.to_owned(), fence: None }
    }
}

impl Queue {
    /// The same, whose publishes count only while this daemon's lease is held.
    pub fn fenced(&self, fence: &Fence) -> Self {
        Self { fence: Some(fence.clone()), ..self.clone() }
    }

    /// Publishes a message: it is on disk on a majority of the hub when this returns. Its id.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn publish<T: Serialize + ?Sized>(&self, body: &T) -> Result<String, ServiceError> {
        self.message(body).publish().await
    }

    /// A message with more than a body.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), sdk::ServiceError> {
    /// let queue = sdk::Copal::of(&sdk::Environment::in_memory()).queue("mails");
    /// queue.message(&"remind me").delay(Duration::from_secs(3600)).group("user-17").publish().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn message<T: Serialize + ?Sized>(&self, body: &T) -> Publish<'_> {
        let body = serde_json::to_value(body).map_err(|cause| cause.to_string());
        Publish { queue: self, body, headers: Vec::new() }
    }

    /// Publishes a message and waits for what its handler replies.
    ///
    /// # Errors
    /// [`ServiceError`]; refused with `late` when there was no reply in time, and with `failed` when the message is dead.
    pub async fn ask<T: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        body: &T,
        wait: Duration,
    ) -> Result<R, ServiceError> {
        let reply = self.message(body).send(Some(wait)).await?;
        serde_json::from_value(reply).map_err(|cause| ServiceError::Value(cause.to_string()))
    }
}

impl Publish<'_> {
    fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    /// 0 to 9: the greatest goes first; 4 if nothing is said.
    pub fn priority(self, priority: u8) -> Self {
        self.with("x-copal-priority", priority)
    }

    /// Nobody is handed it before.
    pub fn delay(self, time: Duration) -> Self {
        self.with("x-copal-delay", format!("{}ms", time.as_millis()))
    }

    /// It is dropped when nobody has taken it for so long.
    pub fn ttl(self, time: Duration) -> Self {
        self.with("x-copal-ttl", format!("{}ms", time.as_millis()))
    }

    /// Of a group one is handled at a time, in the order in which they were published.
    pub fn group(self, group: &str) -> Self {
        self.with("x-copal-group", group)
    }

    /// While a message with this key is in the queue there is no second.
    pub fn unique(self, key: &str) -> Self {
        self.with("x-copal-unique", key)
    }

    /// A publish with the same key, within a day, is the same message.
    pub fn idempotency_key(self, key: &str) -> Self {
        self.with("idempotency-key", key)
    }

    /// Publishes it. Its id, or that of the message that was there with its key.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn publish(self) -> Result<String, ServiceError> {
        let answer = self.send(None).await?;
        Ok(answer["id"].as_str().unwrap_or_default().to_owned())
    }

    async fn send(self, wait: Option<Duration>) -> Result<Value, ServiceError> {
        let Self { queue, body, headers } = self;
        let body = body.map_err(ServiceError::Value)?;
        let dev = match &*queue.copal.0 {
            Place::Memory(dev) => dev.clone(),
            Place::Server(..) => {
                let wait = wait.map(|it| format!("?wait={}ms", it.as_millis())).unwrap_or_default();
                let path = format!("/v1/queues/{}{wait}", queue.name);
                let body = body.to_string().into();
                let answer =
                    queue.copal.ask(Method::POST, &path, body, &headers, queue.fence.as_ref()).await?;
                // A handler may reply with nothing.
                let read = if answer.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&answer) };
                return read.map_err(|cause| ServiceError::Value(cause.to_string()));
            }
        };
        let find = |name: &str| headers.iter().find(|it| it.0 == name).map(|it| it.1.clone());
        let delay = find("x-copal-delay").and_then(|it| it.trim_end_matches("ms").parse().ok());
        let delay = delay.map_or(Duration::ZERO, Duration::from_millis);
        let (message, handled) = DevMessage::new(body, delay, find("x-copal-group"));
        dev.publish(&queue.name, message)?;
        match wait {
            None => Ok(json!({"id": "dev"})),
            Some(wait) => match tokio::time::timeout(wait, handled).await {
                Ok(Ok(Ok(reply))) => Ok(reply),
                Ok(Ok(Err(detail))) => Err(ServiceError::Refused { code: "failed".into(), detail }),
                Ok(Err(_)) | Err(_) => {
                    let detail = format!("no reply has come within {wait:?}");
                    Err(ServiceError::Refused { code: "late".into(), detail })
                }
            },
        }
    }
}

/// A message of a queue.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Message<T> {
    /// What was published.
    pub body: T,
    /// Names the message: the same at each attempt.
    pub id: String,
    /// From 1.
    pub attempt: u32,
    /// Its group, if it has one.
    pub group: Option<String>,
    /// At the step for errors of a pipeline: why the last attempt has failed, and at which step.
    pub error: Option<(String, String)>,
}

/// What becomes of a message. `Err` of a handler is another attempt, later.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    pub(crate) json: Map<String, Value>,
}

impl Outcome {
    /// It is done.
    pub fn done() -> Self {
        Self::default()
    }

    /// It is done, and whoever waits gets this.
    pub fn reply<T: Serialize + ?Sized>(value: &T) -> Self {
        let value = serde_json::to_value(value).unwrap_or_default();
        Self { json: [("body".to_owned(), value)].into_iter().collect() }
    }

    /// No attempt would do better.
    pub fn dead(why: &str) -> Self {
        Self { json: [("dead".to_owned(), why.into())].into_iter().collect() }
    }

    /// It is tried again after so long.
    pub fn retry_after(time: Duration) -> Self {
        let time = format!("{}ms", time.as_millis().max(1));
        Self { json: [("retry-after".to_owned(), time.into())].into_iter().collect() }
    }

    /// Of a pipeline's step: the run goes on at this one. Without a [reply](Self::reply) with the message itself.
    #[must_use]
    pub fn next(mut self, step: &str) -> Self {
        self.json.insert("next".to_owned(), step.into());
        self
    }

    /// Of a pipeline's step: the run ends here, with the reply.
    #[must_use]
    pub fn halt(mut self) -> Self {
        self.json.insert("halt".to_owned(), true.into());
        self
    }

    /// Of a pipeline's step: the run goes on in parts, one a value, 1,000 at most.
    pub fn fan_out<T: Serialize>(values: impl IntoIterator<Item = T>) -> Self {
        let values = values.into_iter().map(|it| serde_json::to_value(it).unwrap_or_default());
        Self { json: [("fan-out".to_owned(), values.collect())].into_iter().collect() }
    }

    fn push(mut self, list: &str, value: Value) -> Self {
        let list = self.json.entry(list).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list {
            list.push(value);
        }
        self
    }

    /// And publishes this: together with the message's end, or not at all.
    pub fn publish<T: Serialize + ?Sized>(self, queue: &str, body: &T) -> Self {
        self.push("publish", json!({"queue": queue, "json": body}))
    }

    /// And puts this into a cache; the same.
    pub fn put<T: Serialize + ?Sized>(self, cache: &str, key: &str, value: &T) -> Self {
        self.push("cache", json!({"cache": cache, "key": key, "json": value}))
    }

    /// And adds to a whole number in a cache; the same. So a message that is handled twice counts once.
    pub fn increment(self, cache: &str, key: &str, by: i64) -> Self {
        self.push("cache", json!({"cache": cache, "key": key, "increment": by}))
    }
}

impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Self::done()
    }
}

type Handling = Pin<Box<dyn Future<Output = Result<Outcome, String>> + Send>>;
pub(crate) type Handle = dyn Fn(Result<Value, String>, Told) -> Handling + Send + Sync;

/// What is told of a message beside its body.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    pub(crate) id: String,
    pub(crate) attempt: u32,
    pub(crate) group: Option<String>,
    pub(crate) error: Option<(String, String)>,
}

#[derive(Clone)]
struct Consumer {
    token: Option<Token>,
    handle: Arc<Handle>,
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Consumer")
    }
}

/// The path by which Copal calls this app with the messages of a queue: `/queues/NAME`, as `app.yaml` has to have it:
/// `queues: [{name: NAME, path: /queues/NAME}]`.
///
/// `Ok` is done; `Err` is tried again, later and later, until the queue's attempts are over. A message may come twice, where a server died in the middle: what counts
/// must count once is best said by the [`Outcome`].
///
/// ```
/// use sdk::{Copal, Environment, Message, Outcome};
/// use serde::{Deserialize, Serialize};
/// use std::time::Duration;
///
/// #[derive(Serialize, Deserialize)]
/// struct Order {
///     item: String,
/// }
///
/// async fn sell(order: Message<Order>) -> Result<Outcome, std::io::Error> {
///     if order.body.item.is_empty() {
///         return Ok(Outcome::dead("an order of nothing"));
///     }
///     Ok(Outcome::reply("sold").increment("sold", &order.body.item, 1))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sdk::ServiceError> {
/// let environment = Environment::in_memory();
/// let routes = sdk::consume(&environment, "orders", sell);
///
/// let copal = Copal::of(&environment);
/// let order = Order { item: "apple".to_owned() };
/// let reply = copal.queue("orders").ask::<_, String>(&order, Duration::from_secs(10)).await?;
/// assert_eq!(reply, "sold");
/// assert_eq!(copal.cache("sold").get::<u64>("apple").await?, Some(1));
/// # Ok(())
/// # }
/// ```
pub fn consume<T, F, O, E>(
    environment: &Environment,
    name: &str,
    handler: impl Fn(Message<T>) -> F + Send + Sync + 'static,
) -> Router
where
    T: DeserializeOwned + Send + 'static,
    F: Future<Output = Result<O, E>> + Send + 'static,
    O: Into<Outcome>,
    E: fmt::Display,
{
    let handle = handle_of(handler);
    if environment.hub.is_none() {
        environment.dev.consume(name, &handle);
    }
    route_of(environment, &format!("/queues/{name}"), handle)
}

/// A handler of messages of any kind.
pub(crate) fn handle_of<T, F, O, E>(handler: impl Fn(Message<T>) -> F + Send + Sync + 'static) -> Arc<Handle>
where
    T: DeserializeOwned + Send + 'static,
    F: Future<Output = Result<O, E>> + Send + 'static,
    O: Into<Outcome>,
    E: fmt::Display,
{
    Arc::new(move |value: Result<Value, String>, told: Told| -> Handling {
        let body = value.and_then(|it| serde_json::from_value::<T>(it).map_err(|cause| cause.to_string()));
        let body = match body {
            Ok(body) => body,
            // It never becomes one that can be read.
            Err(cause) => {
                let why = format!("the body is no {}: {cause}", std::any::type_name::<T>());
                return Box::pin(std::future::ready(Ok(Outcome::dead(&why))));
            }
        };
        let Told { id, attempt, group, error } = told;
        let handling = handler(Message { body, id, attempt, group, error });
        Box::pin(async move { handling.await.map(Into::into).map_err(|cause| cause.to_string()) })
    })
}

/// The path at which it is called.
pub(crate) fn route_of(environment: &Environment, path: &str, handle: Arc<Handle>) -> Router {
    let consumer = Consumer { token: environment.hub.as_ref().map(|(_, token)| token.clone()), handle };
    Router::new().route(path, post(deliver)).with_state(consumer)
}

async fn deliver(State(consumer): State<Consumer>, headers: HeaderMap, body: Bytes) -> Response {
    if !consumer.token.as_ref().is_some_and(|it| it.is_of(&headers)) {
        return StatusCode::FORBIDDEN.into_response();
    }
    // Why something has failed may be in any language.
    let text = |name: &str| headers.get(name).map(|it| String::from_utf8_lossy(it.as_bytes()).into_owned());
    let told = Told {
        id: text("x-copal-message-id").unwrap_or_default(),
        attempt: text("x-copal-attempt").and_then(|it| it.parse().ok()).unwrap_or(1),
        group: text("x-copal-group"),
        error: text("x-copal-error").zip(text("x-copal-failed-step")),
    };
    // A step before may have replied with nothing.
    let value = if body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&body) };
    let value = value.map_err(|cause| cause.to_string());
    answered((consumer.handle)(value, told).await)
}

/// What a handler's end is answered with.
pub(crate) fn answered(outcome: Result<Outcome, String>) -> Response {
    match outcome {
        Ok(outcome) if outcome == Outcome::done() => StatusCode::NO_CONTENT.into_response(),
        Ok(outcome) => {
            let mut response = Value::Object(outcome.json).to_string().into_response();
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(OUTCOME));
            response
        }
        Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, why).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tower::ServiceExt;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let lookup =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Environment::from_lookup(lookup).unwrap()
    }

    async fn square(message: Message<i64>) -> Result<Outcome, String> {
        match message.body {
            0 => Ok(Outcome::dead("nothing")),
            it if it < 0 => Err(format!("{it} at the attempt {}", message.attempt)),
            it => Ok(Outcome::reply(&(it * it)).publish("next", &it).increment("sums", "all", it)),
        }
    }

    #[tokio::test]
    async fn only_copal_calls_and_the_answer_says_what_becomes_of_it() {
        let environment =
            environment(&[("PORT", "1"), ("COPAL_HUB", "/api.sock"), ("COPAL_TOKEN", "secret")]);
        let router = consume(&environment, "numbers", square);
        let call = async |token: &str, body: &str| {
            let request = Request::post("/queues/numbers")
                .header("authorization", format!("Bearer {token}"))
                .header("x-copal-attempt", "3")
                .body(Body::from(body.to_owned()))
                .unwrap();
            let answer = router.clone().oneshot(request).await.unwrap();
            let (status, kind) = (answer.status().as_u16(), answer.headers().get("content-type").cloned());
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            (
                status,
                kind.map(|it| it.to_str().unwrap().to_owned()),
                String::from_utf8(body.to_vec()).unwrap(),
            )
        };
        assert_eq!(call("secre", "2").await.0, 403);
        let (status, kind, body) = call("secret", "3").await;
        assert_eq!((status, kind.as_deref()), (200, Some(OUTCOME)));
        let body: Value = serde_json::from_str(&body).unwrap();
        let cache = json!([{"cache": "sums", "key": "all", "increment": 3}]);
        assert_eq!(body, json!({"body": 9, "publish": [{"queue": "next", "json": 3}], "cache": cache}));
        assert_eq!(call("secret", "0").await.2, r#"{"dead":"nothing"}"#);
        assert!(call("secret", "\"x\"").await.2.starts_with(r#"{"dead":"the body is no i64"#));
        assert_eq!(
            call("secret", "-1").await,
            (500, Some("text/plain; charset=utf-8".into()), "-1 at the attempt 3".into())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn in_memory_it_does_the_same() {
        let environment = environment(&[("COPAL_DEV", "1")]);
        let copal = Copal::of(&environment);
        let numbers = copal.queue("numbers");
        numbers.publish(&2).await.unwrap();
        let _router = consume(&environment, "numbers", square);
        let wait = Duration::from_secs(60);
        assert_eq!(numbers.ask::<_, i64>(&5, wait).await.unwrap(), 25);
        for wrong in [0, -1] {
            assert!(matches!(
                numbers.ask::<_, i64>(&wrong, wait).await,
                Err(ServiceError::Refused { code, .. }) if code == "failed"
            ));
        }
        assert!(matches!(
            copal.queue("nobodys").ask::<_, i64>(&1, wait).await,
            Err(ServiceError::Refused { code, .. }) if code == "late"
        ));
        assert_eq!(copal.cache("sums").get::<i64>("all").await.unwrap(), Some(7));
        let seen = Arc::new(AtomicU32::new(0));
        let next = seen.clone();
        let _router = consume(&environment, "next", move |message: Message<u32>| {
            next.fetch_add(message.body, Ordering::SeqCst);
            async { Ok::<_, String>(()) }
        });
        while seen.load(Ordering::SeqCst) != 7 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn in_memory_room_is_bounded() {
        let queue = Copal::of(&Environment::in_memory()).queue("nobodys");
        for number in 0..10_000 {
            queue.publish(&number).await.unwrap();
        }
        let full = queue.publish(&0).await.unwrap_err();
        assert_eq!(full.to_string(), "full: 10000 messages wait in nobodys for a handler");
    }
}
