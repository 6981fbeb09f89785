//! The hub's servers.

use super::{
    Figure, Frame, class_of,
    format::{NONE, bytes, count, millis, optional},
};
use crate::status::{hub::HubServerRecord, record::ClusterRecord};
use askama::Template;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

#[derive(Debug, Template)]
#[template(path = "triad.html")]
pub(super) struct Triad {
    frame: Frame,
    figures: Vec<Figure>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    id: String,
    class: &'static str,
    role: &'static str,
    term: String,
    last_log: String,
    committed: String,
    applied: String,
    lag: String,
    heard: String,
    snapshot: String,
    snapshot_bytes: String,
    disk: String,
    refused: String,
    /// Its id as a part of a path, where the lead may be handed to it.
    path: Option<String>,
}

impl Triad {
    pub(super) fn new(frame: Frame, cluster: &ClusterRecord) -> Self {
        let hub = &cluster.hub;
        let live = hub.servers.iter().filter(|it| it.answers).count();
        let figures = vec![
            Figure::new("Leader", hub.leader.clone().unwrap_or_else(|| "none".to_owned()), ""),
            Figure::new("Term", count(hub.term), ""),
            Figure::new("Servers", format!("{live} of {}", hub.servers.len()), "answer"),
            Figure::new("Sessions", count(hub.sessions), ""),
            Figure::new("Their size", bytes(hub.session_bytes), ""),
        ];
        Self { frame, figures, rows: hub.servers.iter().map(Row::of).collect() }
    }
}

impl Row {
    fn of(server: &HubServerRecord) -> Self {
        let role = server.role.unwrap_or("silent");
        let size = |it: Option<u64>| it.map_or(NONE.to_owned(), bytes);
        Self {
            id: server.id.clone(),
            class: class_of(role),
            role,
            term: optional(server.term),
            last_log: optional(server.last_log),
            committed: optional(server.committed),
            applied: optional(server.applied),
            lag: optional(server.lag),
            heard: server.heard_ms.map_or(NONE.to_owned(), |ms| format!("{} ago", millis(Some(ms as f64)))),
            snapshot: optional(server.snapshot),
            snapshot_bytes: size(server.snapshot_bytes),
            disk: size(server.disk_bytes),
            refused: optional(server.refused_sessions),
            path: (role == "follower")
                .then(|| utf8_percent_encode(&server.id, NON_ALPHANUMERIC).to_string().replace("%2D", "-")),
        }
    }
}
