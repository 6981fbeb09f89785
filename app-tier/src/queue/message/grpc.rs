//! A message as gRPC has it.

use super::{KEY_TIME, PRIORITY_MAX, TIME, few_meta, is_short, one_meta};
use crate::content::{BadJson, TYPE, content_type_is_ok, millis};
use proto::{app::v1::Message, hub::v1::QueueMessage};
use std::time::Duration;

/// A message of gRPC, with a body of at most `max` bytes.
///
/// # Errors
/// It holds what it may not.
pub(crate) fn of_grpc(place: &str, message: Message, max: usize) -> Result<QueueMessage, BadJson> {
    let Message { body, content_type, priority, ttl_ms, delay_ms, .. } = message;
    let Message { group, unique, idempotency_key, correlation, meta, .. } = message;
    let field = |key: &str| format!("{place}.{key}");
    if body.len() > max {
        return Err(BadJson::TooLarge { field: field("body"), found: body.len(), max });
    }
    content_type_is_ok(&content_type)?;
    if let Some(found) = priority.filter(|it| *it > PRIORITY_MAX) {
        let field = field("priority");
        return Err(BadJson::Bad(format!("{field} is {found}: expected a number from 0 to {PRIORITY_MAX}")));
    }
    for (key, ms) in [("ttl_ms", ttl_ms), ("delay_ms", delay_ms)] {
        if !TIME.contains(&Duration::from_millis(ms)) {
            let (field, most) = (field(key), TIME.end().as_millis());
            return Err(BadJson::Bad(format!("{field} is {ms}: expected at most {most}")));
        }
    }
    for (key, text) in [
        ("group", &group),
        ("unique", &unique),
        ("idempotency_key", &idempotency_key),
        ("correlation", &correlation),
    ] {
        is_short(&field(key), text)?;
    }
    few_meta(meta.len())?;
    let meta = meta.iter().map(|(name, value)| one_meta(name, value));
    let mut meta = meta.collect::<Result<Vec<_>, _>>()?;
    meta.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(QueueMessage {
        body,
        content_type: if content_type.is_empty() { TYPE.to_owned() } else { content_type },
        priority,
        ttl_ms,
        delay_ms,
        group,
        unique,
        key_ms: if idempotency_key.is_empty() { 0 } else { millis(KEY_TIME) },
        idempotency_key,
        correlation,
        meta,
        ..QueueMessage::default()
    })
}

#[cfg(test)]
mod tests {
    use super::{super::of_json, *};
    use serde_json::json;

    fn message() -> Message {
        Message {
            body: "x".into(),
            content_type: "text/plain".to_owned(),
            priority: Some(9),
            ttl_ms: 5000,
            delay_ms: 1500,
            group: "g".to_owned(),
            unique: "u".to_owned(),
            idempotency_key: "k".to_owned(),
            correlation: "c".to_owned(),
            meta: [("From".to_owned(), "me".to_owned()), ("a".to_owned(), "b".to_owned())].into(),
        }
    }

    #[test]
    fn it_says_the_same_as_json() {
        let value = json!({
            "value": "x", "content-type": "text/plain", "priority": 9, "ttl": "5s", "delay": "1500ms",
            "group": "g", "unique": "u", "idempotency-key": "k", "correlation": "c", "meta": {"a": "b", "From": "me"},
        });
        let mut json = of_json("it", &value, &[], 10).unwrap();
        json.meta.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(of_grpc("it", message(), 10).unwrap(), json);
        let empty = of_grpc("it", Message::default(), 0).unwrap();
        assert_eq!((empty.content_type.as_str(), empty.priority, empty.key_ms), (TYPE, None, 0));
    }

    #[test]
    fn what_is_refused_is_named() {
        let refused = |message| of_grpc("it", message, 9).unwrap_err().to_string();
        let whole = message;
        for (message, text) in [
            (Message { body: vec![0; 10].into(), ..whole() }, "it.body has 10 bytes: expected at most 9"),
            (Message { content_type: "a\nb".into(), ..whole() }, "the content type has 3 bytes"),
            (Message { priority: Some(10), ..whole() }, "it.priority is 10"),
            (Message { ttl_ms: u64::MAX, ..whole() }, "it.ttl_ms is 18446744073709551615"),
            (Message { delay_ms: 366 * 86_400_000 + 1, ..whole() }, "it.delay_ms is 31622400001"),
            (Message { group: "x".repeat(257), ..whole() }, "it.group has 257 bytes"),
            (Message { unique: "a\r\nb".into(), ..whole() }, "it.unique has 4 bytes"),
            (
                Message { meta: [("a b".into(), String::new())].into(), ..whole() },
                "meta has the name \"a b\"",
            ),
            (
                Message { meta: (0..33).map(|it| (it.to_string(), String::new())).collect(), ..whole() },
                "meta has 33 entries",
            ),
        ] {
            let found = refused(message);
            assert!(found.contains(text), "{found}");
        }
    }
}
