//! Tokens on a whole cluster: made with a part of a user's rights, used by the command line and by what speaks HTTP alone, ended
//! everywhere at once.

use crate::{
    client::connect,
    cluster::{Cluster, Configuration, PATIENCE},
    tool::{HASH, Said, tool_as, tool_in},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request,
    header::{AUTHORIZATION, HOST},
};
use serde_json::Value;
use std::{fs, time::Duration};
use tokio::time::timeout;

/// `ops:password`, as HTTP Basic has it.
pub(crate) const OPS: &str = "Basic b3BzOnBhc3N3b3Jk";

/// `eve:password`.
const EVE: &str = "Basic ZXZlOnBhc3N3b3Jk";

/// With deployments, two web-tier servers, one user who may do all and one who may look.
pub(crate) fn deploying(configuration: &mut Configuration) {
    configuration.webs = 2;
    configuration.lines = vec!["deploy-service: true".to_owned()];
    configuration.admin = vec![
        "users:".to_owned(),
        format!("  - {{name: ops, password: \"{HASH}\", roles: [deploy, operate]}}"),
        format!("  - {{name: eve, password: \"{HASH}\", roles: [view]}}"),
    ];
}

/// One request, as `curl` sends it: status and JSON.
pub(crate) async fn curl(
    address: &str,
    line: &str,
    authorization: &str,
    body: impl Into<Bytes>,
) -> (u16, Value) {
    let (method, path) = line.split_once(' ').unwrap();
    let request = Request::builder().method(method).uri(path).header(HOST, address);
    let request = request.header(AUTHORIZATION, authorization).body(Full::new(body.into())).unwrap();
    let mut connection = connect(address).await;
    let asked = async {
        let answer = connection.send_request(request).await.unwrap();
        (answer.status().as_u16(), answer.into_body().collect().await.unwrap().to_bytes())
    };
    let (status, body) = timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("{line} hangs"));
    let text = String::from_utf8_lossy(&body).into_owned();
    (status, serde_json::from_slice(&body).unwrap_or(Value::String(text)))
}

/// A tar archive (ustar) of files.
pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, content) in files {
        let mut header = [0_u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(b"0000644");
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[136..147].copy_from_slice(b"00000000000");
        header[148..156].copy_from_slice(b"        ");
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|it| u32::from(*it)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        archive.extend_from_slice(&header);
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// Waits for the end of the rollout of `shop`.
pub(crate) async fn rolled_out(address: &str, tag: &str) {
    let rolling = async {
        loop {
            let (_, app) = curl(address, &format!("GET /admin/api/v1/apps/{tag}?wait=1"), OPS, "").await;
            let rollout = &app["rollout"];
            assert_ne!(rollout["outcome"], "failed", "{app}");
            let servers = rollout["servers"].as_array().unwrap();
            if rollout["outcome"] == "activated" && servers.iter().all(|it| it["step"] == "active") {
                return;
            }
        }
    };
    timeout(PATIENCE, rolling).await.expect("the rollout ends");
}

fn url(cluster: &Cluster, web: usize) -> String {
    format!("http://{}/admin", cluster.web_of(web))
}

/// As the user who may do all.
async fn ops(cluster: &Cluster, line: &str) -> Said {
    tool_as(&url(cluster, 0), "ops", "password", line).await
}

/// By a token.
async fn by(cluster: &Cluster, web: usize, token: &str, line: &str) -> Said {
    tool_in(&[("COPAL_URL", &url(cluster, web)), ("COPAL_ADMIN_TOKEN", token)], line).await
}

/// Makes a token.
async fn token(cluster: &Cluster, line: &str) -> String {
    let said = ops(cluster, &format!("token create {line}")).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stderr.contains("COPAL_ADMIN_TOKEN"), "{said:?}");
    said.stdout.trim_end().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_deploys_and_does_no_more_and_ends_on_every_server() {
    let cluster = Cluster::start_with(3, deploying).await;
    let token = token(&cluster, "--role deploy --expires 1h --name ci-1").await;
    assert!(token.len() == 49 && token.starts_with("copal_"), "{token}");

    let site = cluster.folder().join("site");
    fs::create_dir(&site).unwrap();
    fs::write(site.join("index.html"), "first").unwrap();
    // At once through the other server, which may not have heard of it yet.
    let said = by(&cluster, 1, &token, &format!("deploy {}", site.display())).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(cluster.user().get("/site/").await.body, "first");
    by(&cluster, 1, &token, "server disable app-b").await.fails_with(1, &["`ops`", "`operate`", "403"]);
    by(&cluster, 0, &token, "token create --role deploy")
        .await
        .fails_with(1, &["a token may not make", "password"]);
    by(&cluster, 0, &token, "token revoke ci-1").await.fails_with(1, &["a token may not make or revoke"]);
    assert!(by(&cluster, 0, &token, "log site").await.succeeds().contains(" ops "));

    let put = "PUT /admin/api/v1/apps/production/webapp/default/shop/archive?message=by%20curl";
    let archive = tar(&[("index.html", b"by curl"), ("css/style.css", b"a {}")]);
    let (status, began) = curl(&cluster.web(), put, &format!("Bearer {token}"), archive.clone()).await;
    assert_eq!((status, &began["changed"]), (202, &Value::Bool(true)), "{began}");
    rolled_out(&cluster.web(), "production/webapp/default/shop").await;
    assert_eq!(cluster.user().get("/shop/").await.body, "by curl");
    let (status, began) = curl(&cluster.web_of(1), put, &format!("Bearer {token}"), archive).await;
    assert_eq!((status, &began["changed"]), (200, &Value::Bool(false)), "{began}");
    let log = ops(&cluster, "--json log shop").await.succeeds();
    assert!(log.contains("\"by curl\""), "{log}");

    let list = ops(&cluster, "token list").await.succeeds();
    assert!(list.contains("ci-1") && list.contains("valid") && !list.contains(&token), "{list}");
    assert!(ops(&cluster, "token revoke ci-1").await.succeeds().starts_with("Revoked ci-1 ("));
    // The server that was told of it goes by it when it says so; the others hear of it at the same time.
    by(&cluster, 0, &token, "list").await.fails_with(1, &["the token was revoked", "401"]);
    for path in ["http://WEB/admin", "http://WEB/ops", "http://WEB/ops", "http://WEB/ops"] {
        let url = path.replace("WEB", &cluster.web_of(1));
        let ended = async {
            while tool_in(&[("COPAL_URL", &url), ("COPAL_ADMIN_TOKEN", &token)], "list").await.code != Some(1)
            {
            }
        };
        timeout(PATIENCE, ended).await.expect("it is in force");
    }
    assert!(ops(&cluster, "token revoke ci-1").await.succeeds().contains("is revoked already"));
    assert!(fs::read_dir(cluster.folder().join("data/web-a/archives")).is_ok_and(|it| it.count() == 0));
}

#[tokio::test]
async fn what_is_not_allowed_is_refused() {
    let cluster = Cluster::start_with(1, deploying).await;
    a_bad_archive_is_refused_with_its_entry_and_leaves_nothing(&cluster).await;
    nobody_gives_what_they_have_not_and_names_are_unique(&cluster).await;
    who_guesses_tokens_is_slowed_as_with_passwords(&cluster).await;
}

async fn nobody_gives_what_they_have_not_and_names_are_unique(cluster: &Cluster) {
    let eve = async |line| tool_as(&url(cluster, 0), "eve", "password", line).await;
    eve("token create --role deploy").await.fails_with(1, &["`eve` may not give `deploy`", "403"]);
    token(cluster, "--role view --name ci").await;
    ops(cluster, "token create --role view --name ci")
        .await
        .fails_with(1, &["token \"ci\" already, by ops", "409"]);
    eve("token revoke ci").await.fails_with(1, &["`eve`", "`operate`"]);
    ops(cluster, "token revoke cd").await.fails_with(1, &["\"cd\"", "token list", "404"]);
    ops(cluster, "token create").await.fails_with(2, &["--role"]);
    let own: Value = serde_json::from_str(&eve("--json token create --role view").await.succeeds()).unwrap();
    assert!(own["token"].as_str().unwrap().starts_with("copal_"), "{own}");
    let id = own["record"]["id"].as_str().unwrap();
    assert_eq!(eve(&format!("token revoke {id}")).await.succeeds(), format!("Revoked ({id})\n"));
    // Who is refused before the body is read hears why, while sending still.
    for _ in 0..5 {
        let (status, told) = curl(&cluster.web(), "POST /admin/api/v1/objects", EVE, vec![0; 4 << 20]).await;
        assert!(status == 403 && told["error"].as_str().unwrap().contains("`deploy`"), "{status} {told}");
    }
}

#[tokio::test]
async fn a_token_ends_by_itself_and_outlives_the_cluster_until_then() {
    let mut cluster = Cluster::start_with(3, deploying).await;
    let long = token(&cluster, "--role view --expires 1h").await;
    let short = token(&cluster, "--role view --expires 1s").await;
    let ended = async {
        loop {
            let said = by(&cluster, 1, &short, "list").await;
            if said.code != Some(0) {
                return said;
            }
        }
    };
    let said = timeout(PATIENCE, ended).await.expect("it ends");
    said.fails_with(1, &["the token has expired", "token create", "401"]);
    cluster.kill_all(&cluster.configuration.servers()).await;
    cluster.start_all().await;
    by(&cluster, 0, &short, "list").await.fails_with(1, &["the token has expired"]);
    by(&cluster, 0, &long, "list").await.succeeds();
    // Its maker leaves the file, and it goes with them.
    cluster.configuration.admin[1] = cluster.configuration.admin[1].replace("name: ops", "name: adam");
    cluster.write();
    cluster.process("web-a").signal(rustix::process::Signal::HUP);
    let gone = async {
        loop {
            let said = by(&cluster, 0, &long, "list").await;
            if said.code != Some(0) {
                return said;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, gone)
        .await
        .expect("the file is read")
        .fails_with(1, &["by the user `ops`", "not in the configuration file"]);
}

async fn who_guesses_tokens_is_slowed_as_with_passwords(cluster: &Cluster) {
    let token = token(cluster, "--role view").await;
    let ask = async |token: &str| {
        curl(&cluster.web(), "GET /admin/api/v1/tokens", &format!("Bearer {token}"), "").await
    };
    assert_eq!(ask(&token).await.0, 200);
    assert_eq!(ask("x").await.0, 401, "this is no token at all");
    for _ in 0..6 {
        let (status, told) = ask(&format!("copal_{}", "0".repeat(43))).await;
        assert!(status == 401 && told["error"].as_str().unwrap().contains("no such token"), "{told}");
    }
    assert_eq!(ask(&token).await.0, 429, "it must not learn which one is right");
}

async fn a_bad_archive_is_refused_with_its_entry_and_leaves_nothing(cluster: &Cluster) {
    let put = async |more: &str, body: Vec<u8>| {
        let line = format!("PUT /admin/api/v1/apps/production/webapp/{more}");
        let (status, told) = curl(&cluster.web(), &line, OPS, body).await;
        (status, told["error"].as_str().unwrap_or_default().to_owned())
    };
    for (more, body, status, words) in [
        ("default/shop/archive", tar(&[("../x", b"x")]), 400, "the archive: `../x`: `..` in its path"),
        ("default/shop/archive", b"hello".to_vec(), 400, "the archive: a single file, no archive"),
        ("default/shop/archive", Vec::new(), 400, "the archive: an empty file"),
        ("default/shop/archive?rolling=maybe", tar(&[("x", b"x")]), 400, "rolling is \"maybe\""),
        ("elsewhere/shop/archive", tar(&[("x", b"x")]), 409, "the host `elsewhere`"),
        ("default/ops/archive", tar(&[("x", b"x")]), 409, "would be served at /ops"),
    ] {
        let (found, told) = put(more, body).await;
        assert!(found == status && told.contains(words), "{more}: {found} {told}");
        assert!(!told.contains("archives/"), "{told}");
    }
    assert!(fs::read_dir(cluster.folder().join("data/web-a/archives")).is_ok_and(|it| it.count() == 0));
    assert_eq!(cluster.user().get("/shop/").await.status, 404);
}
