//! The audit log of a whole hub: made where the command is applied, on the disks of all.

use super::harness::{TestHub, until};
use crate::command::VERSION;
use proto::hub::v1::{AuditEntry, AuditKind, Author, ListAudit, MemberAdmin, NoteAudit, SetMemberAdmin};

async fn entries(hub: &TestHub, at: usize, kinds: &[AuditKind]) -> Vec<AuditEntry> {
    let kinds = kinds.iter().map(|it| (*it).into()).collect();
    let list = ListAudit { kinds, ..ListAudit::default() };
    hub.audits(at, "web-a").list(list).await.unwrap().into_inner().entries
}

pub(super) async fn marked(hub: &TestHub, servers: usize) {
    until("all read the newest commands", || {
        (0..servers).all(|at| hub.triad(at).hub.node().view().read().state.commands() == VERSION)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_as_durable_as_what_they_tell_of_and_name_who_has_proved_it() {
    let mut hub = TestHub::started(3).await;
    marked(&hub, 3).await;
    let leader = hub.leader().await;
    hub.register("app-9", 5).await;
    // The server is the one that the connection has proved, whatever is said.
    let author = Author {
        user: "ops".into(),
        address: "192.0.2.7".into(),
        server: "somebody".into(),
        ..Author::default()
    };
    let set = SetMemberAdmin {
        id: "app-9".into(),
        admin: MemberAdmin::Disabled.into(),
        author: Some(author.clone()),
    };
    hub.members(leader, "web-a").set_admin(set).await.unwrap();
    let note = NoteAudit {
        kind: AuditKind::SignIn.into(),
        author: Some(author),
        action: "sign-in".into(),
        id: 7,
        ..NoteAudit::default()
    };
    for _ in 0..2 {
        hub.audits(leader, "web-a").note(note.clone()).await.unwrap();
    }
    let written = entries(&hub, leader, &[]).await;
    let line = |it: &AuditEntry| {
        let author = it.author.clone().unwrap_or_default();
        format!("{} {} {} {} {}", it.action, it.target, author.user, author.address, author.server)
    };
    assert_eq!(
        written.iter().map(line).collect::<Vec<_>>(),
        ["sign-in  ops 192.0.2.7 web-a", "disable app-9 ops 192.0.2.7 web-a"]
    );
    assert_eq!(entries(&hub, leader, &[AuditKind::SignIn]).await.len(), 1);
    // With a snapshot in place of the log, and all servers killed.
    hub.triad(leader).hub.node().snapshot_and_purge().await;
    for at in 0..3 {
        hub.kill(at).await;
    }
    for at in 0..3 {
        hub.start(at).await;
    }
    let leader = hub.leader().await;
    assert_eq!(entries(&hub, leader, &[]).await, written);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_being_upgraded_does_what_it_is_told_without_entries() {
    let mut hub = TestHub::new(3);
    hub.old = Some(2);
    hub.old_reads = 5;
    hub.start_all().await;
    hub.make_leader(0).await;
    hub.register("app-9", 5).await;
    let author = Some(Author { user: "ops".into(), ..Author::default() });
    let set = SetMemberAdmin { id: "app-9".into(), admin: MemberAdmin::Disabled.into(), author };
    hub.members(0, "web-a").set_admin(set.clone()).await.unwrap();
    assert_eq!(entries(&hub, 0, &[]).await, []);
    let refused = hub.audits(0, "web-a").note(NoteAudit::default()).await.unwrap_err();
    assert!(refused.message().contains("hub server app-2 reads commands up to version 5"), "{refused}");
    hub.kill(2).await;
    hub.old = None;
    hub.start(2).await;
    hub.ready(2).await;
    marked(&hub, 3).await;
    let leader = hub.leader().await;
    let set = SetMemberAdmin { admin: MemberAdmin::Enabled.into(), ..set };
    hub.members(leader, "web-a").set_admin(set).await.unwrap();
    assert_eq!(entries(&hub, leader, &[]).await[0].action, "enable");
}
