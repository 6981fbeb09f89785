//! An app as the status page shows it.

use crate::{
    app::Kind,
    daemon::{Phase, Standing},
    process::{Seen, State},
    session::SessionStats,
};
use proto::status::v1::{App, AppKind, Daemon, DaemonState, Instance, InstanceState, Sessions};
use std::time::{SystemTime, UNIX_EPOCH};

/// What there is to tell of an app, without its name.
pub(crate) fn app(kind: Kind<'_>) -> App {
    match kind {
        Kind::Static => App { kind: AppKind::Static.into(), ..App::default() },
        Kind::BuiltIn => App { kind: AppKind::BuiltIn.into(), ..App::default() },
        Kind::Process(app) => App {
            kind: AppKind::Process.into(),
            instances: app.processes.seen().iter().map(instance).collect(),
            sessions: Some(sessions(&app.sessions.stats())),
            daemons: app.duties.daemons().map(|(name, standing)| daemon(name, standing)).collect(),
            ..App::default()
        },
    }
}

fn instance(seen: &Seen) -> Instance {
    let state = match &seen.state {
        State::Starting { .. } => InstanceState::Starting,
        State::Ready(_) => InstanceState::Ready,
        State::Down { .. } => InstanceState::Down,
        State::Stopped => InstanceState::Stopped,
    };
    let why = if let State::Down { why, .. } = &seen.state { why.clone() } else { String::new() };
    Instance { state: state.into(), pid: seen.pid, restarts: seen.restarts, why }
}

fn daemon(name: &str, Standing { phase, since, failures, failed }: Standing) -> Daemon {
    let (state, token, why) = match phase {
        Phase::Idle => (DaemonState::Idle, 0, String::new()),
        Phase::Waiting => (DaemonState::Waiting, 0, String::new()),
        Phase::Running { token } => (DaemonState::Running, token, String::new()),
        Phase::Failed(why) => (DaemonState::Failed, 0, why),
        Phase::Stopped => (DaemonState::Stopped, 0, String::new()),
    };
    let unix_ms = |at: SystemTime| {
        u64::try_from(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
    };
    let (since_ms, failed_ms) = (unix_ms(since), failed.map_or(0, unix_ms));
    Daemon { name: name.to_owned(), state: state.into(), token, why, since_ms, failures, failed_ms }
}

fn sessions(stats: &SessionStats) -> Sessions {
    let count = |it: usize| u64::try_from(it).unwrap_or(u64::MAX);
    Sessions {
        held: count(stats.held),
        bytes: count(stats.bytes),
        unsaved: count(stats.unsaved),
        saves: stats.saves,
        merged: stats.merged,
        stale: stats.stale,
        superseded: stats.superseded,
        lost: stats.lost,
        unsaved_answers: stats.unsaved_answers,
        without_session: stats.without_session,
    }
}
