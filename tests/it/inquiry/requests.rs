//! Requests that failed, and why.

use super::{EVIL, array, page, printing, raw, sign_in, until};
use serde_json::Value;

fn failed<'a>(requests: &'a Value, path: &str) -> Option<&'a Value> {
    array(requests, "failed").iter().find(|it| it["path"].as_str().unwrap().starts_with(path))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_fail_are_told_with_why_and_without_what_is_a_users() {
    let mut cluster = printing(3).await;
    let web = cluster.web();
    let send = async |target: &str, host: &str| {
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {EVIL}\r\nConnection: close\r\n\r\n"
        );
        raw(&web, &head).await
    };
    assert!(send("/fail/cart;jsessionid=aaPlanted-1?card=planted-2", "shop").await.contains(" 500 "));
    assert!(send("/break?card=planted-2", "shop").await.contains(" 502 "));
    assert!(send(&format!("/fail/{EVIL}?{EVIL}"), "x").await.contains(" 500 "));
    assert!(send(&format!("/fail/long/{}", "x".repeat(8000)), "x").await.contains(" 500 "));
    // What a stranger alone brings about is none of ours.
    raw(&web, "GET /nine HTTP/9.0\r\nHost: x\r\n\r\n").await;

    let told = until(&cluster, "requests", |it| array(it, "failed").len() >= 4).await;
    let text = told.to_string();
    assert!(!text.contains("planted") && !text.contains("/nine") && !text.contains("<script"), "{text}");
    let cart = failed(&told, "/fail/cart").unwrap();
    assert_eq!((&cart["path"], &cart["status"]), (&"/fail/cart;jsessionid=***".into(), &500.into()));
    assert_eq!(
        (&cart["why"], &cart["web_tier"], &cart["host"]),
        (&"the server answers so".into(), &"web-a".into(), &"shop".into())
    );
    assert!(cart["id"].as_str().unwrap().len() == 32 && cart["server"].as_str().unwrap().starts_with("app-"));
    // The app server has waited for its app in vain.
    assert_eq!(failed(&told, "/break").unwrap()["status"], 502);
    assert!(failed(&told, "/fail/%3Cscript%3E").is_some(), "{told}");
    assert!(failed(&told, "/fail/long").unwrap()["path"].as_str().unwrap().len() < 210);
    let web_tier = &array(&told, "web_tiers")[0];
    assert!(web_tier["answers"][5].as_u64().unwrap() >= 4 && web_tier["p99_ms"].is_number(), "{told}");
    let counted: u64 =
        web_tier["latency"]["counts"].as_array().unwrap().iter().map(|it| it.as_u64().unwrap()).sum();
    assert!(counted >= 5 && array(&told, "slow").iter().any(|it| it["path"] == "/break"), "{told}");

    let cookie = sign_in(&cluster, "eve").await;
    let shown = page(&cluster, "/requests", &cookie).await;
    for words in ["the server answers so", "jsessionid=***", "<svg class=\"bars\"", "5xx"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert!(!shown.contains("planted") && !shown.contains(EVIL) && shown.len() < 100_000);

    // Without a server Copal itself says why.
    cluster.kill_all(&["app-a", "app-b", "app-c"].map(str::to_owned)).await;
    assert!(send("/nobody?planted-2", "shop").await.contains(" 503 "));
    let told = until(&cluster, "requests", |it| failed(it, "/nobody").is_some()).await;
    let nobody = failed(&told, "/nobody").unwrap();
    assert_eq!(nobody["why"], "no server can take the request now", "{nobody}");
}
