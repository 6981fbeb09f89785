//! Sessions: home, backup, and home again.

use super::{backend::echo, cluster::Cluster};
use common::{
    config::{Action, Rule, SendError},
    rendezvous,
};
use proto::hub::v1::MemberState;
use std::sync::atomic::Ordering;

const SESSION_OF_B: &str = "baSESSION";

fn cookie(id: &str) -> String {
    format!("Cookie: theme=dark; JSESSIONID={id}\r\n")
}

async fn served_by(cluster: &Cluster, id: &str) -> String {
    let answer = cluster.ask("GET /", &cookie(id)).await;
    assert_eq!(answer.status, 200, "{}", answer.head);
    answer.body.lines().next().unwrap().to_owned()
}

fn three() -> [super::backend::OnConnection; 3] {
    [echo("app-a"), echo("app-b"), echo("app-c")]
}

#[tokio::test]
async fn a_session_is_served_at_home() {
    let cluster = Cluster::start(three()).await;
    for (id, home) in [("aaX", "app-a"), ("baX", "app-b"), ("caX", "app-c"), ("bXXX", "app-b")] {
        for _ in 0..3 {
            assert_eq!(served_by(&cluster, id).await, home);
        }
    }
}

/// From another path or site of the domain, in whatever order (RFC 6265 §4.2.2).
#[tokio::test]
async fn of_several_cookies_the_one_that_is_ours_counts() {
    let cluster = Cluster::start(three()).await;
    let mine = "ba3456789012345678901234";
    for foreign in ["0F4A9C2D1E6B8A7F3C5D", "s%3Aabc", "aaX", "cB"] {
        for cookies in [
            format!("Cookie: JSESSIONID={foreign}; JSESSIONID={mine}\r\n"),
            format!("Cookie: JSESSIONID={mine}; JSESSIONID={foreign}\r\n"),
            format!("Cookie: JSESSIONID={foreign}\r\nCookie: a=b; JSESSIONID={mine}\r\n"),
        ] {
            let answer = cluster.ask("GET /", &cookies).await;
            assert!(answer.body.starts_with("app-b"), "{cookies}{}", answer.body);
        }
    }
    // One that names no server, before one that was made by hand.
    let answer = cluster.ask("GET /", "Cookie: JSESSIONID=zzz; JSESSIONID=cXXX\r\n").await;
    assert!(answer.body.starts_with("app-c"), "{}", answer.body);
}

#[tokio::test]
async fn without_a_session_servers_take_turns() {
    let cluster = Cluster::start(three()).await;
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(cluster.ask("GET /", "").await.body[..5].to_owned());
    }
    assert_eq!(seen, ["app-a", "app-b", "app-c", "app-a", "app-b", "app-c"]);
}

#[tokio::test]
async fn a_dead_homes_sessions_move_to_their_backups_and_return_with_it() {
    let mut cluster = Cluster::start(three()).await;
    cluster.member(1, MemberState::Active, 1);
    assert_eq!(served_by(&cluster, SESSION_OF_B).await, "app-b");
    let port = cluster.kill(1).await;
    for n in 0..20 {
        let id = format!("{SESSION_OF_B}{n}");
        let backup = rendezvous::choose(&id, [("app-a", "app-a"), ("app-c", "app-c")]).unwrap();
        assert_eq!(served_by(&cluster, &id).await, backup, "{id}");
    }
    assert!(cluster.web.totals().upstream_failures <= 2, "only the first requests find out");
    cluster.revive(1, port, echo("app-b")).await;
    // A new process has registered: its fail window ends at once. The worker hears of it a moment later.
    cluster.member(1, MemberState::Active, 2);
    while served_by(&cluster, SESSION_OF_B).await != "app-b" {
        tokio::task::yield_now().await;
    }
    assert_eq!(served_by(&cluster, SESSION_OF_B).await, "app-b");
}

#[tokio::test]
async fn a_server_that_the_hub_calls_down_costs_no_request_a_try() {
    let cluster = Cluster::start(three()).await;
    assert_eq!(served_by(&cluster, SESSION_OF_B).await, "app-b");
    // It lives, so that only the hub's word can move its sessions.
    cluster.member(1, MemberState::Down, 1);
    while served_by(&cluster, SESSION_OF_B).await == "app-b" {
        tokio::task::yield_now().await;
    }
    // The request that was in flight when the word came may have been sent again.
    let failures = || (cluster.web.totals().retries, cluster.web.totals().upstream_failures);
    let before = failures();
    for n in 0..10 {
        assert_ne!(served_by(&cluster, &format!("ba{n}")).await, "app-b");
    }
    assert_eq!(failures(), before);
}

#[tokio::test]
async fn a_new_process_gets_new_sockets() {
    let cluster = Cluster::start([echo("app-a"), echo("app-b")]).await;
    let connections = || cluster.backends[1].as_ref().unwrap().connections.load(Ordering::SeqCst);
    assert_eq!(served_by(&cluster, SESSION_OF_B).await, "app-b");
    assert_eq!(connections(), 1);
    // Each round is a restart that the worker may or may not have heard of.
    let mut started_ms = 0;
    while connections() < 2 {
        started_ms += 1;
        cluster.member(1, MemberState::Active, started_ms);
        assert_eq!(served_by(&cluster, SESSION_OF_B).await, "app-b");
    }
    // Only a request that was in flight when the word came may have been sent again.
    let before = cluster.web.totals().retries;
    assert_eq!(served_by(&cluster, SESSION_OF_B).await, "app-b");
    assert_eq!(cluster.web.totals().retries, before);
}

#[tokio::test]
async fn a_session_in_the_path_is_served_at_home_where_the_rule_says_so() {
    let served = async |session_url: bool, path: &str, headers: &str| {
        let cluster = Cluster::start_with(three(), |config| {
            let Action::LoadBalance(rule) = &mut config.clusters[1].hosts[0].dispatch[0].action else {
                panic!("the rule balances")
            };
            rule.session_url = session_url;
        });
        let cluster = cluster.await;
        let mut by = Vec::new();
        for _ in 0..3 {
            by.push(cluster.ask(&format!("GET {path}"), headers).await.body[..5].to_owned());
        }
        by
    };
    let turns = ["app-a", "app-b", "app-c"];
    assert_eq!(served(true, "/cart;jsessionid=baX?a=b", "").await, ["app-b"; 3]);
    assert_eq!(
        served(true, "/cart;jsessionid=baX", &cookie("caX")).await,
        ["app-c"; 3],
        "a cookie comes first"
    );
    assert_eq!(served(true, "/cart?x=;jsessionid=baX", "").await, turns);
    assert_eq!(served(true, "/cart;jsessionid=", "").await, turns);
    assert_eq!(served(false, "/cart;jsessionid=baX", "").await, turns);
}

/// What rules decide on is what the app gets: `/admin;jsessionid=x/users` is no way around a rule about `/admin/`.
#[tokio::test]
async fn a_session_in_the_path_is_seen_neither_by_rules_nor_by_apps() {
    let cluster = Cluster::start_with([echo("a")], |config| {
        let dispatch = &mut config.clusters[1].hosts[0].dispatch;
        let Action::LoadBalance(rule) = &mut dispatch[0].action else { panic!("the rule balances") };
        rule.session_url = true;
        let regexp = Some(regex::Regex::new("^/admin(/|$)").unwrap());
        let action = Action::Error(SendError { code: 403, message: None });
        dispatch.insert(0, Rule { regexp, condition: None, cache: true, compression: true, action });
    })
    .await;
    for path in [
        "/admin/users",
        "/admin;jsessionid=x/users",
        "/admin;jsessionid=x",
        "/;jsessionid=x/admin/users",
        "/.;jsessionid=x/admin",
    ] {
        assert_eq!(cluster.ask(&format!("GET {path}"), "").await.status, 403, "{path}");
    }
    for (path, target, said) in [
        ("/cart;jsessionid=aaX?a=b;jsessionid=c", "/cart?a=b;jsessionid=c", "aaX"),
        ("/a/;jsessionid=aaX;v=1/b", "/a/;v=1/b", "aaX"),
        ("/cart", "/cart", ""),
    ] {
        let seen = cluster.ask(&format!("GET {path}"), "copal-session-url: forged\r\n").await.body;
        assert!(seen.contains(&format!("GET {target}\n")), "{path}: {seen}");
        let lines: Vec<_> = seen.lines().filter(|it| it.starts_with("copal-session-url:")).collect();
        assert_eq!(lines.iter().map(|it| it[18..].trim()).collect::<Vec<_>>(), [said], "{seen}");
    }
    assert_eq!(cluster.ask("GET /a/..;jsessionid=x/..;jsessionid=x/b", "").await.status, 400);
}
