//! What JSON says of bytes: a text, base64, or a value of its own; in entries of caches, messages, what handlers answer.

use base64ct::{Base64, Encoding};
use bytes::Bytes;
use common::config::parse_duration;
use http::HeaderValue;
use serde_json::{Map, Value};
use std::{ops::RangeInclusive, time::Duration};

/// The longest content type that is kept, in bytes.
pub(crate) const TYPE_MAX: usize = 256;

/// What bytes are of which nothing is said.
pub(crate) const TYPE: &str = "application/octet-stream";

/// The keys of an object that say what bytes are.
pub(crate) const CONTENT_KEYS: [&str; 4] = ["value", "base64", "json", "content-type"];

/// Why JSON is none of what it is to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadJson {
    /// It is something else.
    #[error("{0}")]
    Bad(String),
    /// It has more bytes than there may be.
    #[error("{field} has {found} bytes: expected at most {max}")]
    TooLarge {
        /// Where.
        field: String,
        found: usize,
        max: usize,
    },
}

/// An object at a place in a body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ObjectAt<'a> {
    place: &'a str,
    map: &'a Map<String, Value>,
}

impl<'a> ObjectAt<'a> {
    /// One that has no keys but these.
    ///
    /// # Errors
    /// [`BadJson::Bad`].
    pub(crate) fn new(place: &'a str, value: &'a Value, keys: &[&str]) -> Result<Self, BadJson> {
        let Value::Object(map) = value else { return Err(BadJson::Bad(format!("{place} is no object"))) };
        match map.keys().find(|it| !keys.contains(&it.as_str())) {
            Some(other) => Err(BadJson::Bad(format!("{place} has {other:?}: expected {}", keys.join(", ")))),
            None => Ok(Self { place, map }),
        }
    }

    /// The name of a member, for people.
    pub(crate) fn field(&self, key: &str) -> String {
        format!("{}.{key}", self.place)
    }

    /// A member, but for `null`.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|it| !it.is_null())
    }

    /// A text.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>, BadJson> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => {
                let field = self.field(key);
                Err(BadJson::Bad(format!("{field} is {other}: expected a text")))
            }
        }
    }

    /// `true`, `false`, or nothing, which is `false`.
    pub(crate) fn boolean(&self, key: &str) -> Result<bool, BadJson> {
        match self.get(key) {
            None => Ok(false),
            Some(Value::Bool(value)) => Ok(*value),
            Some(other) => {
                Err(BadJson::Bad(format!("{} is {other}: expected true or false", self.field(key))))
            }
        }
    }

    /// A whole number.
    pub(crate) fn integer(&self, key: &str, bounds: &RangeInclusive<i64>) -> Result<Option<i64>, BadJson> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value.as_i64().filter(|it| bounds.contains(it));
        number.map(Some).ok_or_else(|| {
            let (field, least, most) = (self.field(key), bounds.start(), bounds.end());
            BadJson::Bad(format!("{field} is {value}: expected a whole number from {least} to {most}"))
        })
    }

    /// A time, such as `"5s"`.
    pub(crate) fn duration(
        &self,
        key: &str,
        bounds: &RangeInclusive<Duration>,
    ) -> Result<Option<Duration>, BadJson> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        let read = parse_duration(text).ok().filter(|it| bounds.contains(it));
        read.map(Some).ok_or_else(|| {
            let (field, least, most) = (self.field(key), bounds.start(), bounds.end());
            BadJson::Bad(format!("{field} is {text:?}: expected a time from {least:?} to {most:?}"))
        })
    }

    /// Bytes and what they are: of `value` (a text), `base64` or `json`, one of them. `None`: there is none of them.
    pub(crate) fn content(&self, max: usize) -> Result<Option<(Bytes, String)>, BadJson> {
        let (bytes, kind) = match (self.text("value")?, self.text("base64")?, self.map.get("json")) {
            (None, None, None) => return Ok(None),
            (Some(text), None, None) => (Bytes::from(text.to_owned()), "text/plain; charset=utf-8"),
            (None, Some(text), None) => {
                let bytes = Base64::decode_vec(text);
                let bad = |_| BadJson::Bad(format!("{} is no base64", self.field("base64")));
                (Bytes::from(bytes.map_err(bad)?), TYPE)
            }
            (None, None, Some(value)) => (Bytes::from(value.to_string()), "application/json"),
            _ => {
                let text = format!("{} has more than one of value, base64 and json", self.place);
                return Err(BadJson::Bad(text));
            }
        };
        if bytes.len() > max {
            return Err(BadJson::TooLarge { field: self.place.to_owned(), found: bytes.len(), max });
        }
        let kind = self.text("content-type")?.unwrap_or(kind);
        content_type_is_ok(kind)?;
        Ok(Some((bytes, kind.to_owned())))
    }

    /// The same where there has to be one.
    pub(crate) fn required_content(&self, max: usize) -> Result<(Bytes, String), BadJson> {
        self.content(max)?.ok_or_else(|| {
            let place = self.place;
            let text =
                format!("{place} has to have a value (a text), a base64 (a text) or a json, one of them");
            BadJson::Bad(text)
        })
    }
}

/// What a content type may be.
///
/// # Errors
/// [`BadJson::Bad`].
pub(crate) fn content_type_is_ok(text: &str) -> Result<(), BadJson> {
    if text.len() <= TYPE_MAX && HeaderValue::from_str(text).is_ok() {
        return Ok(());
    }
    Err(BadJson::Bad(format!(
        "the content type has {} bytes: expected at most {TYPE_MAX}, as a header has them",
        text.len()
    )))
}

/// Bytes as JSON has them: with `json` if they are some and say so, as `value` if they are a text, else as `base64`.
pub(crate) fn told(map: &mut Map<String, Value>, bytes: &[u8], content_type: &str) {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    let is_json = kind.eq_ignore_ascii_case("application/json") || kind.ends_with("+json");
    let json = if is_json { serde_json::from_slice(bytes).ok() } else { None };
    let (key, value) = match (json, std::str::from_utf8(bytes)) {
        (Some(value), _) => ("json", value),
        (None, Ok(text)) => ("value", text.into()),
        (None, Err(_)) => ("base64", Base64::encode_string(bytes).into()),
    };
    map.insert(key.to_owned(), value);
    map.insert("content-type".to_owned(), content_type.into());
}

/// Of a time, at most.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bytes_are_told_as_they_were_given() {
        let there_and_back = |bytes: &[u8], kind: &str| {
            let mut map = Map::new();
            told(&mut map, bytes, kind);
            let value = Value::Object(map);
            let object = ObjectAt::new("it", &value, &CONTENT_KEYS).unwrap();
            let (again, found) = object.required_content(100).unwrap();
            assert_eq!((&again[..], found.as_str()), (bytes, kind), "{value}");
            value
        };
        assert_eq!(there_and_back(b"{\"a\":1}", "application/json")["json"], json!({"a": 1}));
        assert_eq!(there_and_back(b"null", "application/json")["json"], Value::Null);
        assert_eq!(there_and_back(b"{", "application/json")["value"], "{");
        assert_eq!(there_and_back(b"[1]", "application/x+json")["json"], json!([1]));
        assert_eq!(there_and_back("ä".as_bytes(), "text/plain")["value"], "ä");
        assert_eq!(there_and_back(b"\xff", TYPE)["base64"], "/w==");
    }

    #[test]
    fn what_is_refused_is_named() {
        let content = |value: &Value| {
            ObjectAt::new("messages[3]", value, &CONTENT_KEYS)
                .and_then(|it| it.required_content(4))
                .map_err(|it| it.to_string())
                .unwrap_err()
        };
        assert!(content(&json!(5)).contains("messages[3] is no object"));
        assert!(content(&json!({"velue": ""})).contains("messages[3] has \"velue\": expected value, base64"));
        assert!(content(&json!({"value": 5})).contains("messages[3].value is 5: expected a text"));
        assert!(content(&json!({"value": "", "json": 1})).contains("more than one of"));
        assert!(content(&json!({})).contains("messages[3] has to have a value"));
        assert!(content(&json!({"base64": "?"})).contains("messages[3].base64 is no base64"));
        assert!(content(&json!({"value": "12345"})).contains("messages[3] has 5 bytes: expected at most 4"));
        assert!(content(&json!({"value": "", "content-type": "a\nb"})).contains("the content type"));
    }
}
