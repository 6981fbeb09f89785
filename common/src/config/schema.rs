//! The JSON Schema of the file. It is made from the decoder itself: of each key it is found out what the decoder asks of its value, so
//! that no second list has to be kept. What the keys are for is taken from the documentation.

pub(super) mod ask;
mod describe;
mod probe;

use super::{
    keys::{self, Keys},
    units::format_duration,
};
use ask::Ask;
use describe::Pages;
pub use probe::SchemaOf;
pub(super) use probe::Taken;
use probe::{Step, taken};
use serde_json::{Map, Value, json};

/// A variable anywhere in a text.
const VARIABLE: &str = r"\$\{";

/// The JSON Schema (draft 2020-12) of a file, as one text.
pub fn json_schema(file: SchemaOf) -> String {
    let pages = Pages::default();
    let mut definitions = Map::new();
    for (keys, taken) in tables(file) {
        definitions.insert(name(keys), mapping(keys, &taken, &pages));
    }
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("Copal: {}", file.keys().what),
        "$ref": reference(file.keys()),
        "$defs": definitions,
    });
    format!("{schema:#}\n")
}

/// Every kind of mapping that a file may have, and what each of its keys takes.
pub(super) fn tables(file: SchemaOf) -> Vec<(&'static Keys, Vec<(&'static str, Taken)>)> {
    let mut tables: Vec<(&'static Keys, Vec<_>)> = Vec::new();
    let mut waiting = vec![(file.keys(), Vec::new())];
    while let Some((keys, path)) = waiting.pop() {
        if tables.iter().any(|(known, _)| std::ptr::eq(*known, keys)) {
            continue;
        }
        let mut values = Vec::new();
        for key in keys.known {
            let path = [path.as_slice(), &[Step::Key(key)]].concat();
            let taken = if *key == "import" { Taken::import() } else { taken(file, &path) };
            taken.mappings(&mut waiting, &path);
            values.push((*key, taken));
        }
        tables.push((keys, values));
    }
    tables
}

/// The name of a kind of mapping among the definitions.
fn name(keys: &Keys) -> String {
    let what = keys.what.trim_start_matches("an ").trim_start_matches("a ").trim_start_matches("the ");
    let words = what.split(|it: char| !it.is_ascii_alphanumeric() && it != '-' && it != '.');
    words.filter(|it| !it.is_empty()).collect::<Vec<_>>().join("-")
}

fn reference(keys: &Keys) -> String {
    format!("#/$defs/{}", name(keys))
}

fn mapping(keys: &'static Keys, values: &[(&'static str, Taken)], pages: &Pages) -> Value {
    let mut properties = Map::new();
    for (key, taken) in values {
        let mut schema = value(taken);
        if let (Value::Object(words), Some(text)) = (&mut schema, pages.meaning(keys, key)) {
            words.insert("description".to_owned(), text.into());
        }
        properties.insert((*key).to_owned(), schema);
    }
    let mut schema = json!({
        "description": keys.what,
        "type": ["object", "null"],
        "properties": properties,
        "additionalProperties": false,
    });
    if std::ptr::eq(keys, &keys::RULE) {
        schema["minProperties"] = 1.into();
        schema["maxProperties"] = 1.into();
    }
    schema
}

/// What may stand in one place: one of the kinds that the decoder asks for there.
fn value(taken: &Taken) -> Value {
    let mut kinds: Vec<Value> = Vec::new();
    let mut add = |kind: Value| {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    };
    let said = |ask: &&Ask| !matches!(ask, Ask::Text | Ask::List | Ask::Mapping(_));
    if taken.asks.iter().filter(said).count() == 0 && taken.asks.iter().any(|ask| matches!(ask, Ask::Text)) {
        add(json!({"type": ["string", "number", "boolean"]}));
    }
    taken.asks.iter().flat_map(scalar).for_each(&mut add);
    if let Some(item) = &taken.item {
        add(json!({"type": "array", "items": value(item)}));
    } else if taken.asks.iter().any(|ask| matches!(ask, Ask::List)) {
        add(json!({"type": "array"}));
    }
    if let Some(inner) = &taken.own_keys {
        add(json!({"type": "object", "additionalProperties": value(inner)}));
    }
    if taken.null {
        add(json!({"type": "null"}));
    }
    match kinds.len() {
        // Of a key that asks nothing anything may be said.
        0 => json!({}),
        1 => kinds.remove(0),
        _ => json!({"anyOf": kinds}),
    }
}

/// The kinds that one question stands for: the value, or a variable for it.
fn scalar(ask: &Ask) -> Vec<Value> {
    let text = |form: &str| json!({"type": "string", "pattern": format!("{form}|{VARIABLE}")});
    match ask {
        Ask::Text | Ask::List => Vec::new(),
        Ask::Mapping(keys) => vec![json!({"$ref": reference(keys)})],
        Ask::Choice(words) => {
            let plain = words.iter().filter_map(|it| it.parse::<bool>().ok()).map(Value::from);
            let numbers = words.iter().filter_map(|it| it.parse::<f64>().ok()).map(Value::from);
            let all: Vec<_> = plain.chain(numbers).chain(words.iter().map(|it| it.as_str().into())).collect();
            vec![json!({"enum": all}), json!({"type": "string", "pattern": VARIABLE})]
        }
        Ask::Integer(bounds) => vec![
            json!({"type": "integer", "minimum": bounds.start(), "maximum": bounds.end()}),
            text("^[0-9]+$"),
        ],
        Ask::Size(bounds) => vec![
            json!({"type": "integer", "minimum": bounds.start(), "maximum": bounds.end()}),
            text("^[0-9]+[KkMmGg]?$"),
        ],
        Ask::Duration(bounds) => {
            let mut kinds = vec![text("^([0-9]+(ms|s|m|h|D|W)|0)$")];
            kinds[0]["title"] = format!(
                "a duration from {} to {}",
                format_duration(*bounds.start()),
                format_duration(*bounds.end())
            )
            .into();
            if bounds.start().is_zero() {
                kinds.push(json!({"const": 0}));
            }
            kinds
        }
    }
}
