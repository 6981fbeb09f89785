//! `daemons` of an `app.yaml`: what of an app runs once in the whole cluster.

use super::{
    app_yaml::{health_path, words},
    decode::{Context, Fields},
    keys,
    node::Node,
    quoted::quoted,
};
use crate::service_name::ServiceName;
use std::{ops::RangeInclusive, time::Duration};

/// What of an app runs on one server of its cluster at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// `name`: of one app each has another.
    pub name: ServiceName,
    /// How it is run.
    pub run: DaemonRun,
    /// `lease` (5 s): a server that can't tell the hub for so long that it lives loses the daemon to another.
    pub lease: Duration,
    /// `start-timeout` (30 s): how long a start may take.
    pub start_timeout: Duration,
    /// `stop-timeout` (15 s): how long an orderly stop may take, before the process is killed.
    pub stop_timeout: Duration,
}

/// How a daemon is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DaemonRun {
    /// One of the app's processes runs it, from when `start` is answered until `stop` is.
    Call {
        /// `start`: the path that is posted to.
        start: String,
        /// `stop`: the same; without one the process is ended by SIGTERM, and started again.
        stop: Option<String>,
    },
    /// `command`: a process of its own.
    Process(Vec<String>),
}

/// The bounds of a lease: a renewal each fifth of it must be possible, and nobody waits for a dead server for longer than an hour.
const LEASE: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(3600);

/// The bounds of the times of a start and a stop.
const TIMES: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(600);

/// The most of one app.
const DAEMONS_MAX: usize = 100;

pub(super) fn decode(fields: &Fields<'_>) -> Vec<Daemon> {
    let context = fields.context;
    let nodes = fields.items("daemons");
    if nodes.len() > DAEMONS_MAX {
        context.error(
            fields.span("daemons"),
            format!("{} daemons: expected at most {DAEMONS_MAX}", nodes.len()),
        );
    }
    let mut daemons: Vec<Daemon> = Vec::new();
    for node in nodes {
        let Some(daemon) = daemon(context, node) else { continue };
        if daemons.iter().any(|it| it.name == daemon.name) {
            context.error(
                node.span,
                format!("a second daemon {}: expected another name", quoted(daemon.name.as_str())),
            );
        } else {
            daemons.push(daemon);
        }
    }
    daemons
}

fn daemon(context: Context<'_>, node: &Node) -> Option<Daemon> {
    let fields = Fields::open(context, node, &keys::DAEMON)?;
    let name = fields.required("name", "such as `counter`").and_then(|node| service_name(context, node));
    let path = |key| fields.get(key).and_then(|node| context.checked(node, health_path));
    let command = words(&fields, "command", "[\"./daemon\"]");
    let (start, stop) = (path("start"), path("stop"));
    let run = match (fields.entry("start"), fields.entry("command")) {
        (Some(_), None) => start.map(|start| DaemonRun::Call { start, stop }),
        (None, Some(_)) => {
            if let Some(entry) = fields.entry("stop") {
                context.error(
                    entry.key_span,
                    "a daemon with a `command` is stopped by SIGTERM: expected no `stop`",
                );
            }
            Some(DaemonRun::Process(command))
        }
        (Some(_), Some(entry)) => {
            context
                .error(entry.key_span, "a daemon has a `start` to post to or a `command` to run, not both");
            None
        }
        (None, None) => {
            context.error(
                node.span,
                "a daemon has a `start` to post to, such as `/start`, or a `command` to run",
            );
            None
        }
    };
    let time = |key, default: u64| fields.duration(key, TIMES).unwrap_or(Duration::from_secs(default));
    let lease = fields.duration("lease", LEASE).unwrap_or(Duration::from_secs(5));
    let (start_timeout, stop_timeout) = (time("start-timeout", 30), time("stop-timeout", 15));
    Some(Daemon { name: name?, run: run?, lease, start_timeout, stop_timeout })
}

/// A name of what apps share.
pub(super) fn service_name(context: Context<'_>, node: &Node) -> Option<ServiceName> {
    let text = context.checked(node, |text| {
        let refused = |_| format!("expected {}, found {}", ServiceName::EXPECTED, quoted(text));
        ServiceName::new(text).map(drop).map_err(refused)
    })?;
    ServiceName::new(&text).ok()
}
