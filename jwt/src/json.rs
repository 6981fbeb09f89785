//! JSON objects out of tokens, in which no name comes twice.

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::{Map, Value};
use std::fmt;

/// Reads an object whose names are unique (RFC 7515 §4, RFC 7519 §4): of two values, somebody else might believe the other one.
/// Depth and numbers are bounded by the parser. `None` if it is anything else.
pub(crate) fn object(json: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice(json).map(|Unique(object)| object).ok()
}

struct Unique(Map<String, Value>);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Names)
    }
}

struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = Unique;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object whose names are unique")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Unique, A::Error> {
        let mut object = Map::new();
        while let Some((name, value)) = entries.next_entry::<String, Value>()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a name comes twice"));
            }
        }
        Ok(Unique(object))
    }
}
