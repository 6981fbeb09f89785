//! The apps that are deployed and their rollouts. What makes a rollout succeed or fail is decided here, by what the servers
//! report and by which of them live: whoever began it may be gone meanwhile.

use super::{change::Change, member::Members, reply::Reply};
use common::app_tag::PRODUCTION;
use imbl::OrdMap;
use proto::hub::v1::{
    App, AppDeployed, AppServer, AppServerState, AppUndeployed, DeployApp, Member, MemberState, NoServers,
    ReportApp, Rollout, RolloutOutcome, RolloutReport, RolloutServer, RolloutStep, SetAppStopped,
    UndeployApp, app_deployed, report_app::Report,
};
use std::sync::Arc;

/// Apps, all stages and hosts counted.
pub(crate) const APPS_MAX: usize = 1000;

/// The apps by tag.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Apps(OrdMap<String, Arc<App>>);

impl Apps {
    /// Begins a rollout, if nothing speaks against it.
    pub(super) fn deploy(
        &mut self,
        deploy: DeployApp,
        members: &Members,
        now_ms: u64,
        changes: &mut Vec<Change>,
    ) -> Reply {
        use app_deployed::Outcome;
        let outcome = match self.refusal(&deploy, members) {
            Some(outcome) => outcome,
            None => {
                let mut app = self.0.get(&deploy.tag).map(|it| App::clone(it)).unwrap_or_default();
                begin(&mut app, deploy, members, now_ms);
                Outcome::Begun(self.put(app, changes))
            }
        };
        Reply::AppDeployed(AppDeployed { outcome: Some(outcome) })
    }

    fn refusal(&self, deploy: &DeployApp, members: &Members) -> Option<app_deployed::Outcome> {
        use app_deployed::Outcome;
        let present = self.0.get(&deploy.tag);
        if let Some(app) = present {
            if is_under_way(app) {
                return Some(Outcome::Busy(App::clone(app)));
            }
            if app.commit != deploy.expected_commit {
                return Some(Outcome::Conflict(App::clone(app)));
            }
            if app.tree == deploy.tree && !deploy.again {
                return Some(Outcome::Unchanged(App::clone(app)));
            }
        } else if !deploy.expected_commit.is_empty() {
            return Some(Outcome::Conflict(App { tag: deploy.tag.clone(), ..App::default() }));
        } else if self.0.len() >= APPS_MAX {
            return Some(Outcome::Full(u32::try_from(self.0.len()).unwrap_or(u32::MAX)));
        }
        (!members.iter().any(|it| runs(it, &deploy.tag, &deploy.clusters)))
            .then_some(Outcome::NoServers(NoServers {}))
    }

    /// Takes a server's word on itself.
    pub(super) fn report(&mut self, report: ReportApp, now_ms: u64, changes: &mut Vec<Change>) {
        let ReportApp { tag, server, started_ms, report } = report;
        let Some(present) = self.0.get(&tag) else { return };
        let mut app = App::clone(present);
        match report {
            Some(Report::Rollout(report)) => note(&mut app, &server, started_ms, report, now_ms),
            Some(Report::Runs(runs)) => record(&mut app, AppServer { server, started_ms, ..runs }),
            None => {}
        }
        if app != **present {
            self.put(app, changes);
        }
    }

    /// Takes an app away.
    pub(super) fn undeploy(&mut self, undeploy: UndeployApp, changes: &mut Vec<Change>) -> Reply {
        let existed = self.0.remove(&undeploy.tag).is_some();
        if existed {
            changes.push(Change::AppGone(undeploy.tag));
        }
        Reply::AppUndeployed(AppUndeployed { existed })
    }

    /// Stops an app, or starts it.
    pub(super) fn set_stopped(&mut self, set: &SetAppStopped, changes: &mut Vec<Change>) -> Reply {
        let app = self.0.get(&set.tag).map(|it| App::clone(it));
        Reply::App(app.map(|mut app| {
            if app.stopped == set.stopped {
                return app;
            }
            app.stopped = set.stopped;
            self.put(app, changes)
        }))
    }

    /// It is too late for some.
    pub(super) fn expire(&mut self, now_ms: u64, changes: &mut Vec<Change>) {
        self.each_under_way(changes, |app| {
            let rollout = app.rollout.as_mut().filter(|it| it.deadline_ms <= now_ms);
            if let Some(rollout) = rollout {
                let slow =
                    rollout.servers.iter().filter(|it| is_awaited(it) && it.step() < RolloutStep::Ready);
                let slow: Vec<_> =
                    slow.map(|it| format!("{} is still {}", it.server, step_name(it.step()))).collect();
                let seconds = (rollout.deadline_ms - rollout.begun_ms) / 1000;
                end(rollout, RolloutOutcome::Failed, now_ms);
                rollout.why = format!("not done within {seconds} s: {}", slow.join(", "));
            }
        });
    }

    /// A member has changed: a new process begins anew, and nobody waits for one that is gone. One that has come late takes part.
    pub(super) fn member_changed(&mut self, member: &Member, now_ms: u64, changes: &mut Vec<Change>) {
        self.each_under_way(changes, |app| {
            let late = runs(member, &app.tag, &app.clusters);
            let Some(rollout) = &mut app.rollout else { return };
            match rollout.servers.iter_mut().find(|it| it.server == member.id) {
                Some(known) if lives(member) && known.started_ms != member.started_ms => {
                    *known = waiting(member);
                }
                // The process that was meant, or one after it that is not up yet.
                Some(known) if !lives(member) && known.started_ms <= member.started_ms => {
                    known.set_step(RolloutStep::Gone);
                }
                None if late => rollout.servers.push(waiting(member)),
                _ => {}
            }
            settle(app, now_ms);
        });
    }

    fn each_under_way(&mut self, changes: &mut Vec<Change>, mut change: impl FnMut(&mut App)) {
        let under_way: Vec<_> = self.0.values().filter(|it| is_under_way(it)).cloned().collect();
        for before in under_way {
            let mut app = App::clone(&before);
            change(&mut app);
            if app != *before {
                self.put(app, changes);
            }
        }
    }

    fn put(&mut self, app: App, changes: &mut Vec<Change>) -> App {
        let shared = Arc::new(app.clone());
        self.0.insert(app.tag.clone(), shared.clone());
        changes.push(Change::App(shared));
        app
    }

    /// Puts an app back, from a snapshot.
    pub(super) fn restore(&mut self, app: App) {
        self.0.insert(app.tag.clone(), Arc::new(app));
    }

    /// One of them.
    /// Whether this commit of an app is in use, or about to be.
    pub(super) fn is_current(&self, tag: &str, commit: &[u8]) -> bool {
        self.get(tag).is_some_and(|app| {
            let begun = app.rollout.as_ref().filter(|_| is_under_way(app));
            *begun.map_or(&app.commit, |it| &it.commit) == *commit
        })
    }

    pub(crate) fn get(&self, tag: &str) -> Option<&App> {
        self.0.get(tag).map(|it| &**it)
    }

    /// All of them in order of tag.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &App> {
        self.0.values().map(|it| &**it)
    }

    /// The rollouts under way: tag and number.
    pub(crate) fn under_way(&self) -> Vec<(String, u64)> {
        let under_way = self.iter().filter(|it| is_under_way(it));
        under_way.filter_map(|it| Some((it.tag.clone(), it.rollout.as_ref()?.number))).collect()
    }

    /// When the first rollout under way is due.
    pub(crate) fn next_deadline_ms(&self) -> Option<u64> {
        self.iter()
            .filter(|it| is_under_way(it))
            .filter_map(|it| Some(it.rollout.as_ref()?.deadline_ms))
            .min()
    }
}

fn is_under_way(app: &App) -> bool {
    app.rollout.as_ref().is_some_and(|it| it.outcome() == RolloutOutcome::UnderWay)
}

fn lives(member: &Member) -> bool {
    member.state() == MemberState::Active
}

/// Whether a member that lives is to run the app: it is of one of the clusters, and of the stage that the tag begins with.
fn runs(member: &Member, tag: &str, clusters: &[String]) -> bool {
    let stage = if member.stage.is_empty() { PRODUCTION } else { &member.stage };
    let of_stage = tag.split('/').next() == Some(stage);
    lives(member) && of_stage && clusters.contains(&member.cluster)
}

fn is_awaited(server: &RolloutServer) -> bool {
    server.step() != RolloutStep::Gone
}

fn waiting(member: &Member) -> RolloutServer {
    let (server, started_ms) = (member.id.clone(), member.started_ms);
    RolloutServer { server, started_ms, step: RolloutStep::Waiting.into(), text: String::new() }
}

fn begin(app: &mut App, deploy: DeployApp, members: &Members, now_ms: u64) {
    let DeployApp { tag, commit, tree, user, message, timeout_ms, rolling, clusters, .. } = deploy;
    let servers = members.iter().filter(|it| runs(it, &tag, &clusters)).map(waiting).collect();
    app.tag = tag;
    app.clusters = clusters;
    app.rollout = Some(Rollout {
        // Never one that was before: reports of an app that was undeployed may still be on their way.
        number: now_ms.max(app.rollout.as_ref().map_or(0, |it| it.number) + 1),
        commit,
        tree,
        user,
        message,
        begun_ms: now_ms,
        deadline_ms: now_ms.saturating_add(timeout_ms),
        rolling,
        servers,
        ..Rollout::default()
    });
}

/// A server's step. An old process, an old rollout or a step back changes nothing.
fn note(app: &mut App, server: &str, started_ms: u64, report: RolloutReport, now_ms: u64) {
    let Some(rollout) = app.rollout.as_mut().filter(|it| it.number == report.number) else { return };
    let under_way = rollout.outcome() == RolloutOutcome::UnderWay;
    let meant = |it: &&mut RolloutServer| it.server == server && it.started_ms == started_ms;
    let Some(known) = rollout.servers.iter_mut().find(meant) else { return };
    let forward = report.step() > known.step();
    // Afterwards the only news is that a server goes by it.
    if forward && (under_way || report.step() == RolloutStep::Active) && known.step() != RolloutStep::Gone {
        known.step = report.step;
        known.text = report.text;
        if known.step() == RolloutStep::Active {
            let (commit, tree) = (rollout.commit.clone(), rollout.tree.clone());
            let (server, state) = (server.to_owned(), AppServerState::Running.into());
            record(app, AppServer { server, started_ms, commit, tree, state, text: String::new() });
        }
        settle(app, now_ms);
    }
}

/// What a server has of the app from now on.
fn record(app: &mut App, runs: AppServer) {
    match app.servers.iter_mut().find(|it| it.server == runs.server) {
        Some(known) => *known = runs,
        None => app.servers.push(runs),
    }
}

/// Ends a rollout for which that is decided.
fn settle(app: &mut App, now_ms: u64) {
    let Some(rollout) = app.rollout.as_mut().filter(|it| it.outcome() == RolloutOutcome::UnderWay) else {
        return;
    };
    if let Some(failed) = rollout.servers.iter().find(|it| it.step() == RolloutStep::Failed) {
        let why = format!("{}: {}", failed.server, failed.text);
        end(rollout, RolloutOutcome::Failed, now_ms);
        rollout.why = why;
        return;
    }
    let mut awaited = rollout.servers.iter().filter(|it| is_awaited(it)).peekable();
    if awaited.peek().is_none() {
        end(rollout, RolloutOutcome::Failed, now_ms);
        "none of its servers is up any more".clone_into(&mut rollout.why);
        return;
    }
    let enough = if rollout.rolling { RolloutStep::Active } else { RolloutStep::Ready };
    if awaited.all(|it| it.step() >= enough) {
        end(rollout, RolloutOutcome::Activated, now_ms);
        app.commit = rollout.commit.clone();
        app.tree = rollout.tree.clone();
        app.user = rollout.user.clone();
        app.message = rollout.message.clone();
        app.time_ms = now_ms;
        app.stopped = false;
    }
}

fn end(rollout: &mut Rollout, outcome: RolloutOutcome, now_ms: u64) {
    rollout.set_outcome(outcome);
    rollout.ended_ms = now_ms;
}

fn step_name(step: RolloutStep) -> &'static str {
    match step {
        RolloutStep::Waiting => "waiting",
        RolloutStep::Fetching => "fetching",
        RolloutStep::CheckingOut => "checking out",
        RolloutStep::Preparing => "preparing",
        RolloutStep::Starting => "starting",
        RolloutStep::Ready => "ready",
        RolloutStep::Active => "active",
        RolloutStep::Failed => "failed",
        RolloutStep::Gone => "gone",
    }
}
