//! Servers that have lost their data: what they must not acknowledge, and to whom.

use super::{
    faults::{assert_version, write_versions},
    harness::{TestHub, save, until},
};
use crate::{HubRole, command};
use proto::hub::v1::SessionWrite;

/// A hub of three that has written five versions since `old`, which led before and has been cut off, still takes itself for the
/// leader. Then the new leader dies, and another has lost its data when `old` is back.
struct SplitBrain {
    hub: TestHub,
    old: usize,
    wiped: usize,
    away: usize,
}

async fn split_brain() -> SplitBrain {
    let mut hub = TestHub::started(3).await;
    write_versions(&hub, "s", 0, 3).await;
    let old = hub.leader().await;
    hub.part(Some(old));
    let leads = |at: usize| at != old && hub.triad(at).hub.must_be_confirmed().is_ok();
    until("another server leads", || (0..3).any(leads)).await;
    let away = (0..3).find(|&at| leads(at)).unwrap();
    let wiped = 3 - old - away;
    write_versions(&hub, "s", 3, 5).await;
    let last = hub.triad(away).status().applied;
    until("the other follower has all", || hub.triad(wiped).status().applied >= last).await;
    for at in [away, wiped] {
        hub.kill(at).await;
    }
    std::fs::remove_dir_all(hub.data(wiped)).unwrap();
    hub.start(wiped).await;
    hub.part(None);
    assert!(hub.triad(old).hub.node().position().is_leader, "it has not heard of the other");
    SplitBrain { hub, old, wiped, away }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_leader_and_a_wiped_server_commit_nothing() {
    let SplitBrain { mut hub, old, wiped, away } = split_brain().await;
    let command = command::session(SessionWrite { write: Some(save("s", 3, 77, "of the past")) });
    let services = hub.triad(old).hub.clone();
    // Both wait for a majority for seconds.
    let (written, read) = tokio::join!(services.propose(vec![command], 10), services.confirm_read());
    assert!(written.is_err() && read.is_err(), "{written:?} {read:?}");
    let status = hub.triad(wiped).status();
    assert_eq!((status.role, status.last_log), (HubRole::Joining, None));
    // With the third server, all that was acknowledged is there.
    hub.start(away).await;
    for at in 0..3 {
        hub.ready(at).await;
    }
    assert_version(&hub, "s", 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_server_follows_nobody_before_all_others_have_answered() {
    let mut hub = TestHub::started(3).await;
    write_versions(&hub, "s", 0, 3).await;
    let leader = hub.leader().await;
    let (wiped, away) = ((leader + 1) % 3, (leader + 2) % 3);
    hub.kill(wiped).await;
    write_versions(&hub, "s", 3, 2).await;
    hub.kill(away).await;
    std::fs::remove_dir_all(hub.data(wiped)).unwrap();
    hub.start(wiped).await;
    // The leader has everything. Nobody can know that but the third server.
    let command = command::session(SessionWrite { write: Some(save("s", 5, 77, "on one server")) });
    let written = hub.triad(leader).hub.propose(vec![command], 10).await;
    assert!(written.is_err(), "{written:?}");
    let status = hub.triad(wiped).status();
    assert_eq!((status.role, status.last_log), (HubRole::Joining, None));
    hub.start(away).await;
    for at in 0..3 {
        hub.ready(at).await;
    }
    // Its vote and its word count again: without the third, the two go on.
    hub.kill(away).await;
    let version = hub.load("s").await.unwrap().version;
    write_versions(&hub, "t", 0, 3).await;
    assert!(version == 5 || version == 6, "the write was not refused for good: {version}");
}
