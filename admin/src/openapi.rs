//! The API described after OpenAPI 3.1: `openapi.json` beside this file, by hand. A test holds it against the routes, and
//! tests/it/openapi.rs against the answers of servers.

use crate::{AnswerBody, answer};
use http::{Response, StatusCode};

const TEXT: &str = include_str!("openapi.json");

/// The description of the API where it is mounted at `prefix`.
pub(crate) fn describe(prefix: &str) -> Response<AnswerBody> {
    let mounted = serde_json::to_string(prefix).expect("a text");
    answer(StatusCode::OK, "application/json", TEXT.replacen("\"/admin\"", &mounted, 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Route;
    use http::Request;
    use serde_json::Value;
    use std::collections::BTreeSet;

    fn document() -> Value {
        serde_json::from_str(TEXT).unwrap()
    }

    /// The name of what a path of the description leads to.
    fn led_to(method: &str, path: &str) -> String {
        let path = [
            ("{stage}", "production"),
            ("{host}", "default"),
            ("{name}", "shop"),
            ("{id}", "app-a"),
            ("{token}", "ci"),
            ("{queue}", "q"),
            ("{cache}", "c"),
            ("{job}", "j"),
            ("{pipeline}", "p"),
            ("{run}", "17"),
        ]
        .iter()
        .fold(path.to_owned(), |path, (field, value)| path.replace(field, value));
        assert!(!path.contains('{'), "{path}");
        let request = Request::builder().method(method.to_uppercase().as_str()).uri(&path).body(()).unwrap();
        let route = Route::of("", &request).unwrap_or_else(|refusal| panic!("{method} {path}: {refusal}"));
        let shown = format!("{route:?}");
        let name = shown.strip_prefix("Apps(").unwrap_or(&shown);
        name.split(['(', ' ', ')']).next().unwrap().to_owned()
    }

    /// The variants of an enum, by its source.
    fn variants(source: &str, name: &str) -> Vec<String> {
        let body = source.split_once(&format!("pub(crate) enum {name} {{")).unwrap().1;
        let lines = body.lines().take_while(|line| *line != "}");
        let is_variant =
            |line: &&str| line.strip_prefix("    ").is_some_and(|it| it.starts_with(char::is_uppercase));
        lines
            .filter(is_variant)
            .map(|line| line.trim().split(['(', ' ', ',']).next().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn every_route_is_described_and_every_description_is_a_route() {
        let document = document();
        let mut described = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in
                item.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters")
            {
                described.insert(led_to(method, path));
                assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{method} {path}");
                let answers = operation["responses"].as_object().unwrap();
                assert!(
                    answers.contains_key("default") && answers.keys().any(|it| it.starts_with('2')),
                    "{path}"
                );
            }
        }
        let mut routes = variants(include_str!("route.rs"), "Route");
        routes.extend(variants(include_str!("apps/route.rs"), "AppRoute"));
        assert!(routes.len() > 20, "{routes:?}");
        // The page for people, what stands for the rest, and what is Git's own.
        routes.retain(|it| !matches!(it.as_str(), "Index" | "Apps" | "Git"));
        let routes: BTreeSet<_> = routes.into_iter().collect();
        assert_eq!(described, routes);
    }

    #[test]
    fn what_it_refers_to_is_in_it() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(fields) => {
                    found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    fields.values().for_each(|it| references(it, found));
                }
                Value::Array(items) => items.iter().for_each(|it| references(it, found)),
                _ => {}
            }
        }
        let (document, mut found) = (document(), Vec::new());
        references(&document, &mut found);
        assert!(found.len() > 50);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        assert_eq!(document["openapi"], "3.1.0");
    }
}
