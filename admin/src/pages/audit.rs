//! Who has changed what.

use super::{Frame, format::NONE};
use crate::audit::{AuditQuery, AuditRecord, EntryRecord, KINDS};
use askama::Template;

#[derive(Debug, Template)]
#[template(path = "audit.html")]
pub(super) struct Audit {
    frame: Frame,
    rows: Vec<Row>,
    kinds: Vec<Kind>,
    /// Why there is nothing to show.
    why: String,
    /// The older entries.
    older: Option<String>,
}

/// A kind of entries to look at.
#[derive(Debug)]
struct Kind {
    name: &'static str,
    query: String,
    current: bool,
}

#[derive(Debug)]
struct Row {
    time: String,
    who: String,
    with: String,
    from: String,
    server: String,
    action: String,
    target: String,
    detail: String,
    outcome: String,
    class: &'static str,
}

impl Audit {
    pub(super) fn new(frame: Frame, query: &AuditQuery, log: Result<AuditRecord, String>) -> Self {
        let kind = query.kind.unwrap_or_default();
        let all = [Kind { name: "all", query: String::new(), current: kind.is_empty() }];
        let one = |(name, _): &(&'static str, _)| Kind {
            name,
            query: format!("?kind={name}"),
            current: *name == kind,
        };
        let (log, why) = match log {
            Ok(log) => (log, String::new()),
            Err(why) => (AuditRecord::default(), why),
        };
        let last = log.entries.last().filter(|_| log.more).map(|it| it.number);
        Self {
            frame,
            rows: log.entries.into_iter().map(Row::of).collect(),
            kinds: all.into_iter().chain(KINDS.iter().map(one)).collect(),
            why,
            older: last.map(|last| format!("?kind={kind}&before={last}")),
        }
    }
}

impl Row {
    fn of(entry: EntryRecord) -> Self {
        let class = match entry.outcome.as_str() {
            "done" | "begun" | "activated" | "unchanged" | "delivered" | "" => "ok",
            _ => "warn",
        };
        let time = entry.time.unwrap_or_default();
        Self {
            // Its seconds are enough.
            time: time.split('.').next().unwrap_or_default().replace('T', " "),
            who: entry.user.unwrap_or_else(|| if entry.address.is_some() { "?" } else { NONE }.to_owned()),
            with: entry.token.map(|it| format!("token {it}")).unwrap_or_default(),
            from: entry.address.unwrap_or_default(),
            server: entry.server.unwrap_or_default(),
            action: entry.action,
            target: entry.target,
            detail: entry.detail,
            outcome: entry.outcome,
            class,
        }
    }
}
