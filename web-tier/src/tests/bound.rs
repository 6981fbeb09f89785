//! Users whose session lives on one backend alone: what an app answers moves nobody, a backend that is gone moves its own.

use super::{
    backend::{Backend, OnConnection, http, raw},
    client::Answer,
    cluster::Cluster,
    foreign::{cookies, inserted, proxy, put},
};
use bytes::Bytes;
use common::config::{Action, HttpProxy, StickyCookie};
use http::Response;
use http_body_util::Full;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::io::AsyncWriteExt;

/// What an app of its own sessions does: a cookie for who has none, `/busy` is 503, `/count` is how often `/busy` was asked.
fn app(name: &'static str) -> OnConnection {
    let asked = Arc::new(AtomicUsize::new(0));
    http(move |request| {
        let is_busy = request.uri().path() == "/busy";
        let count = asked.fetch_add(usize::from(is_busy), Ordering::SeqCst);
        let mut answer = Response::new(Full::<Bytes>::from(format!("{name} {count}")));
        if is_busy {
            *answer.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
        }
        if !request.headers().contains_key("cookie") {
            answer.headers_mut().append("set-cookie", format!("SID=of-{name}").parse().unwrap());
        }
        async move { answer }
    })
}

fn name(answer: &Answer) -> &str {
    answer.body.split(' ').next().unwrap()
}

fn stickiness() -> [StickyCookie; 2] {
    [inserted("SRV"), StickyCookie::Session("SID".to_owned())]
}

async fn before(cookie: StickyCookie, backends: &[&Backend]) -> Cluster {
    let ports: Vec<_> = backends.iter().map(|it| it.port).collect();
    let rule = HttpProxy { cookie, ..proxy(&ports) };
    Cluster::start_with([], |config| put(config, rule)).await
}

#[tokio::test]
async fn a_503_is_the_answer_of_the_app_that_has_the_users_session() {
    for sticky in stickiness() {
        let (one, two) = (Backend::plain(0, app("one")).await, Backend::plain(0, app("two")).await);
        let cluster = before(sticky, &[&one, &two]).await;
        let first = cluster.ask("GET /", "").await;
        let idle = cluster.ask("GET /", "").await;
        assert_eq!((name(&first), name(&idle)), ("one", "two"));
        for (answer, times) in [(&first, 3), (&idle, 3)] {
            for _ in 0..times {
                let busy = cluster.ask("GET /busy", &cookies(answer)).await;
                assert_eq!((busy.status, name(&busy)), (503, name(answer)));
                assert!(!busy.head.contains("set-cookie"), "{}", busy.head);
            }
        }
        // Those who asked for other pages are where they were, however busy it looks.
        for answer in [&first, &idle] {
            let next = cluster.ask("GET /", &cookies(answer)).await;
            assert_eq!((next.status, next.body.clone()), (200, format!("{} 3", name(answer))));
            assert!(!next.head.contains("set-cookie"), "{}", next.head);
        }
        assert_eq!(cluster.web.totals().retries, 0);
    }
}

#[tokio::test]
async fn who_has_no_session_yet_gets_an_answer_from_whoever_can_give_one() {
    let busy = http(|_| async {
        let answer = Response::builder().status(503);
        answer.body(Full::<Bytes>::from("busy")).unwrap()
    });
    let (one, two) = (Backend::plain(0, busy).await, Backend::plain(0, app("two")).await);
    let cluster = before(inserted("SRV"), &[&one, &two]).await;
    let first = cluster.ask("GET /", "").await;
    assert_eq!((first.status, name(&first), cluster.web.totals().retries), (200, "two", 1));
}

/// A session that is older than the web tier has no token: its value says where it goes, and that is kept to in the same way.
#[tokio::test]
async fn a_session_without_a_token_stays_too() {
    let (one, two) = (Backend::plain(0, app("one")).await, Backend::plain(0, app("two")).await);
    let cluster = before(StickyCookie::Session("SID".to_owned()), &[&one, &two]).await;
    for value in ["a", "b", "c", "d"] {
        let old = format!("Cookie: SID={value}\r\n");
        let home = name(&cluster.ask("GET /", &old).await).to_owned();
        for _ in 0..3 {
            let busy = cluster.ask("GET /busy", &old).await;
            assert_eq!((busy.status, name(&busy)), (503, &*home));
        }
        assert_eq!(name(&cluster.ask("GET /", &old).await), home);
    }
}

/// A page that ends its connection: sent once more, to the same backend, and others of its users stay where they are.
#[tokio::test]
async fn a_connection_that_breaks_moves_nobody() {
    for sticky in stickiness() {
        let breaks = raw(|head, mut stream| async move {
            if !head.starts_with("GET /breaks") {
                let answer = "HTTP/1.1 200 OK\r\nset-cookie: SID=of-one\r\nconnection: close\r\ncontent-length: 5\r\n\r\none 0";
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let (one, two) = (Backend::plain(0, breaks).await, Backend::plain(0, app("two")).await);
        let cluster = before(sticky, &[&one, &two]).await;
        let first = cluster.ask("GET /", "").await;
        assert_eq!(name(&first), "one");
        for _ in 0..3 {
            assert_eq!(cluster.ask("GET /breaks", &cookies(&first)).await.status, 502);
            let idle = cluster.ask("GET /", &cookies(&first)).await;
            assert_eq!((idle.status, name(&idle)), (200, "one"));
        }
        assert_eq!(one.connections.load(Ordering::SeqCst), 1 + 3 * (2 + 1), "each was tried twice, there");
        assert_eq!(two.connections.load(Ordering::SeqCst), 0);
        // Once it is gone, the try after the break finds that out.
        one.kill().await;
        assert_eq!(name(&cluster.ask("GET /", &cookies(&first)).await), "two");
    }
}

/// Apps of the app tier with sessions of their own: the web tier keeps their users where they are, in the same way.
async fn in_a_cluster(cookie: StickyCookie, backends: [OnConnection; 3]) -> Cluster {
    Cluster::start_with(backends, |config| {
        let Action::LoadBalance(rule) = &mut config.clusters[1].hosts[0].dispatch[0].action else {
            panic!("the rule balances")
        };
        rule.cookie = cookie;
    })
    .await
}

#[tokio::test]
async fn apps_of_a_cluster_keep_users_whose_sessions_they_have_themselves() {
    for cookie in stickiness() {
        let cluster = in_a_cluster(cookie, [app("a"), app("b"), app("c")]).await;
        let mut firsts = Vec::new();
        for _ in 0..3 {
            firsts.push(cluster.ask("GET /", "").await);
        }
        assert_eq!(firsts.iter().map(name).collect::<Vec<_>>(), ["a", "b", "c"]);
        for round in 0..3 {
            for first in &firsts {
                let next = cluster.ask("GET /", &cookies(first)).await;
                assert_eq!((name(&next), next.head.contains("set-cookie")), (name(first), false), "{round}");
                let busy = cluster.ask("GET /busy", &cookies(first)).await;
                assert_eq!((busy.status, name(&busy)), (503, name(first)));
            }
        }
        assert_eq!(cluster.web.totals().retries, 0);
    }
}

/// Tomcat's cookie has the name of the cluster's own, and its ids begin with letters that name servers too.
#[tokio::test]
async fn a_session_cookie_of_an_app_is_not_taken_for_an_id_of_the_cluster() {
    let tomcat = |name: &'static str| {
        http(move |request| {
            let mut answer = Response::new(Full::<Bytes>::from(name));
            if !request.headers().contains_key("cookie") {
                // By its form at home on the first server.
                let session = "JSESSIONID=aa3456789012345678901234; Path=/; HttpOnly";
                answer.headers_mut().append("set-cookie", session.parse().unwrap());
            }
            async move { answer }
        })
    };
    let cookie = StickyCookie::Session("JSESSIONID".to_owned());
    let cluster = in_a_cluster(cookie, [tomcat("a"), tomcat("b"), tomcat("c")]).await;
    for expected in ["a", "b", "c"] {
        let first = cluster.ask("GET /", "").await;
        assert_eq!(first.body, expected);
        for _ in 0..3 {
            assert_eq!(cluster.ask("GET /", &cookies(&first)).await.body, expected);
        }
    }
}

#[tokio::test]
async fn a_server_that_has_not_looked_at_a_request_or_is_down_gives_its_users_up() {
    let idle = "HTTP/1.1 503 Service Unavailable\r\ncopal-not-processed: 1\r\ncontent-length: 0\r\n\r\n";
    let mut cluster = in_a_cluster(inserted("SRV"), [app("a"), super::backend::says(idle), app("c")]).await;
    let first = cluster.ask("GET /", "").await;
    assert_eq!(name(&first), "a");
    // A process that has ended has no sessions any more.
    let starting = cluster.ask("GET /", "").await;
    assert_eq!(name(&starting), "c");
    cluster.kill(0).await;
    let moved = cluster.ask("GET /", &cookies(&first)).await;
    assert_eq!(name(&moved), "c");
    let token = cookies(&moved).replace("Cookie: ", "");
    assert!(cookies(&starting).ends_with(&token), "it belongs to its new one from now on: {token}");
}

/// Sessions on the hub are found where there is no token yet, and go home.
#[tokio::test]
async fn a_session_on_the_hub_counts_where_no_token_does() {
    let cluster = in_a_cluster(inserted("SRV"), [app("a"), app("b"), app("c")]).await;
    let first = cluster.ask("GET /", "Cookie: JSESSIONID=baX\r\n").await;
    assert_eq!(name(&first), "b");
    let both = cookies(&first).replace("\r\n", "; JSESSIONID=caX\r\n");
    assert_eq!(name(&cluster.ask("GET /", &both).await), "b");
}
