//! Sessions: who has one, and the end of one by an operator.

use super::{HTML, administered, array, ask, get, page, sign_in, token, until};
use crate::{
    client::User,
    cluster::Cluster,
    tokens::{OPS, curl},
};
use serde_json::{Value, json};

/// `eve:password`, who may look.
const EVE: &str = "Basic ZXZlOnBhc3N3b3Jk";

fn id(user: &User) -> String {
    user.cookie.as_deref().unwrap().split_once('=').unwrap().1.to_owned()
}

/// What the API says of a session, or does to it.
async fn post(cluster: &Cluster, verb: &str, id: &str, who: &str) -> (u16, Value) {
    let line = format!("POST /admin/api/v1/sessions/{verb}");
    curl(&cluster.web(), &line, who, json!({"id": id}).to_string()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_an_operator_ends_begins_anew_on_every_server() {
    let cluster = Cluster::start_with(3, |it| administered(it, &[])).await;
    let mut user = cluster.user_of(0, 1);
    for count in 1..=3 {
        assert_eq!(user.count().await, (count, "app-a".to_owned()));
    }
    let (id, old) = (id(&user), user.cookie.clone().unwrap());
    let (status, found) = post(&cluster, "find", &id, EVE).await;
    assert_eq!(status, 200, "{found}");
    let hub = &array(&found, "hub")[0];
    assert_eq!(
        (&hub["owner"], &hub["attribute_count"], &hub["version"]),
        (&"app-a".into(), &1.into(), &3.into())
    );
    assert_eq!(hub["attributes"], json!([{"name": "count", "bytes": 1}]));
    let held = &array(&found, "servers")[0];
    assert_eq!(
        (&held["server"], &held["unsaved"], &held["version"]),
        (&"app-a".into(), &false.into(), &3.into())
    );
    assert!(!found.to_string().contains(&id), "{found}");
    let all = get(&cluster, "sessions").await;
    assert_eq!((&array(&all, "apps")[0]["sessions"], &all["unknown"]), (&1.into(), &Value::Null), "{all}");

    let (status, refused) = post(&cluster, "invalidate", &id, EVE).await;
    assert!(status == 403 && refused["error"].as_str().unwrap().contains("`operate`"), "{refused}");
    assert_eq!(user.count().await.0, 4);
    let (status, ended) = post(&cluster, "invalidate", &id, OPS).await;
    assert_eq!((status, &ended["servers"]), (200, &json!(["app-a"])), "{ended}");
    assert_eq!(array(&ended, "apps").len(), 1);
    // On the server that had it, and on each of the others.
    for others in [&["app-b", "app-c"][..], &["app-a", "app-c"], &["app-a", "app-b"]] {
        for other in others {
            let line = format!("POST /admin/api/servers/{other}/disable");
            assert_eq!(curl(&cluster.web(), &line, OPS, "").await.0, 200);
        }
        let mut again = User::new(cluster.web()).with_cookie(old.clone());
        let (count, server) = again.count().await;
        assert!(count == 1 && !others.contains(&server.as_str()), "{count} on {server}");
        assert_ne!(again.cookie.as_ref(), Some(&old), "an id that has ended is not used again");
        assert_eq!(again.count().await.0, 2);
        for other in others {
            let line = format!("POST /admin/api/servers/{other}/enable");
            assert_eq!(curl(&cluster.web(), &line, OPS, "").await.0, 200);
        }
    }
    let (_, found) = post(&cluster, "find", &id, OPS).await;
    assert!(array(&found, "hub").is_empty() && array(&found, "servers").is_empty(), "{found}");
    let (status, again) = post(&cluster, "invalidate", &id, OPS).await;
    assert_eq!((status, &again["apps"]), (200, &json!([])), "{again}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_in_a_servers_memory_alone_is_found_there_and_ended() {
    let cluster = Cluster::start_with(1, |it| {
        administered(it, &[]);
        it.session.push("use-persistent-store: false".into());
    })
    .await;
    let mut user = cluster.user();
    user.count().await;
    assert_eq!(user.count().await.0, 2);
    let id = id(&user);
    let (_, found) = post(&cluster, "find", &id, OPS).await;
    let held = &array(&found, "servers")[0];
    assert!(array(&found, "hub").is_empty(), "{found}");
    assert_eq!((&held["only_here"], &held["attribute_count"]), (&true.into(), &1.into()), "{found}");
    assert_eq!(post(&cluster, "invalidate", &id, OPS).await.1["servers"], json!(["app-a"]));
    assert_eq!(user.count().await.0, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_looks_a_session_up_and_ends_it() {
    let cluster = Cluster::start_with(1, |it| administered(it, &[])).await;
    let mut user = cluster.user();
    user.count().await;
    let (id, web) = (id(&user), cluster.web());
    let cookie = sign_in(&cluster, "ops").await;
    let signed_in = [HTML, ("cookie", cookie.as_str())];
    let sessions = page(&cluster, "/sessions", &cookie).await;
    let token = token(&sessions);
    assert_eq!(ask(&web, "POST /admin/sessions", &signed_in, &format!("id={id}")).await.0, 403, "no token");
    let (status, _, found) =
        ask(&web, "POST /admin/sessions", &signed_in, &format!("id={id}&token={token}")).await;
    assert!(status == 200 && found.contains("count (1 B)") && found.contains("data-still"), "{found}");
    let end = "POST /admin/actions/sessions/invalidate";
    // Who may look alone is shown no such form, and his own is refused.
    let eve = sign_in(&cluster, "eve").await;
    let theirs = page(&cluster, "/sessions", &eve).await;
    let fields = [HTML, ("cookie", eve.as_str())];
    let form = format!("id={id}&token={}", super::token(&theirs));
    let (_, _, looked) = ask(&web, "POST /admin/sessions", &fields, &form).await;
    assert!(looked.contains("count (1 B)") && !looked.contains("sessions/invalidate"), "{looked}");
    assert_eq!(ask(&web, end, &fields, &form).await.0, 403);
    assert_eq!(user.count().await.0, 2);

    let (status, headers, _) = ask(&web, end, &signed_in, &format!("id={id}&token={token}")).await;
    assert_eq!((status, headers["location"].to_str().unwrap()), (303, "/admin/sessions?done=invalidated"));
    let done = page(&cluster, "/sessions?done=invalidated", &cookie).await;
    assert!(done.contains("The session has ended"), "{done}");
    assert_eq!(user.count().await.0, 1);
    let (status, _, page) =
        ask(&web, "POST /admin/sessions", &signed_in, &format!("id=no+id&token={token}")).await;
    assert!(status == 400 && page.contains("no session id"), "{page}");
    // Nobody's log tells the id.
    let lines = until(&cluster, "logs?text=ended+a+session", |it| !array(it, "lines").is_empty()).await;
    assert!(!lines.to_string().contains(&id), "{lines}");
}
