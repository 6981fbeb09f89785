//! Apps: what is deployed, with what each server has of it, and what a server runs.

use super::collect::Snapshot;
use crate::{apps::is_there, apps::is_to_run, apps::record::hex, timestamp};
use common::{app_tag::AppTag, config::Config};
use proto::{
    hub::v1::{App, AppServer, AppServerState, Member, MemberState, RolloutOutcome},
    status::v1::{self as status, AppKind, DaemonState, InstanceState},
};
use serde::Serialize;
use std::collections::HashMap;

/// A deployed app.
#[derive(Debug, Serialize)]
pub(crate) struct DeployedRecord {
    pub(crate) tag: String,
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    /// Where it is served below its host.
    pub(crate) paths: Vec<String>,
    /// What is in use; none before the first activation.
    pub(crate) commit: Option<String>,
    pub(crate) tree: Option<String>,
    pub(crate) user: String,
    pub(crate) message: String,
    pub(crate) since: Option<String>,
    pub(crate) stopped: bool,
    /// `under-way`, `activated` or `failed`, and why: of the last rollout.
    pub(crate) rollout: Option<&'static str>,
    pub(crate) rollout_why: String,
    pub(crate) servers: Vec<OnServerRecord>,
}

/// What a server has of it.
#[derive(Debug, Serialize)]
pub(crate) struct OnServerRecord {
    pub(crate) server: String,
    /// `running`, `stopped`, `failed`, `behind` (another version, or none yet) or `down`.
    pub(crate) state: &'static str,
    /// Whether the tree that it runs is the hub's, by its own word, or by what it told the hub where it does not answer.
    pub(crate) same: bool,
    pub(crate) commit: Option<String>,
    pub(crate) tree: Option<String>,
    pub(crate) text: String,
}

/// An app that a server runs, from the file or deployed.
#[derive(Debug, Serialize)]
pub(crate) struct RunningRecord {
    /// None for one of the configuration file.
    pub(crate) tag: Option<String>,
    /// host/path.
    pub(crate) name: String,
    /// `static`, `process` or `built-in`.
    pub(crate) kind: &'static str,
    pub(crate) commit: Option<String>,
    pub(crate) tree: Option<String>,
    pub(crate) instances: Vec<InstanceRecord>,
    pub(crate) sessions: Option<SessionsRecord>,
    pub(crate) daemons: Vec<DaemonHereRecord>,
}

/// What of an app runs on one server of the cluster at a time, as it is on this one.
#[derive(Debug, Serialize)]
pub(crate) struct DaemonHereRecord {
    pub(crate) name: String,
    /// `running`, `waiting`, `failed`, `idle` or `stopped`.
    pub(crate) state: &'static str,
    pub(crate) since: Option<String>,
    #[serde(skip)]
    pub(crate) since_ms: u64,
    #[serde(skip)]
    pub(crate) failed_ms: u64,
    /// Of one that runs here.
    pub(crate) token: Option<u64>,
    /// How often it has failed here since it last ran for a minute.
    pub(crate) failures: u32,
    pub(crate) why: String,
}

/// A process of an app.
#[derive(Debug, Serialize)]
pub(crate) struct InstanceRecord {
    /// `starting`, `ready`, `down` or `stopped`.
    pub(crate) state: &'static str,
    pub(crate) pid: Option<u32>,
    pub(crate) restarts: u64,
    pub(crate) why: String,
}

/// The sessions in a server's memory.
#[derive(Debug, Serialize)]
pub(crate) struct SessionsRecord {
    pub(crate) held: u64,
    pub(crate) bytes: u64,
    /// With changes that the hub does not have yet.
    pub(crate) unsaved: u64,
    pub(crate) saves: u64,
    pub(crate) lost: u64,
    /// Answers that left before their changes were on the hub.
    pub(crate) unsaved_answers: u64,
}

/// What is looked up for each app on each server.
#[derive(Debug)]
pub(crate) struct Known<'a> {
    members: &'a [Member],
    /// Places in the file, by id.
    places: HashMap<&'a str, usize>,
    /// By server that runs apps, and tag.
    running: HashMap<&'a str, HashMap<&'a str, &'a status::App>>,
}

impl<'a> Known<'a> {
    pub(crate) fn of(snapshot: &'a Snapshot, config: &'a Config) -> Self {
        let app_tiers = snapshot.answers().filter_map(|(id, it)| Some((id, it.status.app_tier.as_ref()?)));
        let by_tag = |it: &'a status::AppTier| it.apps.iter().map(|app| (app.tag.as_str(), app)).collect();
        Self {
            members: &snapshot.members,
            places: config.servers().enumerate().map(|(place, (_, it))| (it.id.as_str(), place)).collect(),
            running: app_tiers.map(|(id, it)| (id, by_tag(it))).collect(),
        }
    }
}

impl DeployedRecord {
    /// `None`: there is nothing to tell of it.
    pub(crate) fn of(app: &App, known: &Known<'_>, config: &Config) -> Option<Self> {
        let tag = AppTag::parse(&app.tag).ok().filter(|_| is_there(app))?;
        let clusters =
            config.clusters.iter().filter(|it| app.clusters.iter().any(|name| name == it.id.as_str()));
        let host = clusters.flat_map(|it| &it.hosts).find(|host| host.tag_name() == tag.host);
        let paths = host.map_or_else(|| vec![tag.path()], |host| host.paths_of(&tag));
        let runs = |it: &&Member| is_to_run(it, &app.tag, &app.clusters);
        // In the order of the file; the hub's is none that means anything.
        let place = |it: &Member| known.places.get(it.id.as_str()).copied().unwrap_or(usize::MAX);
        let mut servers: Vec<&Member> = known.members.iter().filter(runs).collect();
        servers.sort_by_cached_key(|it| (place(it), it.id.clone()));
        Some(Self {
            servers: servers.iter().map(|it| OnServerRecord::of(app, it, known)).collect(),
            tag: app.tag.clone(),
            paths: paths.into_iter().map(|it| format!("{it}/")).collect(),
            commit: hex(&app.commit),
            tree: hex(&app.tree),
            user: app.user.clone(),
            message: app.message.clone(),
            since: timestamp::format(app.time_ms),
            stopped: app.stopped,
            rollout: app.rollout.as_ref().map(|it| match it.outcome() {
                RolloutOutcome::UnderWay => "under-way",
                RolloutOutcome::Activated => "activated",
                RolloutOutcome::Failed => "failed",
            }),
            rollout_why: app.rollout.as_ref().map(|it| it.why.clone()).unwrap_or_default(),
            name: tag.name,
            version: tag.version,
        })
    }

    /// stage/webapp/host/name[-version].
    pub(crate) fn tag(&self) -> &str {
        &self.tag
    }

    /// Servers that are up and do not have what is in use.
    pub(crate) fn wrong(&self) -> impl Iterator<Item = &OnServerRecord> {
        let wanted = !self.stopped && self.commit.is_some() && self.rollout != Some("under-way");
        self.servers.iter().filter(move |it| wanted && !it.same && it.state != "down")
    }
}

impl OnServerRecord {
    fn of(app: &App, member: &Member, known: &Known<'_>) -> Self {
        let told = app.servers.iter().find(|it| it.server == member.id && it.started_ms == member.started_ms);
        let answer = known.running.get(member.id.as_str());
        let own = answer.and_then(|it| it.get(app.tag.as_str()));
        let (commit, tree) = match (own, answer) {
            (Some(own), _) => (&own.commit[..], &own.tree[..]),
            // It answers, and has nothing of it.
            (None, Some(_)) => (&[][..], &[][..]),
            (None, None) => told.map_or((&[][..], &[][..]), |it| (&it.commit[..], &it.tree[..])),
        };
        let same = !app.tree.is_empty() && tree == app.tree;
        let state = match told.map(AppServer::state) {
            _ if member.state() == MemberState::Down => "down",
            Some(AppServerState::Stopped) => "stopped",
            Some(AppServerState::Failed) if !same => "failed",
            _ if same => "running",
            _ => "behind",
        };
        Self {
            server: member.id.clone(),
            state,
            same: same && state == "running",
            commit: hex(commit),
            tree: hex(tree),
            text: told.map(|it| it.text.clone()).unwrap_or_default(),
        }
    }
}

impl RunningRecord {
    pub(crate) fn of(app: &status::App) -> Self {
        Self {
            tag: Some(app.tag.clone()).filter(|it| !it.is_empty()),
            name: app.name.clone(),
            kind: match app.kind() {
                AppKind::Static => "static",
                AppKind::Process => "process",
                AppKind::BuiltIn | AppKind::Unspecified => "built-in",
            },
            commit: hex(&app.commit),
            tree: hex(&app.tree),
            instances: app.instances.iter().map(InstanceRecord::of).collect(),
            sessions: app.sessions.as_ref().map(|it| SessionsRecord {
                held: it.held,
                bytes: it.bytes,
                unsaved: it.unsaved,
                saves: it.saves,
                lost: it.lost,
                unsaved_answers: it.unsaved_answers,
            }),
            daemons: app.daemons.iter().map(DaemonHereRecord::of).collect(),
        }
    }
}

impl DaemonHereRecord {
    fn of(daemon: &status::Daemon) -> Self {
        Self {
            name: daemon.name.clone(),
            state: match daemon.state() {
                DaemonState::Idle | DaemonState::Unspecified => "idle",
                DaemonState::Waiting => "waiting",
                DaemonState::Running => "running",
                DaemonState::Failed => "failed",
                DaemonState::Stopped => "stopped",
            },
            since: timestamp::format(daemon.since_ms),
            since_ms: daemon.since_ms,
            failed_ms: daemon.failed_ms,
            token: Some(daemon.token).filter(|it| *it != 0),
            failures: daemon.failures,
            why: daemon.why.clone(),
        }
    }
}

impl InstanceRecord {
    fn of(instance: &status::Instance) -> Self {
        Self {
            state: match instance.state() {
                InstanceState::Starting | InstanceState::Unspecified => "starting",
                InstanceState::Ready => "ready",
                InstanceState::Down => "down",
                InstanceState::Stopped => "stopped",
            },
            pid: Some(instance.pid).filter(|it| *it != 0),
            restarts: instance.restarts,
            why: instance.why.clone(),
        }
    }
}
