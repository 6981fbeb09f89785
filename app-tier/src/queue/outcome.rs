//! What an app's answer says of a message.

use super::{
    message,
    step::{Step, Way},
};
use crate::content::{BadJson, ObjectAt, millis};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use proto::hub::v1::{
    CacheIncrement, CachePut, CacheRemove, CacheValue, CacheWrite, DeliveryDone, DeliveryFailed,
    DeliveryGivenBack, QueueMessage, SettleDelivery, cache_write::Write, settle_delivery::Outcome,
};
use serde_json::Value;
use std::{ops::RangeInclusive, time::Duration};

/// An answer of this kind says what else is to be done.
pub(crate) const OUTCOME: &str = "application/vnd.copal.outcome+json";

/// What is kept of an answer that is no success, in bytes.
const WHY_MAX: usize = 1024;

/// A message of an outcome, and a value, in bytes.
const BODY_MAX: usize = 1 << 20;

/// What one outcome may publish, and write to caches.
const BESIDE_MAX: usize = 100;

/// Parts that a step may make of a run.
const PARTS_MAX: usize = 1000;

/// The keys of an outcome.
const KEYS: [&str; 8] = ["publish", "cache", "body", "dead", "retry-after", "next", "halt", "fan-out"];

/// The longest key of a cache, in bytes.
const KEY_MAX: usize = 512;

/// How long an app that has no room is left alone, if it does not say; and at most.
const LEFT_ALONE: Duration = Duration::from_secs(1);
const LEFT_ALONE_MAX: Duration = Duration::from_secs(600);

/// The bounds of times.
const TIME: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(366 * 24 * 3600);

/// What an answer says.
#[derive(Debug, PartialEq)]
pub(crate) enum Said {
    /// This of the message.
    Settled(Box<SettleDelivery>),
    /// It is settled later, by its token.
    Later,
    /// There is no room for it: nothing comes for so long.
    NoRoom(Duration),
}

fn settled(outcome: Outcome) -> Said {
    Said::Settled(Box::new(SettleDelivery { outcome: Some(outcome), ..SettleDelivery::default() }))
}

/// An attempt has failed.
pub(crate) fn failed(why: &str) -> SettleDelivery {
    let outcome = Outcome::Failed(DeliveryFailed { why: clipped(why), after_ms: 0 });
    SettleDelivery { outcome: Some(outcome), ..SettleDelivery::default() }
}

/// It is given back.
pub(crate) fn given_back(after: Duration) -> SettleDelivery {
    let outcome = Outcome::GivenBack(DeliveryGivenBack { after_ms: millis(after) });
    SettleDelivery { outcome: Some(outcome), ..SettleDelivery::default() }
}

/// The beginning of a text.
fn clipped(text: &str) -> String {
    let end = (0..=text.len().min(WHY_MAX)).rev().find(|it| text.is_char_boundary(*it)).unwrap_or(0);
    text[..end].to_owned()
}

/// With what which app was called.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) app: &'a str,
    /// Someone waits for the reply.
    pub(crate) wants_reply: bool,
    /// What it answers goes on in a run of a pipeline.
    pub(crate) step: Option<&'a Step>,
    pub(crate) message: &'a QueueMessage,
}

/// What an app says by its answer of a message that it was called with.
pub(crate) fn of_answer(asked: &Asked<'_>, status: StatusCode, headers: &HeaderMap, body: Bytes) -> Said {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let why = || {
        let text = String::from_utf8_lossy(&body[..body.len().min(WHY_MAX)]);
        let text = text.trim();
        if text.is_empty() { status.to_string() } else { clipped(&format!("{status}: {text}")) }
    };
    match status {
        StatusCode::ACCEPTED => Said::Later,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            let seconds = headers.get(header::RETRY_AFTER).and_then(seconds);
            Said::NoRoom(seconds.unwrap_or(LEFT_ALONE).min(LEFT_ALONE_MAX))
        }
        StatusCode::GONE | StatusCode::UNPROCESSABLE_ENTITY => settled(Outcome::Dead(why())),
        _ if status.is_success() && content_type.split(';').next().unwrap_or_default().trim() == OUTCOME => {
            let settle = of_json(asked.app, &body).map_err(|cause| cause.to_string());
            let settle = settle.and_then(|(settle, way)| goes_on(asked, settle, way));
            let wrong = |cause| failed(&format!("its {OUTCOME} is wrong: {cause}"));
            Said::Settled(Box::new(settle.unwrap_or_else(wrong)))
        }
        _ if status.is_success() => {
            let done = if asked.wants_reply || asked.step.is_some() {
                DeliveryDone {
                    body,
                    content_type: content_type.chars().take(crate::content::TYPE_MAX).collect(),
                }
            } else {
                DeliveryDone::default()
            };
            let settle = SettleDelivery { outcome: Some(Outcome::Done(done)), ..SettleDelivery::default() };
            Said::Settled(Box::new(goes_on(asked, settle, Way::default()).unwrap_or_else(|it| failed(&it))))
        }
        _ => Said::Settled(Box::new(failed(&why()))),
    }
}

/// With where a run goes from here, if the message is of one.
pub(crate) fn goes_on(
    asked: &Asked<'_>,
    mut settle: SettleDelivery,
    way: Way,
) -> Result<SettleDelivery, String> {
    match (asked.step, &mut settle.outcome) {
        (Some(step), Some(Outcome::Done(done))) => settle.advance = step.advance(way, asked.message, done)?,
        (_, outcome) if way.is_of_step() => {
            let text = match outcome {
                Some(Outcome::Done(_)) => "next, halt and fan-out are for steps of pipelines",
                _ => "a message that is not done goes nowhere: expected no next, halt and fan-out",
            };
            return Err(text.to_owned());
        }
        _ => {}
    }
    Ok(settle)
}

/// `Retry-After` in seconds; a date is none that is worth its while here.
fn seconds(value: &HeaderValue) -> Option<Duration> {
    value.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

fn of_json(app: &str, body: &[u8]) -> Result<(SettleDelivery, Way), BadJson> {
    let value: Value =
        serde_json::from_slice(body).map_err(|cause| BadJson::Bad(format!("no JSON: {cause}")))?;
    let object = ObjectAt::new("outcome", &value, &KEYS)?;
    let list = |key: &str, max: usize| match object.get(key) {
        None => Ok(&[][..]),
        Some(Value::Array(list)) if list.len() <= max => Ok(&list[..]),
        Some(_) => Err(BadJson::Bad(format!("{}: expected a list of at most {max}", object.field(key)))),
    };
    let publish =
        list("publish", BESIDE_MAX)?.iter().enumerate().map(|(place, it)| published(app, place, it));
    let publish = publish.collect::<Result<Vec<QueueMessage>, _>>()?;
    let caches = list("cache", BESIDE_MAX)?.iter().enumerate().map(|(place, it)| cached(place, it));
    let caches = caches.collect::<Result<Vec<CacheWrite>, _>>()?;
    let outcome = match (object.text("dead")?, object.duration("retry-after", &TIME)?, object.get("body")) {
        (Some(why), None, None) => Outcome::Dead(clipped(why)),
        (None, Some(after), None) => Outcome::Failed(DeliveryFailed {
            why: "it asked for another attempt".to_owned(),
            after_ms: millis(after),
        }),
        (None, None, None) => Outcome::Done(DeliveryDone::default()),
        (None, None, Some(body)) => {
            let content_type = "application/json".to_owned();
            Outcome::Done(DeliveryDone { body: Bytes::from(body.to_string()), content_type })
        }
        _ => return Err(BadJson::Bad("outcome has more than one of body, dead and retry-after".to_owned())),
    };
    let fan_out = list("fan-out", PARTS_MAX)?.to_vec();
    let way = Way {
        next: object.text("next")?.map(str::to_owned),
        halt: object.boolean("halt")?,
        fan_out: object.get("fan-out").map(|_| fan_out),
        has_body: object.get("body").is_some(),
    };
    Ok((SettleDelivery { outcome: Some(outcome), publish, caches, ..SettleDelivery::default() }, way))
}

fn published(app: &str, place: usize, value: &Value) -> Result<QueueMessage, BadJson> {
    let field = format!("publish[{place}]");
    let message = message::of_json(&field, value, &["queue"], BODY_MAX)?;
    let name = value.get("queue").and_then(Value::as_str);
    let name = name.ok_or_else(|| BadJson::Bad(format!("{field}.queue is missing, or no text")))?;
    let queue = message::queue_name(&format!("{field}.queue"), name)?;
    Ok(QueueMessage { queue, app: app.to_owned(), ..message })
}

/// A write to a cache: a value, `increment` or `remove`.
fn cached(place: usize, value: &Value) -> Result<CacheWrite, BadJson> {
    const KEYS: [&str; 11] = [
        "cache",
        "key",
        "value",
        "base64",
        "json",
        "content-type",
        "ttl",
        "idle",
        "increment",
        "initial",
        "remove",
    ];
    let field = format!("cache[{place}]");
    let object = ObjectAt::new(&field, value, &KEYS)?;
    let required = |key: &str| {
        object.text(key)?.ok_or_else(|| BadJson::Bad(format!("{} is missing", object.field(key))))
    };
    let cache = message::queue_name(&object.field("cache"), required("cache")?)?;
    let key = required("key")?.to_owned();
    if !(1..=KEY_MAX).contains(&key.len()) {
        let text = format!("{} has {} bytes: expected 1 to {KEY_MAX}", object.field("key"), key.len());
        return Err(BadJson::Bad(text));
    }
    let time = |key: &str| object.duration(key, &TIME).map(|it| it.map_or(0, millis));
    let (ttl_ms, idle_ms) = (time("ttl")?, time("idle")?);
    let any = i64::MIN..=i64::MAX;
    let is_removed = object.get("remove") == Some(&Value::Bool(true));
    let write = match (object.integer("increment", &any)?, object.content(BODY_MAX)?, is_removed) {
        (Some(by), None, false) => {
            let initial = object.integer("initial", &any)?.unwrap_or_default();
            Write::Increment(CacheIncrement { key, by, initial, ttl_ms, idle_ms })
        }
        (None, Some((value, content_type)), false) => {
            let value = Some(CacheValue { value, content_type, ttl_ms, idle_ms });
            Write::Put(CachePut { key, value, condition: None })
        }
        (None, None, true) => Write::Remove(CacheRemove { key, condition: None }),
        _ => {
            let text =
                format!("{field}: expected one of value, base64, json, increment and \"remove\": true");
            return Err(BadJson::Bad(text));
        }
    };
    Ok(CacheWrite { cache, fence: None, write: Some(write) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Said {
        let headers = headers.iter().map(|(name, value)| {
            (name.parse::<http::HeaderName>().unwrap(), HeaderValue::from_static(value))
        });
        let headers: HeaderMap = headers.collect();
        let message = QueueMessage::default();
        let asked = Asked { app: "shop", wants_reply: true, step: None, message: &message };
        of_answer(&asked, StatusCode::from_u16(status).unwrap(), &headers, Bytes::from(body.to_owned()))
    }

    fn outcome(said: Said) -> Outcome {
        match said {
            Said::Settled(settle) => settle.outcome.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_status_means_something() {
        let done = |body: &str, kind: &str| {
            Outcome::Done(DeliveryDone { body: Bytes::from(body.to_owned()), content_type: kind.to_owned() })
        };
        assert_eq!(outcome(said(200, &[("content-type", "text/plain")], "ok")), done("ok", "text/plain"));
        assert_eq!(outcome(said(204, &[], "")), done("", ""));
        assert_eq!(said(202, &[], ""), Said::Later);
        assert_eq!(said(429, &[], ""), Said::NoRoom(Duration::from_secs(1)));
        assert_eq!(said(503, &[("retry-after", "7")], ""), Said::NoRoom(Duration::from_secs(7)));
        assert_eq!(said(503, &[("retry-after", "99999")], ""), Said::NoRoom(LEFT_ALONE_MAX));
        for status in [410, 422] {
            assert!(matches!(outcome(said(status, &[], "no")), Outcome::Dead(why) if why.ends_with(": no")));
        }
        for status in [302, 400, 404, 500, 502] {
            let why = format!("{}: oops", StatusCode::from_u16(status).unwrap());
            assert_eq!(
                outcome(said(status, &[], " oops\n")),
                Outcome::Failed(DeliveryFailed { why, after_ms: 0 }),
                "{status}"
            );
        }
        let long = "ä".repeat(5000);
        assert!(matches!(outcome(said(500, &[], &long)), Outcome::Failed(it) if it.why.len() <= WHY_MAX));
    }

    #[test]
    fn an_outcome_says_what_else_is_to_be_done() {
        let of = |value: Value| of_json("shop", value.to_string().as_bytes()).map(|it| it.0);
        let settle = of(json!({
            "publish": [{"queue": "next", "json": {"n": 1}, "delay": "5s"}],
            "cache": [
                {"cache": "c", "key": "k", "increment": 2},
                {"cache": "c", "key": "l", "value": "x", "ttl": "1m"},
                {"cache": "c", "key": "m", "remove": true},
            ],
            "body": [1],
        }))
        .unwrap();
        let message = &settle.publish[0];
        assert_eq!((message.queue.as_str(), message.app.as_str(), message.delay_ms), ("next", "shop", 5000));
        assert_eq!(settle.caches.len(), 3);
        assert!(matches!(settle.outcome, Some(Outcome::Done(done)) if done.body == "[1]"));
        assert!(matches!(of(json!({})).unwrap().outcome, Some(Outcome::Done(_))));
        assert!(matches!(of(json!({"dead": "no"})).unwrap().outcome, Some(Outcome::Dead(_))));
        assert!(
            matches!(of(json!({"retry-after": "3s"})).unwrap().outcome, Some(Outcome::Failed(it)) if it.after_ms == 3000)
        );
        for (wrong, text) in [
            (json!([]), "outcome is no object"),
            (json!({"publsh": []}), "outcome has \"publsh\""),
            (json!({"publish": 5}), "outcome.publish: expected a list"),
            (json!({"publish": [{"value": "x"}]}), "publish[0].queue is missing"),
            (json!({"publish": [{"queue": "A", "value": "x"}]}), "publish[0].queue is \"A\""),
            (json!({"cache": [{"cache": "c", "key": "", "value": ""}]}), "cache[0].key has 0 bytes"),
            (json!({"cache": [{"cache": "c", "key": "k"}]}), "cache[0]: expected one of"),
            (json!({"dead": "x", "body": 1}), "more than one of"),
            (json!({"next": 1}), "outcome.next"),
            (json!({"halt": "yes"}), "outcome.halt"),
            (json!({"fan-out": {}}), "outcome.fan-out: expected a list"),
        ] {
            let found = of(wrong.clone()).unwrap_err().to_string();
            assert!(found.contains(text), "{wrong}: {found}");
        }
        assert!(matches!(
            outcome(said(200, &[("content-type", OUTCOME)], "{")),
            Outcome::Failed(it) if it.why.contains("is wrong: no JSON")
        ));
        for (wrong, text) in [
            (json!({"next": "b"}), "are for steps of pipelines"),
            (json!({"fan-out": []}), "are for steps of pipelines"),
            (json!({"dead": "x", "halt": true}), "a message that is not done goes nowhere"),
        ] {
            let outcome = outcome(said(200, &[("content-type", OUTCOME)], &wrong.to_string()));
            assert!(matches!(outcome, Outcome::Failed(it) if it.why.contains(text)), "{wrong}");
        }
    }
}
