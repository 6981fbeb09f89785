//! The daemons of apps: where each runs, since when, and whether it keeps failing.

use super::{
    Frame, class_of,
    format::{NONE, ago, beginning, count},
    list::{List, ListQuery},
};
use crate::status::{
    daemon::{DaemonRecord, DaemonsRecord},
    record::ClusterRecord,
};
use askama::Template;

/// Daemons on a page, and how much of why each has failed.
const DAEMONS: usize = 100;
const WHY: usize = 300;
const LINES: usize = 8;

#[derive(Debug, Template)]
#[template(path = "daemons.html")]
pub(super) struct Daemons {
    frame: Frame,
    list: List,
    none: bool,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: String,
    app: String,
    cluster: String,
    class: &'static str,
    state: &'static str,
    server: String,
    since: String,
    token: String,
    failures: String,
    why: String,
}

impl Daemons {
    pub(super) fn new(frame: Frame, cluster: &ClusterRecord, query: &ListQuery) -> Self {
        let all = DaemonsRecord::of(cluster).daemons;
        let is_wanted = |it: &&DaemonRecord| query.is_wanted(&it.name) || query.is_wanted(&it.app);
        let wanted: Vec<_> = all.iter().filter(is_wanted).collect();
        let now = cluster.taken.as_deref();
        Self {
            frame,
            list: query.above(("/daemons", "Which daemons"), &[], (wanted.len(), DAEMONS)),
            none: all.is_empty(),
            rows: wanted[query.range(wanted.len(), DAEMONS)].iter().map(|it| Row::of(it, now)).collect(),
        }
    }
}

impl Row {
    fn of(it: &DaemonRecord, now: Option<&str>) -> Self {
        let since = ago(it.since.as_deref(), now);
        Self {
            name: it.name.clone(),
            app: it.app.clone(),
            cluster: it.cluster.clone(),
            class: class_of(it.state),
            state: it.state,
            server: it.server.clone().unwrap_or_else(|| NONE.to_owned()),
            since: if since.is_empty() { NONE.to_owned() } else { since },
            token: it.token.map_or_else(|| NONE.to_owned(), |token| token.to_string()),
            failures: if it.failures == 0 { String::new() } else { count(it.failures.into()) },
            why: beginning(&it.why, WHY, LINES),
        }
    }
}
