//! Log lines.

use super::{EVIL, array, get, page, printing, raw, sign_in, until};
use crate::tool::tool_as;
use serde_json::Value;

fn texts(logs: &Value) -> Vec<&str> {
    array(logs, "lines").iter().map(|it| it["text"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_all_servers_and_their_apps_are_merged_filtered_and_followed() {
    let cluster = printing(3).await;
    let web = cluster.web();
    let all = until(&cluster, "logs", |it| {
        let has = |id: &str| array(it, "lines").iter().any(|line| line["servers"][0] == id);
        ["app-a", "app-b", "app-c"].into_iter().all(has)
    })
    .await;
    let times: Vec<_> = array(&all, "lines").iter().map(|it| it["time"].as_str().unwrap()).collect();
    assert!(times.is_sorted() && array(&all, "silent").is_empty(), "{all}");

    // What an app prints: its control characters are escaped, its markup is text.
    let evil = format!("GET /%3Cb%3E HTTP/1.1\r\nHost: x\r\nUser-Agent: {EVIL}\r\nConnection: close\r\n\r\n");
    assert!(raw(&web, &evil).await.ends_with(" 200 OK"));
    let printed =
        until(&cluster, "logs?app=default/&text=asked+FOR", |it| !array(it, "lines").is_empty()).await;
    let line = &array(&printed, "lines")[0];
    assert_eq!(line["text"], format!("asked for /<b>\\u{{1b}}[31m by {EVIL}"));
    assert_eq!(
        (&line["target"], &line["app"], &line["level"]),
        (&"app".into(), &"default/".into(), &"info".into())
    );
    let server = line["servers"][0].as_str().unwrap();
    let own = get(&cluster, &format!("logs?server={server}&text=asked+for")).await;
    assert_eq!(texts(&own).len(), 1);
    let other = if server == "app-a" { "app-b" } else { "app-a" };
    let others = get(&cluster, &format!("logs?server={other}&text=asked+for")).await;
    assert!(texts(&others).is_empty(), "{others}");
    let loud = get(&cluster, "logs?level=error").await;
    assert!(array(&loud, "lines").iter().all(|it| it["level"] == "error"));

    // What has come since.
    let next = printed["next"].as_str().unwrap().replace(':', "%3A").replace(',', "%2C");
    let since = format!("logs?text=asked+for&after={next}");
    assert!(texts(&get(&cluster, &since).await).is_empty());
    raw(&web, "GET /again HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    let more = until(&cluster, &since, |it| !array(it, "lines").is_empty()).await;
    assert_eq!(texts(&more), ["asked for /again\\u{1b}[31m by None"]);

    let cookie = sign_in(&cluster, "eve").await;
    let signed_in = until(&cluster, "logs?server=web-a", |it| !array(it, "lines").is_empty()).await;
    assert!(texts(&signed_in)[0].starts_with("signed in to the status page"), "{signed_in}");
    let shown = page(&cluster, "/logs?text=asked+for&level=info", &cookie).await;
    assert!(shown.contains("asked for /again") && !shown.contains(EVIL), "{shown}");
    assert!(shown.contains("&#60;script&#62;") || shown.contains("&lt;script&gt;"), "{shown}");
    let shown =
        page(&cluster, &format!("/logs?text={EVIL}&app={EVIL}").replace(['<', '>'], "%3C"), &cookie).await;
    assert!(shown.contains("No such line"), "{shown}");
    for (at, link) in [("/apps", "/admin/logs?app=default%2F"), ("/servers", "/admin/logs?server=app-a")] {
        let shown = page(&cluster, at, &cookie).await;
        assert!(shown.contains(&format!("href=\"{link}\"")), "{link}: {shown}");
    }

    let url = format!("http://{web}/admin");
    let told = tool_as(&url, "eve", "password", "logs --app default/ --text again").await.succeeds();
    assert!(told.contains(" info  [default/] asked for /again"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_is_told_and_the_others_lines_are_there() {
    let mut cluster = printing(3).await;
    cluster.kill("app-c").await;
    let logs = get(&cluster, "logs").await;
    let silent: Vec<_> = array(&logs, "silent").iter().map(|it| it["server"].as_str().unwrap()).collect();
    assert_eq!(silent, ["app-c"], "{logs}");
    assert!(array(&logs, "lines").iter().any(|it| it["servers"][0] == "app-a"));
    // Its lines are there again with it, those of this life.
    cluster.start_one("app-c").await;
    until(&cluster, "logs?server=app-c", |it| !array(it, "lines").is_empty()).await;
}
