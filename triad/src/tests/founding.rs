//! The hub's first moments, and servers that die in them.

use super::harness::{LIMIT, TestHub, save, value};
use crate::{HubRole, raft::node::Disks};
use prost::Message;
use proto::hub::v1::{HubIdentity, session_outcome::Outcome};

/// Leaves what a server has that knows the founders, and has no entry yet.
fn know_the_founders(hub: &TestHub, at: usize) {
    let disks = Disks::open(&hub.data(at)).unwrap();
    drop(crate::raft::log::Log::open(disks.log, 1 << 20).unwrap());
    let identity = HubIdentity {
        format: 1,
        incarnation: 100 + at as u64,
        servers: hub.names.iter().map(|(id, _)| id.to_string()).collect(),
        node: at as u64,
        member: true,
        founders: vec![100, 101, 102],
    };
    crate::disk::write_whole(&*disks.root, "identity", &identity.encode_to_vec()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_founders_go_on_when_the_first_one_has_died() {
    let mut hub = TestHub::new(3);
    for at in 0..3 {
        know_the_founders(&hub, at);
    }
    // The first makes its entry, which nobody hears of.
    hub.start(0).await;
    let waited = tokio::time::timeout(LIMIT, async {
        while hub.triad(0).status().last_log.is_none() {
            hub.triad(0).hub.node().changed(LIMIT).await;
        }
    });
    waited.await.expect("a first entry");
    hub.kill(0).await;
    for at in [1, 2] {
        hub.start(at).await;
    }
    for at in [1, 2] {
        hub.ready(at).await;
    }
    assert_eq!(hub.write(save("s", 0, 1, "one")).await, Outcome::Version(1));
    // It comes back with the same first entry.
    hub.start(0).await;
    hub.ready(0).await;
    assert_ne!(hub.triad(0).status().role, HubRole::Joining);
    let last = hub.triad(hub.leader().await).status().applied;
    super::harness::until("the founder has all", || hub.triad(0).status().applied >= last).await;
    assert_eq!(value(&hub.load("s").await.unwrap()), "one");
    // Its log is as good as any: with it, the hub can do without another.
    hub.kill(1).await;
    assert_eq!(hub.write(save("s", 1, 2, "two")).await, Outcome::Version(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_was_interrupted_is_done_again() {
    let mut hub = TestHub::new(1);
    // The log was made, the identity not yet.
    let disks = Disks::open(&hub.data(0)).unwrap();
    drop(crate::raft::log::Log::open(disks.log, 1 << 20).unwrap());
    assert!(!hub.data(0).join("hub/identity").exists());
    hub.start_all().await;
    assert_eq!(hub.write(save("s", 0, 1, "one")).await, Outcome::Version(1));
    hub.stop(0).await;
    // A log that holds something is another matter.
    std::fs::remove_file(hub.data(0).join("hub/identity")).unwrap();
    let refused = hub.try_start(0).await.unwrap_err().to_string();
    assert!(refused.contains("a log but no identity"), "{refused}");
}
