//! What the API says of itself, held against what servers answer.

use crate::{
    cluster::Cluster,
    schema::wrong,
    tokens::{OPS, curl, deploying, rolled_out, tar},
};
use serde_json::Value;

/// The schema of an answer.
fn schema<'a>(document: &'a Value, method: &str, path: &str, status: u16) -> &'a Value {
    let answers = &document["paths"][path][method.to_lowercase()]["responses"];
    let answer = answers.get(status.to_string()).unwrap_or(&answers["default"]);
    let answer = match answer["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
        None => answer,
    };
    let schema = &answer["content"]["application/json"]["schema"];
    assert!(schema.is_object(), "{method} {path} {status}: {answers}");
    schema
}

/// A request, whose answer is to be as it is described.
async fn asked(
    web: &str,
    document: &Value,
    (method, path, query): (&str, &str, &str),
    body: Vec<u8>,
    expected: u16,
) -> Value {
    let real = [
        ("{stage}", "production"),
        ("{host}", "default"),
        ("{name}", "shop"),
        ("{id}", "app-a"),
        ("{token}", "ci"),
        ("{queue}", "nobodys"),
        ("{job}", "nobodys"),
        ("{pipeline}", "nobodys"),
        ("{run}", "17"),
    ];
    let real = real.iter().fold(path.to_owned(), |path, (field, value)| path.replace(field, value));
    let (status, answer) = curl(web, &format!("{method} /admin{real}{query}"), OPS, body).await;
    assert_eq!(status, expected, "{method} {path}{query}: {answer}");
    let found = wrong(document, schema(document, method, path, status), &answer, path);
    assert!(found.is_empty(), "{method} {path}{query} {status}: {found:#?}");
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_looks_up_is_what_the_description_says() {
    let cluster = Cluster::start_with(1, deploying).await;
    let web = cluster.web();
    let mut user = cluster.user();
    user.count().await;
    let (_, document) = curl(&web, "GET /admin/api/v1/openapi.json", OPS, "").await;
    let get = async |path: &str, query: &str, expected: u16| {
        asked(&web, &document, ("GET", path, query), Vec::new(), expected).await
    };
    for path in
        "logs requests sessions cache app-caches daemons queues pipelines jobs configuration".split(' ')
    {
        get(&format!("/api/v1/{path}"), "", 200).await;
    }
    get("/api/v1/logs", "?level=loud", 400).await;
    get("/api/v1/logs", "?server=app-x", 404).await;
    get("/api/v1/jobs", "?find=nobodys&skip=1&limit=10", 200).await;
    get("/api/v1/jobs", "?limit=many", 400).await;
    get("/api/v1/queues/{queue}/messages", "?which=ready", 404).await;
    get("/api/v1/queues/{queue}/messages", "?which=all", 400).await;
    get("/api/v1/pipelines/{pipeline}/runs", "?which=failed&after=7&limit=3", 404).await;
    get("/api/v1/pipelines/{pipeline}/runs", "?which=some", 400).await;
    let pipeline = "pipelines/{pipeline}/runs/{run}/end";
    for path in ["jobs/{job}/pause", "jobs/{job}/resume", "jobs/{job}/run", pipeline] {
        asked(&web, &document, ("POST", &format!("/api/v1/{path}"), ""), Vec::new(), 404).await;
    }
    for verb in ["pause", "resume", "purge", "replay"] {
        let path = format!("/api/v1/queues/{{queue}}/{verb}");
        for (body, expected) in [("", 404), ("{\"x\": 1}", 400)] {
            asked(&web, &document, ("POST", &path, ""), body.into(), expected).await;
        }
    }
    let purge = async |body: &str, expected: u16| {
        asked(&web, &document, ("POST", "/api/v1/cache/purge", ""), body.into(), expected).await
    };
    purge("{\"url\": \"/a\"}", 200).await;
    for wrong in
        ["{}", "{\"url\": \"/a\", \"tag\": \"b\"}", "{\"pattern\": \"(\"}", "{\"url\": \"a\"}", "{\"x\": 1}"]
    {
        purge(wrong, 400).await;
    }
    let own = user.cookie.as_deref().unwrap().split_once('=').unwrap().1;
    for verb in ["find", "invalidate"] {
        let path = format!("/api/v1/sessions/{verb}");
        let post = async |id: &str, expected: u16| {
            let body = format!("{{\"id\": \"{id}\"}}").into_bytes();
            asked(&web, &document, ("POST", &path, ""), body, expected).await
        };
        post("aaNobodys-1", 200).await;
        post("a b", 400).await;
        let told = post(own, 200).await;
        assert!(!told.to_string().contains(own), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_what_the_description_says() {
    let cluster = Cluster::start_with(1, deploying).await;
    let web = cluster.web();
    let (status, document) = curl(&web, "GET /admin/api/v1/openapi.json", OPS, "").await;
    assert_eq!((status, &document["servers"][0]["url"]), (200, &"/admin".into()));
    let ask = async |method: &str, path: &str, query: &str, body: Vec<u8>, expected: u16| {
        asked(&web, &document, (method, path, query), body, expected).await
    };
    let app = "/api/v1/apps/{stage}/webapp/{host}/{name}";
    let below = |verb: &str| format!("{app}/{verb}");
    ask("GET", app, "", Vec::new(), 404).await;
    for content in [&b"one"[..], b"two"] {
        ask("PUT", &below("archive"), "?message=hi", tar(&[("index.html", content)]), 202).await;
        rolled_out(&web, "production/webapp/default/shop").await;
    }
    ask("PUT", &below("archive"), "", tar(&[("index.html", b"two")]), 200).await;
    ask("GET", app, "", Vec::new(), 200).await;
    ask("GET", "/api/v1/apps", "", Vec::new(), 200).await;
    let log = ask("GET", &below("log"), "", Vec::new(), 200).await;
    let commit = |index: usize| log["versions"][index]["commit"].as_str().unwrap().to_owned();
    ask("GET", &below("diff"), &format!("?from={}&to={}", commit(1), commit(0)), Vec::new(), 200).await;
    ask("GET", &below("diff"), "?from=x&to=y", Vec::new(), 404).await;
    ask("GET", &below("ls"), "", Vec::new(), 200).await;
    ask("POST", &below("stop"), "", Vec::new(), 202).await;
    ask("POST", &below("start"), "", Vec::new(), 202).await;
    ask("POST", &below("start"), "", Vec::new(), 200).await;
    ask("POST", &below("rollback"), "", b"{\"what\": 1}".to_vec(), 400).await;
    ask("POST", &below("rollback"), "", Vec::new(), 202).await;
    rolled_out(&web, "production/webapp/default/shop").await;
    ask("POST", "/api/v1/objects/missing", "", format!("{}\n", commit(0)).into_bytes(), 200).await;
    ask("GET", "/api/v1/objects/room", "?bytes=1", Vec::new(), 200).await;
    ask("GET", "/api/v1/objects/room", "?bytes=many", Vec::new(), 400).await;
    ask("POST", "/api/v1/objects", "", b"no pack".to_vec(), 400).await;
    ask("DELETE", app, "", Vec::new(), 200).await;
    let token = b"{\"name\": \"ci\", \"roles\": [\"deploy\"], \"expires-s\": 60}".to_vec();
    ask("POST", "/api/v1/tokens", "", token, 201).await;
    ask("POST", "/api/v1/tokens", "", b"{\"roles\": []}".to_vec(), 400).await;
    ask("GET", "/api/v1/tokens", "", Vec::new(), 200).await;
    ask("DELETE", "/api/v1/tokens/{token}", "", Vec::new(), 200).await;
    ask("GET", "/api/v1/servers/{id}", "", Vec::new(), 200).await;
    ask("GET", "/api/v1/history", "?range=24h&server=app-a", Vec::new(), 200).await;
    ask("GET", "/api/v1/history", "?range=2h", Vec::new(), 400).await;
    ask("GET", "/api/v1/history", "?server=app-x", Vec::new(), 404).await;
    for path in ["/api/v1/status", "/api/v1/triad", "/api/v1/audit", "/api/v1/health", "/api/servers"] {
        ask("GET", path, "", Vec::new(), 200).await;
    }
    ask("POST", "/api/servers/{id}/enable", "", Vec::new(), 200).await;
    ask("POST", "/api/servers/{id}/disable", "", Vec::new(), 409).await;
    ask("GET", "/api/v1/audit", "?limit=0", Vec::new(), 400).await;
    let lead = |to: &str| format!("{{\"to\": \"{to}\"}}").into_bytes();
    ask("POST", "/api/v1/triad/lead", "", lead("web-a"), 200).await;
    ask("POST", "/api/v1/triad/lead", "", lead("app-z"), 409).await;
}
