//! Hub servers of different versions.

use super::harness::{LIMIT, TestHub, save, session_key, until, value};
use crate::command::VERSION;
use prost::Message;
use proto::hub::v1::{
    Batch, Command, MemberAdmin, SessionWrite, SetMemberAdmin, command, session_outcome::Outcome,
};
use tonic::{Code, Status};

async fn disable(hub: &TestHub, at: usize) -> Result<MemberAdmin, Status> {
    let set = SetMemberAdmin { id: "app-9".into(), admin: MemberAdmin::Disabled.into(), author: None };
    let set = hub.members(at, "web-a").set_admin(set).await?.into_inner();
    Ok(set.member.unwrap().admin())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_kind_of_command_waits_until_the_last_hub_server_is_upgraded() {
    let mut hub = TestHub::new(3);
    hub.old = Some(2);
    hub.start_all().await;
    hub.make_leader(0).await;
    hub.register("app-9", 5).await;
    let refused = disable(&hub, 0).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert_eq!(
        refused.message(),
        "hub server app-2 reads commands up to version 1, this one is of version 2: upgrade all hub servers first"
    );
    // All else goes on, on the old one too.
    assert_eq!(hub.write(save("s", 0, 1, "one")).await, Outcome::Version(1));
    let commands = |at: usize| hub.triad(at).hub.node().view().read().state.commands();
    until("the old server follows", || commands(2) == 1 && hub.triad(2).status().sessions == 1).await;
    hub.kill(2).await;
    assert_eq!(disable(&hub, 0).await.unwrap_err().code(), Code::Unimplemented, "it has said so");
    hub.old = None;
    hub.start(2).await;
    hub.ready(2).await;
    until("the log says that all read the newest", || {
        (0..3).all(|at| hub.triad(at).hub.node().view().read().state.commands() == VERSION)
    })
    .await;
    // From now on nobody needs to be asked.
    hub.kill(2).await;
    hub.make_leader(1).await;
    assert_eq!(disable(&hub, 1).await.unwrap(), MemberAdmin::Disabled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_meets_a_newer_entry_stops_and_says_so_each_time() {
    let mut hub = TestHub::started(1).await;
    assert_eq!(hub.write(save("s", 0, 1, "one")).await, Outcome::Version(1));
    let write = SessionWrite { write: Some(save("s", 1, 2, "two")) };
    let newer = Batch {
        version: VERSION + 1,
        time_ms: 0,
        commands: vec![Command { command: Some(command::Command::Session(write)) }],
    };
    let expected =
        format!("has command version {}, this server knows {VERSION}: it must be upgraded", VERSION + 1);
    let node = hub.triad(0).hub.node().clone();
    let _no_answer = node.submit(newer.encode_to_vec().into()).await.unwrap();
    let failed = tokio::time::timeout(LIMIT, hub.triad(0).failed()).await.unwrap().to_string();
    assert!(failed.contains(&expected), "{failed}");
    // Nothing of the entry was taken in, and nothing more is answered.
    let known = hub.triad(0).hub.node().view().read().state.session(&session_key("s")).unwrap();
    assert_eq!(value(&known.record(session_key("s"))), "one");
    assert!(hub.triad(0).hub.confirm_read().await.is_err());
    hub.kill(0).await;
    let refused = hub.try_start(0).await.unwrap_err().to_string();
    assert!(refused.contains(&expected), "{refused}");
}
