//! Caches over the local API of whole servers.

use crate::{
    cluster::{Configuration, PATIENCE},
    daemons::{Local, start, start_with},
    tell::tell,
    tokens::deploying,
    tool::tool_as,
};
use hyper::Method;
use rustix::process::Signal;
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_the_clusters_and_are_told_by_their_versions() {
    let Some((cluster, _)) = start(2, "").await else { return };
    let [mut a, mut b] = Local::of_each_server(&cluster).await;
    let put = a
        .request(Method::PUT, "/v1/caches/shop/k%2F1?ttl=1h", "one", &[("content-type", "text/plain")])
        .await;
    assert_eq!((put.status, put.text.as_str()), (201, ""));
    let first = put.header("etag").unwrap().to_owned();
    let got = b.request(Method::GET, "/v1/caches/shop/k%2F1", "", &[]).await;
    assert_eq!((got.status, got.text.as_str(), got.header("content-type")), (200, "one", Some("text/plain")));
    assert_eq!((got.header("etag"), got.header("x-copal-cache")), (Some(first.as_str()), Some("hub")));
    let had = b.request(Method::GET, "/v1/caches/shop/k%2F1", "", &[("if-none-match", &first)]).await;
    assert_eq!((had.status, had.header("x-copal-cache")), (304, Some("near")));
    // Nobody has the old value when the writer is answered.
    let changed = a.request(Method::PUT, "/v1/caches/shop/k%2F1", "two", &[("if-match", &first)]).await;
    assert_eq!(changed.status, 204);
    let got = b.request(Method::GET, "/v1/caches/shop/k%2F1", "", &[]).await;
    assert_eq!((got.text.as_str(), got.header("content-type")), ("two", Some("application/octet-stream")));
    for (method, condition, status) in [
        (Method::PUT, ("if-match", first.as_str()), 412),
        (Method::PUT, ("if-none-match", "*"), 412),
        (Method::DELETE, ("if-match", &first), 412),
        (Method::DELETE, ("if-match", "*"), 204),
        (Method::DELETE, ("x-none", ""), 404),
        (Method::PUT, ("if-match", "*"), 412),
        (Method::PUT, ("if-none-match", "*"), 201),
    ] {
        let answer = a.request(method.clone(), "/v1/caches/shop/k%2F1", "x", &[condition]).await;
        assert_eq!(answer.status, status, "{method} {condition:?}: {}", answer.text);
    }
    let entries = json!({"entries": [{"key": "t", "value": "text"}, {"key": "j", "json": {"a": [1]}}, {"key": "b", "base64": "AAE=", "ttl": "1h"}]});
    assert_eq!(b.call(Method::PATCH, "/v1/caches/shop", &entries.to_string()).await.0, 204);
    let (status, seen) = a.call(Method::GET, "/v1/caches/shop/j", "").await;
    assert_eq!((status, seen), (200, json!({"a": [1]})));
    let (status, described) = a.call(Method::GET, "/v1/caches/shop", "").await;
    assert_eq!((status, &described["entries"]), (200, &json!(4)));
    assert_eq!(b.call(Method::DELETE, "/v1/caches/shop", "").await.0, 204);
    assert_eq!(a.call(Method::GET, "/v1/caches/shop/j", "").await.0, 404);
    assert_eq!(
        a.request(Method::GET, "/v1/caches/shop/j", "", &[]).await.header("x-copal-cache"),
        Some("near")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_count_each_increment_once_while_servers_die() {
    let Some((mut cluster, _)) = start(3, "").await else { return };
    let mut apps: Vec<Local> = Local::of_each_server::<3>(&cluster).await.into();
    let (mut counted, mut unknown) = (0, 0);
    let leader = cluster.hub().leader(PATIENCE).await.unwrap().to_string();
    // The app of a server that stays.
    let place = cluster.configuration.app_servers().iter().position(|it| *it != leader).unwrap();
    let mut app = apps.swap_remove(place);
    for round in 0..200 {
        if round == 50 {
            cluster.kill(&leader).await;
        }
        let (status, answer) = app.call(Method::POST, "/v1/caches/numbers/n/increment", "").await;
        match status {
            200 => counted += 1,
            503 => unknown += 1,
            other => panic!("{other} {answer}"),
        }
    }
    let (_, last) = app.call(Method::GET, "/v1/caches/numbers/n?consistency=strong", "").await;
    let last = last.as_u64().unwrap();
    tell(&format!("{counted} increments were answered and {unknown} were not, by {last}"));
    assert!((counted..=counted + unknown).contains(&last), "{counted} and {unknown}: {last}");
    let body = r#"{"by":-5,"initial":7,"ttl":"1h"}"#;
    assert_eq!(
        app.call(Method::POST, "/v1/caches/numbers/m/increment", body).await,
        (200, json!({"value": 2}))
    );
    app.call(Method::PUT, "/v1/caches/numbers/text", "seven").await;
    let (status, refused) = app.call(Method::POST, "/v1/caches/numbers/text/increment", "").await;
    assert_eq!((status, &refused["code"]), (409, &json!("not-a-number")));
}

/// Two of three servers read again and again while the third writes, and each of them, the hub's leader among them, is paused in turn: whoever reads sees no
/// value that is older than one that was answered before he asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_reads_an_older_value_than_was_answered() {
    let Some((cluster, _)) = start(3, "").await else { return };
    let [mut writer, first, second] = Local::of_each_server(&cluster).await;
    let written = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let stop = tokio_util::sync::CancellationToken::new();
    let readers: Vec<_> = [first, second]
        .into_iter()
        .map(|mut app| {
            let (written, stop) = (written.clone(), stop.clone());
            tokio::spawn(async move {
                let (mut reads, mut near) = (0_u64, 0_u64);
                while !stop.is_cancelled() {
                    let at_least = written.load(std::sync::atomic::Ordering::SeqCst);
                    let answer = app.request(Method::GET, "/v1/caches/c/k", "", &[]).await;
                    if answer.status == 200 {
                        let value: u64 = answer.text.parse().unwrap();
                        let from = answer.header("x-copal-cache");
                        assert!(
                            value >= at_least,
                            "{value} was read, {from:?}, after {at_least} was answered"
                        );
                        near += u64::from(from == Some("near"));
                    }
                    reads += 1;
                }
                (reads, near)
            })
        })
        .collect();
    let pauses = ["app-b", "app-c"].into_iter().cycle();
    let mut pauses = pauses.map(|id| cluster.process(id));
    for number in 1..=400_u64 {
        let paused = number.is_multiple_of(100).then(|| pauses.next().unwrap());
        if let Some(process) = paused {
            process.signal(Signal::STOP);
        }
        let put = writer.request(Method::PUT, "/v1/caches/c/k", &number.to_string(), &[]).await;
        assert!(put.status < 300, "{}", put.text);
        written.store(number, std::sync::atomic::Ordering::SeqCst);
        if let Some(process) = paused {
            process.signal(Signal::CONT);
        }
    }
    stop.cancel();
    for reader in readers {
        let (reads, near) = reader.await.unwrap();
        tell(&format!("{near} of {reads} reads beside 400 writes were near"));
        assert!(near > 0 && reads > near);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_over_is_gone_and_old_values_serve_without_a_hub() {
    let Some((mut cluster, _)) = start(3, "").await else { return };
    let mut apps: Vec<Local> = Local::of_each_server::<3>(&cluster).await.into();
    let mut app = apps.swap_remove(0);
    app.call(Method::PUT, "/v1/caches/c/short?ttl=300ms", "v").await;
    app.call(Method::PUT, "/v1/caches/c/idle?idle=2s", "v").await;
    app.call(Method::PUT, "/v1/caches/c/kept", "v").await;
    let gone = async {
        while app.request(Method::GET, "/v1/caches/c/short", "", &[]).await.status != 404 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    // It is read for longer than it may be idle; near, too.
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        assert_eq!(app.request(Method::GET, "/v1/caches/c/idle", "", &[]).await.status, 200);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(app.request(Method::GET, "/v1/caches/c/kept", "", &[]).await.status, 200);
    cluster.kill_all(&["app-b", "app-c"].map(str::to_owned)).await;
    let stale = async {
        loop {
            let answer = app.request(Method::GET, "/v1/caches/c/kept", "", &[]).await;
            if answer.header("x-copal-cache") == Some("stale") {
                return answer;
            }
        }
    };
    let answer = tokio::time::timeout(PATIENCE, stale).await.unwrap();
    assert_eq!((answer.status, answer.text.as_str()), (200, "v"));
    assert!(answer.header("x-copal-stale").is_some());
    let (status, refused) = app.call(Method::GET, "/v1/caches/c/never-read", "").await;
    assert_eq!((status, &refused["code"]), (503, &json!("hub-lost")));
    let (status, refused) = app.call(Method::PUT, "/v1/caches/c/kept", "w").await;
    assert_eq!((status, &refused["code"], &refused["applied"]), (503, &json!("hub-lost"), &json!("unknown")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_lost_the_lease_writes_nothing() {
    let Some((cluster, _)) = start(1, "").await else { return };
    let mut app = Local::of_some_server(&cluster).await;
    let (_, lease) = app.call(Method::POST, "/v1/leases/counter", r#"{"ttl":"30s"}"#).await;
    let token = lease["token"].as_u64().unwrap();
    let fence = format!("counter={token}");
    let put = |fence: &str| vec![("x-copal-fence".to_owned(), fence.to_owned())];
    let headers = put(&fence);
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(app.request(Method::PUT, "/v1/caches/c/k", "v", &headers).await.status, 201);
    let path = format!("/v1/leases/counter/{token}");
    assert_eq!(app.call(Method::DELETE, &path, "").await.0, 204);
    assert_eq!(app.request(Method::PUT, "/v1/caches/c/k", "w", &headers).await.status, 409);
    assert_eq!(
        app.request(Method::PUT, "/v1/caches/c/k", "w", &[("x-copal-fence", "counter")]).await.status,
        400
    );
    assert_eq!(app.request(Method::GET, "/v1/caches/c/k", "", &[]).await.text, "v");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_named() {
    let Some((cluster, _)) = start(1, "").await else { return };
    let mut app = Local::of_some_server(&cluster).await;
    let long = format!("/v1/caches/c/{}", "k".repeat(513));
    for (method, path, body, status, words) in [
        (Method::GET, "/v1/caches/C/k", "", 400, "the cache's name is \"C\""),
        (Method::GET, "/v1/caches/c/%ff", "", 400, "the key is no UTF-8"),
        (Method::GET, "/v1/caches/c/", "", 400, "the key has 0 bytes"),
        (Method::GET, long.as_str(), "", 400, "the key has 513 bytes"),
        (Method::GET, "/v1/caches/c/k?consistency=weak", "", 400, "expected near or strong"),
        (Method::PUT, "/v1/caches/c/k?ttl=0", "", 400, "ttl is \"0\""),
        (Method::PUT, "/v1/caches/c/k?tll=1s", "", 400, "the query has \"tll\": expected ttl, idle"),
        (Method::POST, "/v1/caches/c/k", "", 405, "expected GET, HEAD, PUT, DELETE"),
        (Method::POST, "/v1/caches/c/k/increment", r#"{"by":1.5}"#, 400, "by is \"1.5\""),
        (Method::POST, "/v1/caches/c/k/increment", r#"{"by":9223372036854775808}"#, 400, "64 bits"),
        (
            Method::PATCH,
            "/v1/caches/c",
            r#"{"entries":[{"key":"a"}]}"#,
            400,
            "entries[0] has to have a value",
        ),
        (Method::PATCH, "/v1/caches/c", r#"{"entries":[{"value":"a"}]}"#, 400, "entries[0].key is missing"),
        (
            Method::PATCH,
            "/v1/caches/c",
            r#"{"entries":[{"key":"a","base64":"?"}]}"#,
            400,
            "entries[0].base64 is no base64",
        ),
        (
            Method::PATCH,
            "/v1/caches/c",
            r#"{"entries":[{"key":"a","value":"b","tll":"1s"}]}"#,
            400,
            "has \"tll\"",
        ),
        (Method::PATCH, "/v1/caches/c", r#"{"entries":3}"#, 400, "entries is missing, or no list"),
    ] {
        let (found, problem) = app.call(method.clone(), path, body).await;
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(found == status && detail.contains(words), "{method} {path}: {found} {problem}");
    }
    for (name, value, words) in [
        ("if-match", "7", "If-Match is \"7\""),
        ("if-match", "\"0\"", "If-Match is"),
        ("if-none-match", "\"7\"", "expected *"),
        ("x-copal-fence", "a=0", "X-Copal-Fence is \"a=0\""),
    ] {
        let answer = app.request(Method::PUT, "/v1/caches/c/k", "", &[(name, value)]).await;
        assert!(
            answer.status == 400 && answer.text.contains(&words.replace('"', "\\\"")),
            "{name}: {}",
            answer.text
        );
    }
    let large = "x".repeat((1 << 20) + 1);
    assert_eq!(app.request(Method::PUT, "/v1/caches/c/k", &large, &[]).await.status, 413);
    let mut app = Local::of_some_server(&cluster).await;
    assert_eq!(app.request(Method::PUT, "/v1/caches/c/k", &large[1..], &[]).await.status, 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_is_as_it_is_declared() {
    let lines = "caches: [{name: own, mode: local}, {name: told, mode: invalidated}, {name: ahead, mode: replicated}, {name: short, ttl: 300ms}]";
    let Some((cluster, _)) = start(2, lines).await else { return };
    let [mut a, mut b] = Local::of_each_server(&cluster).await;
    // Each server has its own, and nobody else hears of it.
    assert_eq!(a.request(Method::PUT, "/v1/caches/own/k", "a", &[]).await.status, 201);
    assert_eq!(b.request(Method::GET, "/v1/caches/own/k", "", &[]).await.status, 404);
    assert_eq!(b.request(Method::PUT, "/v1/caches/own/k", "b", &[("if-none-match", "*")]).await.status, 201);
    assert_eq!(a.request(Method::GET, "/v1/caches/own/k", "", &[]).await.text, "a");
    assert_eq!(a.call(Method::POST, "/v1/caches/own/n/increment", "").await, (200, json!({"value": 1})));
    // Each server has its own, and forgets what another changes.
    let near = |answer: &crate::daemons::Answer| answer.header("x-copal-cache") == Some("near");
    for (is_turned, text) in [(false, "1"), (true, "2")] {
        let (app, other) = if is_turned { (&mut b, &mut a) } else { (&mut a, &mut b) };
        let put = other.request(Method::PUT, "/v1/caches/told/k", text, &[]).await;
        assert_eq!(put.status, 201, "{}", put.text);
        let has_heard = async {
            while !near(&other.request(Method::GET, "/v1/caches/told/none", "", &[]).await) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, has_heard).await.unwrap();
        other.request(Method::PUT, "/v1/caches/told/k", text, &[]).await;
        assert_eq!(app.request(Method::PUT, "/v1/caches/told/k", "changed", &[]).await.status, 201);
        assert_eq!(other.request(Method::GET, "/v1/caches/told/k", "", &[]).await.status, 404);
        assert_eq!(app.request(Method::GET, "/v1/caches/told/k", "", &[]).await.text, "changed");
        app.call(Method::DELETE, "/v1/caches/told", "").await;
    }
    // What is not here may be elsewhere.
    b.request(Method::PUT, "/v1/caches/told/elsewhere", "old", &[]).await;
    a.request(Method::DELETE, "/v1/caches/told/elsewhere", "", &[]).await;
    assert_eq!(b.request(Method::GET, "/v1/caches/told/elsewhere", "", &[]).await.status, 404);
    assert_eq!(a.request(Method::PUT, "/v1/caches/own/k", "", &[("x-copal-fence", "a=1")]).await.status, 400);
    // What another has put is there before it is asked for.
    assert_eq!(a.request(Method::PUT, "/v1/caches/ahead/k", "v", &[]).await.status, 201);
    let ahead = async {
        loop {
            let key = format!("/v1/caches/ahead/{}", rand::random::<u32>());
            a.request(Method::PUT, &key, "v", &[]).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            if near(&b.request(Method::GET, &key, "", &[]).await) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, ahead).await.expect("values come by themselves");
    // What is put without a time has the declared one.
    a.request(Method::PUT, "/v1/caches/short/k", "v", &[]).await;
    let gone = async {
        while b.request(Method::GET, "/v1/caches/short/k", "", &[]).await.status != 404 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_caller_computes_and_the_others_wait() {
    let Some((cluster, _)) = start(2, "").await else { return };
    let [mut a, b] = Local::of_each_server(&cluster).await;
    let mut others = vec![b];
    for _ in 0..4 {
        others.push(Local::of_some_server(&cluster).await);
    }
    let first = a.request(Method::GET, "/v1/caches/memo/k?claim=30s", "", &[]).await;
    let claim = first.header("x-copal-claim").unwrap().to_owned();
    assert_eq!(first.status, 404);
    let waiting: Vec<_> = others
        .into_iter()
        .map(|mut app| {
            tokio::spawn(
                async move { app.request(Method::GET, "/v1/caches/memo/k?claim=30s", "", &[]).await },
            )
        })
        .collect();
    // They wait for as long as it takes.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(waiting.iter().all(|it| !it.is_finished()));
    let put = a.request(Method::PUT, "/v1/caches/memo/k", "computed", &[("x-copal-claim", &claim)]).await;
    assert_eq!(put.status, 201);
    for answer in waiting {
        let answer = tokio::time::timeout(Duration::from_secs(20), answer)
            .await
            .expect("well before the claim ends")
            .unwrap();
        assert_eq!(
            (answer.status, answer.text.as_str(), answer.header("x-copal-claim")),
            (200, "computed", None)
        );
    }
    // Whoever had the claim did nothing: another gets it when its time is over.
    let first = a.request(Method::GET, "/v1/caches/memo/other?claim=1s", "", &[]).await;
    let second = a.request(Method::GET, "/v1/caches/memo/other?claim=1s", "", &[]).await;
    assert!(
        first.header("x-copal-claim").is_some()
            && second.header("x-copal-claim") > first.header("x-copal-claim")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_told_as_they_come() {
    let Some((cluster, _)) = start(2, "").await else { return };
    let [mut a, b] = Local::of_each_server(&cluster).await;
    let mut events = b.events("/v1/caches/shop/events").await;
    assert_eq!(events.next().await, "event: ready data: {}");
    for number in 0..100 {
        a.request(Method::PUT, &format!("/v1/caches/shop/k{number}"), "v", &[]).await;
    }
    a.request(Method::PUT, "/v1/caches/other/k", "v", &[]).await;
    a.request(Method::DELETE, "/v1/caches/shop/k5", "", &[]).await;
    a.request(Method::DELETE, "/v1/caches/shop", "", &[]).await;
    for number in 0..100 {
        assert_eq!(events.next().await, format!("event: changed data: {{\"key\":\"k{number}\"}}"));
    }
    assert_eq!(events.next().await, "event: changed data: {\"key\":\"k5\"}");
    assert_eq!(events.next().await, "event: cleared data: {}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_sees_what_is_in_them() {
    let Some((mut cluster, _)) = start_with(3, "", deploying).await else { return };
    let [mut a, mut b] = Local::of_each_server(&cluster).await;
    for key in ["one", "two"] {
        let path = format!("/v1/caches/shop/{key}");
        assert_eq!(a.request(Method::PUT, &path, "value", &[]).await.status, 201);
    }
    assert_eq!(a.request(Method::PUT, "/v1/caches/large/k", &"v".repeat(10_000), &[]).await.status, 201);
    for _ in 0..3 {
        assert_eq!(b.request(Method::GET, "/v1/caches/shop/one", "", &[]).await.status, 200);
    }
    let target = format!("http://{}/admin", cluster.web());
    let seen = async || tool_as(&target, "eve", "password", "app-cache list").await;
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let said = seen().await.succeeds();
    let lines: Vec<_> = said.lines().map(words).collect();
    assert_eq!(lines[0], ["CACHE", "ENTRIES", "MEMORY", "EVICTED"]);
    // The largest first.
    assert_eq!((&lines[1][..2], &lines[2][..2]), (&words("large 1")[..], &words("shop 2")[..]), "{said}");
    assert_eq!((lines[3][0].as_str(), &lines[3][3..]), ("(all)", &words("of 536.8 MB")[..]), "{said}");
    assert_eq!(lines[4], ["SERVER", "NEAR", "HUB", "MISSES", "STALE", "WRITES", "COPIES", "MEMORY"]);
    let counted = async {
        // What a server says of itself is asked for now and then.
        loop {
            let json = tool_as(&target, "eve", "password", "--json app-cache list").await.succeeds();
            let json: serde_json::Value = serde_json::from_str(&json).unwrap();
            let sum = |name: &str| -> u64 {
                json["servers"].as_array().unwrap().iter().map(|it| it[name].as_u64().unwrap()).sum()
            };
            if [sum("near"), sum("hub"), sum("writes"), sum("misses"), sum("stale")] == [2, 1, 3, 0, 0] {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.expect("the servers count");
    // Without a hub it is said that nobody knows.
    cluster.kill("app-b").await;
    cluster.kill("app-c").await;
    let unknown = async {
        loop {
            let said = seen().await;
            if said.code == Some(1) {
                return said;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let said = tokio::time::timeout(PATIENCE, unknown).await.expect("the hub is missed");
    assert!(
        said.stdout.starts_with("SERVER") && said.stderr.contains("what the hub has is unknown: "),
        "{said:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_clears_one() {
    let lines = "caches: [{name: own, mode: invalidated}, {name: told, mode: invalidated}]";
    let configure = |configuration: &mut Configuration| {
        deploying(configuration);
        // Its word counts before an app's.
        configuration.lines.push("cluster-default: {caches: [{name: own, mode: local}]}".to_owned());
    };
    let Some((cluster, _)) = start_with(2, lines, configure).await else { return };
    let [mut a, mut b] = Local::of_each_server(&cluster).await;
    for path in ["shop/one", "shop/two", "own/one", "told/one"] {
        assert_eq!(a.request(Method::PUT, &format!("/v1/caches/{path}"), "value", &[]).await.status, 201);
    }
    let target = format!("http://{}/admin", cluster.web());
    // Who only looks clears none.
    let clear = async |user: &str, name: &str| {
        tool_as(&target, user, "password", &format!("app-cache clear {name}")).await
    };
    assert!(clear("eve", "shop").await.stderr.contains("403"));
    assert_eq!(b.request(Method::GET, "/v1/caches/shop/one", "", &[]).await.status, 200);
    assert_eq!(clear("ops", "shop").await.succeeds().trim(), "the cache shop is cleared: 2 entries are gone");
    for server in [&mut a, &mut b] {
        assert_eq!(server.request(Method::GET, "/v1/caches/shop/one", "", &[]).await.status, 404);
    }
    // Of these the hub has nothing: servers forget what is told, and keep what is their own.
    for (cache, then) in [("shop", 404), ("told", 404), ("own", 200)] {
        let said = clear("ops", cache).await.succeeds();
        assert!(said.starts_with(&format!("the hub had nothing of a cache {cache}")), "{said}");
        let path = format!("/v1/caches/{cache}/one");
        assert_eq!(a.request(Method::GET, &path, "", &[]).await.status, then, "{cache}");
    }
    let wrong = clear("ops", "No%Name").await;
    assert!(wrong.code == Some(1) && wrong.stderr.contains("No%Name"), "{wrong:?}");
    let audit = tool_as(&target, "eve", "password", "audit").await.succeeds();
    assert!(audit.contains("clear-cache") && audit.contains("2 entries"), "{audit}");
}
