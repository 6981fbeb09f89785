//! An app as the JSON has it.

use crate::{apps::is_to_run, timestamp};
use common::{app_tag::AppTag, config::Config};
use proto::hub::v1::{
    App, AppServer, AppServerState, Member, MemberState, Rollout, RolloutOutcome, RolloutStep,
};
use serde::Serialize;
use std::{
    collections::hash_map::DefaultHasher,
    fmt::Write,
    hash::{Hash, Hasher},
};

/// `GET /api/v1/apps`.
#[derive(Debug, Serialize)]
pub(crate) struct List {
    pub(crate) apps: Vec<AppRecord>,
}

/// An app.
#[derive(Debug, Serialize)]
pub(crate) struct AppRecord {
    pub(crate) tag: String,
    stage: String,
    host: String,
    name: String,
    version: Option<String>,
    /// Where it is served below its host.
    pub(crate) paths: Vec<String>,
    /// What is in use; none before the first activation.
    commit: Option<String>,
    tree: Option<String>,
    user: String,
    message: String,
    since: Option<String>,
    stopped: bool,
    clusters: Vec<String>,
    servers: Vec<ServerRecord>,
    rollout: Option<RolloutRecord>,
    /// Changes with each change of what is above: for `?after=`.
    pub(crate) etag: String,
}

/// What a server has of it.
#[derive(Debug, Serialize, Hash)]
struct ServerRecord {
    server: String,
    /// `running`, `stopped`, `failed`, `behind` (another version than is in use), or `down`.
    state: &'static str,
    commit: Option<String>,
    /// Whether its files are those of the version in use, by the tree's hash.
    same: bool,
    text: String,
}

/// The last rollout.
#[derive(Debug, Serialize, Hash)]
struct RolloutRecord {
    number: u64,
    commit: String,
    tree: String,
    user: String,
    message: String,
    begun: Option<String>,
    ended: Option<String>,
    rolling: bool,
    /// `under-way`, `activated` or `failed`.
    outcome: &'static str,
    why: String,
    servers: Vec<StepRecord>,
}

/// How far a server is with it.
#[derive(Debug, Serialize, Hash)]
struct StepRecord {
    server: String,
    step: &'static str,
    text: String,
}

impl AppRecord {
    /// Of what the hub has; `None`: its tag is of a kind that this version does not know.
    pub(crate) fn of(app: &App, members: &[Member], config: &Config) -> Option<Self> {
        let tag = AppTag::parse(&app.tag).ok()?;
        let clusters =
            config.clusters.iter().filter(|it| app.clusters.iter().any(|name| name == it.id.as_str()));
        let host = clusters.flat_map(|it| &it.hosts).find(|host| host.tag_name() == tag.host);
        let paths = host.map_or_else(|| vec![tag.path()], |host| host.paths_of(&tag));
        let mut record = Self {
            tag: app.tag.clone(),
            paths: paths.into_iter().map(|it| format!("{it}/")).collect(),
            commit: hex(&app.commit),
            tree: hex(&app.tree),
            user: app.user.clone(),
            message: app.message.clone(),
            since: timestamp::format(app.time_ms),
            stopped: app.stopped,
            clusters: app.clusters.clone(),
            servers: servers(app, members),
            rollout: app.rollout.as_ref().map(RolloutRecord::of),
            stage: tag.stage,
            host: tag.host,
            name: tag.name,
            version: tag.version,
            etag: String::new(),
        };
        let mut hasher = DefaultHasher::new();
        (&record.commit, &record.since, record.stopped, &record.servers, &record.rollout).hash(&mut hasher);
        record.etag = format!("{:016x}", hasher.finish());
        Some(record)
    }
}

fn servers(app: &App, members: &[Member]) -> Vec<ServerRecord> {
    let of_app = members.iter().filter(|it| is_to_run(it, &app.tag, &app.clusters));
    let record = |member: &Member| {
        let runs = app.servers.iter().find(|it| it.server == member.id && it.started_ms == member.started_ms);
        let same = runs.is_some_and(|it| it.tree == app.tree && !app.tree.is_empty());
        let state = match runs.map(AppServer::state) {
            _ if member.state() == MemberState::Down => "down",
            Some(AppServerState::Running) if same => "running",
            Some(AppServerState::Running | AppServerState::Unspecified) | None => "behind",
            Some(AppServerState::Stopped) => "stopped",
            Some(AppServerState::Failed) => "failed",
        };
        ServerRecord {
            server: member.id.clone(),
            state,
            commit: runs.and_then(|it| hex(&it.commit)),
            same: same && state == "running",
            text: runs.map(|it| it.text.clone()).unwrap_or_default(),
        }
    };
    of_app.map(record).collect()
}

impl RolloutRecord {
    fn of(rollout: &Rollout) -> Self {
        let step = |it: &proto::hub::v1::RolloutServer| StepRecord {
            server: it.server.clone(),
            step: step(it.step()),
            text: it.text.clone(),
        };
        Self {
            number: rollout.number,
            commit: hex(&rollout.commit).unwrap_or_default(),
            tree: hex(&rollout.tree).unwrap_or_default(),
            user: rollout.user.clone(),
            message: rollout.message.clone(),
            begun: timestamp::format(rollout.begun_ms),
            ended: timestamp::format(rollout.ended_ms),
            rolling: rollout.rolling,
            outcome: match rollout.outcome() {
                RolloutOutcome::UnderWay => "under-way",
                RolloutOutcome::Activated => "activated",
                RolloutOutcome::Failed => "failed",
            },
            why: rollout.why.clone(),
            servers: rollout.servers.iter().map(step).collect(),
        }
    }
}

/// As it is told.
pub(crate) fn step(step: RolloutStep) -> &'static str {
    match step {
        RolloutStep::Waiting => "waiting",
        RolloutStep::Fetching => "fetching",
        RolloutStep::CheckingOut => "checking-out",
        RolloutStep::Preparing => "preparing",
        RolloutStep::Starting => "starting",
        RolloutStep::Ready => "ready",
        RolloutStep::Active => "active",
        RolloutStep::Failed => "failed",
        RolloutStep::Gone => "gone",
    }
}

/// An object's id; `None` for none.
pub(crate) fn hex(id: &[u8]) -> Option<String> {
    let text = id.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    Some(text).filter(|it| !it.is_empty())
}
