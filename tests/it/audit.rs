//! Who has changed what, on a whole cluster: an entry of each change, with its author, whoever is asked and whoever has died; and the
//! lead of the hub, which an administrator hands over.

use crate::{
    cluster::{Cluster, PATIENCE},
    tokens::{OPS, curl, deploying, rolled_out, tar},
    tool::{tool_as, tool_in},
};
use serde_json::{Value, json};
use tokio::time::timeout;

/// `eve:password`.
const EVE: &str = "Basic ZXZlOnBhc3N3b3Jk";

async fn entries(address: &str, query: &str) -> Vec<Value> {
    let (status, log) = curl(address, &format!("GET /admin/api/v1/audit{query}"), OPS, "").await;
    assert_eq!(status, 200, "{log}");
    log["entries"].as_array().unwrap().clone()
}

/// The entries of actions as short lines, the oldest first.
async fn lines(address: &str) -> Vec<String> {
    let mut entries = entries(address, "?kind=action").await;
    entries.reverse();
    let text = |it: &Value| it.as_str().unwrap_or("-").to_owned();
    entries
        .iter()
        .map(|it| ["user", "token", "action", "target", "outcome"].map(|name| text(&it[name])).join(" "))
        .collect()
}

fn url(cluster: &Cluster) -> String {
    format!("http://{}/admin", cluster.web())
}

/// Asks until there is an answer: the hub was away a moment ago.
async fn answered(address: &str, line: &str) -> Value {
    let asking = async {
        loop {
            if let (200, answer) = curl(address, line, OPS, "").await {
                return answer;
            }
        }
    };
    timeout(PATIENCE, asking).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_has_its_author_and_outlives_the_death_of_all() {
    let mut cluster = Cluster::start_with(3, deploying).await;
    let web = cluster.web();
    let tag = "production/webapp/default/shop";
    let token = tool_as(&url(&cluster), "ops", "password", "token create --role deploy --name ci").await;
    assert_eq!(token.code, Some(0), "{token:?}");
    let archive = format!("PUT /admin/api/v1/apps/{tag}/archive?message=first");
    let bearer = format!("Bearer {}", token.stdout.trim());
    let (status, told) = curl(&web, &archive, &bearer, tar(&[("index.html", b"one")])).await;
    assert_eq!(status, 202, "{told}");
    rolled_out(&web, tag).await;
    for (line, user, expected) in [
        ("POST /admin/api/servers/app-b/disable", OPS, 200),
        // Another one, on the other web-tier: refused, and so nothing has changed.
        ("POST /admin/api/servers/app-b/enable", EVE, 403),
        ("POST /admin/api/servers/app-b/enable", OPS, 200),
        (&*format!("POST /admin/api/v1/apps/{tag}/stop"), OPS, 202),
        (&*format!("DELETE /admin/api/v1/apps/{tag}"), OPS, 200),
        ("DELETE /admin/api/v1/tokens/ci", OPS, 200),
    ] {
        let (status, told) = curl(&cluster.web_of(1), line, user, "").await;
        assert_eq!(status, expected, "{line}: {told}");
    }
    let expected = [
        "ops - create-token ci done",
        "ops ci deploy production/webapp/default/shop begun",
        "ops - rollout production/webapp/default/shop activated",
        "ops - disable app-b done",
        "ops - enable app-b done",
        "ops - stop production/webapp/default/shop done",
        "ops - undeploy production/webapp/default/shop done",
        "ops - revoke-token ci done",
    ];
    assert_eq!(lines(&web).await, expected);
    let written = entries(&web, "?kind=action").await;
    let disabled = written.iter().find(|it| it["action"] == "disable").unwrap();
    assert_eq!((&disabled["address"], &disabled["server"]), (&json!("127.0.0.1"), &json!("web-b")));
    let deployed = written.iter().find(|it| it["action"] == "deploy").unwrap();
    assert!(deployed["detail"].as_str().unwrap().ends_with(": first"), "{deployed}");
    // A page at a time, and as a table.
    let older = entries(&web, "?kind=action&limit=2").await;
    let next = format!("?kind=action&limit=2&before={}", older[1]["number"]);
    assert_eq!([older, entries(&web, &next).await].concat(), written[..4]);
    let told = tool_as(&url(&cluster), "ops", "password", "audit --kind action --limit 3").await.succeeds();
    assert!(told.lines().count() == 4 && told.contains("undeploy "), "{told}");

    let servers = cluster.configuration.servers();
    cluster.kill_all(&servers).await;
    for id in &servers {
        cluster.launch(id);
    }
    for id in &servers {
        cluster.process_mut(id).ready().await;
    }
    let log = answered(&web, "GET /admin/api/v1/audit?kind=action").await;
    assert_eq!(log["entries"].as_array().unwrap(), &written);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_sign_ins_are_written_down_without_what_was_tried_and_crowd_no_action_out() {
    let cluster = Cluster::start_with(1, deploying).await;
    let web = cluster.web();
    let guess = [("COPAL_URL", &*url(&cluster)), ("COPAL_USER", "hunter2"), ("COPAL_PASSWORD", "hunter3")];
    let refused = tool_in(&guess, "audit").await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let asking = async {
        loop {
            let found = entries(&web, "?kind=sign-in").await;
            if let Some(found) = found.into_iter().find(|it| it["action"] == "failed-sign-in") {
                return found;
            }
        }
    };
    let failed = timeout(PATIENCE, asking).await.expect("it is written down");
    assert_eq!((&failed["user"], &failed["outcome"]), (&Value::Null, &json!("refused")));
    assert!(failed["address"].is_string());
    assert!(!failed.to_string().contains("hunter"), "{failed}");
    assert_eq!(entries(&web, "?kind=action").await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lead_is_handed_over_by_who_may_and_sessions_go_on() {
    let cluster = Cluster::start_with(3, deploying).await;
    let (web, mut user) = (cluster.web(), cluster.user());
    let triad = answered(&web, "GET /admin/api/v1/triad").await;
    let leader = triad["leader"].as_str().unwrap().to_owned();
    let others: Vec<_> = ["app-a", "app-b", "app-c"].into_iter().filter(|it| *it != leader).collect();
    let body = |to: &str| format!("{{\"to\": \"{to}\"}}");
    let (status, told) = curl(&web, "POST /admin/api/v1/triad/lead", EVE, body(others[0])).await;
    assert!(status == 403 && told["error"].as_str().unwrap().contains("`operate`"), "{told}");
    let mut term = triad["term"].as_u64().unwrap();
    let (mut count, _) = user.count().await;
    for next in [others[0], others[1], &leader] {
        let told = tool_as(&url(&cluster), "ops", "password", &format!("triad lead {next}")).await.succeeds();
        let expected = format!("{next} leads the hub, in term ");
        let now: u64 =
            told.trim().strip_prefix(&expected).unwrap_or_else(|| panic!("{told}")).parse().unwrap();
        assert!(now > term, "{now} {term}");
        term = now;
        // Whoever leads, the count goes on, and the others say the same.
        count += 1;
        assert_eq!(user.count().await.0, count);
        let triad = answered(&web, "GET /admin/api/v1/triad").await;
        assert_eq!(triad["leader"].as_str(), Some(next), "{triad}");
    }
    let refused = tool_as(&url(&cluster), "ops", "password", "triad lead web-a").await;
    refused.fails_with(1, &["\"web-a\" is no server of the hub: expected one of app-a, app-b, app-c"]);
    let handed: Vec<_> = lines(&web).await.into_iter().filter(|it| it.contains("hand-over-lead")).collect();
    assert_eq!(handed, [others[0], others[1], &leader].map(|it| format!("ops - hand-over-lead {it} begun")));
}
