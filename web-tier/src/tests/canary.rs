//! A part of the users, and copies of requests.

use super::{
    backend::{Backend, echo, http},
    cluster::{Cluster, server},
    rules::hosts,
};
use bytes::Bytes;
use common::config::{Cluster as ClusterConfig, Config};
use http_body_util::{BodyExt, Full};
use hyper::Response;
use std::time::Duration;
use tokio::{sync::mpsc, time::timeout};

const PATIENCE: Duration = Duration::from_secs(20);

/// A web tier with these rules before the clusters `app-tier` and `canary`, of one server each.
async fn before(dispatch: &str, canary: &Backend) -> Cluster {
    let folder = tempfile::tempdir().unwrap();
    let hosts = hosts(folder.path(), dispatch);
    Cluster::start_with([echo("old")], |config: &mut Config| {
        config.clusters[1].hosts = hosts;
        let former = &config.clusters[0];
        let servers = vec![server("canary-a", 0, canary.port)];
        config.clusters.push(ClusterConfig { id: "canary".into(), servers, ..former.clone() });
    })
    .await
}

#[tokio::test]
async fn users_stay_where_a_share_has_put_them() {
    let canary = Backend::start("canary-a", 0, echo("new")).await;
    let cluster = before(
        "{load-balance: {cluster: canary, if: {share: {percent: 50, cookie: side}}}}, {load-balance: {cluster: app-tier}}",
        &canary,
    )
    .await;
    let mut seen = std::collections::HashSet::new();
    // Of 64 users each side has some, but once in 2^63 runs.
    for _ in 0..64 {
        let first = cluster.ask("GET /", "").await;
        let cookie = first.head.lines().find_map(|it| it.strip_prefix("set-cookie: side=")).unwrap();
        assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{cookie}");
        let cookie = cookie.split(';').next().unwrap();
        let side = first.body.lines().next().unwrap().to_owned();
        let again = cluster.ask("GET /", &format!("Cookie: a=b; side={cookie}\r\n")).await;
        assert_eq!(again.body.lines().next(), Some(side.as_str()));
        assert!(!again.head.contains("set-cookie"), "{}", again.head);
        assert_eq!(side == "new", cookie.parse::<u16>().unwrap() < 5000, "a larger part has the same ones");
        seen.insert(side);
    }
    assert_eq!(seen.len(), 2);
    let forged = cluster.ask("GET /", "Cookie: side=77777\r\n").await;
    assert!(forged.head.contains("set-cookie: side="), "that is no number of ours");
}

#[tokio::test]
async fn none_and_all_are_shares_too_and_addresses_stay() {
    let canary = Backend::start("canary-a", 0, echo("new")).await;
    let rules = |share| {
        format!(
            "{{load-balance: {{cluster: canary, if: {{share: {share}}}}}}}, {{load-balance: {{cluster: app-tier}}}}"
        )
    };
    for (share, expected) in [("0", "old\n"), ("100", "new\n")] {
        let cluster = before(&rules(share), &canary).await;
        for _ in 0..4 {
            let answer = cluster.ask("GET /", "").await;
            assert!(
                answer.body.starts_with(expected) && !answer.head.contains("set-cookie"),
                "{}",
                answer.head
            );
        }
    }
    let cluster = before(&rules("50"), &canary).await;
    let first = cluster.ask("GET /", "").await.body;
    for _ in 0..4 {
        assert_eq!(cluster.ask("GET /", "").await.body[..4], first[..4]);
    }
}

#[tokio::test]
async fn copies_go_elsewhere_and_nobody_waits_for_them() {
    let (sender, mut copies) = mpsc::unbounded_channel();
    // It answers nothing for ever.
    let canary = http(move |request| {
        let sender = sender.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            sender.send((head, body)).unwrap();
            std::future::pending::<Response<Full<Bytes>>>().await
        }
    });
    let canary = Backend::start("canary-a", 0, canary).await;
    let cluster = before(
        "{mirror: {cluster: canary, if: {not: {method: PUT}}}}, {set-request-header: {name: X-Tier, value: web}}, \
         {load-balance: {cluster: app-tier}}",
        &canary,
    )
    .await;
    let mut client = cluster.client().await;
    let answer = client
        .ask(
            "POST /buy?a=1",
            "X-Mirrored: 7\r\nX_Mirrored: 7\r\nConnection: X-Mirrored\r\nContent-Length: 3\r\n\r\nabc",
        )
        .await;
    assert!(answer.status == 200 && answer.body.starts_with("old\nPOST /buy?a=1"), "{}", answer.body);
    assert!(!answer.body.contains("x-mirrored"), "who asks can't pass for a copy: {}", answer.body);
    let (head, body) = timeout(PATIENCE, copies.recv()).await.unwrap().unwrap();
    assert_eq!(
        (head.method.as_str(), head.uri.to_string().as_str(), &body[..]),
        ("POST", "/buy?a=1", &b"abc"[..])
    );
    let fields =
        |name: &str| head.headers.get_all(name).iter().map(|it| it.to_str().unwrap()).collect::<Vec<_>>();
    assert_eq!((fields("x-mirrored"), fields("x-tier")), (vec!["1"], vec!["web"]));
    assert_eq!(client.ask("PUT /", "Content-Length: 0\r\n").await.status, 200);
    assert_eq!(client.ask("GET /next", "").await.status, 200);
    let (head, _) = timeout(PATIENCE, copies.recv()).await.unwrap().unwrap();
    assert_eq!(head.uri, "/next", "PUT was not copied");
    assert_eq!((cluster.web.totals().mirrored, cluster.web.totals().mirrors_left_out), (2, 0));
}

#[tokio::test]
async fn a_body_that_is_long_has_no_copy() {
    let canary = Backend::start("canary-a", 0, echo("new")).await;
    let cluster = before("{mirror: {cluster: canary}}, {load-balance: {cluster: app-tier}}", &canary).await;
    let body = "x".repeat(100_000);
    let line = format!("Content-Length: {}\r\n\r\n{body}", body.len());
    assert_eq!(cluster.ask("POST /", &line).await.status, 200);
    assert_eq!((cluster.web.totals().mirrored, cluster.web.totals().mirrors_left_out), (0, 1));
}

#[tokio::test]
async fn copies_for_servers_that_are_gone_do_no_harm() {
    let canary = Backend::start("canary-a", 0, echo("new")).await;
    let cluster = before("{mirror: {cluster: canary}}, {load-balance: {cluster: app-tier}}", &canary).await;
    canary.kill().await;
    for _ in 0..5 {
        assert!(cluster.ask("GET /", "").await.body.starts_with("old\n"));
    }
}
