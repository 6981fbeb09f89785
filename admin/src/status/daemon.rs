//! The daemons of apps, each of which runs on one server of its cluster at a time: where, since when, and whether it keeps failing.

use super::{
    app::{DaemonHereRecord, RunningRecord},
    problem::{Problem, Severity},
    record::ClusterRecord,
};
use common::app_tag::AppTag;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// One that runs for so long does not keep failing, however often it did before.
const SETTLED_MS: u64 = 60_000;

/// Failures that are older say nothing of now: a daemon that fails is tried again every 30 s at least.
const LATELY_MS: u64 = 300_000;

/// Failures in a row, of all servers together, from which on it is said that it keeps failing.
const FAILURES: u32 = 3;

/// `GET /api/v1/daemons`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct DaemonsRecord {
    /// By app, cluster and name.
    pub(crate) daemons: Vec<DaemonRecord>,
}

/// A daemon of an app in a cluster.
#[derive(Debug, Serialize)]
pub(crate) struct DaemonRecord {
    pub(crate) name: String,
    /// host/path.
    pub(crate) app: String,
    pub(crate) cluster: String,
    /// `running`; `failing`, where it has ended or has not started lately; `waiting`, if no server has it now; `unknown`, if a server that does not answer
    /// may have it; or `idle`.
    pub(crate) state: &'static str,
    /// Where it runs; none: nowhere, as far as the servers answer.
    pub(crate) server: Option<String>,
    /// Since when it runs there.
    pub(crate) since: Option<String>,
    /// Of its lease, where it runs.
    pub(crate) token: Option<u64>,
    /// Lately, in a row, on all servers together.
    pub(crate) failures: u32,
    /// Of which it last failed.
    pub(crate) why: String,
    pub(crate) servers: Vec<DaemonOnServerRecord>,
}

/// How it is on a server.
#[derive(Debug, Serialize)]
pub(crate) struct DaemonOnServerRecord {
    pub(crate) server: String,
    /// `running`, `waiting`, `failed`, `idle` or `stopped`.
    pub(crate) state: &'static str,
    pub(crate) since: Option<String>,
    pub(crate) failures: u32,
    pub(crate) why: String,
}

/// A daemon on a server that answers, and by that server's clock what is now.
#[derive(Debug, Clone, Copy)]
struct Here<'a> {
    server: &'a str,
    now_ms: u64,
    daemon: &'a DaemonHereRecord,
}

impl Here<'_> {
    /// How much its state says: of several versions, or paths, of an app on a server the most counts.
    fn weight(&self) -> u8 {
        match self.daemon.state {
            "running" => 4,
            "failed" => 3,
            "waiting" => 2,
            "idle" => 1,
            _ => 0,
        }
    }

    fn runs(&self) -> bool {
        self.daemon.state == "running"
    }

    /// One that begins anew after each failure runs at times, too.
    fn is_settled(&self) -> bool {
        self.now_ms.saturating_sub(self.daemon.since_ms) >= SETTLED_MS
    }

    /// Its failures in a row, if they are of now.
    fn failures(&self) -> u32 {
        let is_lately = self.now_ms.saturating_sub(self.daemon.failed_ms) < LATELY_MS;
        let has_come_through = self.runs() && self.is_settled();
        if is_lately && !has_come_through { self.daemon.failures } else { 0 }
    }
}

/// What of a name is the same for all its paths and versions: they share a lease.
fn lease_of(app: &RunningRecord) -> String {
    let tag = app.tag.as_deref().and_then(|it| AppTag::parse(it).ok());
    tag.map_or_else(|| app.name.clone(), |it| format!("{}/{}/{}", it.stage, it.host, it.name))
}

impl DaemonsRecord {
    /// Of what the servers say.
    pub(crate) fn of(cluster: &ClusterRecord) -> Self {
        let mut found: BTreeMap<(String, &str, &str), (&str, Vec<Here<'_>>)> = BTreeMap::new();
        let mut silent = BTreeSet::new();
        for server in &cluster.servers {
            let known = &server.known;
            let Some(answer) = &server.answer else {
                if known.state != "down" {
                    silent.insert(known.cluster.as_str());
                }
                continue;
            };
            let now_ms = cluster.taken_ms.saturating_add_signed(answer.clock_ahead_ms);
            for app in &answer.apps {
                for daemon in &app.daemons {
                    let key = (lease_of(app), known.cluster.as_str(), daemon.name.as_str());
                    let here = &mut found.entry(key).or_insert_with(|| (&app.name, Vec::new())).1;
                    let new = Here { server: &known.id, now_ms, daemon };
                    match here.iter_mut().find(|it| it.server == new.server) {
                        Some(old) if old.weight() >= new.weight() => {}
                        Some(old) => *old = new,
                        None => here.push(new),
                    }
                }
            }
        }
        let daemons = found.into_iter().map(|((_, of, name), (app, here))| {
            let record = DaemonRecord::of(name, &here, silent.contains(of));
            DaemonRecord { app: app.to_owned(), cluster: of.to_owned(), ..record }
        });
        Self { daemons: daemons.collect() }
    }
}

impl DaemonRecord {
    fn of(name: &str, here: &[Here<'_>], one_is_silent: bool) -> Self {
        let running = here.iter().find(|it| it.runs());
        let failures = here.iter().fold(0, |sum: u32, it| sum.saturating_add(it.failures()));
        let runs = running.is_some_and(|it| it.failures() == 0);
        let last = here.iter().filter(|it| !it.daemon.why.is_empty()).max_by_key(|it| it.daemon.failed_ms);
        let has = |state: &str| here.iter().any(|it| it.daemon.state == state);
        Self {
            name: name.to_owned(),
            app: String::new(),
            cluster: String::new(),
            state: match () {
                () if runs => "running",
                () if running.is_none() && one_is_silent => "unknown",
                () if failures > 0 => "failing",
                () if has("waiting") || has("failed") => "waiting",
                () => "idle",
            },
            server: running.map(|it| it.server.to_owned()),
            since: running.and_then(|it| it.daemon.since.clone()),
            token: running.and_then(|it| it.daemon.token),
            failures: if runs { 0 } else { failures },
            why: last.filter(|_| !runs).map(|it| it.daemon.why.clone()).unwrap_or_default(),
            servers: here.iter().map(DaemonOnServerRecord::of).collect(),
        }
    }
}

impl DaemonOnServerRecord {
    fn of(Here { server, daemon, .. }: &Here<'_>) -> Self {
        Self {
            server: (*server).to_owned(),
            state: daemon.state,
            since: daemon.since.clone(),
            failures: daemon.failures,
            why: daemon.why.clone(),
        }
    }
}

/// Those that keep failing.
pub(crate) fn problems(cluster: &ClusterRecord) -> Vec<Problem> {
    let failing = DaemonsRecord::of(cluster).daemons.into_iter();
    let failing = failing.filter(|it| it.state == "failing" && it.failures >= FAILURES);
    let problem = |it: DaemonRecord| {
        let DaemonRecord { name, app, cluster, failures, why, .. } = it;
        let what = format!("The daemon {name} of {app} keeps failing, {failures} times in a row: {why}");
        let remedy = format!(
            "It is started again by itself, every 30 s at most. Its lines: `deploy-tool logs --app {app}`."
        );
        Problem::new(Severity::Fault, "daemon", None, what, remedy).of(&format!("{cluster} {app} {name}"))
    };
    failing.map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::planted;

    const NOW_MS: u64 = 1_000_000_000;
    const LATELY: u64 = NOW_MS - 100;
    const LONG_AGO: u64 = NOW_MS - LATELY_MS;

    /// A state, since when, failures, and when the last was.
    type Told = (&'static str, u64, u32, u64);

    fn here((state, since_ms, failures, failed_ms): Told) -> DaemonHereRecord {
        DaemonHereRecord {
            name: "counter".into(),
            state,
            since: None,
            since_ms,
            failed_ms,
            token: (state == "running").then_some(7),
            failures,
            why: if failures > 0 { format!("failed at {failed_ms}") } else { String::new() },
        }
    }

    fn of(all: &[Told], one_is_silent: bool) -> String {
        let all: Vec<_> = all.iter().map(|it| here(*it)).collect();
        let here = |(server, daemon)| Here { server, now_ms: NOW_MS, daemon };
        let all: Vec<_> = ["a", "b", "c"].into_iter().zip(&all).map(here).collect();
        let DaemonRecord { state, server, failures, .. } = DaemonRecord::of("counter", &all, one_is_silent);
        format!("{state} {} {failures}", server.unwrap_or_else(|| "-".into()))
    }

    #[test]
    fn a_daemon_runs_or_keeps_failing_whatever_it_does_in_this_moment() {
        let waits = ("waiting", 0, 0, 0);
        assert_eq!(of(&[waits, ("running", LATELY, 0, 0)], true), "running b 0");
        // It failed on one server, and runs on another since.
        assert_eq!(of(&[("failed", LATELY, 4, LATELY), ("running", LATELY, 0, 0)], false), "running b 0");
        assert_eq!(of(&[("failed", LATELY, 4, LATELY), ("failed", LATELY, 3, LATELY)], false), "failing - 7");
        // It has just been started again where it failed before.
        assert_eq!(
            of(&[("failed", LATELY, 4, LATELY), ("running", LATELY, 3, LATELY)], false),
            "failing b 7"
        );
        // And has come through.
        let settled = ("running", NOW_MS - SETTLED_MS, 3, NOW_MS - SETTLED_MS);
        assert_eq!(of(&[("failed", LATELY, 4, LATELY), settled], false), "running b 0");
        // It failed there long ago, and is there again.
        assert_eq!(of(&[("running", LATELY, 3, LONG_AGO), waits], false), "running a 0");
        assert_eq!(of(&[("failed", LONG_AGO, 3, LONG_AGO), waits], false), "waiting - 0");
        assert_eq!(of(&[waits, waits], false), "waiting - 0");
        // Who may have it does not answer.
        assert_eq!(of(&[waits, ("failed", LATELY, 4, LATELY)], true), "unknown - 4");
        assert_eq!(of(&[("idle", 0, 0, 0)], false), "idle - 0");
    }

    #[test]
    fn an_app_at_two_paths_or_in_two_versions_has_one_of_a_name() {
        let mut cluster = ClusterRecord::of(&planted::snapshot(), &planted::config());
        let names = |cluster: &ClusterRecord| -> Vec<_> {
            DaemonsRecord::of(cluster).daemons.iter().map(|it| (it.app.clone(), it.name.clone())).collect()
        };
        let before = names(&cluster);
        assert!(before.contains(&("default/shop".to_owned(), "counter".to_owned())), "{before:?}");
        let tag = Some("production/webapp/default/shop-1.2.0");
        let mut apps =
            cluster.servers.iter_mut().filter_map(|it| it.answer.as_mut()).flat_map(|it| &mut it.apps);
        let shop = apps.find(|it| it.tag.as_deref() == tag).unwrap();
        shop.tag = Some("production/webapp/default/shop-1.3.0".to_owned());
        shop.name = "other/shop".to_owned();
        assert_eq!(names(&cluster).len(), before.len());
    }
}
