//! What JSON schemas say of values, as far as the descriptions of the APIs use them.

use regex::Regex;
use serde_json::{Map, Value};

/// Says nothing of what a value may be.
const REMARKS: [&str; 6] = ["contentEncoding", "default", "description", "examples", "format", "title"];

/// Where `value` is not what `schema` says; nothing where it is. A word that is checked by nobody is a panic.
pub(crate) fn wrong(document: &Value, schema: &Value, value: &Value, place: &str) -> Vec<String> {
    let words = match schema {
        Value::Bool(true) => return Vec::new(),
        Value::Bool(false) => return vec![format!("{place} is not described")],
        Value::Object(words) => words,
        other => panic!("{place}: {other} for a schema"),
    };
    let mut found = Vec::new();
    for (word, wanted) in words.iter().filter(|(word, _)| !REMARKS.contains(&word.as_str())) {
        match word.as_str() {
            "$ref" => {
                let pointed = document.pointer(wanted.as_str().unwrap().trim_start_matches('#'));
                let pointed = pointed.unwrap_or_else(|| panic!("{place}: {wanted}"));
                found.extend(wrong(document, pointed, value, place));
            }
            "oneOf" | "anyOf" | "allOf" => {
                let all: Vec<_> = list(wanted).iter().map(|it| wrong(document, it, value, place)).collect();
                let good = all.iter().filter(|it| it.is_empty()).count();
                let fits = match word.as_str() {
                    "oneOf" => good == 1,
                    "anyOf" => good > 0,
                    _ => good == all.len(),
                };
                if !fits {
                    found.push(format!("{place}: {good} of its kinds fit {value}: {all:?}"));
                }
            }
            "not" if wrong(document, wanted, value, place).is_empty() => {
                found.push(format!("{place} is {value}"));
            }
            "not" => {}
            _ => found.extend(
                of_object(document, (word, wanted, words), value, place)
                    .or_else(|| of_list(document, (word, wanted), value, place))
                    .or_else(|| of_scalar((word, wanted), value, place))
                    .unwrap_or_else(|| panic!("{place}: {word} is checked by nobody")),
            ),
        }
    }
    found
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

/// What is wrong by a word about objects; `None`: it is none.
fn of_object(
    document: &Value,
    (word, wanted, words): (&str, &Value, &Map<String, Value>),
    value: &Value,
    place: &str,
) -> Option<Vec<String>> {
    let nothing = Map::new();
    let members = value.as_object().unwrap_or(&nothing);
    let is_told = |name: &String| words.get("properties").is_some_and(|it| it.get(name).is_some());
    let inside = |name: &String| format!("{place}.{name}");
    Some(match word {
        "properties" => members
            .iter()
            .filter_map(|(name, it)| Some(wrong(document, wanted.get(name)?, it, &inside(name))))
            .flatten()
            .collect(),
        "additionalProperties" => {
            let others = members.iter().filter(|(name, _)| !is_told(name));
            others.flat_map(|(name, it)| wrong(document, wanted, it, &inside(name))).collect()
        }
        "propertyNames" => members
            .keys()
            .flat_map(|name| wrong(document, wanted, &Value::from(name.as_str()), &inside(name)))
            .collect(),
        "required" if value.is_object() => {
            let needed = list(wanted).iter().filter_map(Value::as_str);
            let missing = needed.filter(|it| !members.contains_key(*it));
            missing.map(|it| format!("{place}.{it} is missing")).collect()
        }
        "minProperties" if value.is_object() => bounded(word, wanted, members.len(), place),
        "maxProperties" => bounded(word, wanted, members.len(), place),
        "required" | "minProperties" => Vec::new(),
        _ => return None,
    })
}

/// What is wrong by a word about lists; `None`: it is none.
fn of_list(
    document: &Value,
    (word, wanted): (&str, &Value),
    value: &Value,
    place: &str,
) -> Option<Vec<String>> {
    let items = value.as_array().map(Vec::as_slice);
    Some(match word {
        "items" => {
            let items = items.unwrap_or_default().iter().enumerate();
            items.flat_map(|(index, it)| wrong(document, wanted, it, &format!("{place}[{index}]"))).collect()
        }
        "minItems" | "maxItems" => items.map(|it| bounded(word, wanted, it.len(), place)).unwrap_or_default(),
        _ => return None,
    })
}

/// What is wrong by a word about other values; `None`: it is none.
fn of_scalar((word, wanted): (&str, &Value), value: &Value, place: &str) -> Option<Vec<String>> {
    let is_right = match word {
        "type" => is_kind(wanted, value),
        "const" => wanted == value,
        "enum" => list(wanted).contains(value),
        "minimum" => value.as_f64().is_none_or(|it| it >= wanted.as_f64().unwrap()),
        "maximum" => value.as_f64().is_none_or(|it| it <= wanted.as_f64().unwrap()),
        "minLength" | "maxLength" => {
            let Some(text) = value.as_str() else { return Some(Vec::new()) };
            return Some(bounded(word, wanted, text.chars().count(), place));
        }
        "pattern" => {
            let pattern = Regex::new(wanted.as_str().unwrap()).unwrap();
            value.as_str().is_none_or(|it| pattern.is_match(it))
        }
        _ => return None,
    };
    Some(if is_right { Vec::new() } else { vec![format!("{place} is {value}: its {word} is {wanted}")] })
}

fn bounded(word: &str, wanted: &Value, found: usize, place: &str) -> Vec<String> {
    let bound = usize::try_from(wanted.as_u64().unwrap()).unwrap();
    let is_right = if word.starts_with("min") { found >= bound } else { found <= bound };
    if is_right { Vec::new() } else { vec![format!("{place} has {found}: its {word} is {bound}")] }
}

fn is_kind(wanted: &Value, value: &Value) -> bool {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(it) if it.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is_wanted = |it: &Value| it == kind || (kind == "integer" && it == "number");
    wanted.as_array().map_or_else(|| is_wanted(wanted), |all| all.iter().any(is_wanted))
}

#[test]
fn what_is_wrong_is_found() {
    use serde_json::json;
    let document = json!({"name": {"type": "string", "pattern": "^[a-z]+$", "not": {"enum": ["none"]}}});
    let schema = json!({
        "type": "object",
        "properties": {
            "name": {"$ref": "#/name"},
            "count": {"type": ["integer", "null"], "minimum": 1, "maximum": 9},
            "list": {"type": "array", "maxItems": 1, "items": {"type": "number"}},
            "map": {"type": "object", "additionalProperties": {"maxLength": 2}, "propertyNames": {"minLength": 2}},
        },
        "required": ["name"],
        "additionalProperties": false,
        "allOf": [{"not": {"required": ["count", "list"]}}],
    });
    let found = |value: Value| wrong(&document, &schema, &value, "it");
    for right in [
        json!({"name": "a"}),
        json!({"name": "a", "count": 9}),
        json!({"name": "a", "count": null, "map": {"ab": "xy", "abc": 7}}),
        json!({"name": "a", "list": [1.5]}),
    ] {
        assert_eq!(found(right.clone()), Vec::<String>::new(), "{right}");
    }
    for (value, said) in [
        (json!([]), "its type is \"object\""),
        (json!({}), "it.name is missing"),
        (json!({"name": "A"}), "its pattern is"),
        (json!({"name": "none"}), "it.name is \"none\""),
        (json!({"name": "a", "other": 1}), "it.other is not described"),
        (json!({"name": "a", "count": 10}), "its maximum is 9"),
        (json!({"name": "a", "count": 1.5}), "its type is"),
        (json!({"name": "a", "list": [1, 2]}), "it.list has 2: its maxItems is 1"),
        (json!({"name": "a", "list": ["x"]}), "it.list[0] is \"x\""),
        (json!({"name": "a", "map": {"ab": "xyz"}}), "it.map.ab has 3"),
        (json!({"name": "a", "map": {"a": "x"}}), "it.map.a has 1"),
        (json!({"name": "a", "count": 1, "list": []}), "0 of its kinds fit"),
    ] {
        let found = found(value.clone()).join("; ");
        assert!(found.contains(said), "{value}: {found}");
    }
}
