//! What calls hold: names, queries, bodies of JSON. What is refused names the place, the value and what was expected.

use super::answer::Problem;
use crate::{
    content::{TYPE, content_type_is_ok},
    proxy::FENCE,
};
use bytes::Bytes;
use common::{config::parse_duration, service_name::ServiceName};
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use proto::hub::v1::Fence;
use serde_json::Value;
use std::{fmt, ops::RangeInclusive, str::FromStr, time::Duration};

/// The longest body of JSON, in bytes.
const JSON_MAX: usize = 64 << 10;

/// A body comes within this.
const BODY_MAX: Duration = Duration::from_secs(30);

fn shown(text: &str) -> String {
    let shown: String = text.chars().take(80).collect();
    if shown.len() < text.len() { format!("{shown:?}…") } else { format!("{shown:?}") }
}

/// A name in a path.
pub(super) fn name(what: &str, text: &str) -> Result<ServiceName, Problem> {
    ServiceName::new(text).map_err(|_| {
        let own = [
            ("pipe:", "the queue of a step: begin a run of its pipeline instead, /v1/pipelines/{pipeline}"),
            ("job:", "the queue of a job: run the job instead, /v1/jobs/{job}/run"),
            ("topic:", "the queue of a subscription: see /v1/topics/{topic}"),
        ];
        if let Some((_, it)) = own.iter().find(|it| text.starts_with(it.0)) {
            return Problem::bad(format!("the {what}'s name is {}: it is {it}", shown(text)));
        }
        Problem::bad(format!("the {what}'s name is {}: expected {}", shown(text), ServiceName::EXPECTED))
    })
}

/// A queue to look at: one of its own name, a job's (`job:NAME`), a subscription's (`topic:TOPIC:NAME`), or a step's (`pipe:PIPELINE:STEP`).
pub(super) fn queue_to_look_at(text: &str) -> Result<&str, Problem> {
    let are_names = |parts: &str, count| {
        parts.split(':').count() == count && parts.split(':').all(|it| ServiceName::new(it).is_ok())
    };
    let is_one = match text.split_once(':') {
        None => are_names(text, 1),
        Some(("job", name)) => are_names(name, 1),
        Some(("topic" | "pipe", names)) => are_names(names, 2),
        Some(_) => false,
    };
    let problem = || {
        let expected = ServiceName::EXPECTED;
        let found = shown(text);
        Problem::bad(format!(
            "the queue's name is {found}: expected {expected}, or job:NAME, topic:TOPIC:SUBSCRIPTION or pipe:PIPELINE:STEP"
        ))
    };
    if is_one { Ok(text) } else { Err(problem()) }
}

/// A part of a path, decoded.
pub(super) fn decoded(what: &str, text: &str) -> Result<String, Problem> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(std::borrow::Cow::into_owned).map_err(|_| Problem::bad(format!("the {what} is no UTF-8")))
}

/// `X-Copal-Fence`: the lease that has to be held.
pub(super) fn fence(headers: &HeaderMap) -> Result<Option<Fence>, Problem> {
    let Some(value) = headers.get(FENCE) else { return Ok(None) };
    let text = value.to_str().unwrap_or("?");
    let read = text.split_once('=').and_then(|(name, token)| fence_of(name, token.parse().ok()?));
    let expected = "a lease's name and token, such as counter=42";
    read.map(Some)
        .ok_or_else(|| Problem::bad(format!("X-Copal-Fence is {}: expected {expected}", shown(text))))
}

/// A fence of a name and a token; `None`: it is none.
fn fence_of(name: &str, token: u64) -> Option<Fence> {
    let name = ServiceName::new(name).ok().filter(|_| token > 0)?;
    Some(Fence { name: name.as_str().to_owned(), token })
}

/// The same, as gRPC has it.
pub(super) fn told_fence(fence: Option<proto::app::v1::Fence>) -> Result<Option<Fence>, Problem> {
    let Some(proto::app::v1::Fence { name, token }) = fence else { return Ok(None) };
    let bad = || {
        let (found, expected) = (shown(&name), ServiceName::EXPECTED);
        Problem::bad(format!(
            "fence is {found} with token {token}: expected {expected}, and a token from 1 on"
        ))
    };
    fence_of(&name, token).map(Some).ok_or_else(bad)
}

/// A content type that is kept; none is that of bytes.
pub(super) fn content_type(text: String) -> Result<String, Problem> {
    if text.is_empty() {
        return Ok(TYPE.to_owned());
    }
    content_type_is_ok(&text)?;
    Ok(text)
}

/// That of a request.
pub(super) fn content_type_of(headers: &HeaderMap) -> Result<String, Problem> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(TYPE.to_owned()) };
    let text = value.to_str().map_err(|_| Problem::bad("the content type is no text"))?;
    content_type_is_ok(text)?;
    Ok(text.to_owned())
}

/// A time in milliseconds; 0 is none.
pub(super) fn millis(
    key: &str,
    ms: u64,
    bounds: &RangeInclusive<Duration>,
) -> Result<Option<Duration>, Problem> {
    let time = Duration::from_millis(ms);
    if ms == 0 || bounds.contains(&time) {
        return Ok(Some(time).filter(|it| !it.is_zero()));
    }
    let (least, most) = (bounds.start().as_millis(), bounds.end().as_millis());
    Err(Problem::bad(format!("{key} is {ms}: expected {least} to {most}")))
}

/// A list that is not empty, and has no more entries than it may.
pub(super) fn not_many(what: &str, count: usize, max: usize) -> Result<(), Problem> {
    if (1..=max).contains(&count) {
        return Ok(());
    }
    Err(Problem::bad(format!("{what} has {count} entries: expected 1 to {max}")))
}

/// What is no longer than it may be.
pub(super) fn not_longer(what: &str, bytes: &[u8], max: usize) -> Result<(), Problem> {
    let found = bytes.len();
    if found <= max {
        return Ok(());
    }
    let text = format!("{what} has {found} bytes: expected at most {max}");
    Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", text))
}

/// A token in a path.
pub(super) fn token(text: &str) -> Result<u64, Problem> {
    let number = text.parse().ok().filter(|it| *it > 0 && text.bytes().all(|it| it.is_ascii_digit()));
    number.ok_or_else(|| Problem::bad(format!("the token is {}: expected a number from 1 on", shown(text))))
}

/// A whole body, of at most `max` bytes.
pub(super) async fn bytes(body: Incoming, max: usize) -> Result<Bytes, Problem> {
    match tokio::time::timeout(BODY_MAX, Limited::new(body, max).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(cause)) if cause.is::<LengthLimitError>() => {
            let text = format!("the body is longer than {max} bytes");
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", text))
        }
        Ok(Err(cause)) => Err(Problem::bad(format!("the body broke off: {cause}"))),
        Err(_) => {
            let text = format!("the body has not come within {BODY_MAX:?}");
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "late", text))
        }
    }
}

/// A body of JSON with no keys but these; an empty one is `{}`.
pub(super) async fn object(body: Incoming, keys: &[&str]) -> Result<Object, Problem> {
    object_of(body, keys, JSON_MAX).await
}

/// The same of at most `max` bytes.
pub(super) async fn object_of(body: Incoming, keys: &[&str], max: usize) -> Result<Object, Problem> {
    let bytes = bytes(body, max).await?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Object::default());
    }
    let value = serde_json::from_slice(&bytes);
    let value = value.map_err(|cause| Problem::bad(format!("the body is no JSON: {cause}")))?;
    let Value::Object(map) = value else { return Err(Problem::bad("the body is no JSON object")) };
    if let Some(key) = map.keys().find(|key| !keys.contains(&key.as_str())) {
        let known = keys.join(", ");
        return Err(Problem::bad(format!("the body has {}: expected {known}", shown(key))));
    }
    Ok(Object(map))
}

/// The members of a body.
#[derive(Debug, Default)]
pub(super) struct Object(serde_json::Map<String, Value>);

impl Object {
    /// A whole number.
    pub(super) fn integer(&self, key: &str) -> Result<Option<i64>, Problem> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_i64().map(Some).ok_or_else(|| {
                let found = shown(&value.to_string());
                Problem::bad(format!("{key} is {found}: expected a whole number of 64 bits"))
            }),
        }
    }

    /// All of them.
    pub(super) fn members(&self) -> &serde_json::Map<String, Value> {
        &self.0
    }

    /// Whether it has this member.
    pub(super) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// A text of at most `max` bytes.
    pub(super) fn text(&self, key: &str, max: usize) -> Result<Option<&str>, Problem> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.len() <= max => Ok(Some(text)),
            Some(_) => Err(Problem::bad(format!("{key}: expected a text of at most {max} bytes"))),
        }
    }

    /// A list.
    pub(super) fn list(&self, key: &str) -> Result<&[Value], Problem> {
        match self.0.get(key) {
            Some(Value::Array(list)) => Ok(list),
            _ => Err(Problem::bad(format!("{key} is missing, or no list"))),
        }
    }

    /// A time, such as `"5s"`.
    pub(super) fn duration(
        &self,
        key: &str,
        bounds: &RangeInclusive<Duration>,
    ) -> Result<Option<Duration>, Problem> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => duration(key, text, bounds).map(Some),
            Some(other) => {
                let found = shown(&other.to_string());
                Err(Problem::bad(format!("{key} is {found}: expected a text such as \"5s\"")))
            }
        }
    }
}

/// A time as a text, such as `5s`.
pub(super) fn duration(
    key: &str,
    text: &str,
    bounds: &RangeInclusive<Duration>,
) -> Result<Duration, Problem> {
    let read = parse_duration(text).ok().filter(|it| bounds.contains(it));
    read.ok_or_else(|| {
        let (least, most) = (bounds.start(), bounds.end());
        Problem::bad(format!(
            "{key} is {}: expected a time from {} to {most:?}, such as \"5s\"",
            shown(text),
            if least.is_zero() { "0s".to_owned() } else { format!("{least:?}") }
        ))
    })
}

/// The parameters of a query.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Those of a query that has no others than these.
    pub(super) fn of(query: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let pairs = query.unwrap_or_default().split('&').filter(|it| !it.is_empty());
        let mut found = Vec::new();
        for pair in pairs {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let read = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
            let (name, value) = (read(name), read(value));
            if !known.contains(&name.as_str()) {
                let expected = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(Problem::bad(format!("the query has {}: expected {expected}", shown(&name))));
            }
            found.push((name, value));
        }
        Ok(Self(found))
    }

    /// A text.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|it| it.1.as_str())
    }

    /// One of these words.
    pub(super) fn choice(&self, key: &str, words: &[&str]) -> Result<Option<&str>, Problem> {
        let Some((_, found)) = self.0.iter().find(|(name, _)| name == key) else { return Ok(None) };
        if words.contains(&found.as_str()) {
            return Ok(Some(found));
        }
        Err(Problem::bad(format!("{key} is {}: expected {}", shown(found), words.join(" or "))))
    }

    /// A whole number.
    pub(super) fn number<T>(&self, key: &str, bounds: &RangeInclusive<T>) -> Result<Option<T>, Problem>
    where
        T: FromStr + PartialOrd + fmt::Display + Copy,
    {
        let Some((_, found)) = self.0.iter().find(|(name, _)| name == key) else { return Ok(None) };
        let read = found.parse().ok().filter(|it| bounds.contains(it));
        read.map(Some).ok_or_else(|| {
            let (least, most) = (bounds.start(), bounds.end());
            Problem::bad(format!("{key} is {}: expected a number from {least} to {most}", shown(found)))
        })
    }

    /// A time, such as `10s`.
    pub(super) fn duration(
        &self,
        key: &str,
        bounds: &RangeInclusive<Duration>,
    ) -> Result<Option<Duration>, Problem> {
        let found = self.0.iter().find(|(name, _)| name == key);
        found.map(|(_, text)| duration(key, text, bounds)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_named() {
        let text = |problem: Problem| format!("{problem:?}");
        assert!(name("lease", "a.b").is_ok());
        assert!(text(name("lease", "A/b").unwrap_err()).contains("the lease's name is \\\"A/b\\\""));
        assert_eq!(token("7").unwrap(), 7);
        for bad in ["", "0", "-1", "+1", "x", "99999999999999999999"] {
            assert!(text(token(bad).unwrap_err()).contains("expected a number from 1 on"), "{bad}");
        }
        let bounds = Duration::from_secs(1)..=Duration::from_secs(60);
        let wait = |query| Query::of(Some(query), &["wait"]).and_then(|it| it.duration("wait", &bounds));
        assert_eq!(wait("wait=10s").unwrap(), Some(Duration::from_secs(10)));
        assert_eq!(wait("wait=1500ms").unwrap(), Some(Duration::from_millis(1500)));
        assert_eq!(wait("").unwrap(), None);
        assert_eq!(millis("wait_ms", 0, &bounds).unwrap(), None);
        assert_eq!(millis("wait_ms", 60_000, &bounds).unwrap(), Some(Duration::from_secs(60)));
        for bad in [999, 60_001, u64::MAX] {
            let found = text(millis("wait_ms", bad, &bounds).unwrap_err());
            assert!(found.contains(&format!("wait_ms is {bad}: expected 1000 to 60000")), "{found}");
        }
        assert!(not_longer("body", b"ab", 2).is_ok());
        assert!(
            text(not_longer("body", b"abc", 2).unwrap_err()).contains("body has 3 bytes: expected at most 2")
        );
        assert!(fence_of("a", 1).is_some() && fence_of("A", 1).is_none() && fence_of("a", 0).is_none());
        for bad in ["wait", "wait=0", "wait=61s", "wait=x", "other=1"] {
            assert!(text(wait(bad).unwrap_err()).contains("expected"), "{bad}");
        }
    }
}
