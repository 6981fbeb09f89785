//! Rollouts: what the servers report and which of them live decides.

use super::*;
use proto::hub::v1::{
    App, AppDeployed, DeployApp, ExpireRollouts, MemberState, ReportApp, RolloutOutcome, RolloutReport,
    RolloutStep, SetMemberState, UndeployApp, app_deployed::Outcome, report_app::Report,
};

const TAG: &str = "production/webapp/default/shop";

struct World(State, u64);

impl World {
    /// Servers a and b of the cluster c, up; one of another.
    fn new() -> Self {
        let mut world = Self(State::default(), 1000);
        for (id, cluster) in [("a", "c"), ("b", "c"), ("w", "web")] {
            world.register(id, cluster, 1);
        }
        world
    }

    fn run(&mut self, command: command::Command) -> Reply {
        self.1 += 10;
        let commands = vec![Command { command: Some(command) }];
        self.0.apply(Batch { version: 5, time_ms: self.1, commands }).0.remove(0)
    }

    fn register(&mut self, id: &str, cluster: &str, started_ms: u64) {
        let member = Member { id: id.into(), cluster: cluster.into(), started_ms, ..Member::default() };
        self.run(command::Command::RegisterMember(member));
    }

    fn down(&mut self, id: &str, started_ms: u64) {
        let set = SetMemberState { id: id.into(), started_ms, state: MemberState::Down.into() };
        self.run(command::Command::SetMemberState(set));
    }

    fn deploy(&mut self, deploy: DeployApp) -> Outcome {
        match self.run(command::Command::DeployApp(deploy)) {
            Reply::AppDeployed(AppDeployed { outcome: Some(outcome) }) => outcome,
            other => panic!("{other:?}"),
        }
    }

    fn report(&mut self, server: &str, started_ms: u64, step: RolloutStep) {
        let number = self.app().rollout.as_ref().unwrap().number;
        let text = if step == RolloutStep::Failed { "exit status 1" } else { "" };
        let report = RolloutReport { number, step: step.into(), text: text.into() };
        let report = Some(Report::Rollout(report));
        let report = ReportApp { tag: TAG.into(), server: server.into(), started_ms, report };
        self.run(command::Command::ReportApp(report));
    }

    fn app(&self) -> &App {
        self.0.apps().get(TAG).unwrap()
    }

    fn outcome(&self) -> (RolloutOutcome, &str, &[u8]) {
        let rollout = self.app().rollout.as_ref().unwrap();
        (rollout.outcome(), &rollout.why, &self.app().commit)
    }
}

fn of(commit: &'static [u8]) -> DeployApp {
    DeployApp {
        tag: TAG.into(),
        commit: commit.into(),
        tree: commit.into(),
        timeout_ms: 60_000,
        clusters: vec!["c".into()],
        ..DeployApp::default()
    }
}

#[test]
fn a_version_is_in_use_when_all_servers_of_its_clusters_are_ready() {
    let mut world = World::new();
    assert!(
        matches!(world.deploy(of(b"1")), Outcome::Begun(app) if app.rollout.as_ref().unwrap().servers.len() == 2)
    );
    world.report("a", 1, RolloutStep::Ready);
    assert_eq!(world.outcome(), (RolloutOutcome::UnderWay, "", &b""[..]));
    assert!(matches!(world.deploy(of(b"2")), Outcome::Busy(_)));
    world.report("b", 1, RolloutStep::Starting);
    world.report("w", 1, RolloutStep::Failed);
    assert_eq!(world.outcome().0, RolloutOutcome::UnderWay);
    world.report("b", 1, RolloutStep::Ready);
    assert_eq!(world.outcome(), (RolloutOutcome::Activated, "", &b"1"[..]));
    assert!(matches!(world.deploy(of(b"2")), Outcome::Conflict(_)));
    let next = |commit| DeployApp { expected_commit: b"1"[..].into(), ..of(commit) };
    assert!(matches!(world.deploy(next(b"1")), Outcome::Unchanged(_)));
    assert!(matches!(world.deploy(next(b"2")), Outcome::Begun(_)));
    let again = World::new().deploy(DeployApp { again: true, ..next(b"2") });
    assert!(matches!(again, Outcome::Conflict(_)));
}

#[test]
fn one_failure_leaves_everything_as_it_was() {
    let mut world = World::new();
    world.deploy(of(b"1"));
    world.report("a", 1, RolloutStep::Ready);
    world.report("b", 1, RolloutStep::Failed);
    world.report("b", 1, RolloutStep::Ready);
    assert_eq!(world.outcome(), (RolloutOutcome::Failed, "b: exit status 1", &b""[..]));
    world.report("a", 1, RolloutStep::Active);
    assert_eq!(world.outcome().0, RolloutOutcome::Failed);
}

#[test]
fn nobody_waits_for_the_dead_and_a_new_process_begins_anew() {
    let mut world = World::new();
    world.deploy(of(b"1"));
    world.report("a", 1, RolloutStep::Ready);
    world.register("a", "c", 2);
    world.report("a", 1, RolloutStep::Ready);
    world.down("b", 1);
    assert_eq!(world.outcome().0, RolloutOutcome::UnderWay, "the new process of a has not begun");
    world.report("a", 2, RolloutStep::Ready);
    assert_eq!(world.outcome(), (RolloutOutcome::Activated, "", &b"1"[..]));

    let mut world = World::new();
    world.deploy(of(b"1"));
    world.down("a", 1);
    world.down("b", 1);
    assert_eq!(world.outcome(), (RolloutOutcome::Failed, "none of its servers is up any more", &b""[..]));
    assert!(matches!(world.deploy(of(b"1")), Outcome::NoServers(_)));
}

#[test]
fn rolling_goes_from_server_to_server_and_is_in_use_when_all_go_by_it() {
    let mut world = World::new();
    world.deploy(DeployApp { rolling: true, ..of(b"1") });
    world.report("a", 1, RolloutStep::Active);
    world.report("b", 1, RolloutStep::Ready);
    assert_eq!(world.outcome().0, RolloutOutcome::UnderWay);
    world.report("b", 1, RolloutStep::Active);
    assert_eq!(world.outcome(), (RolloutOutcome::Activated, "", &b"1"[..]));
}

#[test]
fn past_its_time_a_rollout_has_failed_and_says_who_was_slow() {
    let mut world = World::new();
    world.deploy(of(b"1"));
    world.report("a", 1, RolloutStep::Ready);
    world.report("b", 1, RolloutStep::Starting);
    let due = world.0.apps().next_deadline_ms().unwrap();
    world.run(command::Command::ExpireRollouts(ExpireRollouts {}));
    assert_eq!(world.outcome().0, RolloutOutcome::UnderWay);
    world.1 = due;
    world.run(command::Command::ExpireRollouts(ExpireRollouts {}));
    assert_eq!(
        world.outcome(),
        (RolloutOutcome::Failed, "not done within 60 s: b is still starting", &b""[..])
    );
    assert_eq!(world.0.apps().next_deadline_ms(), None);
}

#[test]
fn apps_are_bounded_and_survive_a_snapshot() {
    let mut world = World::new();
    for n in 0..app::APPS_MAX {
        world.deploy(DeployApp { tag: format!("{TAG}{n}"), ..of(b"1") });
    }
    assert!(matches!(world.deploy(of(b"1")), Outcome::Full(1000)));
    let mut restore = Restore::new(world.0.time_ms(), 5, 0);
    world.0.export(1024, |chunk| restore.add(Bytes::copy_from_slice(chunk))).unwrap();
    assert_eq!(restore.finish(), world.0);
}

#[test]
fn a_server_that_comes_late_takes_part_and_one_that_starts_again_is_not_waited_for() {
    let mut world = World::new();
    world.deploy(of(b"1"));
    world.report("a", 1, RolloutStep::Ready);
    world.register("d", "c", 3);
    world.report("b", 1, RolloutStep::Ready);
    assert_eq!(world.outcome().0, RolloutOutcome::UnderWay, "d is to be ready too");
    world.report("d", 3, RolloutStep::Ready);
    assert_eq!(world.outcome().0, RolloutOutcome::Activated);

    let mut world = World::new();
    world.deploy(of(b"1"));
    world.report("a", 1, RolloutStep::Ready);
    world.down("b", 2);
    let set = SetMemberState { id: "b".into(), started_ms: 1, state: MemberState::Standby.into() };
    world.run(command::Command::SetMemberState(set));
    assert_eq!(world.outcome(), (RolloutOutcome::Activated, "", &b"1"[..]));
}

#[test]
fn a_server_that_goes_by_it_has_it_and_old_reports_are_no_news_of_an_app_that_is_new() {
    let mut world = World::new();
    world.deploy(of(b"1"));
    world.report("a", 1, RolloutStep::Ready);
    world.report("b", 1, RolloutStep::Ready);
    world.report("a", 1, RolloutStep::Active);
    let has: Vec<_> = world.app().servers.iter().map(|it| (it.server.as_str(), &it.commit[..])).collect();
    assert_eq!(has, [("a", &b"1"[..])]);
    let before = world.app().rollout.as_ref().unwrap().number;
    let undeploy = UndeployApp { tag: TAG.into(), ..UndeployApp::default() };
    world.run(command::Command::UndeployApp(undeploy));
    world.deploy(of(b"1"));
    assert!(world.app().rollout.as_ref().unwrap().number > before);
}
