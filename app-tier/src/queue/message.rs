//! A message as JSON and as headers have it; and as gRPC does.

mod grpc;

pub(crate) use grpc::of_grpc;

use crate::content::{BadJson, CONTENT_KEYS, ObjectAt, millis};
use bytes::Bytes;
use common::{config::parse_duration, service_name::ServiceName};
use http::{HeaderMap, HeaderName, HeaderValue};
use proto::hub::v1::{MessageMeta, QueueMessage};
use serde_json::Value;
use std::{ops::RangeInclusive, time::Duration};

/// The longest text of a message, such as its group, in bytes; and of a value of its meta.
const TEXT_MAX: usize = 256;
const META_TEXT_MAX: usize = 1024;

/// Further headers of one message.
const META_MAX: usize = 32;

/// The bounds of times.
const TIME: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(366 * 24 * 3600);

/// A key is remembered for so long.
const KEY_TIME: Duration = Duration::from_secs(24 * 3600);

/// The greatest priority.
const PRIORITY_MAX: u32 = 9;

const PRIORITY: HeaderName = HeaderName::from_static("x-copal-priority");
const TTL: HeaderName = HeaderName::from_static("x-copal-ttl");
const DELAY: HeaderName = HeaderName::from_static("x-copal-delay");
const UNIQUE: HeaderName = HeaderName::from_static("x-copal-unique");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub(crate) const GROUP: HeaderName = HeaderName::from_static("x-copal-group");
pub(crate) const CORRELATION: HeaderName = HeaderName::from_static("x-copal-correlation");
/// What a message's own headers begin with.
pub(crate) const META: &str = "x-copal-meta-";

/// The keys of a message in JSON, beside those of its content.
const KEYS: [&str; 8] =
    ["priority", "ttl", "delay", "group", "unique", "idempotency-key", "correlation", "meta"];

/// A message of a request's body and headers.
///
/// # Errors
/// A header holds what it may not.
pub(crate) fn of_headers(
    headers: &HeaderMap,
    body: Bytes,
    content_type: String,
) -> Result<QueueMessage, BadJson> {
    let header = |name: &HeaderName| match headers.get(name).map(HeaderValue::to_str) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text.trim())),
        Some(Err(_)) => Err(BadJson::Bad(format!("{name} is no text"))),
    };
    let text = |name: &HeaderName| -> Result<String, BadJson> {
        let found = header(name)?.unwrap_or_default();
        is_short(name.as_str(), found)?;
        Ok(found.to_owned())
    };
    let time = |name: &HeaderName| -> Result<u64, BadJson> {
        let Some(found) = header(name)? else { return Ok(0) };
        let read = parse_duration(found).ok().filter(|it| TIME.contains(it));
        read.map(millis).ok_or_else(|| {
            BadJson::Bad(format!("{name} is {found:?}: expected a time of a year at most, such as 5s"))
        })
    };
    let priority = header(&PRIORITY)?.map(|found| {
        found.parse().ok().filter(|it| *it <= PRIORITY_MAX).ok_or_else(|| {
            BadJson::Bad(format!("{PRIORITY} is {found:?}: expected a number from 0 to {PRIORITY_MAX}"))
        })
    });
    let mut meta = Vec::new();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix(META) else { continue };
        let value = value.to_str().map_err(|_| BadJson::Bad(format!("{META}{name} is no text")))?;
        meta.push(one_meta(name, value)?);
    }
    few_meta(meta.len())?;
    let idempotency_key = text(&IDEMPOTENCY_KEY)?;
    Ok(QueueMessage {
        body,
        content_type,
        priority: priority.transpose()?,
        ttl_ms: time(&TTL)?,
        delay_ms: time(&DELAY)?,
        group: text(&GROUP)?,
        unique: text(&UNIQUE)?,
        key_ms: if idempotency_key.is_empty() { 0 } else { millis(KEY_TIME) },
        idempotency_key,
        correlation: text(&CORRELATION)?,
        meta,
        ..QueueMessage::default()
    })
}

/// A message of JSON, with further keys that its place allows.
///
/// # Errors
/// It is none.
pub(crate) fn of_json(
    place: &str,
    value: &Value,
    further: &[&str],
    max: usize,
) -> Result<QueueMessage, BadJson> {
    let keys: Vec<&str> = further.iter().copied().chain(CONTENT_KEYS).chain(KEYS).collect();
    let object = ObjectAt::new(place, value, &keys)?;
    let (body, content_type) = object.required_content(max)?;
    let text = |key: &str| -> Result<String, BadJson> {
        let text = object.text(key)?.unwrap_or_default();
        is_short(&object.field(key), text)?;
        Ok(text.to_owned())
    };
    let time = |key: &str| object.duration(key, &TIME).map(|it| it.map_or(0, millis));
    let priority = object.integer("priority", &(0..=i64::from(PRIORITY_MAX)))?;
    let mut meta = Vec::new();
    match object.get("meta") {
        None => {}
        Some(Value::Object(map)) => {
            for (name, value) in map {
                let value = value.as_str().ok_or_else(|| {
                    BadJson::Bad(format!("{}.{name} is {value}: expected a text", object.field("meta")))
                })?;
                meta.push(one_meta(name, value)?);
            }
        }
        Some(_) => return Err(BadJson::Bad(format!("{} is no object", object.field("meta")))),
    }
    few_meta(meta.len())?;
    let idempotency_key = text("idempotency-key")?;
    Ok(QueueMessage {
        body,
        content_type,
        priority: priority.and_then(|it| u32::try_from(it).ok()),
        ttl_ms: time("ttl")?,
        delay_ms: time("delay")?,
        group: text("group")?,
        unique: text("unique")?,
        key_ms: if idempotency_key.is_empty() { 0 } else { millis(KEY_TIME) },
        idempotency_key,
        correlation: text("correlation")?,
        meta,
        ..QueueMessage::default()
    })
}

/// A queue's name.
///
/// # Errors
/// It is none.
pub(crate) fn queue_name(field: &str, text: &str) -> Result<String, BadJson> {
    let name = ServiceName::new(text);
    let bad = |_| BadJson::Bad(format!("{field} is {text:?}: expected {}", ServiceName::EXPECTED));
    name.map(|it| it.as_str().to_owned()).map_err(bad)
}

/// It becomes a header of who gets the message.
fn is_short(field: &str, text: &str) -> Result<(), BadJson> {
    if text.len() <= TEXT_MAX && HeaderValue::from_str(text).is_ok() {
        return Ok(());
    }
    let found = text.len();
    Err(BadJson::Bad(format!("{field} has {found} bytes: expected at most {TEXT_MAX}, as a header has them")))
}

fn one_meta(name: &str, value: &str) -> Result<MessageMeta, BadJson> {
    let is_name =
        !name.is_empty() && name.len() <= 64 && HeaderName::try_from(format!("{META}{name}")).is_ok();
    if !is_name {
        return Err(BadJson::Bad(format!(
            "meta has the name {name:?}: expected 1 to 64 letters, as a header has them"
        )));
    }
    if name.to_lowercase().starts_with("copal-") {
        return Err(BadJson::Bad(format!(
            "meta has the name {name:?}: those that begin with copal- are the server's own"
        )));
    }
    if value.len() > META_TEXT_MAX || HeaderValue::from_str(value).is_err() {
        let text = format!("meta.{name}: expected at most {META_TEXT_MAX} bytes, as a header has them");
        return Err(BadJson::Bad(text));
    }
    Ok(MessageMeta { name: name.to_lowercase(), value: value.to_owned() })
}

fn few_meta(count: usize) -> Result<(), BadJson> {
    if count <= META_MAX {
        return Ok(());
    }
    Err(BadJson::Bad(format!("meta has {count} entries: expected at most {META_MAX}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn headers_and_json_say_the_same() {
        let headers: HeaderMap = [
            ("x-copal-priority", "9"),
            ("x-copal-ttl", "5s"),
            ("x-copal-delay", "1500ms"),
            ("x-copal-group", "g"),
            ("x-copal-unique", "u"),
            ("idempotency-key", "k"),
            ("x-copal-correlation", "c"),
            ("x-copal-meta-From", "me"),
        ]
        .into_iter()
        .map(|(name, value)| (HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap()))
        .collect();
        let of_headers = of_headers(&headers, Bytes::from("x"), "text/plain".into()).unwrap();
        let value = json!({
            "value": "x", "content-type": "text/plain", "priority": 9, "ttl": "5s", "delay": "1500ms",
            "group": "g", "unique": "u", "idempotency-key": "k", "correlation": "c", "meta": {"From": "me"},
        });
        let of_json = of_json("it", &value, &[], 10).unwrap();
        assert_eq!(of_headers, of_json);
        assert_eq!((of_json.priority, of_json.delay_ms, of_json.key_ms), (Some(9), 1500, 86_400_000));
    }

    #[test]
    fn what_is_refused_is_named() {
        let refused = |name: &str, value: &str| {
            let value = HeaderValue::from_str(value).unwrap();
            let headers: HeaderMap = [(HeaderName::try_from(name).unwrap(), value)].into_iter().collect();
            of_headers(&headers, Bytes::new(), String::new()).unwrap_err().to_string()
        };
        assert!(
            refused("x-copal-priority", "10")
                .contains("x-copal-priority is \"10\": expected a number from 0")
        );
        assert!(refused("x-copal-ttl", "soon").contains("x-copal-ttl is \"soon\""));
        assert!(refused("x-copal-group", &"x".repeat(257)).contains("x-copal-group has 257 bytes"));
        assert!(refused("x-copal-meta-a", &"x".repeat(2000)).contains("meta.a: expected at most 1024"));
        let refused = |value: Value| of_json("it", &value, &["queue"], 9).unwrap_err().to_string();
        assert!(refused(json!({"value": "", "priority": -1})).contains("it.priority is -1"));
        assert!(refused(json!({"value": "", "group": "a\nb"})).contains("it.group has 3 bytes"));
        assert!(refused(json!({"value": "", "meta": {"a b": ""}})).contains("meta has the name \"a b\""));
        assert!(
            refused(json!({"value": "", "grupp": ""})).contains("it has \"grupp\": expected queue, value")
        );
        assert!(queue_name("queue", "A").is_err());
    }
}
