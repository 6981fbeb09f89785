//! What is on no page, in no JSON, no metric and no log line: secrets, whatever they come by.

use super::{HTML, PAGES, TWINS, administered, array, ask, get, page, sign_in, token};
use crate::{
    cluster::Cluster,
    tokens::{OPS, curl},
    tool::HASH,
};
use std::fs;

/// In the file.
const FILE: [&str; 3] = ["planted-cluster-key-also-1", "planted-header-2", "planted-condition-3"];

/// All that is shown of the cluster, and all that it has logged, by place.
async fn everything(cluster: &Cluster, cookie: &str) -> Vec<(String, String)> {
    let mut shown = Vec::new();
    for path in PAGES {
        shown.push((format!("page {path}"), page(cluster, path, cookie).await));
    }
    for path in TWINS {
        shown.push((path.to_owned(), get(cluster, path).await.to_string()));
    }
    for server in cluster.configuration.servers() {
        let path = format!("GET /admin/metrics/{server}");
        shown.push((path.clone(), ask(&cluster.web(), &path, &[("authorization", OPS)], "").await.2));
        let log = fs::read_to_string(cluster.folder().join(format!("{server}.log"))).unwrap();
        shown.push((format!("log of {server}"), log));
    }
    shown
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_shown_or_logged_anywhere() {
    let cluster = Cluster::start_with(3, |it| {
        administered(it, &[&format!("cluster-key-also: {}", FILE[0])]);
        it.rule = format!(
            "{{cluster: app-tier, regexp: ^/first}}\n          - set-request-header: {{name: X-Gate, value: {}}}\n          - forbidden: \
             {{regexp: ^/gate, if: {{header: {{name: X-Token, regexp: {}}}}}}}\n          - load-balance: {{cluster: app-tier}}",
            FILE[1], FILE[2]
        );
    })
    .await;
    let web = cluster.web();
    let mut user = cluster.user();
    user.count().await;
    let session = user.cookie.clone().unwrap().split_once('=').unwrap().1.to_owned();
    // By requests: what a browser or a tool brings.
    let brought = [
        ("authorization", "Basic b3BzOnBsYW50ZWQtcGFzc3dvcmQ="),
        ("cookie", "JSESSIONID=planted-cookie-4; other=planted-cookie-5"),
        ("x-secret", "planted-field-6"),
    ];
    ask(&web, "GET /fails;jsessionid=planted-url-7?token=planted-query-8", &brought, "").await;
    ask(&web, "GET /admin/api/v1/status?password=planted-query-9", &brought, "").await;
    ask(&web, "POST /admin/sign-in", &[HTML], "user=ops&password=planted-password-10").await;
    let made = curl(
        &web,
        "POST /admin/api/v1/tokens",
        OPS,
        "{\"name\": \"ci\", \"roles\": [\"view\"], \"expires-s\": 60}",
    )
    .await;
    let made = made.1["token"].as_str().unwrap().to_owned();
    let cookie = sign_in(&cluster, "ops").await;
    let form = page(&cluster, "/sessions", &cookie).await;
    let fields = [HTML, ("cookie", cookie.as_str())];
    let looked = format!("id=planted-id-11&token={}", token(&form));
    let found = ask(&web, "POST /admin/sessions", &fields, &looked).await.2;
    // It is in the form that would end it, and nowhere else.
    assert!(found.matches("planted-id-11").count() <= 1, "{found}");

    let shown = everything(&cluster, &cookie).await;
    let key = fs::read_to_string(cluster.file()).unwrap();
    let key = key.lines().find_map(|it| it.strip_prefix("cluster-key: ")).unwrap().to_owned();
    let signed_in = cookie.split_once('=').unwrap().1;
    let secrets =
        [&key, HASH, "argon2", &session, &made, signed_in, "b3BzOnBhc3N3b3Jk", "planted", "b3BzOnBsYW50"];
    for (place, text) in &shown {
        for secret in secrets {
            assert!(!text.contains(secret), "{place} tells {secret}: {text}");
        }
    }
    let configuration = get(&cluster, "configuration").await;
    let text = configuration["text"].as_str().unwrap();
    assert_eq!(text.matches("(hidden)").count(), 6, "{text}");
    assert!(array(&configuration, "servers").iter().all(|it| it["same"] == true), "{configuration}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_another_configuration_is_named_with_its_lines() {
    let mut cluster = Cluster::start_with(3, |it| administered(it, &[])).await;
    // `app-b` is started again with another file than the others have.
    assert!(cluster.stop("app-b").await.success());
    let file = fs::read_to_string(cluster.file()).unwrap();
    fs::write(cluster.file(), file.replace("session-timeout: 30m", "session-timeout: 20m")).unwrap();
    cluster.start_one("app-b").await;
    let told = get(&cluster, "configuration").await;
    let differ: Vec<_> = array(&told, "servers").iter().filter(|it| it["same"] == false).collect();
    assert_eq!(differ.len(), 1, "{told}");
    assert_eq!((&differ[0]["server"], &differ[0]["same_servers"]), (&"app-b".into(), &true.into()));
    let lines = serde_json::json!(["-        session-timeout: 30m", "+        session-timeout: 20m"]);
    assert_eq!(differ[0]["lines"], lines, "{told}");
    let shown = page(&cluster, "/configuration", &sign_in(&cluster, "eve").await).await;
    assert!(shown.contains("+        session-timeout: 20m") && shown.contains("differs"), "{shown}");
}
