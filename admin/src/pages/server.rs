//! A server: all that is known of it, what is wrong with it, and how it was.

use super::{
    Act, Figure, Frame, Page, class_of,
    format::{self, NONE, bytes, count, duration, millis, optional, percent, short},
    graph::{self, Graphs, Kind},
    html,
    overview::Row,
    servers::{acts, path_of, why},
    text,
};
use crate::{
    AnswerBody, Inner,
    browser::Visitor,
    history::{Range, may_be_server},
    refusal::Refusal,
    status::{
        app::RunningRecord,
        record::{AnswerRecord, ClusterRecord, ServerRecord, WebTierRecord},
    },
};
use askama::Template;
use common::config::Config;
use http::{Response, StatusCode};

/// Apps that are shown; the page Apps finds any.
const APPS: usize = 200;

#[derive(Debug, Template)]
#[template(path = "server.html")]
struct ServerPage {
    frame: Frame,
    id: String,
    path: String,
    class: &'static str,
    state: &'static str,
    why: String,
    acts: Vec<Act>,
    problems: Vec<Row>,
    figures: Vec<Figure>,
    facts: Vec<(&'static str, String)>,
    apps: Vec<App>,
    more_apps: usize,
    graphs: Graphs,
}

/// An app that it runs.
#[derive(Debug)]
struct App {
    name: String,
    tag: String,
    kind: &'static str,
    tree: String,
    processes: String,
    sessions: String,
}

impl Inner {
    /// The page of a server, or that there is no such server.
    pub(crate) async fn server_page(
        &self,
        config: &Config,
        prefix: &str,
        id: &str,
        (visitor, range): (&Visitor, Option<Range>),
    ) -> Response<AnswerBody> {
        let cluster = self.cluster(config).await;
        let Some(server) = cluster.servers.iter().find(|it| it.known.id == id) else {
            let known = cluster.servers.iter().map(|it| it.known.id.clone()).collect();
            let refusal = Refusal::UnknownServer { id: id.to_owned(), known };
            let why = (refusal.status(), refusal.to_string());
            return self.refused_page(config, prefix, (Page::Servers, visitor), why).await;
        };
        let graphs = match Some(id).filter(|it| may_be_server(it)) {
            Some(id) => self.graphs(config, prefix, Some(id), (range, &kinds(server))).await,
            None => Graphs::default(),
        };
        let frame = Frame::new(prefix, Page::Servers, visitor, &cluster);
        html(StatusCode::OK, render(frame, server, &cluster, graphs))
    }
}

/// The page as HTML.
pub(super) fn render(frame: Frame, server: &ServerRecord, cluster: &ClusterRecord, graphs: Graphs) -> String {
    text(&ServerPage::new(frame, server, cluster, graphs))
}

/// The graphs of a server, by what it is. One that does not answer has all: it may have been anything.
pub(super) fn kinds(server: &ServerRecord) -> Vec<&'static [Kind]> {
    let is = |role| server.answer.is_none() || server.roles.contains(&role);
    let of_roles = [(graph::WEB_TIER, "web-tier"), (graph::APP_TIER, "app-tier"), (graph::HUB, "hub")];
    let mut kinds: Vec<&'static [Kind]> = vec![graph::ANY];
    kinds.extend(of_roles.into_iter().filter(|(_, role)| is(role)).map(|(kinds, _)| kinds));
    kinds
}

impl ServerPage {
    fn new(frame: Frame, server: &ServerRecord, cluster: &ClusterRecord, graphs: Graphs) -> Self {
        let known = &server.known;
        let problems = cluster.problems.iter().filter(|it| it.server.as_ref() == Some(&known.id));
        let answer = server.answer.as_ref();
        let apps = answer.map(|it| &it.apps[..]).unwrap_or_default();
        Self {
            path: path_of(&known.id),
            id: known.id.clone(),
            class: class_of(server.shown()),
            state: server.shown(),
            why: why(server, cluster),
            acts: if frame.may_operate { acts(server) } else { Vec::new() },
            problems: problems.map(|it| Row::of(it, cluster)).collect(),
            figures: answer.map(figures).unwrap_or_default(),
            facts: facts(server, cluster),
            apps: apps.iter().take(APPS).map(App::of).collect(),
            more_apps: apps.len().saturating_sub(APPS),
            graphs,
            frame,
        }
    }
}

fn figures(answer: &AnswerRecord) -> Vec<Figure> {
    let process = &answer.process;
    let mut figures = vec![
        Figure::new("Runs for", duration(answer.uptime_s), ""),
        Figure::new("CPU", percent(process.cpu_per_mille), "of a core"),
        Figure::new("Memory", bytes(process.resident_bytes), ""),
        Figure::new("Open files", count(process.open_files), ""),
        Figure::new("Disk free", bytes(process.disk_free_bytes), ""),
        Figure::new("Load", short(process.load_per_mille as f64 / 1000.0), ""),
    ];
    if let Some(WebTierRecord { rate, connections_open, .. }) = &answer.web_tier {
        figures.extend([
            Figure::new("Clients", count(*connections_open), "open"),
            Figure::new("Requests", short(rate.requests_per_s), "/s"),
            Figure::new("Errors (5xx)", short(rate.errors_per_s), "/s"),
            Figure::new("Latency p50", millis(rate.p50_ms), ""),
            Figure::new("Latency p99", millis(rate.p99_ms), ""),
        ]);
    }
    figures
}

/// Names with values.
fn facts(server: &ServerRecord, cluster: &ClusterRecord) -> Vec<(&'static str, String)> {
    let known = &server.known;
    let or_none = |text: Option<String>| text.filter(|it| !it.is_empty()).unwrap_or_else(|| NONE.to_owned());
    let mut facts = vec![
        ("Cluster", known.cluster.clone()),
        ("Cluster port", known.address.clone()),
        ("Roles", or_none(Some(server.roles.join(", ")))),
        ("Version", or_none(known.version.clone())),
        (
            "Configuration",
            match (known.in_file, known.same_file) {
                (false, _) => "not in the file of the server that answers",
                (true, Some(true)) => "the same servers as the server that answers",
                (true, Some(false)) => "other servers than the server that answers",
                (true, None) => NONE,
            }
            .to_owned(),
        ),
    ];
    if let Some(answer) = &server.answer {
        let process = &answer.process;
        facts.extend([
            ("Started", or_none(answer.started.clone())),
            ("Process", format!("pid {}, {} threads", process.pid, process.threads)),
            ("Files at most", count(process.open_files_max)),
            ("Memory of the machine", of(process.memory_free_bytes, process.memory_total_bytes)),
            ("Disk", of(process.disk_free_bytes, process.disk_total_bytes)),
            ("Cores", process.cores.to_string()),
            ("Clock", format!("{} ms ahead of the server that asked", answer.clock_ahead_ms)),
            (
                "Heard the hub",
                answer
                    .hub_heard_ms
                    .map_or("never".to_owned(), |ms| format!("{} ago", millis(Some(ms as f64)))),
            ),
        ]);
    }
    if let Some(web_tier) = server.web_tier() {
        facts.push(("Listeners", or_none(Some(web_tier.listeners.join(", ")))));
        facts.push(("Workers", web_tier.workers.to_string()));
    }
    if let Some(hub) = cluster.hub.servers.iter().find(|it| it.id == known.id && it.answers) {
        facts.push(("In the hub", hub.role.unwrap_or(NONE).to_owned()));
        facts.push(("Entry applied", optional(hub.applied)));
        facts.push(("Entries behind", optional(hub.lag)));
        facts.push(("Hub's files", hub.disk_bytes.map_or(NONE.to_owned(), bytes)));
    }
    facts
}

fn of(free: u64, total: u64) -> String {
    format!("{} free of {}", bytes(free), bytes(total))
}

impl App {
    fn of(app: &RunningRecord) -> Self {
        let process = |it: &crate::status::app::InstanceRecord| {
            let pid = it.pid.map(|it| format!(" (pid {it})")).unwrap_or_default();
            let why = if it.why.is_empty() { String::new() } else { format!(": {}", it.why) };
            format!("{}{pid}{why}", it.state)
        };
        Self {
            name: app.name.clone(),
            tag: app.tag.clone().unwrap_or_default(),
            kind: app.kind,
            tree: format::short_id(app.tree.as_ref()),
            processes: app.instances.iter().map(process).collect::<Vec<_>>().join(", "),
            sessions: optional(app.sessions.as_ref().map(|it| it.held)),
        }
    }
}
