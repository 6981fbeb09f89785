//! Members that die: how soon the others know.

use super::harness::{LIMIT, TestHub};
use proto::hub::v1::{Member, MemberState, event::Event};
use std::{net::TcpListener, time::Duration};
use tonic::Streaming;

/// A port on which nobody listens any more.
fn dead_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// The next news of `id`; heartbeats are ten seconds apart, three of them are far beyond the limit.
async fn news(watch: &mut Streaming<proto::hub::v1::Event>, id: &str) -> Member {
    let heard = async {
        loop {
            match watch.message().await.unwrap().unwrap().event {
                Some(Event::Member(member)) if member.id == id => return member,
                _ => {}
            }
        }
    };
    tokio::time::timeout(LIMIT, heard).await.expect("news")
}

async fn a_killed_member_is_known(servers: usize) {
    let hub = TestHub::started(servers).await;
    let leader = hub.leader().await;
    let mut others = hub.watch(leader, "app-0", 0).await;
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    hub.register_at("app-9", 5, &port.local_addr().unwrap().to_string()).await;
    assert_eq!(news(&mut others, "app-9").await.state(), MemberState::Active);
    let mut own = hub.watch(leader, "app-9", 0).await;
    own.message().await.unwrap().unwrap();
    // The process ends, and all its sockets.
    drop(port);
    drop(own);
    assert_eq!(news(&mut others, "app-9").await.state(), MemberState::Down);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_member_is_known_in_a_hub_of_three() {
    a_killed_member_is_known(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_member_is_known_in_a_hub_of_one() {
    a_killed_member_is_known(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_breaks_is_no_death() {
    let hub = TestHub::started(3).await;
    let leader = hub.leader().await;
    hub.register("app-8", 5).await;
    let mut own = hub.watch(leader, "app-8", 0).await;
    own.message().await.unwrap().unwrap();
    drop(own);
    // A process that died later, and whose end was looked for in the same way.
    let mut others = hub.watch(leader, "app-0", 0).await;
    hub.register_at("app-9", 5, &dead_port()).await;
    drop(hub.watch(leader, "app-9", 0).await);
    while news(&mut others, "app-9").await.state() != MemberState::Down {}
    let members = hub.triad(leader).status().members;
    assert_eq!(members.iter().find(|it| it.id == "app-8").unwrap().state(), MemberState::Active);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_hub_servers_refusal_is_not_enough_among_three() {
    let mut hub = TestHub::started(3).await;
    let leader = hub.leader().await;
    hub.register_at("app-9", 5, &dead_port()).await;
    let services = hub.triad(leader).hub.clone();
    assert!(services.node().ask_dial("app-9", 5, Duration::from_secs(5)).await);
    assert!(!services.node().ask_dial("app-9", 6, Duration::from_secs(5)).await, "another process");
    assert!(!services.node().ask_dial("app-7", 5, Duration::from_secs(5)).await, "nobody");
    for at in (0..3).filter(|&at| at != leader) {
        hub.kill(at).await;
    }
    assert!(!services.node().ask_dial("app-9", 5, Duration::from_millis(200)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_looks_who_died_with_the_old_one() {
    let mut hub = TestHub::started(3).await;
    let old = hub.leader().await;
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap().to_string();
    hub.register_at(&format!("app-{old}"), 5, &address).await;
    hub.kill(old).await;
    drop(port);
    let down = |at: usize| {
        // A follower may not have heard of the member yet.
        let members = hub.triad(at).status().members;
        members.first().is_some_and(|it| it.state() == MemberState::Down)
    };
    let down = || (0..3).filter(|&at| at != old).all(down);
    super::harness::until("the old leader is down on all", down).await;
}
