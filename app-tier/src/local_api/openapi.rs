//! The API described after OpenAPI 3.1: `openapi.json` beside this file, by hand. A test here holds it against the routes, and
//! tests/it/local_openapi.rs against the answers of servers and their calls of apps.

use super::{answer::Problem, input::Query, route::not_allowed};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use tonic::body::Body;

const TEXT: &str = include_str!("openapi.json");

/// `GET /v1/openapi.json`.
pub(super) fn describe(request: &Request<Incoming>) -> Result<Response<Body>, Problem> {
    Query::of(request.uri().query(), &[])?;
    if request.method() != Method::GET {
        return Ok(not_allowed("GET", request.method()));
    }
    let mut response = Response::new(Body::new(Full::new(Bytes::from_static(TEXT.as_bytes()))));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex::Regex;
    use serde_json::Value;
    use std::collections::BTreeSet;

    /// The files whose functions answer calls, by the names that the router uses.
    const SOURCES: [(&str, &str); 11] = [
        ("app", include_str!("app.rs")),
        ("caches", include_str!("caches.rs")),
        ("queues", include_str!("queues.rs")),
        ("topics", include_str!("topics.rs")),
        ("jobs", include_str!("jobs.rs")),
        ("pipelines", include_str!("pipelines.rs")),
        ("sessions", include_str!("sessions/http.rs")),
        ("leases", include_str!("leases.rs")),
        ("openapi", include_str!("openapi.rs")),
        // Those that answer for all.
        ("answer", include_str!("answer.rs")),
        ("input", include_str!("input.rs")),
    ];

    fn document() -> Value {
        serde_json::from_str(TEXT).unwrap()
    }

    fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
        value.as_object().unwrap().iter()
    }

    /// Its operations: `GET /v1/…` or the webhook's name, the item that it is in, and itself.
    fn operations(document: &Value) -> Vec<(String, &Value, &Value)> {
        let items = members(&document["paths"]).chain(members(&document["webhooks"]));
        let of_item = |(place, item): (&String, _)| {
            let methods = members(item).filter(|(key, _)| *key != "parameters");
            let named = methods.map(|(method, it)| (format!("{} {place}", method.to_uppercase()), item, it));
            named.collect::<Vec<_>>()
        };
        items.flat_map(of_item).collect()
    }

    fn pointed<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
        let reference = value["$ref"].as_str().and_then(|it| it.strip_prefix('#'));
        reference.map_or(value, |it| document.pointer(it).unwrap_or_else(|| panic!("{it}")))
    }

    /// The body of a function of one of the files.
    fn body(module: &str, function: &str) -> &'static str {
        let known = SOURCES.iter().find(|(name, _)| *name == module);
        let source = known.unwrap_or_else(|| panic!("{module} is new")).1;
        let found = source.split_once(&format!(" fn {function}("));
        let rest = found.unwrap_or_else(|| panic!("{module}::{function}")).1;
        rest.split_once("\n}\n").unwrap().0
    }

    /// The methods that a handler has, as it tells those who come with another.
    fn methods(module: &str, function: &str) -> BTreeSet<String> {
        let body = body(module, function);
        let Some((_, told)) = body.split_once("not_allowed(\"") else {
            assert!(body.contains("receive_of("), "{module}::{function} takes any method");
            return methods("queues", "receive_of");
        };
        let told: BTreeSet<_> = told.split('"').next().unwrap().split(", ").map(str::to_owned).collect();
        let named = Regex::new(r"\bMethod::([A-Z]+)").unwrap();
        let named: BTreeSet<_> = named.captures_iter(body).map(|it| it[1].to_owned()).collect();
        assert_eq!(told, named, "{module}::{function}");
        told
    }

    /// What the router knows: each method and path, `{}` for what varies.
    fn routes() -> BTreeSet<String> {
        let router = include_str!("route.rs");
        let arms = router.split_once("match segments[..] {").unwrap().1.split_once("_ => Err(").unwrap().0;
        let handler = Regex::new(r"(\w+)::(\w+)\(").unwrap();
        let mut found = BTreeSet::new();
        for arm in arms.split("\n        [").skip(1) {
            let (pattern, rest) = arm.split_once(']').unwrap();
            let (_, answer) = rest.split_once("=>").unwrap();
            let segments = pattern.split(", ");
            let segments = segments
                .map(|it| it.strip_prefix('"').map_or("{}", |it| it.strip_suffix('"').unwrap()))
                .collect::<Vec<_>>();
            let called = handler.captures(answer).unwrap();
            for method in methods(&called[1], &called[2]) {
                assert!(found.insert(format!("{method} /v1/{}", segments.join("/"))), "{arm}");
            }
        }
        found
    }

    #[test]
    fn every_route_is_described_and_every_description_is_a_route() {
        let document = document();
        assert_eq!(document["openapi"], "3.1.0");
        let varying = Regex::new(r"\{\w+\}").unwrap();
        let described: BTreeSet<_> = operations(&document)
            .iter()
            .filter(|(name, ..)| name.contains('/'))
            .map(|(name, ..)| varying.replace_all(name, "{}").into_owned())
            .collect();
        let routes = routes();
        assert!(routes.len() > 30, "{routes:?}");
        assert_eq!(described, routes);
    }

    #[test]
    fn every_operation_says_what_it_is_and_what_it_answers() {
        let document = document();
        let varying = Regex::new(r"\{(\w+)\}").unwrap();
        let tags: Vec<_> = document["tags"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
        let mut ids = BTreeSet::new();
        for (name, item, operation) in operations(&document) {
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{name}");
            assert!(operation["summary"].as_str().is_some_and(|it| !it.is_empty()), "{name}");
            assert!(tags.contains(&&operation["tags"][0]), "{name}");
            let answers: BTreeSet<_> = members(&operation["responses"]).map(|it| it.0.as_str()).collect();
            assert!(answers.iter().any(|it| it.starts_with('2')), "{name}");
            assert!(answers.contains("default"), "{name}");
            if name.contains('/') {
                assert!(["400", "401", "429"].iter().all(|it| answers.contains(it)), "{name}");
            }
            let parameters = [item, operation].into_iter().filter_map(|it| it["parameters"].as_array());
            let parameters = parameters.flatten().map(|it| pointed(&document, it));
            let in_path: BTreeSet<_> = parameters
                .filter(|it| it["in"] == "path")
                .map(|it| it["name"].as_str().unwrap().to_owned())
                .collect();
            let varying: BTreeSet<_> = varying.captures_iter(&name).map(|it| it[1].to_owned()).collect();
            assert_eq!(in_path, varying, "{name}");
        }
    }

    #[test]
    fn what_it_refers_to_is_in_it_and_all_that_is_in_it_is_referred_to() {
        fn references(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(fields) => {
                    found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    fields.values().for_each(|it| references(it, found));
                }
                Value::Array(items) => items.iter().for_each(|it| references(it, found)),
                _ => {}
            }
        }
        let (document, mut found) = (document(), BTreeSet::new());
        references(&document, &mut found);
        assert!(found.len() > 50);
        for reference in &found {
            assert!(document.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference}");
        }
        // The data of events, which the description names in words.
        found.extend(["CacheChange", "TopicMessage"].map(|it| format!("#/components/schemas/{it}")));
        for (kind, all) in members(&document["components"]).filter(|(kind, _)| *kind != "securitySchemes") {
            for (name, _) in members(all) {
                assert!(found.contains(&format!("#/components/{kind}/{name}")), "{kind}/{name}");
            }
        }
    }

    /// The codes of problems that programs may find.
    #[test]
    fn every_code_of_a_problem_is_described() {
        let made = Regex::new(r#"::new\(\s*StatusCode::\w+,\s*"([a-z-]+)""#).unwrap();
        let others = [include_str!("route.rs"), include_str!("../local_api.rs")];
        let sources = SOURCES.iter().map(|it| it.1).chain(others);
        let codes: BTreeSet<_> = sources
            .flat_map(|source| made.captures_iter(source).map(|it| it[1].to_owned()).collect::<Vec<_>>())
            .collect();
        let document = document();
        let described = &document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"];
        let described: BTreeSet<_> =
            described.as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect();
        assert_eq!(described, codes);
    }
}
