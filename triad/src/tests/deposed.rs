//! Leaders that lead no more and have not been told so: whose disk has failed, or whom nobody reaches.

use super::{
    faults::{assert_version, write_versions},
    harness::{LIMIT, TestHub, save, until},
    network::CLIENT,
};
use crate::HubRole;
use proto::hub::v1::{MemberHeartbeat, MemberState, SessionWrite, SetMemberState, WriteSessions};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_disk_is_full_leads_no_more_and_names_nobody() {
    let mut hub = TestHub::new(3);
    hub.simulate_disks();
    hub.start_all().await;
    write_versions(&hub, "s", 0, 3).await;
    let full = hub.leader().await;
    let mut watch = hub.watch(full, "app-9", 0).await;
    hub.sims[full].log.fail_after(0);
    let write = WriteSessions { writes: vec![SessionWrite { write: Some(save("t", 0, 9, "lost")) }] };
    // Its own disk fails with this one: with those of the two others a majority may have it nevertheless.
    let _either = hub.sessions(full).write(write.clone()).await;
    tokio::time::timeout(LIMIT, hub.triad(full).failed()).await.unwrap();
    // The process is still there, and its services: whoever asks is sent nowhere, least of all to itself.
    let refused = [
        hub.sessions(full).write(write).await.unwrap_err(),
        hub.members(full, "app-9").heartbeat(MemberHeartbeat::default()).await.unwrap_err(),
        hub.members(full, "app-9").lead(proto::hub::v1::AskLead {}).await.unwrap_err(),
    ];
    for status in refused {
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(status.metadata().get("copal-leader").is_none(), "{status:?}");
    }
    let status = hub.triad(full).status();
    assert_eq!((status.role, status.leader), (HubRole::Stopped, None));
    let ended = async { while let Ok(Some(_)) = watch.message().await {} };
    tokio::time::timeout(LIMIT, ended).await.expect("the watch ends");
    write_versions(&hub, "s", 3, 2).await;
    assert_version(&hub, "s", 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_just_heard_the_leader_helps_no_other_to_lead() {
    let mut hub = TestHub::started(3).await;
    write_versions(&hub, "s", 0, 3).await;
    let leader = hub.leader().await;
    let (voter, candidate) = ((leader + 1) % 3, (leader + 2) % 3);
    let last = hub.triad(leader).status().last_log;
    until("the voter has all", || hub.triad(voter).status().last_log == last).await;
    for at in [leader, candidate] {
        hub.kill(at).await;
    }
    // Nobody is left whom the voter could hear anew.
    let node = hub.triad(voter).hub.node().clone();
    let granted = async { while !node.grants(candidate as u64).await {} };
    tokio::time::timeout(LIMIT, granted).await.expect("a vote");
    assert!(!node.is_bound(), "a vote was granted while the leader's word was believed");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_just_started_may_have_heard_the_leader_before() {
    let mut hub = TestHub::started(3).await;
    write_versions(&hub, "s", 0, 3).await;
    for at in 0..3 {
        hub.kill(at).await;
    }
    hub.start(0).await;
    let node = hub.triad(0).hub.node().clone();
    let granted = async { while !node.grants(1).await {} };
    tokio::time::timeout(LIMIT, granted).await.expect("a vote");
    assert!(!node.is_bound(), "a vote was granted while the former leader's word was believed");
    // Nor does it ask for votes sooner.
    hub.start(1).await;
    let leader = hub.leader().await;
    assert!(!hub.triad(leader).hub.node().is_bound());
    assert_version(&hub, "s", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_nobody_confirms_takes_no_word_that_its_successor_would_miss() {
    let hub = TestHub::started(3).await;
    hub.register(CLIENT, 5).await;
    let old = hub.leader().await;
    let heartbeat = MemberHeartbeat { id: CLIENT.into(), started_ms: 5, cpu_load: None };
    let down = SetMemberState { id: CLIENT.into(), started_ms: 5, state: MemberState::Down.into() };
    // The other hub servers will be cut off from it; this client will not.
    let mut members = hub.members(old, CLIENT);
    members.heartbeat(heartbeat.clone()).await.unwrap();
    hub.hold(Some(old), Some(old));
    until("it is not confirmed", || hub.triad(old).hub.must_be_confirmed().is_err()).await;
    assert!(hub.triad(old).hub.node().position().is_leader);
    let refused = [
        members.heartbeat(heartbeat).await.unwrap_err(),
        members.set_state(down).await.unwrap_err(),
        members.lead(proto::hub::v1::AskLead {}).await.unwrap_err(),
    ];
    for status in refused {
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    }
}
