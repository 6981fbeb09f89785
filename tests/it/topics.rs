//! Topics of whole servers: who listens hears each message once and in order; durable subscriptions lose none.

use crate::{
    cluster::PATIENCE,
    daemons::{Local, start_script},
    queues::{APP, handled, lines, local, until},
};
use hyper::Method;
use serde_json::{Value, json};
use std::{collections::BTreeSet, path::Path, time::Duration};

const TOPICS: &str = "topics:\n  - {name: orders, path: /on/order}\n  - {name: orders, path: /bill, durable: billing, retry: {delay: 50ms}}";

fn at_path<'a>(lines: &'a [Value], path: &str) -> Vec<&'a Value> {
    lines.iter().filter(|it| it["path"] == path).collect()
}

/// Publishes until both servers' apps are called.
async fn both_listen(a: &mut Local, out: &Path) {
    let both = async {
        loop {
            let (_, told) = a.call(Method::POST, "/v1/topics/orders", "{\"n\": 0}").await;
            let lines = lines(out, "end");
            let heard: BTreeSet<_> =
                at_path(&lines, "/on/order").iter().map(|it| it["server"].to_string()).collect();
            if heard.len() == 2 {
                assert_eq!(told["listening-servers"], 2);
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, both).await.expect("both servers listen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_listens_hears_all_and_a_durable_subscription_one_each() {
    let Some((cluster, out)) = start_script(APP, 2, TOPICS, |_| {}).await else { return };
    let [mut a, mut b] = Local::of_each_server(&cluster).await;
    until(&mut a, "topic:orders:billing", |it| it["consumers"].as_array().is_some_and(|it| it.len() == 2))
        .await;
    let listener = local(&out, "app-b").await;
    let mut events = listener.events("/v1/topics/orders/events").await;
    assert!(events.next().await.starts_with("event: ready"));
    let (status, told) = a.call(Method::POST, "/v1/topics/probe", "{}").await;
    assert_eq!((status, &told["ids"]), (202, &json!([])));
    both_listen(&mut a, &out).await;
    for n in 1..=20 {
        let app = if n % 2 == 0 { &mut a } else { &mut b };
        let body = json!({"n": n}).to_string();
        let headers = [("content-type", "application/json"), ("x-copal-correlation", "c")];
        let told = app.request(Method::POST, "/v1/topics/orders", &body, &headers).await;
        assert_eq!(told.status, 201, "{}", told.text);
    }
    let mut heard = Vec::new();
    while heard.last() != Some(&20) {
        let event = tokio::time::timeout(PATIENCE, events.next()).await.expect("an event");
        let data: Value = serde_json::from_str(event.split_once("data: ").unwrap().1).unwrap();
        // Those that only told whether both listen came without a type.
        if let Some(n) = data["json"]["n"].as_u64() {
            assert_eq!(data["correlation"], "c");
            heard.push(n);
        }
    }
    assert_eq!(heard, (1..=20).collect::<Vec<_>>(), "each once, in one order");
    let described = until(&mut a, "topic:orders:billing", |it| it["ready"] == 0 && it["assigned"] == 0).await;
    let published = described["published"].as_u64().unwrap();
    assert_eq!(described["settled"], published);
    let all = handled(&out, usize::try_from(published).unwrap()).await;
    let billed = at_path(&all, "/bill");
    let kinds: Vec<_> = billed.iter().map(|it| &it["headers"]["x-copal-delivery"]).collect();
    assert!(kinds.iter().all(|it| **it == "topic") && billed[0]["headers"]["x-copal-source"] == "orders");
    // Each server's app was called with each, once both listened.
    let called = async {
        loop {
            let lines = lines(&out, "end");
            let of = |server: &str| {
                at_path(&lines, "/on/order")
                    .iter()
                    .filter(|it| it["server"] == server && it["message"]["n"] != 0)
                    .count()
            };
            if (of("app-a"), of("app-b")) == (20, 20) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, called).await.expect("both servers' apps are called");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_durable_subscription_keeps_what_nobody_takes_until_it_ends() {
    let Some((mut cluster, _)) = start_script(APP, 3, "", |_| {}).await else { return };
    let mut apps: Vec<Local> = Local::of_each_server::<3>(&cluster).await.into();
    let path = "/v1/topics/news/subscriptions/mail";
    assert_eq!(apps[0].call(Method::PUT, path, "").await.0, 204);
    for n in 0..3 {
        let (status, told) = apps[1].call(Method::POST, "/v1/topics/news", &n.to_string()).await;
        assert_eq!((status, told["ids"].as_array().unwrap().len()), (201, 1));
    }
    let leader = cluster.hub().leader(PATIENCE).await.unwrap().to_string();
    let other = cluster.configuration.app_servers().iter().position(|it| *it != leader).unwrap();
    let mut app = apps.swap_remove(other);
    cluster.kill(&leader).await;
    let receive = format!("{path}/receive?wait=20s&max=10");
    let mut got = Vec::new();
    while got.len() < 3 {
        let (status, answer) = app.call(Method::POST, &receive, "").await;
        assert!(status == 200 || status == 503, "{answer}");
        got.extend(answer["messages"].as_array().cloned().unwrap_or_default());
    }
    assert_eq!(got.iter().map(|it| it["value"].as_str().unwrap()).collect::<Vec<_>>(), ["0", "1", "2"]);
    assert_eq!(app.call(Method::DELETE, path, "").await.0, 204);
    let (status, told) = app.call(Method::POST, "/v1/topics/news", "4").await;
    assert_eq!((status, &told["ids"]), (202, &json!([])));
    assert_eq!(app.call(Method::POST, "/v1/topics/News", "4").await.0, 400);
}
