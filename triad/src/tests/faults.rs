//! Servers that die, hang, lose their data or their disk.

use super::harness::{LIMIT, TestHub, save, session_key, until, value};
use crate::HubRole;
use common::clock::{Clock, ManualClock};
use futures_util::FutureExt;
use proto::hub::v1::{
    LoadSession, MemberHeartbeat, MemberState, SessionWrite, SetMemberState, WriteSessions,
    session_outcome::Outcome,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tonic::Code;

/// Writes `count` versions of a session.
pub(super) async fn write_versions(hub: &TestHub, id: &str, from: u64, count: u64) {
    for version in from..from + count {
        let written = hub.write(save(id, version, 1000 + version, &version.to_string())).await;
        assert_eq!(written, Outcome::Version(version + 1), "{id}");
    }
}

pub(super) async fn assert_version(hub: &TestHub, id: &str, version: u64) {
    let found = hub.load(id).await.unwrap();
    assert_eq!((found.version, value(&found)), (version, (version - 1).to_string()), "{id}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_dies_loses_nothing_and_writes_pause_for_less_than_a_second() {
    let mut hub = TestHub::started(3).await;
    write_versions(&hub, "s", 0, 20).await;
    let mut pauses = Vec::new();
    let mut version = 20;
    // A machine that is busy with other tests may make one election slow, not each of four.
    while pauses.len() < 4 && pauses.last().is_none_or(|it| *it >= Duration::from_secs(1)) {
        let leader = hub.leader().await;
        hub.kill(leader).await;
        let killed = Instant::now();
        write_versions(&hub, "s", version, 1).await;
        pauses.push(killed.elapsed());
        write_versions(&hub, "s", version + 1, 10).await;
        version += 11;
        assert_version(&hub, "s", version).await;
        hub.start(leader).await;
        hub.ready(leader).await;
        let last = hub.triad(hub.leader().await).status().applied;
        until("the server that returned has applied all", || hub.triad(leader).status().applied >= last)
            .await;
        assert_eq!(hub.triad(leader).status().sessions, 1);
    }
    assert!(pauses.last().is_some_and(|it| *it < Duration::from_secs(1)), "writes paused for {pauses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_ends_without_a_word_is_a_failure_unless_it_was_asked_to() {
    let hub = TestHub::started(1).await;
    let node = hub.triad(0).hub.node().clone();
    node.end_log().await;
    let failed = tokio::time::timeout(LIMIT, node.failure()).await.unwrap();
    assert!(failed.contains("has ended unexpectedly"), "{failed}");
    let hub = TestHub::started(1).await;
    hub.triad(0).stop().await;
    let failed = tokio::time::timeout(Duration::from_millis(200), hub.triad(0).failed()).await;
    assert!(failed.is_err(), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_lose_power_at_once_and_everything_acknowledged_is_there() {
    let mut hub = TestHub::new(3);
    hub.simulate_disks();
    hub.start_all().await;
    for (round, keep) in [0, 100, 255].into_iter().enumerate() {
        let before = 3 * round as u64;
        for n in 0..5 {
            write_versions(&hub, &format!("s{n}"), before, 3).await;
        }
        hub.crash_all(keep).await;
        hub.start_all().await;
        for n in 0..5 {
            assert_version(&hub, &format!("s{n}"), before + 3).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_alone_comes_back_from_a_snapshot_and_its_log() {
    let mut hub = TestHub::started(1).await;
    write_versions(&hub, "s", 0, 10).await;
    hub.triad(0).hub.node().snapshot_and_purge().await;
    write_versions(&hub, "s", 10, 5).await;
    hub.register("app-0", 7).await;
    hub.kill(0).await;
    hub.start_all().await;
    assert_version(&hub, "s", 15).await;
    assert_eq!(hub.triad(0).status().members.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_whose_data_was_deleted_catches_up_by_snapshot() {
    let mut hub = TestHub::started(3).await;
    for n in 0..20 {
        write_versions(&hub, &format!("s{n}"), 0, 2).await;
    }
    let leader = hub.leader().await;
    let wiped = (leader + 1) % 3;
    hub.kill(wiped).await;
    std::fs::remove_dir_all(hub.data(wiped)).unwrap();
    write_versions(&hub, "s0", 2, 3).await;
    hub.triad(leader).hub.node().snapshot_and_purge().await;
    hub.start(wiped).await;
    hub.ready(wiped).await;
    let last = hub.triad(hub.leader().await).status().applied;
    until("the wiped server has applied all", || hub.triad(wiped).status().applied >= last).await;
    assert_eq!(hub.triad(wiped).status().sessions, 20);
    // It is worth a vote again: the other two can do without the third.
    let third = 3 - leader - wiped;
    hub.kill(third).await;
    write_versions(&hub, "s0", 5, 3).await;
    hub.start(third).await;
    hub.kill(leader).await;
    assert_version(&hub, "s0", 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_server_and_a_stale_one_elect_nobody() {
    let mut hub = TestHub::started(3).await;
    write_versions(&hub, "s", 0, 3).await;
    let leader = hub.leader().await;
    let (stale, wiped) = ((leader + 1) % 3, (leader + 2) % 3);
    hub.kill(stale).await;
    write_versions(&hub, "s", 3, 5).await;
    hub.kill(wiped).await;
    hub.kill(leader).await;
    std::fs::remove_dir_all(hub.data(wiped)).unwrap();
    hub.start(stale).await;
    hub.start(wiped).await;
    // Several elections' time.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        assert_ne!(hub.triad(stale).status().role, HubRole::Leader);
        assert_eq!(hub.triad(wiped).status().role, HubRole::Joining);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // With the server that has what was acknowledged, all is well.
    hub.start(leader).await;
    for at in 0..3 {
        hub.ready(at).await;
    }
    assert_version(&hub, "s", 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stops_hands_over_first() {
    let mut hub = TestHub::started(3).await;
    write_versions(&hub, "s", 0, 5).await;
    let leader = hub.leader().await;
    // Nobody elects another while it leads: it was handed over, and not taken after a time-out.
    assert!(hub.stop(leader).await, "another leads before it has stopped");
    write_versions(&hub, "s", 5, 1).await;
    assert_version(&hub, "s", 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_deposed_answers_no_reads() {
    let hub = TestHub::started(3).await;
    write_versions(&hub, "s", 0, 2).await;
    let old = hub.leader().await;
    hub.part(Some(old));
    let others = || (0..3).filter(move |&at| at != old);
    let leads = |at: usize| hub.triad(at).hub.node().is_confirmed(Duration::from_secs(1));
    until("another server leads", || others().any(leads)).await;
    let newer = save("s", 2, 9, "newer");
    assert_eq!(hub.write(newer.clone()).await, Outcome::Version(3));
    // The deposed leader's own services, without the network between. It does not know.
    assert!(hub.triad(old).hub.node().position().is_leader);
    let refused = hub.triad(old).hub.confirm_read().await.unwrap_err();
    let codes = [Code::Unavailable, Code::FailedPrecondition, Code::DeadlineExceeded];
    assert!(codes.contains(&refused.code()), "{refused:?}");
    let late = crate::command::session(SessionWrite { write: Some(newer) });
    let late = hub.triad(old).hub.propose(vec![late], 10).await;
    assert!(late.is_err(), "{late:?}");
    hub.part(None);
    let last = hub.triad(hub.leader().await).status().applied;
    until("the deposed leader follows", || hub.triad(old).status().applied >= last).await;
    assert_eq!(value(&hub.load("s").await.unwrap()), "newer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_hears_nobody_is_replaced_though_all_hear_it() {
    let hub = TestHub::started(3).await;
    write_versions(&hub, "s", 0, 2).await;
    let old = hub.leader().await;
    hub.hold(Some(old), None);
    // A write that it can't finish is sent again and again to those who hear it.
    let command = crate::command::session(SessionWrite { write: Some(save("t", 0, 7, "heard")) });
    let services = hub.triad(old).hub.clone();
    let unanswered = tokio::spawn(async move { services.propose(vec![command], 10).await });
    let mut others = (0..3).filter(move |&at| at != old);
    let leads = |at: usize| hub.triad(at).hub.node().is_confirmed(Duration::from_secs(1));
    until("another server leads", || others.clone().any(leads)).await;
    write_versions(&hub, "s", 2, 1).await;
    hub.hold(None, None);
    // The others have heard it: it may well be there.
    if unanswered.await.unwrap().is_ok() {
        assert_eq!(value(&hub.load("t").await.unwrap()), "heard");
    }
    let last = hub.triad(others.find(|&at| leads(at)).unwrap()).status().applied;
    until("the deaf one follows", || hub.triad(old).status().applied >= last).await;
    assert_version(&hub, "s", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_ends_the_acknowledgements_and_says_so() {
    let mut hub = TestHub::new(1);
    hub.simulate_disks();
    let sim = hub.sims[0].log.clone();
    hub.start_all().await;
    write_versions(&hub, "s", 0, 3).await;
    sim.fail_after(0);
    let write = WriteSessions { writes: vec![SessionWrite { write: Some(save("s", 3, 9, "lost")) }] };
    let refused = hub.sessions(0).write(write).await.unwrap_err();
    assert!(matches!(refused.code(), Code::Unavailable | Code::DeadlineExceeded), "{refused:?}");
    let failed = tokio::time::timeout(LIMIT, hub.triad(0).failed()).await.unwrap();
    assert!(failed.to_string().contains("no space left"), "{failed}");
    let load = LoadSession { key: Some(session_key("s")) };
    assert!(hub.sessions(0).load(load).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_expire_and_silent_members_are_down_by_the_leaders_clock() {
    let clock = Arc::new(ManualClock::new(1_000_000));
    let mut hub = TestHub::new(3);
    hub.clock = clock.clone();
    hub.start_all().await;
    let proto::hub::v1::session_write::Write::Save(mut expiring) = save("s", 0, 1, "one") else {
        unreachable!()
    };
    expiring.timeout_ms = 1000;
    hub.write(proto::hub::v1::session_write::Write::Save(expiring)).await;
    hub.write(save("t", 0, 1, "for ever")).await;
    hub.register("app-9", 5).await;
    let (leader, interval) = (hub.leader().await, Duration::from_secs(10));
    let heartbeat = || MemberHeartbeat { id: "app-9".into(), started_ms: 5, cpu_load: Some(250) };
    clock.advance(interval * 2);
    let noted = hub.members(leader, "app-9").heartbeat(heartbeat()).await.unwrap().into_inner();
    assert!(!noted.unknown);
    until("the session has expired on all", || (0..3).all(|at| hub.triad(at).status().sessions == 1)).await;
    clock.advance(interval * 2);
    assert_eq!(hub.triad(leader).status().members[0].state(), MemberState::Active);
    clock.advance(interval);
    let down = |at: usize| hub.triad(at).status().members[0].state() == MemberState::Down;
    until("the member is down on all", || (0..3).all(down)).await;
    let noted = hub.members(leader, "app-9").heartbeat(heartbeat()).await.unwrap().into_inner();
    assert!(noted.unknown);
    assert_eq!(hub.triad(leader).status().members[0].since_ms, clock.unix_ms());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hub_servers_words_make_a_member_down_and_its_own_does_at_once() {
    let hub = TestHub::started(3).await;
    let leader = hub.leader().await;
    let down = |id: &str| SetMemberState { id: id.into(), started_ms: 5, state: MemberState::Down.into() };
    let state = |id: &str| {
        let members = hub.triad(leader).status().members;
        members.iter().find(|it| it.id == id).unwrap().state()
    };
    for id in ["app-8", "app-9"] {
        hub.register(id, 5).await;
    }
    for reporter in ["app-0", "web-a", "app-0"] {
        hub.members(leader, reporter).set_state(down("app-8")).await.unwrap();
        assert_eq!(state("app-8"), MemberState::Active, "after the word of {reporter}");
    }
    hub.members(leader, "app-1").set_state(down("app-8")).await.unwrap();
    assert_eq!(state("app-8"), MemberState::Down);
    hub.members(leader, "app-9").set_state(down("app-9")).await.unwrap();
    assert_eq!(state("app-9"), MemberState::Down);
    let odd = SetMemberState { state: 0, ..down("app-9") };
    let refused = hub.members(leader, "app-9").set_state(odd).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_another_hub_and_half_a_folder_are_refused() {
    let mut hub = TestHub::started(1).await;
    hub.stop(0).await;
    let log = hub.data(0).join("hub/log");
    std::fs::rename(&log, hub.data(0).join("aside")).unwrap();
    let refused = hub.try_start(0).await.unwrap_err().to_string();
    assert!(refused.contains("an identity but no log"), "{refused}");
    std::fs::remove_dir_all(&log).unwrap();
    std::fs::rename(hub.data(0).join("aside"), &log).unwrap();
    hub.names.push(("app-1".into(), "127.0.0.1:1".into()));
    let refused = hub.try_start(0).await.unwrap_err().to_string();
    assert!(refused.contains("a hub of app-0; the configuration has app-0, app-1"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_hub_of_two_either_may_lose_its_data() {
    let mut hub = TestHub::started(2).await;
    write_versions(&hub, "s", 0, 3).await;
    for (round, lost) in [0, 1].into_iter().enumerate() {
        for at in 0..2 {
            hub.kill(at).await;
        }
        std::fs::remove_dir_all(hub.data(lost)).unwrap();
        hub.start_all().await;
        assert_version(&hub, "s", 3 + 2 * round as u64).await;
        write_versions(&hub, "s", 3 + 2 * round as u64, 2).await;
    }
}

/// A hub of three whose leader has just lost both followers. An election at that very moment means another try.
async fn leader_without_majority() -> (TestHub, usize) {
    for _ in 0..10 {
        let mut hub = TestHub::started(3).await;
        let leader = hub.leader().await;
        for at in (0..3).filter(|&at| at != leader) {
            hub.kill(at).await;
        }
        if hub.triad(leader).status().role == HubRole::Leader {
            return (hub, leader);
        }
    }
    panic!("an election at each of ten tries");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_majority_refuses_more_than_it_may_hold() {
    let (hub, leader) = leader_without_majority().await;
    let services = hub.triad(leader).hub.clone();
    let command = || vec![crate::command::session(SessionWrite { write: Some(save("s", 0, 1, "one")) })];
    let mut held = Box::pin(services.propose(command(), 100 << 20));
    assert!(held.as_mut().now_or_never().is_none());
    let refused = services.propose(command(), 100 << 20).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let late = held.await.unwrap_err();
    assert!(matches!(late.code(), Code::DeadlineExceeded | Code::Unavailable), "{late:?}");
}
