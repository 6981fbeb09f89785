//! An administrator takes a server out of the balancing.

use super::{
    backend::{echo, raw},
    cluster::Cluster,
};
use proto::hub::v1::{Member, MemberAdmin, MemberState};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::AsyncWriteExt,
    sync::{Semaphore, mpsc},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(20);

fn say(cluster: &Cluster, admin: MemberAdmin) {
    let state = MemberState::Active.into();
    let member =
        Member { id: "app-a".into(), started_ms: 1, state, admin: admin.into(), ..Member::default() };
    cluster.members.send_replace(Arc::new(vec![member]));
}

/// Waits until the workers, each in its own time, have taken over what was said.
async fn becomes(is_so: impl AsyncFn() -> bool) {
    let waiting = async { while !is_so().await {} };
    timeout(PATIENCE, waiting).await.expect("it becomes so");
}

/// Who answers a user whose home is app-a.
async fn own(cluster: &Cluster) -> Option<char> {
    cluster.ask("GET /", "Cookie: JSESSIONID=aaX\r\n").await.body.chars().next()
}

/// Who answers six visitors.
async fn visitors(cluster: &Cluster) -> String {
    let mut answered = String::new();
    for _ in 0..6 {
        answered.extend(cluster.ask("GET /", "").await.body.chars().next());
    }
    answered
}

#[tokio::test]
async fn a_disabled_server_answers_what_it_has_and_gets_nothing_more() {
    let gate = Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    let (asked, mut was_asked) = mpsc::unbounded_channel();
    // Only the first request waits for the gate.
    let backend = raw(move |head, mut stream| {
        let (gate, asked) = (gate.clone(), asked.clone());
        async move {
            if head.starts_with("GET /first") {
                asked.send(()).unwrap();
                gate.acquire().await.unwrap().forget();
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    });
    let cluster = Cluster::start([backend, echo("b")]).await;
    let mut client = cluster.client().await;
    client.send("GET /first HTTP/1.1\r\nHost: h\r\nCookie: JSESSIONID=aaX\r\n\r\n").await;
    was_asked.recv().await.unwrap();
    say(&cluster, MemberAdmin::Disabled);
    becomes(async || own(&cluster).await == Some('b')).await;
    assert_eq!(visitors(&cluster).await, "bbbbbb");
    opened.add_permits(1);
    assert_eq!(client.answer().await.body, "ok");
}

#[tokio::test]
async fn a_soft_disabled_server_serves_its_own_sessions_alone_until_it_is_enabled() {
    let cluster = Cluster::start([echo("a"), echo("b")]).await;
    say(&cluster, MemberAdmin::DisabledSoft);
    becomes(async || visitors(&cluster).await == "bbbbbb").await;
    assert_eq!(own(&cluster).await, Some('a'));
    say(&cluster, MemberAdmin::Enabled);
    becomes(async || visitors(&cluster).await.matches('a').count() == 3).await;
    assert_eq!(own(&cluster).await, Some('a'));
}

#[tokio::test]
async fn when_all_are_disabled_the_answer_is_503() {
    let cluster = Cluster::start([echo("a")]).await;
    say(&cluster, MemberAdmin::Disabled);
    becomes(async || cluster.ask("GET /", "Cookie: JSESSIONID=aaX\r\n").await.status == 503).await;
    say(&cluster, MemberAdmin::DisabledSoft);
    becomes(async || own(&cluster).await == Some('a')).await;
    assert_eq!(cluster.ask("GET /", "").await.status, 503);
}
