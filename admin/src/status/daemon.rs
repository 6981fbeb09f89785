//! The daemons of apps, each of which runs on one server of its cluster at a time: where, since when, and whether it keeps failing.

use super::{
    app::DaemonHereRecord,
    problem::{Problem, Severity},
    record::ClusterRecord,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// One that runs for so long does not keep failing, however often it did before.
const SETTLED_MS: u64 = 60_000;

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
    /// `running`; `failing`, where it has begun and ended again and again; `waiting`, if no server has it now; or `idle`.
    pub(crate) state: &'static str,
    /// Where it runs; none: nowhere, as far as the servers answer.
    pub(crate) server: Option<String>,
    /// Since when it runs there.
    pub(crate) since: Option<String>,
    /// Of its lease, where it runs.
    pub(crate) token: Option<u64>,
    /// On all servers together, since it last ran for a minute on each.
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

/// A daemon on a server that answers.
type Here<'a> = (&'a str, &'a DaemonHereRecord);

impl DaemonsRecord {
    /// Of what the servers say.
    pub(crate) fn of(cluster: &ClusterRecord) -> Self {
        let mut found: BTreeMap<(&str, &str, &str), Vec<Here<'_>>> = BTreeMap::new();
        for server in &cluster.servers {
            for app in server.answer.iter().flat_map(|it| &it.apps) {
                for daemon in &app.daemons {
                    let key = (app.name.as_str(), server.known.cluster.as_str(), daemon.name.as_str());
                    found.entry(key).or_default().push((&server.known.id, daemon));
                }
            }
        }
        let daemons = found.into_iter().map(|((app, of, name), here)| {
            let record = DaemonRecord::of(name, &here, cluster.taken_ms);
            DaemonRecord { app: app.to_owned(), cluster: of.to_owned(), ..record }
        });
        Self { daemons: daemons.collect() }
    }
}

impl DaemonRecord {
    fn of(name: &str, here: &[Here<'_>], now_ms: u64) -> Self {
        let running = here.iter().find(|(_, it)| it.state == "running");
        // One that begins anew after each failure runs at times, too.
        let is_settled = |it: &DaemonHereRecord| now_ms.saturating_sub(it.since_ms) >= SETTLED_MS;
        let runs = running.is_some_and(|(_, it)| it.failures == 0 || is_settled(it));
        let failures = here.iter().fold(0, |sum: u32, (_, it)| sum.saturating_add(it.failures));
        let last = here.iter().filter(|(_, it)| it.state == "failed").max_by_key(|(_, it)| it.since_ms);
        let has = |state: &str| here.iter().any(|(_, it)| it.state == state);
        Self {
            name: name.to_owned(),
            app: String::new(),
            cluster: String::new(),
            state: match () {
                () if runs => "running",
                () if failures > 0 => "failing",
                () if has("waiting") => "waiting",
                () => "idle",
            },
            server: running.map(|it| it.0.to_owned()),
            since: running.and_then(|it| it.1.since.clone()),
            token: running.and_then(|it| it.1.token),
            failures: if runs { 0 } else { failures },
            why: last.filter(|_| !runs).map(|it| it.1.why.clone()).unwrap_or_default(),
            servers: here.iter().map(DaemonOnServerRecord::of).collect(),
        }
    }
}

impl DaemonOnServerRecord {
    fn of((server, it): &Here<'_>) -> Self {
        Self {
            server: (*server).to_owned(),
            state: it.state,
            since: it.since.clone(),
            failures: it.failures,
            why: it.why.clone(),
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

    fn here(state: &'static str, since_ms: u64, failures: u32) -> DaemonHereRecord {
        DaemonHereRecord {
            name: "counter".into(),
            state,
            since: None,
            since_ms,
            token: (state == "running").then_some(7),
            failures,
            why: if state == "failed" { format!("answered 500 at {since_ms}") } else { String::new() },
        }
    }

    #[test]
    fn a_daemon_runs_or_keeps_failing_whatever_it_does_in_this_moment() {
        let now_ms = 1_000_000;
        let of = |all: &[(&'static str, u64, u32)]| {
            let all: Vec<_> =
                all.iter().map(|(state, since, failures)| here(state, *since, *failures)).collect();
            let here: Vec<_> = ["a", "b", "c"].into_iter().zip(&all).collect();
            let DaemonRecord { state, server, token, failures, why, .. } =
                DaemonRecord::of("counter", &here, now_ms);
            format!("{state} {} {} {failures} {why}", server.unwrap_or_default(), token.unwrap_or_default())
        };
        let lately = now_ms - 100;
        assert_eq!(of(&[("waiting", 0, 0), ("running", lately, 0)]), "running b 7 0 ");
        // It failed on one server, and runs on another since.
        assert_eq!(of(&[("failed", 5, 4), ("running", lately, 0)]), "running b 7 0 ");
        assert_eq!(of(&[("failed", 5, 4), ("failed", 9, 3)]), "failing  0 7 answered 500 at 9");
        // It has just been started again where it failed before.
        assert_eq!(of(&[("failed", 5, 4), ("running", lately, 3)]), "failing b 7 7 answered 500 at 5");
        // And has come through.
        assert_eq!(of(&[("failed", 5, 4), ("running", now_ms - SETTLED_MS, 3)]), "running b 7 0 ");
        assert_eq!(of(&[("waiting", 0, 0), ("waiting", 0, 0)]), "waiting  0 0 ");
        assert_eq!(of(&[("idle", 0, 0)]), "idle  0 0 ");
    }
}
