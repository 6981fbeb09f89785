//! The servers, one a line.

use super::{
    Act, Frame, class_of,
    format::{NONE, bytes, count, duration, millis, percent, short},
    since,
};
use crate::status::record::{ClusterRecord, ServerRecord};
use askama::Template;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

#[derive(Debug, Template)]
#[template(path = "servers.html")]
pub(super) struct Servers {
    frame: Frame,
    columns: usize,
    clusters: Vec<Group>,
}

/// The servers of a cluster.
#[derive(Debug)]
struct Group {
    name: String,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    id: String,
    /// The same in a path.
    path: String,
    roles: String,
    class: &'static str,
    state: &'static str,
    why: String,
    uptime: String,
    version: String,
    cpu: String,
    memory: String,
    files: String,
    disk: String,
    load: String,
    clients: String,
    rate: String,
    p50: String,
    p99: String,
    errors: String,
    acts: Vec<Act>,
}

impl Servers {
    pub(super) fn new(frame: Frame, cluster: &ClusterRecord) -> Self {
        let mut clusters: Vec<Group> = Vec::new();
        for server in &cluster.servers {
            let name = &server.known.cluster;
            let row = Row::of(server, cluster);
            match clusters.iter_mut().find(|it| it.name == *name) {
                Some(group) => group.rows.push(row),
                None => clusters.push(Group { name: name.clone(), rows: vec![row] }),
            }
        }
        let columns = if frame.may_operate { 15 } else { 14 };
        Self { frame, columns, clusters }
    }
}

impl Row {
    fn of(server: &ServerRecord, cluster: &ClusterRecord) -> Self {
        let known = &server.known;
        let (state, answer) = (server.shown(), server.answer.as_ref());
        let process = answer.map(|it| &it.process);
        let of_process =
            |show: fn(&crate::status::record::ProcessRecord) -> String| process.map_or(NONE.to_owned(), show);
        let web_tier = server.web_tier();
        let of_web = |show: fn(&crate::status::record::WebTierRecord) -> String| {
            web_tier.map_or(NONE.to_owned(), show)
        };
        Self {
            path: path_of(&known.id),
            id: known.id.clone(),
            roles: server.roles.join(", "),
            class: class_of(state),
            state,
            why: why(server, cluster),
            uptime: answer.map_or(NONE.to_owned(), |it| duration(it.uptime_s)),
            version: known.version.clone().unwrap_or_else(|| NONE.to_owned()),
            cpu: of_process(|it| percent(it.cpu_per_mille)),
            memory: of_process(|it| bytes(it.resident_bytes)),
            files: of_process(|it| count(it.open_files)),
            disk: of_process(|it| bytes(it.disk_free_bytes)),
            load: of_process(|it| short(it.load_per_mille as f64 / 1000.0)),
            clients: of_web(|it| count(it.connections_open)),
            rate: of_web(|it| short(it.rate.requests_per_s)),
            p50: of_web(|it| millis(it.rate.p50_ms)),
            p99: of_web(|it| millis(it.rate.p99_ms)),
            errors: of_web(|it| short(it.rate.errors_per_s)),
            acts: acts(server),
        }
    }
}

/// An id as a part of a path.
pub(super) fn path_of(id: &str) -> String {
    utf8_percent_encode(id, NON_ALPHANUMERIC).to_string().replace("%2D", "-")
}

/// Since when a server is as it is, and why it says nothing.
pub(super) fn why(server: &ServerRecord, cluster: &ClusterRecord) -> String {
    let (known, state) = (&server.known, server.shown());
    let at = match state {
        "disabled" | "disabled-soft" => known.admin_since.as_ref(),
        "silent" => server.silent.as_ref().and_then(|it| it.since.as_ref()),
        "up" => None,
        _ => known.state_since.as_ref(),
    };
    let since = Some(since(at, cluster)).filter(|it| !it.is_empty());
    let silent = server.silent.as_ref().filter(|_| matches!(state, "silent" | "down"));
    let parts = since.map(|it| format!("for {it}")).into_iter().chain(silent.map(|it| it.why.clone()));
    parts.collect::<Vec<_>>().join(": ")
}

/// What an operator may do with it.
pub(super) fn acts(server: &ServerRecord) -> Vec<Act> {
    if server.listens || server.known.state == "unknown" {
        return Vec::new();
    }
    let all = [
        Act { verb: "enable", name: "Enable" },
        Act { verb: "disable-soft", name: "Disable softly" },
        Act { verb: "disable", name: "Disable" },
    ];
    let now = match server.known.admin {
        "enabled" => "enable",
        "disabled" => "disable",
        _ => "disable-soft",
    };
    all.into_iter().filter(|it| it.verb != now).collect()
}
