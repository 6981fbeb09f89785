//! The operator's command line on a whole cluster: what it says is in force on every web-tier when it has ended, and stays.

use crate::{
    client::User,
    cluster::{Cluster, Configuration, PATIENCE, deploy_tool},
    tool::{HASH, Said, tool_as},
};
use rustix::process::Signal;
use std::{process::Stdio, sync::Arc, sync::atomic::AtomicBool, sync::atomic::Ordering, time::Duration};
use tokio::{process::Command, time::timeout};

/// Three app servers and two web-tier servers, with users.
async fn start(more: &[&str]) -> Cluster {
    Cluster::start_with(3, |configuration| {
        configuration.server.extend(more.iter().map(|line| (*line).to_owned()));
        administered(configuration);
    })
    .await
}

/// With two web-tier servers and two users.
fn administered(configuration: &mut Configuration) {
    configuration.webs = 2;
    configuration.admin = vec![
        "users:".to_owned(),
        format!("  - {{name: ops, password: \"{HASH}\", roles: [operate]}}"),
        format!("  - {{name: eve, password: \"{HASH}\", roles: [view]}}"),
    ];
}

/// As the user who may operate, through the first web-tier server.
async fn tool(cluster: &Cluster, line: &str) -> Said {
    tool_as(&format!("http://{}/admin", cluster.web()), "ops", "password", line).await
}

/// Who answers so many visitors of each web-tier server.
async fn visited(cluster: &Cluster, visitors: usize) -> Vec<String> {
    let mut answered = Vec::new();
    for web in 0..2 {
        for _ in 0..visitors {
            answered.push(User::new(cluster.web_of(web)).count().await.1);
        }
    }
    answered
}

/// A user of `app-b` at a web-tier server.
fn user_of_b(cluster: &Cluster, web: usize, name: usize) -> User {
    User::new(cluster.web_of(web)).with_cookie(format!("JSESSIONID=baUserNumber{name:012}"))
}

/// Counts again and again until stopped; returns how often.
async fn browse(mut user: User, stop: Arc<AtomicBool>) -> u64 {
    let mut counted = 0;
    while !stop.load(Ordering::Relaxed) {
        counted += 1;
        assert_eq!(user.count().await.0, counted, "a count is lost");
    }
    counted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_command_has_said_is_in_force_on_every_web_tier() {
    let cluster = start(&["load-balance-warmup-time: 0"]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let users = (0..4).map(|name| tokio::spawn(browse(user_of_b(&cluster, name % 2, name), stop.clone())));
    let users: Vec<_> = users.collect();
    for round in 0..3 {
        let said = tool(&cluster, "server disable app-b").await.succeeds();
        assert_eq!(said, "app-b is disabled: web-a, web-b go by it\n");
        let answered = visited(&cluster, 8).await;
        assert!(!answered.iter().any(|it| it == "app-b"), "round {round}: {answered:?}");
        let moved = user_of_b(&cluster, 1, 50 + round).count().await.1;
        assert_ne!(moved, "app-b", "round {round}");

        let said = tool(&cluster, "server disable-soft app-b").await.succeeds();
        assert_eq!(said, "app-b is disabled-soft: web-a, web-b go by it\n");
        let answered = visited(&cluster, 8).await;
        assert!(!answered.iter().any(|it| it == "app-b"), "round {round}: {answered:?}");
        for web in 0..2 {
            assert_eq!(
                user_of_b(&cluster, web, 100 + web).count().await.1,
                "app-b",
                "round {round}: its own stay"
            );
        }

        let said = tool(&cluster, "server enable app-b").await.succeeds();
        assert_eq!(said, "app-b is enabled: web-a, web-b go by it\n");
        for web in 0..2 {
            let user = user_of_b(&cluster, web, 200 + 2 * round + web).count().await;
            assert_eq!(user, (1, "app-b".to_owned()), "round {round}");
        }
        assert_eq!(tool(&cluster, "server enable app-b").await.succeeds(), said.replace(":", " already:"));
    }
    stop.store(true, Ordering::Relaxed);
    for user in users {
        assert!(user.await.unwrap() > 0);
    }
}

#[tokio::test]
async fn a_session_moves_with_its_count_and_comes_home_and_others_come_by_and_by() {
    let cluster = start(&["load-balance-warmup-time: 2s"]).await;
    let mut user = user_of_b(&cluster, 0, 1);
    assert_eq!(user.count().await, (1, "app-b".to_owned()));
    tool(&cluster, "server disable app-b").await.succeeds();
    let (count, elsewhere) = user.count().await;
    assert_eq!(count, 2);
    assert_ne!(elsewhere, "app-b");
    tool(&cluster, "server enable app-b").await.succeeds();
    assert_eq!(
        user.count().await,
        (3, "app-b".to_owned()),
        "its own sessions are not held back by the warm-up"
    );
    let waiting = async { while !visited(&cluster, 1).await.iter().any(|it| it == "app-b") {} };
    timeout(PATIENCE, waiting).await.expect("visitors come when it is warm");
}

async fn it_outlives_every_process_of_the_cluster(cluster: &mut Cluster) {
    tool(cluster, "server disable app-b").await.succeeds();
    tool(cluster, "server disable-soft app-c").await.succeeds();
    cluster.kill_all(&cluster.configuration.servers()).await;
    cluster.start_all().await;
    assert_eq!(visited(cluster, 8).await, vec!["app-a"; 16]);
    let status = tool(cluster, "status").await.succeeds();
    let lines: Vec<Vec<&str>> = status.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.len(), 6, "{status}");
    assert_eq!(lines[0], ["SERVER", "CLUSTER", "ADDRESS", "STATE", "SINCE", "ADMIN", "SINCE"]);
    let admin = |index: usize| (lines[index][0], lines[index][3], lines[index][5]);
    assert_eq!(admin(1), ("app-a", "up", "enabled"));
    assert_eq!(admin(2), ("app-b", "up", "disabled"));
    assert_eq!(admin(3), ("app-c", "up", "disabled-soft"));
    assert_eq!(admin(5), ("web-b", "up", "enabled"));
    assert!(lines[2][6].starts_with("20") && lines[2][6].ends_with('Z') && lines[1][6] == "-", "{status}");
    let json: serde_json::Value =
        serde_json::from_str(&tool(cluster, "--json status").await.succeeds()).unwrap();
    assert_eq!(
        (&json["servers"][1]["id"], &json["servers"][1]["admin"]),
        (&"app-b".into(), &"disabled".into())
    );
}

#[tokio::test]
async fn what_can_not_be_done_is_refused() {
    let mut cluster = start(&[]).await;
    what_is_wrong_is_told_and_changes_nothing(&cluster).await;
    the_last_server_is_not_taken_away_by_mistake_and_the_way_back_stays_open(&cluster).await;
    tool(&cluster, "server enable app-a app-b web-a web-b").await.succeeds();
    while_the_hub_has_no_majority_it_is_refused_with_the_reason(&mut cluster).await;
}

async fn what_is_wrong_is_told_and_changes_nothing(cluster: &Cluster) {
    let url = format!("http://{}/admin", cluster.web());
    tool(cluster, "server disable app-bb")
        .await
        .fails_with(1, &["no server `app-bb`", "`app-b`?", "app-c, web-a"]);
    tool_as(&url, "ops", "guess", "status").await.fails_with(1, &["wrong user or password", "\"ops\""]);
    assert!(tool_as(&url, "eve", "password", "status").await.succeeds().contains("app-a"));
    tool_as(&url, "eve", "password", "server disable app-b")
        .await
        .fails_with(1, &["`operate`", "error: app-b:"]);
    tool_as("http://127.0.0.1:1", "ops", "password", "status")
        .await
        .fails_with(1, &["can't connect", "127.0.0.1:1"]);
    let elsewhere = format!("http://{}/elsewhere", cluster.web());
    tool_as(&elsewhere, "ops", "password", "status").await.fails_with(1, &["404", "admin: true"]);
    tool_as("", "ops", "password", "status").await.fails_with(2, &["--url", "COPAL_URL"]);
    tool(cluster, "server disable").await.fails_with(2, &["ID"]);
    tool(cluster, "server stop app-b").await.fails_with(2, &["stop"]);
    tool(cluster, "server disable ../a").await.fails_with(1, &["no server's id"]);
    assert!(!tool(cluster, "status").await.succeeds().contains("disabled"));
}

async fn the_last_server_is_not_taken_away_by_mistake_and_the_way_back_stays_open(cluster: &Cluster) {
    tool(cluster, "server disable app-a app-b").await.succeeds();
    tool(cluster, "server disable app-c").await.fails_with(1, &["last server", "`app-tier`", "force"]);
    assert_eq!(cluster.user().count().await.1, "app-c");
    tool(cluster, "server disable app-c --force").await.succeeds();
    tool(cluster, "server disable web-a web-b --force").await.succeeds();
    assert_eq!(cluster.user().get("/count").await.status, 503);
    let through_the_app_tier = format!("http://{}/ops", cluster.web());
    tool_as(&through_the_app_tier, "ops", "password", "status").await.fails_with(1, &["503"]);
    tool(cluster, "server enable app-c").await.succeeds();
    assert!(
        tool_as(&through_the_app_tier, "ops", "password", "status").await.succeeds().contains("disabled")
    );
    assert_eq!(cluster.user().count().await.1, "app-c");
}

#[tokio::test]
async fn it_holds_when_servers_stand_still_or_die() {
    let mut cluster = start(&[]).await;
    a_web_tier_that_can_not_say_so_is_named(&mut cluster).await;
    cluster.start_one("web-b").await;
    it_outlives_every_process_of_the_cluster(&mut cluster).await;
}

async fn a_web_tier_that_can_not_say_so_is_named(cluster: &mut Cluster) {
    cluster.process("web-b").signal(Signal::STOP);
    let said = tool(cluster, "server disable app-b").await;
    said.fails_with(1, &["warning", "web-b may not go by it yet"]);
    assert!(said.stdout.contains("app-b is disabled: web-a goes by it"), "{said:?}");
    cluster.process("web-b").signal(Signal::CONT);
    let told = async { while tool(cluster, "server disable app-b").await.code != Some(0) {} };
    timeout(PATIENCE, told).await.expect("it hears of it when it goes on");
    let answered = visited(cluster, 8).await;
    assert!(!answered.iter().any(|it| it == "app-b"), "{answered:?}");

    cluster.kill("web-b").await;
    let gone = async {
        loop {
            let said = tool(cluster, "server enable app-b").await;
            if said.code == Some(0) {
                return said.stderr;
            }
        }
    };
    let note = timeout(PATIENCE, gone).await.expect("the hub finds that it is down");
    assert!(note.contains("note: web-b is down"), "{note}");
}

#[tokio::test]
async fn a_web_tier_that_serves_cut_off_from_the_hub_is_named_until_it_knows() {
    let Some(cluster) = Cluster::start_in_network(4, administered).await else { return };
    let hub = ["app-a", "app-b", "app-c"];
    cluster.network().part("web-b", &hub);
    // As soon as the link is dead, and when the hub has found out, too.
    for admin in ["disable", "disable-soft"] {
        let said = tool(&cluster, &format!("server {admin} app-d")).await;
        said.fails_with(1, &["warning", "web-b may not go by it yet", "is it cut off from the hub?"]);
        assert!(said.stdout.contains("web-a goes by it"), "{said:?}");
        let cookie = format!("JSESSIONID=daUserNumber{:012}", admin.len());
        let mut user = User::new(cluster.web_of(1)).with_cookie(cookie);
        assert_eq!(user.count().await.1, "app-d", "it goes by the picture that it has");
        let finds_out = async { while !tool(&cluster, "status").await.stdout.contains(" down ") {} };
        timeout(PATIENCE, finds_out).await.expect("the hub finds out");
    }
    cluster.network().join("web-b", &hub);
    let told = async { while tool(&cluster, "server disable app-d").await.code != Some(0) {} };
    timeout(PATIENCE, told).await.expect("it hears of it when it is back");
    assert!(!visited(&cluster, 8).await.iter().any(|it| it == "app-d"));
}

async fn while_the_hub_has_no_majority_it_is_refused_with_the_reason(cluster: &mut Cluster) {
    cluster.kill_all(&["app-b".to_owned(), "app-c".to_owned()]).await;
    let said = tool(cluster, "server disable app-b").await;
    said.fails_with(1, &["the hub did not answer within", "503"]);
}

#[tokio::test]
async fn without_users_it_says_what_is_missing_and_a_hang_up_lets_a_new_one_in() {
    let mut cluster = Cluster::prepare(1, |configuration| {
        configuration.admin = vec!["users: []".to_owned()];
    });
    cluster.start_all().await;
    tool(&cluster, "status").await.fails_with(1, &["`admin` `users`", "password-generate", "403"]);
    let made = generated("password\n").await;
    cluster.configuration.admin = vec!["users:".to_owned(), format!("  {}", made.trim_end())];
    cluster.write();
    cluster.process("web-a").signal(Signal::HUP);
    let waiting = async {
        while tool(&cluster, "status").await.code != Some(0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("the file is read again");
}

/// The line that `password-generate` makes of a password.
async fn generated(password: &str) -> String {
    use tokio::io::AsyncWriteExt;
    let mut child = Command::new(deploy_tool())
        .args(["--user", "ops", "password-generate", "--stdin"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(password.as_bytes()).await.unwrap();
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
