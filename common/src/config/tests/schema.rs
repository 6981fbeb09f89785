//! The schema says of each key what the decoder asks for, and what it is for.

use super::super::{
    keys,
    schema::{SchemaOf, json_schema, tables},
};
use serde_json::{Value, json};

fn schema() -> Value {
    serde_json::from_str(&json_schema(SchemaOf::Cluster)).unwrap()
}

/// A new key is in it by itself; one that is read only beside others is read before them, or it is silent here.
#[test]
fn every_key_that_the_decoders_know_is_asked_for_something() {
    let tables = {
        let mut tables = tables(SchemaOf::Cluster);
        tables.extend(super::super::schema::tables(SchemaOf::App));
        tables
    };
    // What apps declare while they run is no file.
    for keys in keys::ALL.into_iter().filter(|keys| !std::ptr::eq(*keys, &keys::DECLARATIONS)) {
        let mut found = tables.iter().filter(|(known, _)| std::ptr::eq(*known, keys)).peekable();
        assert!(found.peek().is_some(), "{} is found nowhere", keys.what);
        for (_, values) in found {
            let told = |it: &super::super::schema::Taken| {
                !it.asks.is_empty() || it.item.is_some() || it.own_keys.is_some()
            };
            let silent: Vec<_> =
                values.iter().filter(|(_, taken)| !told(taken)).map(|(key, _)| key).collect();
            assert!(silent.is_empty(), "{}: {silent:?}", keys.what);
        }
    }
}

#[test]
fn values_are_described_as_the_decoder_takes_them() {
    let schema = schema();
    let of = |kind: &str, key: &str| schema["$defs"][kind]["properties"][key].clone();
    let variable = json!({"type": "string", "pattern": r"\$\{"});
    assert_eq!(of("tls", "min-version")["anyOf"], json!([{"enum": [1.2, 1.3, "1.2", "1.3"]}, variable]));
    assert_eq!(of("host", "merge-slashes")["anyOf"][0], json!({"enum": [true, false, "true", "false"]}));
    assert_eq!(of("server", "port")["anyOf"][0], json!({"type": "integer", "minimum": 1, "maximum": 65_535}));
    assert_eq!(of("server", "socket-timeout")["title"], "a duration from 1ms to 1D");
    assert_eq!(
        of("cluster", "hosts")["anyOf"][0]["items"]["$ref"],
        "#/$defs/host",
        "{}",
        of("cluster", "hosts")
    );
    assert_eq!(of("if", "not")["$ref"], "#/$defs/if");
    assert_eq!(
        of("host", "merge-slashes")["description"].as_str().unwrap().split(':').next(),
        Some("flag; true")
    );
}

/// What prose says of keys alone has no row of its own.
#[test]
fn most_keys_say_what_they_are_for() {
    let schema = schema();
    let all = schema["$defs"].as_object().unwrap().values();
    let all: Vec<_> = all.flat_map(|it| it["properties"].as_object().unwrap().values()).collect();
    let silent = all.iter().filter(|it| it["description"].is_null()).count();
    assert!(silent * 5 < all.len(), "{silent} of {} have no description", all.len());
}
