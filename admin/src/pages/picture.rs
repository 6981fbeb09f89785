//! The cluster drawn: web-tiers, the servers that they send requests to, and the hub, with states and what flows between them.

use super::{class_of, format};
use crate::status::record::{ClusterRecord, ServerRecord};
use std::fmt::Write;

/// Of a box, and from one to the next, in units of the drawing.
const BOX_WIDTH: u32 = 200;
const BOX_HEIGHT: u32 = 46;
const STEP: u32 = 58;
const TOP: u32 = 32;

/// Where the three columns begin.
const COLUMNS: [u32; 3] = [10, 310, 610];

/// Boxes in a column; of more servers the rest is one box.
const BOXES_MAX: usize = 16;

/// The drawing.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) width: u32,
    pub(super) height: u32,
    /// The same in words.
    pub(super) words: String,
    pub(super) headings: Vec<Heading>,
    pub(super) boxes: Vec<Boxed>,
    pub(super) lines: Vec<Line>,
}

#[derive(Debug)]
pub(super) struct Heading {
    pub(super) x: u32,
    pub(super) text: String,
}

/// A server.
#[derive(Debug)]
pub(super) struct Boxed {
    id: String,
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) width: u32,
    pub(super) text_x: u32,
    pub(super) name_y: u32,
    pub(super) note_y: u32,
    pub(super) class: &'static str,
    pub(super) name: String,
    pub(super) note: String,
}

/// What flows from one to another.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) class: &'static str,
    pub(super) x1: u32,
    pub(super) y1: u32,
    pub(super) middle: u32,
    pub(super) x2: u32,
    pub(super) y2: u32,
    pub(super) width: String,
    pub(super) words: String,
}

impl Picture {
    pub(super) fn of(cluster: &ClusterRecord) -> Self {
        let is_web = |it: &&ServerRecord| it.listens;
        let web: Vec<_> = cluster.servers.iter().filter(is_web).collect();
        let app: Vec<_> = cluster.servers.iter().filter(|it| !is_web(it)).collect();
        let mut boxes = column(0, web.iter().map(|it| (it.known.id.as_str(), it.shown(), web_note(it))));
        let first_app = boxes.len();
        boxes.extend(column(1, app.iter().map(|it| (it.known.id.as_str(), it.shown(), app_note(it)))));
        let first_hub = boxes.len();
        let hub = cluster.hub.servers.iter().map(|it| {
            let role = it.role.unwrap_or("silent");
            let note = match (role, it.lag) {
                ("leader", _) => format!("leads, term {}", cluster.hub.term),
                (role, Some(0)) => format!("{role}, up to date"),
                (role, Some(lag)) => format!("{role}, {} behind", format::count(lag)),
                (role, None) => role.to_owned(),
            };
            (it.id.as_str(), role, note)
        });
        boxes.extend(column(2, hub));
        let lines = flows(cluster, &boxes, first_app, first_hub);
        let rows = boxes.iter().map(|it| it.y).max().unwrap_or(TOP);
        let headings = ["Web-tier", "App-tier", "Triad"];
        Self {
            width: COLUMNS[2] + BOX_WIDTH + 10,
            height: rows + BOX_HEIGHT + 10,
            words: words(&boxes),
            headings: COLUMNS
                .iter()
                .zip(headings)
                .map(|(x, text)| Heading { x: *x, text: text.to_owned() })
                .collect(),
            boxes,
            lines,
        }
    }
}

fn column<'a>(number: usize, servers: impl Iterator<Item = (&'a str, &'a str, String)>) -> Vec<Boxed> {
    let all: Vec<_> = servers.collect();
    let more = all.len().saturating_sub(BOXES_MAX);
    let wrong = all.iter().skip(BOXES_MAX).filter(|(_, state, _)| class_of(state) == "bad").count();
    let mut boxes: Vec<Boxed> = Vec::new();
    for (id, state, note) in all.into_iter().take(BOXES_MAX) {
        boxes.push(boxed(number, boxes.len(), id, class_of(state), id, &note));
    }
    if more > 0 {
        let class = if wrong > 0 { "bad" } else { "ok" };
        let note = format!("{wrong} of them down");
        boxes.push(boxed(number, boxes.len(), "", class, &format!("and {more} more"), &note));
    }
    boxes
}

fn boxed(column: usize, row: usize, id: &str, class: &'static str, name: &str, note: &str) -> Boxed {
    let (x, y) = (COLUMNS[column], TOP + STEP * u32::try_from(row).unwrap_or(0));
    let clipped = |text: &str, most: usize| match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    };
    Boxed {
        id: id.to_owned(),
        x,
        y,
        width: BOX_WIDTH,
        text_x: x + 16,
        name_y: y + 20,
        note_y: y + 36,
        class,
        name: clipped(name, 24),
        note: clipped(note, 30),
    }
}

fn web_note(server: &ServerRecord) -> String {
    match server.web_tier() {
        Some(it) => format!(
            "{} requests/s, clients: {}",
            format::short(it.rate.requests_per_s),
            format::count(it.connections_open)
        ),
        None => server.shown().to_owned(),
    }
}

fn app_note(server: &ServerRecord) -> String {
    let Some(answer) = &server.answer else { return server.shown().to_owned() };
    let sessions: u64 = answer.apps.iter().filter_map(|it| it.sessions.as_ref()).map(|it| it.held).sum();
    match server.shown() {
        "up" => format!("apps: {}, sessions: {}", answer.apps.len(), format::count(sessions)),
        other => other.to_owned(),
    }
}

/// From each web-tier to each server that it balances over, and from the hub's leader to its followers.
fn flows(cluster: &ClusterRecord, boxes: &[Boxed], first_app: usize, first_hub: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    let (web, rest) = boxes.split_at(first_app);
    let (app, hub) = rest.split_at(first_hub - first_app);
    let server = |id: &str| cluster.servers.iter().find(|it| it.known.id == id);
    for from in web {
        let upstreams = server(&from.id).and_then(ServerRecord::web_tier).map(|it| &it.upstreams);
        for seen in upstreams.into_iter().flatten().flat_map(|it| &it.servers) {
            let Some(to) = app.iter().find(|it| it.id == seen.id) else { continue };
            let class = match class_of(seen.state) {
                "bad" => "bad",
                "off" => "off",
                _ => "ok",
            };
            let words = format!("{} to {}: {}, {} active", from.name, to.name, seen.state, seen.active);
            lines.push(line(class, from, to, 1.5 + (seen.active as f64 + 1.0).log2().min(6.0), words));
        }
    }
    for from in app {
        if let Some(to) =
            hub.iter().find(|it| it.class == "ok" && cluster.hub.leader.as_ref() == Some(&it.id))
        {
            let class = if from.class == "bad" { "off" } else { "ok" };
            lines.push(line(class, from, to, 1.0, format!("{} saves on {}", from.name, to.name)));
        }
    }
    lines
}

fn line(class: &'static str, from: &Boxed, to: &Boxed, width: f64, words: String) -> Line {
    let (x1, x2) = (from.x + from.width, to.x);
    Line {
        class,
        x1,
        y1: from.y + BOX_HEIGHT / 2,
        middle: x1.midpoint(x2),
        x2,
        y2: to.y + BOX_HEIGHT / 2,
        width: format!("{width:.1}"),
        words,
    }
}

fn words(boxes: &[Boxed]) -> String {
    boxes.iter().fold(String::new(), |mut text, it| {
        let _ = write!(text, "{}: {}. ", it.name, it.note);
        text
    })
}
