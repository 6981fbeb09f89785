//! Log lines of all servers, the newest first.

use super::Frame;
use crate::{
    ask::SilentServer,
    logs::{LineRecord, LogQuery, LogsRecord},
    status::record::ClusterRecord,
};
use askama::Template;
use common::recent_logs::LogLevel;

/// What lines are shown make up, in bytes; one that is longer is shown alone.
const TEXT_MAX: usize = 48 << 10;

#[derive(Debug, Template)]
#[template(path = "logs.html")]
pub(super) struct Logs {
    frame: Frame,
    query: LogQuery,
    levels: Vec<Choice>,
    servers: Vec<Choice>,
    silent: Vec<SilentServer>,
    lines: Vec<Line>,
    /// There would be more, which would make the page large.
    more: bool,
}

/// An option of a form.
#[derive(Debug)]
struct Choice {
    value: String,
    chosen: bool,
}

#[derive(Debug)]
struct Line {
    day: String,
    time: String,
    server: String,
    class: &'static str,
    level: &'static str,
    app: String,
    target: String,
    text: String,
}

impl Logs {
    pub(super) fn new(frame: Frame, cluster: &ClusterRecord, query: &LogQuery, logs: &LogsRecord) -> Self {
        let level = |it: LogLevel| Choice { value: it.name().to_owned(), chosen: query.level == Some(it) };
        let server = |id: &String| Choice { value: id.clone(), chosen: query.server == *id };
        let mut room = TEXT_MAX;
        let fits = |it: &&LineRecord| {
            let size = it.text.len() + it.target.len();
            let fits = size <= room || room == TEXT_MAX;
            room = room.saturating_sub(size);
            fits
        };
        let lines: Vec<_> = logs.lines.iter().rev().take_while(fits).map(Line::of).collect();
        Self {
            frame,
            query: query.clone(),
            // What is below is logged if somebody has asked for it.
            levels: [LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error].map(level).into(),
            servers: cluster.servers.iter().map(|it| server(&it.known.id)).collect(),
            silent: logs.silent.clone(),
            more: lines.len() < logs.lines.len(),
            lines,
        }
    }
}

impl Line {
    fn of(line: &LineRecord) -> Self {
        let (day, time) = line.time.as_deref().and_then(|it| it.split_once('T')).unwrap_or_default();
        Self {
            day: day.to_owned(),
            time: time.trim_end_matches('Z').to_owned(),
            server: line.servers.join(", "),
            class: match line.level {
                "error" => "bad",
                "warn" => "warn",
                _ => "off",
            },
            level: line.level,
            app: line.app.clone().unwrap_or_default(),
            // Whose output it is says the app.
            target: line.target.clone(),
            text: line.text.clone(),
        }
    }
}
