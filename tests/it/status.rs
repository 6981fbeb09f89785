//! The status page of a whole cluster, as browsers, tools and scrapers meet it.

use crate::{
    client::connect,
    cluster::{Cluster, PATIENCE},
    tokens::{OPS, curl, deploying},
    tool::tool_as,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request, header};
use serde_json::Value;
use std::{
    collections::{BTreeSet, HashMap},
    io::Write,
    process,
};
use tokio::time::timeout;

/// One web-tier server, with a listener for scrapers.
async fn start() -> Cluster {
    Cluster::start_with(3, |configuration| {
        deploying(configuration);
        configuration.webs = 1;
        let ip = configuration.addresses[0];
        configuration.web_tier.push(format!("server-default: {{metrics: {{address: {ip}, port: 9600}}}}"));
    })
    .await
}

/// A request with these fields: status, fields and body.
async fn ask(address: &str, line: &str, fields: &[(&str, &str)], body: &str) -> (u16, HeaderMap, String) {
    let (method, path) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, address);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let mut connection = connect(address).await;
    let asked = async {
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        let (head, body) = connection.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), head.headers, String::from_utf8(body.to_vec()).unwrap())
    };
    timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("{line} hangs"))
}

async fn status(cluster: &Cluster) -> Value {
    let (status, cluster) = curl(&cluster.web(), "GET /admin/api/v1/status", OPS, "").await;
    assert_eq!(status, 200, "{cluster}");
    cluster
}

fn server<'a>(status: &'a Value, id: &str) -> &'a Value {
    status["servers"].as_array().unwrap().iter().find(|it| it["id"] == id).unwrap()
}

fn problems(status: &Value) -> Vec<&str> {
    status["problems"].as_array().unwrap().iter().map(|it| it["what"].as_str().unwrap()).collect()
}

/// Asks until it is as it should be; the test's own limit ends one that never is.
async fn until(cluster: &Cluster, is_so: impl Fn(&Value) -> bool) -> Value {
    let asking = async {
        loop {
            let status = status(cluster).await;
            if is_so(&status) {
                return status;
            }
        }
    };
    timeout(PATIENCE, asking).await.expect("it never is so")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_server_tells_of_itself_and_a_killed_one_is_shown_as_down() {
    let mut cluster = start().await;
    let well = until(&cluster, |it| problems(it).is_empty() && it["hub"]["leader"].is_string()).await;
    for id in ["app-a", "app-b", "app-c"] {
        let server = server(&well, id);
        assert_eq!(
            (&server["state"], &server["roles"]),
            (&"up".into(), &serde_json::json!(["app-tier", "hub"]))
        );
        let app =
            server["answer"]["apps"].as_array().unwrap().iter().find(|it| it["kind"] == "process").unwrap();
        assert_eq!(
            (&app["instances"][0]["state"], &app["instances"][0]["restarts"]),
            (&"ready".into(), &0.into())
        );
    }
    let web = &server(&well, "web-a")["answer"]["web_tier"];
    let seen =
        &web["upstreams"].as_array().unwrap().iter().find(|it| it["kind"] == "cluster").unwrap()["servers"];
    assert_eq!(seen.as_array().unwrap().len(), 3);
    assert!(
        seen.as_array()
            .unwrap()
            .iter()
            .all(|it| it["state"] == "well" && it["workers"].as_array().unwrap().len() == 2)
    );

    cluster.kill("app-b").await;
    let is_down =
        |it: &Value| server(it, "app-b")["state"] == "down" && server(it, "app-b")["answer"].is_null();
    let down = until(&cluster, is_down).await;
    assert!(problems(&down).contains(&"app-b is down"), "{down}");
    assert!(
        problems(&down).iter().any(|it| it.starts_with("The hub has no server to spare: 2 of 3")),
        "{down}"
    );
    cluster.start_one("app-b").await;
    until(&cluster, |it| server(it, "app-b")["state"] == "up" && problems(it).is_empty()).await;
}

/// The samples of a server, by their names with labels.
async fn scrape(address: &str) -> HashMap<String, f64> {
    let (status, headers, text) = ask(address, "GET /metrics", &[], "").await;
    assert_eq!(
        (status, headers["content-type"].to_str().unwrap()),
        (200, "text/plain; version=0.0.4; charset=utf-8")
    );
    let samples =
        text.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap());
    samples.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_of_a_known_load_add_up() {
    let cluster = start().await;
    let web = cluster.web();
    let scraped = format!("{}:9600", web.split(':').next().unwrap());
    let before = scrape(&scraped).await;
    for number in 0..60 {
        let path = if number % 3 == 0 { "/nowhere" } else { "/count" };
        let (status, ..) = ask(&web, &format!("GET {path}"), &[], "").await;
        assert_eq!(status, if number % 3 == 0 { 404 } else { 200 }, "{path}");
    }
    let after = scrape(&scraped).await;
    let more = |name: &str| after[name] - before.get(name).copied().unwrap_or_default();
    assert_eq!(more("copal_http_requests_total"), 60.0);
    assert_eq!(more("copal_http_responses_total{code=\"2xx\"}"), 40.0);
    assert_eq!(more("copal_http_responses_total{code=\"4xx\"}"), 20.0);
    assert_eq!(more("copal_http_responses_total{code=\"5xx\"}"), 0.0);
    assert_eq!(more("copal_http_request_duration_seconds_count"), 60.0);
    assert_eq!(more("copal_http_connections_total"), 60.0);
    let by_servers: f64 = ["app-a", "app-b", "app-c"]
        .iter()
        .map(|it| more(&format!("copal_upstream_responses_total{{upstream=\"app-tier\",server=\"{it}\"}}")))
        .sum();
    assert_eq!(by_servers, 60.0);

    for (path, word) in [("/healthz", "ok\n"), ("/readyz", "ok\n")] {
        let (status, _, text) = ask(&scraped, &format!("GET {path}"), &[], "").await;
        assert_eq!((status, text.as_str()), (200, word), "{path}");
    }
    assert_eq!(ask(&scraped, "GET /admin", &[], "").await.0, 404);
    let other = ask(&web, "GET /admin/metrics/app-a", &[("authorization", OPS)], "").await;
    assert!(other.0 == 200 && other.2.contains("copal_hub_applied_index"), "{other:?}");
    assert_eq!(ask(&web, "GET /admin/metrics", &[], "").await.0, 401);
    assert_eq!(ask(&web, "GET /admin/metrics/app-x", &[("authorization", OPS)], "").await.0, 404);
    let accept = ("accept", "application/openmetrics-text;version=1.0.0");
    let open = ask(&scraped, "GET /metrics", &[accept], "").await;
    assert!(open.1["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    assert!(open.2.ends_with("# EOF\n"));
    // Prometheus' own tool, where there is one.
    check_with_promtool(&ask(&scraped, "GET /metrics", &[], "").await.2);
    check_with_promtool(&other.2);
}

fn check_with_promtool(text: &str) {
    let stdio = process::Stdio::piped;
    let started = process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(stdio())
        .stderr(stdio())
        .stdout(stdio())
        .spawn();
    let Ok(mut promtool) = started else {
        println!("skipped: promtool is not there (Debian's package prometheus has it)");
        return;
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

/// What a browser asks for.
const HTML: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");

/// The cookie that an answer sets.
fn cookie(headers: &HeaderMap) -> String {
    headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned()
}

fn token(page: &str) -> String {
    page.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_signs_in_looks_and_disables_a_server() {
    let cluster = start().await;
    let web = cluster.web();
    // Whoever asks is not known yet: little of what he sends is read.
    let (status, _, page) = ask(&web, "POST /admin/sign-in", &[], &"a&".repeat(100_000)).await;
    assert!(status == 400 && page.contains("the body is larger than 16384 bytes"), "{status} {page}");
    let (status, headers, form) = ask(&web, "GET /admin/servers", &[HTML], "").await;
    assert!(
        status == 401 && !headers.contains_key("www-authenticate") && form.contains("name=\"password\""),
        "{form}"
    );
    let wrong = ask(&web, "POST /admin/sign-in", &[HTML], "user=ops&password=guess&to=/servers").await;
    assert!(
        wrong.0 == 401 && wrong.2.contains("wrong user or password") && !wrong.1.contains_key("set-cookie")
    );
    let (status, headers, _) =
        ask(&web, "POST /admin/sign-in", &[HTML], "user=ops&password=password&to=/servers").await;
    assert_eq!((status, headers["location"].to_str().unwrap()), (303, "/admin/servers"));
    let set = headers["set-cookie"].to_str().unwrap();
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/admin"] {
        assert!(set.contains(attribute), "{set}");
    }
    let session = cookie(&headers);
    let signed_in = [HTML, ("cookie", session.as_str())];
    for path in ["", "/servers", "/balancer", "/triad", "/apps"] {
        let (status, headers, page) = ask(&web, &format!("GET /admin{path}"), &signed_in, "").await;
        assert_eq!(status, 200, "{path}: {page}");
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && policy.contains("script-src 'self'"), "{policy}");
        assert!(page.contains("</html>") && page.len() < 60_000);
    }
    let page = ask(&web, "GET /admin/servers", &signed_in, "").await.2;
    let token = token(&page);
    // Without its token, by another site's page, or by a tool's credentials, a form does nothing.
    let disable = "POST /admin/actions/servers/app-b/disable";
    assert_eq!(ask(&web, disable, &signed_in, "").await.0, 403);
    assert_eq!(ask(&web, disable, &[HTML, ("authorization", OPS)], &format!("token={token}")).await.0, 401);
    let cross = [HTML, ("cookie", session.as_str()), ("sec-fetch-site", "cross-site")];
    assert_eq!(ask(&web, disable, &cross, &format!("token={token}")).await.0, 403);
    assert!(ask(&web, "GET /admin/servers", &signed_in, "").await.2.contains("Disable app-b"));
    // The cookie alone opens the API for looking, not for changing.
    let only = [("cookie", session.as_str())];
    assert_eq!(ask(&web, "GET /admin/api/servers", &only, "").await.0, 200);
    assert_eq!(ask(&web, "POST /admin/api/servers/app-b/disable", &only, "").await.0, 401);

    let (status, headers, _) = ask(&web, disable, &signed_in, &format!("token={token}")).await;
    assert_eq!((status, headers["location"].to_str().unwrap()), (303, "/admin/servers?done=disabled"));
    let told = tool_as(&format!("http://{web}/admin"), "ops", "password", "status").await.succeeds();
    assert!(told.lines().any(|line| line.starts_with("app-b") && line.contains("disabled")), "{told}");
    let page = ask(&web, "GET /admin/servers?done=disabled", &signed_in, "").await.2;
    assert!(page.contains("web-tiers send it nothing new") && page.contains("Enable app-b"));
    // Who may look alone has no forms, and what he makes up is refused.
    let eve = ask(&web, "POST /admin/sign-in", &[HTML], "user=eve&password=password").await;
    let eve = cookie(&eve.1);
    let page = ask(&web, "GET /admin/servers", &[HTML, ("cookie", eve.as_str())], "").await.2;
    assert!(!page.contains("actions/servers"));
    let made_up = format!("token={}", self::token(&page));
    let refused =
        ask(&web, "POST /admin/actions/servers/app-b/enable", &[HTML, ("cookie", eve.as_str())], &made_up)
            .await;
    assert!(refused.0 == 403 && refused.2.contains("`operate`"), "{refused:?}");
    let out = ask(&web, "POST /admin/sign-out", &signed_in, &format!("token={token}")).await;
    assert!(out.0 == 303 && out.1["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
}

/// Names of metrics of ours in a text.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
    words.filter(|it| it.starts_with("copal_") || it.starts_with("process_")).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dashboard_names_metrics_that_there_are() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let mut cluster = Cluster::prepare(3, |configuration| {
        deploying(configuration);
        configuration.webs = 1;
        let ip = configuration.addresses[0];
        let tls = "{certs: [{cert: www.pem, key: www.key}]}";
        configuration.listener = Some(format!("{{address: {ip}, port: 8443, tls: {tls}}}"));
        configuration.health = "{interval: 100ms, for: 0s, load-max: 1}".to_owned();
    });
    std::fs::write(cluster.folder().join("www.pem"), made.cert.pem()).unwrap();
    std::fs::write(cluster.folder().join("www.key"), made.signing_key.serialize_pem()).unwrap();
    cluster.start_all().await;
    let web = cluster.web();
    assert_eq!(ask(&web, "GET /count", &[], "").await.0, 200);
    // A problem has its metric when there is one.
    let disabled = tool_as(&format!("http://{web}/admin"), "ops", "password", "server disable app-b").await;
    assert_eq!(disabled.code, Some(0), "{disabled:?}");
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/grafana/copal.json");
    let text = std::fs::read_to_string(file).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let expressions = dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| {
        panel["targets"].as_array().into_iter().flatten().map(|it| it["expr"].as_str().unwrap().to_owned())
    });
    let named = metrics_in(&expressions.collect::<Vec<_>>().join(" "));
    assert!(named.len() >= 25, "{named:?}");
    let all_there = async {
        loop {
            let mut there = BTreeSet::new();
            for id in cluster.configuration.servers() {
                let (status, _, text) =
                    ask(&web, &format!("GET /admin/metrics/{id}"), &[("authorization", OPS)], "").await;
                assert_eq!(status, 200, "{text}");
                let samples = text.lines().filter(|line| !line.starts_with('#'));
                there.extend(samples.map(|it| it.split(['{', ' ']).next().unwrap().to_owned()));
            }
            let lacking: Vec<_> = named.difference(&there).collect();
            if lacking.is_empty() {
                return;
            }
            // What never comes is named when the time is over.
            println!("not there yet: {lacking:?}");
        }
    };
    timeout(PATIENCE, all_there).await.expect("every metric that the dashboard names is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxys_table_counts_what_was_answered() {
    let cluster = start().await;
    let web = cluster.web();
    for _ in 0..30 {
        assert_eq!(ask(&web, "GET /count", &[], "").await.0, 200);
    }
    let disabled = tool_as(&format!("http://{web}/admin"), "ops", "password", "server disable app-b").await;
    assert_eq!(disabled.code, Some(0), "{disabled:?}");
    assert_eq!(ask(&web, "GET /admin/stats;csv", &[], "").await.0, 401);
    let (status, headers, text) = ask(&web, "GET /admin/stats;csv", &[("authorization", OPS)], "").await;
    assert_eq!((status, headers["content-type"].to_str().unwrap()), (200, "text/plain; charset=utf-8"));
    let mut lines = text.lines();
    let heading: Vec<_> = lines.next().unwrap().trim_start_matches("# ").split(',').collect();
    let rows: Vec<HashMap<_, _>> =
        lines.map(|line| heading.iter().copied().zip(line.split(',')).collect()).collect();
    let row = |proxy: &str, server: &str| {
        rows.iter()
            .find(|it| it["pxname"] == proxy && it["svname"] == server)
            .unwrap_or_else(|| panic!("{text}"))
    };
    let number = |row: &HashMap<&str, &str>, column: &str| row[column].parse::<u64>().unwrap();
    let front = row("web-a", "FRONTEND");
    assert!(
        front["status"] == "OPEN" && number(front, "hrsp_2xx") >= 30 && number(front, "req_tot") >= 30,
        "{front:?}"
    );
    let of = |id: &str| row("web-a/app-tier", id);
    assert_eq!(["app-a", "app-b", "app-c"].map(|it| of(it)["status"]), ["UP", "MAINT", "UP"]);
    let answered: u64 = ["app-a", "app-b", "app-c"].iter().map(|it| number(of(it), "stot")).sum();
    assert_eq!((answered, number(of("BACKEND"), "stot"), of("BACKEND")["act"]), (30, 30, "2"));
}
