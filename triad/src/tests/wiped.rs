//! Servers that have lost their data: what they must not acknowledge, and to whom.

use super::{
    faults::{assert_version, write_versions},
    harness::{SimDisks, TestHub, save, until},
};
use crate::{HubRole, command, disk::Disk};
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

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_with_a_damaged_snapshot_makes_another_and_the_wiped_server_catches_up() {
    let mut hub = TestHub::new(3);
    hub.simulate_disks();
    hub.start_all().await;
    for n in 0..20 {
        write_versions(&hub, &format!("s{n}"), 0, 2).await;
    }
    let leader = hub.leader().await;
    hub.triad(leader).hub.node().snapshot_and_purge().await;
    let snapshots = &hub.sims[leader].snapshots;
    let names = snapshots.list().unwrap();
    assert_eq!(names.len(), 1, "{names:?}");
    snapshots.edit(&names[0], |bytes| bytes[100] ^= 1);
    let wiped = (leader + 1) % 3;
    hub.kill(wiped).await;
    hub.sims[wiped] = SimDisks::default();
    hub.start(wiped).await;
    hub.ready(wiped).await;
    let last = hub.triad(hub.leader().await).status().applied;
    until("the wiped server has applied all", || hub.triad(wiped).status().applied >= last).await;
    assert_eq!(hub.triad(wiped).status().sessions, 20);
    // Nor is it in the way of the leader's next start.
    hub.kill(leader).await;
    hub.start(leader).await;
    hub.ready(leader).await;
    assert_version(&hub, "s7", 2).await;
}
