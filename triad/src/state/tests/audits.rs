//! What the state writes down of administrators' commands.

use super::*;
use proto::hub::v1::{
    AuditEntry, AuditKind, Author, DeployApp, NoteAudit, ReportApp, RolloutReport, RolloutStep,
    SetAppStopped, UndeployApp, command::Command as Kind, report_app::Report,
};

const TAG: &str = "production/webapp/default/shop";

struct World(State);

impl World {
    fn new() -> Self {
        let mut world = Self(State::default());
        for id in ["a", "b"] {
            let member = Member { id: id.into(), cluster: "c".into(), started_ms: 1, ..Member::default() };
            world.run(Kind::RegisterMember(member));
        }
        world
    }

    fn run(&mut self, command: Kind) {
        let commands = vec![Command { command: Some(command) }];
        self.0.apply(Batch { version: AUDIT, time_ms: 1000, commands });
    }

    /// Each entry as one line, the oldest first.
    fn lines(&self) -> Vec<String> {
        let (mut entries, _) = self.0.audit().list(0, 100, &[]);
        entries.reverse();
        let line = |it: AuditEntry| {
            let author = it.author.unwrap_or_default();
            format!(
                "{} {} {} {} | {} | {}",
                it.number, author.user, it.action, it.target, it.detail, it.outcome
            )
        };
        entries.into_iter().map(line).collect()
    }
}

fn by(user: &str) -> Option<Author> {
    Some(Author { user: user.into(), ..Author::default() })
}

fn deploy(commit: u8, verb: &str) -> Kind {
    let author = Some(Author { user: "ops".into(), verb: verb.into(), ..Author::default() });
    Kind::DeployApp(DeployApp {
        tag: TAG.into(),
        commit: vec![commit; 20].into(),
        tree: vec![commit; 20].into(),
        user: "ops".into(),
        message: "first try".into(),
        timeout_ms: 60_000,
        clusters: vec!["c".into()],
        author,
        ..DeployApp::default()
    })
}

fn report(world: &mut World, server: &str, step: RolloutStep) {
    let number = world.0.apps().get(TAG).unwrap().rollout.as_ref().unwrap().number;
    let report = Some(Report::Rollout(RolloutReport { number, step: step.into(), text: String::new() }));
    world.run(Kind::ReportApp(ReportApp { tag: TAG.into(), server: server.into(), started_ms: 1, report }));
}

#[test]
fn each_administrative_command_has_an_entry_with_what_came_of_it() {
    let mut world = World::new();
    let set = |id: &str| Kind::SetMemberAdmin(SetMemberAdmin { id: id.into(), admin: 2, author: by("ops") });
    for id in ["a", "a", "z"] {
        world.run(set(id));
    }
    // Sent again for want of an answer, and while it is under way.
    for kind in [deploy(1, "deploy"), deploy(1, "deploy"), deploy(2, "rollback")] {
        world.run(kind);
    }
    report(&mut world, "a", RolloutStep::Ready);
    report(&mut world, "b", RolloutStep::Ready);
    report(&mut world, "b", RolloutStep::Active);
    let stop =
        |tag: &str| Kind::SetAppStopped(SetAppStopped { tag: tag.into(), stopped: true, author: by("eve") });
    [stop(TAG), stop(TAG), stop("production/webapp/default/x")].into_iter().for_each(|it| world.run(it));
    for _ in 0..2 {
        world.run(Kind::UndeployApp(UndeployApp { tag: TAG.into(), user: "ops".into(), author: None }));
    }
    let create = |hash: u8, name: &str| {
        Kind::CreateToken(CreateToken {
            hash: vec![hash; 32].into(),
            name: name.into(),
            user: "ops".into(),
            roles: vec!["deploy".into()],
            valid_ms: 60_000,
            author: by("ops"),
        })
    };
    let revoke = |hash: u8| Kind::RevokeToken(RevokeToken { hash: vec![hash; 32].into(), author: by("eve") });
    [create(1, "ci"), create(1, "ci"), create(2, "ci"), revoke(1), revoke(1), revoke(9)]
        .into_iter()
        .for_each(|it| world.run(it));
    let expected = [
        "1 ops disable a |  | done",
        "2 ops disable a |  | unchanged",
        "3 ops disable z |  | there is no such server",
        "4 ops deploy production/webapp/default/shop | commit 010101010101: first try | begun",
        "5 ops rollback production/webapp/default/shop | commit 020202020202: first try | refused: another deployment is under way, by ops",
        "6 ops rollout production/webapp/default/shop | commit 010101010101 | activated",
        "7 eve stop production/webapp/default/shop |  | done",
        "8 eve stop production/webapp/default/shop |  | unchanged",
        "9 eve stop production/webapp/default/x |  | there is no such app",
        "10 ops undeploy production/webapp/default/shop |  | done",
        "11 ops undeploy production/webapp/default/shop |  | there is no such app",
        "12 ops create-token ci | may deploy for 60 s | done",
        "13 ops create-token ci | may deploy for 60 s | refused: ops has the name already",
        "14 eve revoke-token ci | of ops | done",
        "15 eve revoke-token ci | of ops | unchanged",
        "16 eve revoke-token 090909090909 |  | there is no such token",
    ];
    assert_eq!(world.lines(), expected);
    assert_eq!(through_a_snapshot(&world.0, 100), world.0);
}

#[test]
fn a_rollout_that_dies_with_its_servers_is_written_down_as_failed() {
    let mut world = World::new();
    world.run(deploy(1, ""));
    for id in ["a", "b"] {
        let (started_ms, state) = (1, MemberState::Down.into());
        world.run(Kind::SetMemberState(SetMemberState { id: id.into(), started_ms, state }));
    }
    let last = world.lines().pop().unwrap();
    assert!(last.ends_with("| failed: none of its servers is up any more"), "{last}");
}

#[test]
fn while_a_hub_server_may_not_know_the_log_nothing_is_written_down() {
    let mut state = State::default();
    let set = Kind::SetMemberAdmin(SetMemberAdmin { id: "a".into(), admin: 2, author: None });
    let commands = vec![Command { command: Some(set) }];
    state.apply(Batch { version: AUDIT - 1, time_ms: 1, commands });
    assert_eq!(state.audit().iter().count(), 0);
    let note = NoteAudit { kind: AuditKind::SignIn.into(), ..NoteAudit::default() };
    let commands = vec![Command { command: Some(Kind::NoteAudit(note)) }];
    state.apply(Batch { version: AUDIT, time_ms: 2, commands });
    assert_eq!(state.audit().iter().count(), 1);
}
