//! Apps: what is deployed, whether every server has it, and what runs.

use super::{
    Act, Frame, class_of,
    format::{NONE, bytes, count, short_id},
    list::{List, ListQuery},
    since,
};
use crate::status::{
    app::{DaemonHereRecord, DeployedRecord, InstanceRecord, OnServerRecord, RunningRecord},
    record::ClusterRecord,
};
use askama::Template;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// Of more servers that have an app, only those are named where something is wrong.
const NAMED: usize = 12;

/// Apps on a page.
const APPS: usize = 40;

/// Rows of what runs; the rest is on the pages of the servers.
const RUNNING: usize = 100;

#[derive(Debug, Template)]
#[template(path = "apps.html")]
pub(super) struct Apps {
    frame: Frame,
    list: List,
    /// Nothing is deployed at all.
    none: bool,
    deployed: Vec<Deployed>,
    running: Vec<Running>,
    /// Rows that there would be besides.
    more_running: usize,
}

#[derive(Debug)]
struct Deployed {
    tag: String,
    paths: String,
    class: &'static str,
    state: &'static str,
    commit: String,
    tree: String,
    since: String,
    user: String,
    message: String,
    /// Why the last rollout has failed, if it has.
    failed: String,
    servers: Vec<On>,
    acts: Vec<Act>,
}

/// What a server has of it.
#[derive(Debug)]
struct On {
    server: String,
    class: &'static str,
    mark: &'static str,
    words: String,
}

#[derive(Debug)]
struct Running {
    name: String,
    /// The same in a query.
    link: String,
    tag: String,
    server: String,
    kind: &'static str,
    tree: String,
    processes: Vec<Process>,
    daemons: Vec<Daemon>,
    sessions: String,
    bytes: String,
    unsaved: String,
}

#[derive(Debug)]
struct Daemon {
    name: String,
    class: &'static str,
    state: &'static str,
    words: String,
}

#[derive(Debug)]
struct Process {
    class: &'static str,
    state: &'static str,
    words: String,
}

impl Apps {
    pub(super) fn new(frame: Frame, cluster: &ClusterRecord, query: &ListQuery) -> Self {
        let wanted: Vec<_> = cluster.apps.iter().filter(|it| query.is_wanted(&it.tag)).collect();
        let range = query.range(wanted.len(), APPS);
        let is_first = range.start == 0;
        let shown = &wanted[range];
        // What is not deployed, as the file has it, is on the first page.
        let is_here = |tag: Option<&str>| match tag {
            Some(tag) if cluster.apps.iter().any(|it| it.tag == tag) => shown.iter().any(|it| it.tag == tag),
            tag => is_first && query.is_wanted(tag.unwrap_or_default()),
        };
        let running = cluster.servers.iter().flat_map(|server| {
            let apps = server.answer.iter().flat_map(|it| &it.apps);
            apps.map(|app| (app, server.known.id.as_str()))
        });
        let mut running: Vec<_> = running.filter(|(app, _)| is_here(app.tag.as_deref())).collect();
        running.sort_by(|a, b| (&a.0.name, &a.0.tag).cmp(&(&b.0.name, &b.0.tag)));
        let more_running = running.len().saturating_sub(RUNNING);
        Self {
            list: query.above(("/apps", "Which apps"), &[], (wanted.len(), APPS)),
            none: cluster.apps.is_empty(),
            deployed: shown.iter().map(|it| Deployed::of(it, cluster)).collect(),
            running: running
                .into_iter()
                .take(RUNNING)
                .map(|(app, server)| Running::of(app, server))
                .collect(),
            more_running,
            frame,
        }
    }
}

impl Deployed {
    fn of(app: &DeployedRecord, cluster: &ClusterRecord) -> Self {
        let state = match app.rollout {
            Some("under-way") => "under-way",
            _ if app.stopped => "stopped",
            Some("failed") if app.commit.is_none() => "failed",
            _ => "",
        };
        let acts = [Act { verb: "rollback", name: "Roll back" }, Act { verb: "restart", name: "Restart" }];
        let at = since(app.since.as_ref(), cluster);
        Self {
            tag: app.tag.clone(),
            paths: app.paths.join(" "),
            class: class_of(state),
            state,
            commit: short_id(app.commit.as_ref()),
            tree: short_id(app.tree.as_ref()),
            since: if at.is_empty() { NONE.to_owned() } else { format!("{at} ago") },
            user: app.user.clone(),
            message: app.message.clone(),
            failed: if app.rollout == Some("failed") { app.rollout_why.clone() } else { String::new() },
            servers: On::all(&app.servers),
            acts: acts.into_iter().filter(|_| app.commit.is_some()).collect(),
        }
    }
}

impl On {
    fn all(servers: &[OnServerRecord]) -> Vec<Self> {
        let mut all: Vec<Self> = servers.iter().map(Self::of).collect();
        if all.len() > NAMED {
            all.sort_by_key(|it| it.class == "ok");
            let wrong = all.iter().filter(|it| it.class != "ok").count();
            let more = all.len() - wrong.max(NAMED);
            all.truncate(wrong.max(NAMED));
            let server = format!("and {more} more");
            all.extend((more > 0).then_some(Self { server, class: "ok", mark: "✓", words: String::new() }));
        }
        all
    }

    fn of(server: &OnServerRecord) -> Self {
        let (class, mark) = match server.state {
            "running" => ("ok", "✓"),
            "down" | "stopped" => ("off", "–"),
            _ => ("bad", "✗"),
        };
        let words = match server.state {
            "running" => String::new(),
            "behind" => format!("has the tree {}", short_id(server.tree.as_ref())),
            state => state.to_owned(),
        };
        Self { server: server.server.clone(), class, mark, words }
    }
}

impl Running {
    fn of(app: &RunningRecord, server: &str) -> Self {
        let sessions = app.sessions.as_ref();
        Self {
            name: app.name.clone(),
            link: utf8_percent_encode(&app.name, NON_ALPHANUMERIC).to_string(),
            tag: app.tag.clone().unwrap_or_else(|| "of the configuration file".to_owned()),
            server: server.to_owned(),
            kind: app.kind,
            tree: short_id(app.tree.as_ref()),
            processes: app.instances.iter().map(Process::of).collect(),
            daemons: app.daemons.iter().map(Daemon::of).collect(),
            sessions: sessions.map_or(NONE.to_owned(), |it| count(it.held)),
            bytes: sessions.map_or(NONE.to_owned(), |it| bytes(it.bytes)),
            unsaved: sessions.map_or(NONE.to_owned(), |it| count(it.unsaved)),
        }
    }
}

impl Daemon {
    fn of(daemon: &DaemonHereRecord) -> Self {
        let words = daemon.token.map_or_else(|| daemon.why.clone(), |token| format!("token {token}"));
        Self { name: daemon.name.clone(), class: class_of(daemon.state), state: daemon.state, words }
    }
}

impl Process {
    fn of(instance: &InstanceRecord) -> Self {
        let pid = instance.pid.map(|pid| format!("pid {pid}"));
        let restarts = match instance.restarts {
            0 => None,
            1 => Some("1 restart".to_owned()),
            restarts => Some(format!("{restarts} restarts")),
        };
        let why = Some(instance.why.clone()).filter(|it| !it.is_empty());
        let words = [pid, restarts, why].into_iter().flatten().collect::<Vec<_>>().join(", ");
        Self { class: class_of(instance.state), state: instance.state, words }
    }
}
