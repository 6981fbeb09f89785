//! Visitors who come once and never again, more than the hub has memory for.

use super::harness::{LIMIT, TestHub, save, session_key, until};
use crate::command::EXPIRE_UNUSED;
use common::clock::ManualClock;
use proto::hub::v1::{
    SaveSession, SessionWrite, TouchSession, WriteSessions, session_outcome::Outcome, session_write::Write,
};
use std::{sync::Arc, time::Duration};

const MIB: u64 = 1 << 20;

/// `count` visitors without a cookie, whose requests each make a session; how many of them got one.
async fn visitors(hub: &TestHub, from: u64, count: u64) -> u64 {
    let leader = hub.leader().await;
    let mut made = 0;
    for n in (from..from + count).step_by(1000) {
        let visitor =
            |n: u64| SessionWrite { write: Some(save(&format!("visitor-{n}"), 0, n, &"v".repeat(100))) };
        let writes = (n..(n + 1000).min(from + count)).map(visitor).collect();
        let outcomes =
            hub.sessions(leader).write(WriteSessions { writes }).await.unwrap().into_inner().outcomes;
        for outcome in outcomes {
            match outcome.outcome.unwrap() {
                Outcome::Version(1) => made += 1,
                Outcome::NoRoom(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    made
}

fn bytes(hub: &TestHub, at: usize) -> u64 {
    hub.triad(at).status().session_bytes
}

/// Waits until the log says that all servers read the newest commands.
async fn upgraded(hub: &TestHub) {
    let all = 0..hub.servers.len();
    let commands = |at: usize| hub.triad(at).hub.node().view().read().state.commands();
    until("all servers read the newest", || all.clone().all(|at| commands(at) >= EXPIRE_UNUSED)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hub_stays_within_its_memory_and_users_keep_their_sessions() {
    let mut hub = TestHub::new(3);
    hub.clock = Arc::new(ManualClock::new(1_700_000_000_000));
    // The smallest of the three decides, whoever leads.
    hub.session_limits[2].max = 8 * MIB;
    hub.start_all().await;
    hub.make_leader(0).await;
    until("the leader has heard how little the third has", || hub.triad(0).hub.admission().max() == 8 * MIB)
        .await;
    assert_eq!(hub.write(save("user", 0, 1, "one")).await, Outcome::Version(1));
    let made = visitors(&hub, 0, 20_000).await;
    assert!((3_000..10_000).contains(&made), "{made} of 20,000 visitors got a session");
    let (taken, status) = (bytes(&hub, 0), hub.triad(0).status());
    assert!(taken <= 6 * MIB && taken > 5 * MIB, "one app may take three quarters: {taken}");
    assert_eq!((status.refused_sessions, status.sessions as u64), (20_000 - made, made + 1));
    // Users go on.
    assert_eq!(hub.write(save("user", 1, 2, "two")).await, Outcome::Version(2));
    assert!(matches!(hub.write(save("another", 0, 1, "x")).await, Outcome::NoRoom(_)));
    assert!(hub.load("another").await.is_none());
    // Another app has room still.
    let Write::Save(of_blog) = save("reader", 0, 1, "x") else { unreachable!() };
    let key = Some(proto::hub::v1::SessionKey { app: "blog".into(), ..session_key("reader") });
    assert_eq!(hub.write(Write::Save(SaveSession { key, ..of_blog })).await, Outcome::Version(1));

    // A crash of all: what is read back is what was there, and the bound holds.
    let taken = bytes(&hub, 0);
    for at in 0..3 {
        hub.kill(at).await;
    }
    hub.start_all().await;
    let leader = hub.leader().await;
    assert_eq!(hub.load("user").await.unwrap().version, 2);
    assert_eq!(bytes(&hub, leader), taken);
    until("heard again", || hub.triad(leader).hub.admission().max() == 8 * MIB).await;
    assert_eq!(visitors(&hub, 50_000, 2_000).await, 0);
    assert_eq!(hub.write(save("user", 2, 3, "three")).await, Outcome::Version(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn visitors_who_never_came_back_make_room_and_users_stay() {
    let mut hub = TestHub::new(1);
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    hub.clock = clock.clone();
    hub.session_limits[0].max = 4 * MIB;
    hub.start_all().await;
    upgraded(&hub).await;
    // One who reads, and one who came back.
    for id in ["reader", "user"] {
        assert_eq!(hub.write(save(id, 0, 1, "one")).await, Outcome::Version(1));
    }
    clock.advance(Duration::from_secs(1));
    let touch = Write::Touch(TouchSession { key: Some(session_key("user")) });
    assert_eq!(hub.write(touch).await, Outcome::Version(1));
    // Long after their first life: memory is not scarce, and nobody is ended for it.
    pass(&hub, &clock, 600).await;
    assert_eq!(visitors(&hub, 0, 100).await, 100);
    assert!(hub.load("reader").await.is_some());

    let made = visitors(&hub, 1_000, 5_000).await;
    assert!(made < 5_000, "{made}");
    // The oldest go until memory is not scarce any more; these are younger than their first life.
    let gone = async { while hub.load("reader").await.is_some() {} };
    tokio::time::timeout(LIMIT, gone).await.expect("who was never heard of again makes room");
    assert!(hub.load("visitor-1000").await.is_some());
    pass(&hub, &clock, 124).await;
    until("half of the memory is free", || bytes(&hub, 0) <= 2 * MIB).await;
    assert!(bytes(&hub, 0) > MIB, "and no more than that");
    assert!(hub.load("user").await.is_some());
    assert!(visitors(&hub, 10_000, 500).await == 500, "new visitors get sessions again");
}

/// So many seconds, in which `user` comes again and again: a pause in the hub's log would be a time without a hub, in which nobody ages.
async fn pass(hub: &TestHub, clock: &ManualClock, seconds: u64) {
    for _ in 0..seconds / 4 {
        clock.advance(Duration::from_secs(4));
        let touch = Write::Touch(TouchSession { key: Some(session_key("user")) });
        assert_eq!(hub.write(touch).await, Outcome::Version(1));
    }
}
