//! How it was: kept by the hub's servers, put together, there after a crash of all.

use crate::{
    client::connect,
    cluster::{Cluster, PATIENCE},
    tokens::{OPS, curl, deploying},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, header};
use serde_json::Value;
use std::{fs, os::unix::fs::PermissionsExt};
use tokio::time::timeout;

async fn past(cluster: &Cluster, query: &str) -> Value {
    let (status, past) = curl(&cluster.web(), &format!("GET /admin/api/v1/history?{query}"), OPS, "").await;
    assert_eq!(status, 200, "{query}: {past}");
    past
}

/// The values that are known, with the beginnings of their steps.
fn known(past: &Value, series: &str) -> Vec<(u64, f64)> {
    let (from, step) = (past["from_s"].as_u64().unwrap(), past["step_s"].as_u64().unwrap());
    let values = past["series"][series].as_array().unwrap().iter().enumerate();
    values.filter_map(|(place, value)| Some((from + place as u64 * step, value.as_f64()?))).collect()
}

/// Asks until it is as it should be.
async fn until(cluster: &Cluster, query: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let asking = async {
        loop {
            let past = past(cluster, query).await;
            if is_so(&past) {
                return past;
            }
            // Answers of the whole cluster come anew once a second.
            curl(&cluster.web(), "GET /admin/api/v1/status", OPS, "").await;
        }
    };
    timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("{query}: it never is so"))
}

/// A page as a browser gets it, by a tool's credentials.
async fn page(address: &str, path: &str) -> (u16, String) {
    let request = Request::builder().uri(path).header(header::HOST, address);
    let request = request.header(header::ACCEPT, "text/html").header(header::AUTHORIZATION, OPS);
    let mut connection = connect(address).await;
    let asked = async {
        let answer = connection.send_request(request.body(Full::new(Bytes::new())).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("{path} hangs"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_is_kept_through_crashes_and_shown() {
    let mut cluster = Cluster::start_with(3, |configuration| {
        deploying(configuration);
        configuration.webs = 1;
    })
    .await;
    let web = cluster.web();
    // Of a process that has just started the first point counts from its start.
    for _ in 0..30 {
        assert_eq!(curl(&web, "GET /nowhere", OPS, "").await.0, 404);
    }
    let counted = |it: &Value| known(it, "errors_4xx_per_s").iter().any(|(_, rate)| *rate > 0.0);
    let all = until(&cluster, "range=1h", counted).await;
    assert_eq!((&all["step_s"], &all["server"]), (&10.into(), &Value::Null));
    assert_eq!(all["series"].as_object().unwrap().len(), 17);
    for column in all["series"].as_object().unwrap().values().chain([&all["samples"]]) {
        assert_eq!(column.as_array().unwrap().len(), 360);
    }
    let resident = known(&all, "resident_bytes").iter().map(|(_, it)| *it).fold(0.0, f64::max);
    assert!(
        resident > 4e6 && !known(&all, "sessions").is_empty() && !known(&all, "p99_ms").is_empty(),
        "{all}"
    );
    // The same by server, for those series that it has.
    let one = past(&cluster, "range=1h&server=web-a&series=requests_per_s,sessions").await;
    assert!(!known(&one, "requests_per_s").is_empty() && known(&one, "sessions").is_empty(), "{one}");
    assert_eq!(one["series"].as_object().unwrap().len(), 2);

    // One that is gone leaves no gap, and all that crash lose nothing.
    cluster.kill("app-b").await;
    let last = |it: &Value| known(it, "cpu_cores").last().map_or(0, |(at, _)| *at);
    let before = last(&all);
    let news = until(&cluster, "range=1h", |it| last(it) > before).await;
    let kept_by = news["kept_by"].as_array().unwrap();
    assert_eq!(kept_by.iter().filter(|it| it["why"].is_null()).count(), 2, "{kept_by:?}");
    let points = known(&news, "errors_4xx_per_s");
    cluster.kill_all(&["app-a", "app-c"].map(str::to_owned)).await;
    for id in ["app-a", "app-b", "app-c"] {
        cluster.launch(id);
    }
    let first = points[0].0;
    let back = until_answered(&cluster, &format!("range=1h&since={first}")).await;
    let again = known(&back, "errors_4xx_per_s");
    assert!(points.iter().all(|(at, _)| again.iter().any(|(it, _)| it == at)), "{points:?}: {again:?}");
    let folder = cluster.folder();
    let file = find(&folder, "web-a.10s");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());

    // What the servers say of themselves may be a second old.
    let all_answer = async {
        let answers =
            |it: &Value| it["servers"].as_array().unwrap().iter().all(|it| it["answer"].is_object());
        while !answers(&curl(&web, "GET /admin/api/v1/status", OPS, "").await.1) {}
    };
    timeout(PATIENCE, all_answer).await.expect("all servers answer");
    shown(&web).await;
}

/// While the hub starts nobody can be asked.
async fn until_answered(cluster: &Cluster, query: &str) -> Value {
    let asking = async {
        loop {
            let (status, past) =
                curl(&cluster.web(), &format!("GET /admin/api/v1/history?{query}"), OPS, "").await;
            if status == 200 && past["kept_by"].as_array().unwrap().iter().all(|it| it["why"].is_null()) {
                return past;
            }
        }
    };
    timeout(PATIENCE, asking).await.expect("the hub's servers never answer again")
}

/// A file of this name below a folder.
fn find(folder: &std::path::Path, name: &str) -> std::path::PathBuf {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_name() == *name {
                return entry.path();
            }
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
        }
    }
    panic!("there is no {name} below {}", folder.display());
}

/// The pages have it, by the range that their address says.
async fn shown(web: &str) {
    for (path, heading, figures) in [
        ("/admin/?range=6h", "The last 6 hours", 4),
        ("/admin/servers/web-a", "The last hour", 8),
        ("/admin/servers/app-b?range=30d", "The last 30 days", 8),
    ] {
        let (status, page) = page(web, path).await;
        assert_eq!(status, 200, "{path}: {page}");
        assert!(page.contains(heading) && page.matches("<figure").count() == figures, "{path}: {page}");
        assert!(page.contains("<path class=\"line s1\" d=\"M"), "{path} draws a line: {page}");
    }
    let (status, page) = page(web, "/admin/servers/nobody").await;
    assert!(status == 404 && page.contains("there is no server `nobody`"), "{page}");
}
