//! Sessions: how many there are and where, and one that somebody asks for by its id.

use super::{
    Figure, Frame,
    format::{NONE, bytes, count, duration},
};
use crate::{
    ask::SilentServer,
    sessions::{
        AppSessionsRecord, AttributeRecord, FoundRecord, HeldSessionRecord, HubSessionRecord,
        ServerSessionsRecord, SessionsRecord,
    },
    status::record::ClusterRecord,
};
use askama::Template;

/// What the page shows.
#[derive(Debug, Default)]
pub(crate) struct SessionsContent {
    pub(crate) sessions: SessionsRecord,
    pub(crate) found: Option<Found>,
}

/// What there is of an id.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) id: String,
    pub(crate) found: FoundRecord,
}

#[derive(Debug, Template)]
#[template(path = "sessions.html")]
pub(super) struct Sessions {
    frame: Frame,
    figures: Vec<Figure>,
    unknown: Option<String>,
    apps: Vec<App>,
    servers: Vec<Row>,
    found: Option<FoundView>,
}

#[derive(Debug)]
struct App {
    app: String,
    sessions: String,
    bytes: String,
}

/// An app's sessions in a server's memory.
#[derive(Debug)]
struct Row {
    app: String,
    server: String,
    /// In the order of the table's head.
    numbers: Vec<String>,
}

#[derive(Debug)]
struct FoundView {
    id: String,
    /// Its first characters: enough to see that it is the one.
    begin: String,
    hub: Vec<Copy>,
    servers: Vec<Copy>,
    silent: Vec<SilentServer>,
}

/// The session on the hub, or a copy of it.
#[derive(Debug)]
struct Copy {
    app: String,
    server: String,
    state: String,
    version: String,
    made: String,
    used: String,
    bytes: String,
    attributes: String,
    names: String,
}

impl Sessions {
    pub(super) fn new(frame: Frame, cluster: &ClusterRecord, content: &SessionsContent) -> Self {
        let sessions = &content.sessions;
        let figures = vec![
            Figure::new("On the hub", count(sessions.sessions), ""),
            Figure::new("Their size", bytes(sessions.bytes), ""),
            Figure::new("Refused for want of memory", count(sessions.refused), ""),
            Figure::new("Hub's leader", cluster.hub.leader.clone().unwrap_or_else(|| "none".to_owned()), ""),
        ];
        let mut frame = frame;
        // The answer to a form stays.
        frame.still = content.found.is_some();
        Self {
            frame,
            figures,
            unknown: sessions.unknown.clone(),
            apps: sessions.apps.iter().map(App::of).collect(),
            servers: sessions.servers.iter().map(Row::of).collect(),
            found: content.found.as_ref().map(FoundView::of),
        }
    }
}

impl App {
    fn of(app: &AppSessionsRecord) -> Self {
        Self { app: app.app.clone(), sessions: count(app.sessions), bytes: bytes(app.bytes) }
    }
}

impl Row {
    fn of(row: &ServerSessionsRecord) -> Self {
        let counts = [
            row.unsaved,
            row.saves,
            row.merged,
            row.stale,
            row.superseded,
            row.lost,
            row.unsaved_answers,
            row.without_session,
        ];
        let numbers = [count(row.held), bytes(row.bytes)].into_iter().chain(counts.map(count));
        Self { app: row.app.clone(), server: row.server.clone(), numbers: numbers.collect() }
    }
}

impl FoundView {
    fn of(found: &Found) -> Self {
        Self {
            id: found.id.clone(),
            begin: found.id.chars().take(4).collect(),
            hub: found.found.hub.iter().map(Copy::of_hub).collect(),
            servers: found.found.servers.iter().map(Copy::of_server).collect(),
            silent: found.found.silent.clone(),
        }
    }
}

impl Copy {
    fn of_hub(session: &HubSessionRecord) -> Self {
        Self {
            app: session.app.clone(),
            server: session.owner.clone().unwrap_or_else(|| "nobody".to_owned()),
            state: match session.timeout_ms {
                0 => "never expires".to_owned(),
                timeout => format!("expires after {} without use", duration(timeout / 1000)),
            },
            version: count(session.version),
            made: format!("{} ago", duration(session.created_ago_ms / 1000)),
            used: format!("{} ago", duration(session.used_ago_ms / 1000)),
            bytes: bytes(session.bytes),
            attributes: count(session.attribute_count),
            names: names(&session.attributes),
        }
    }

    fn of_server(session: &HeldSessionRecord) -> Self {
        let state = match session {
            it if it.only_here => "in this server's memory alone",
            it if it.unsaved => "has changes that the hub lacks",
            it if it.stale => "may be outdated: the hub is asked before it is used again",
            _ => "as on the hub",
        };
        Self {
            app: session.app.clone(),
            server: session.server.clone(),
            state: state.to_owned(),
            version: if session.version == 0 { NONE.to_owned() } else { count(session.version) },
            made: NONE.to_owned(),
            used: format!("{} ago", duration(session.used_ago_ms / 1000)),
            bytes: bytes(session.bytes),
            attributes: count(session.attribute_count),
            names: names(&session.attributes),
        }
    }
}

fn names(attributes: &[AttributeRecord]) -> String {
    let named: Vec<_> = attributes.iter().map(|it| format!("{} ({})", it.name, bytes(it.bytes))).collect();
    named.join(", ")
}
