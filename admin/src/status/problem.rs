//! What is wrong now, in words: since when, and what to do about it.

use super::record::{ClusterRecord, ServerRecord};
use crate::timestamp;
use serde::Serialize;

/// Below it a disk, or memory, is nearly full: hundredths that are free.
const FREE_MIN: u64 = 5;
const FREE_LOW: u64 = 10;

/// Open files, in hundredths of what there may be.
const FILES_HIGH: u64 = 80;

/// Clocks that are farther apart than this mislead whoever compares logs, in milliseconds.
const CLOCK_MAX_MS: i64 = 2000;

/// A server that has not heard the hub for so long is cut off.
const HUB_SILENT_MS: u64 = 5000;

/// Entries that a hub server is behind.
const LAG_MAX: u64 = 10_000;

/// Of a minute's answers, hundredths that were 5xx; below so many requests it says nothing.
const ERRORS_HIGH: u64 = 5;
const REQUESTS_MIN: u64 = 20;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Severity {
    /// Users notice it, or would at the next failure.
    Fault,
    /// It may become one.
    Warning,
    /// Somebody meant it so.
    Notice,
}

impl Severity {
    /// As the pages have it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Warning => "warning",
            Self::Notice => "notice",
        }
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    pub(crate) severity: Severity,
    /// The server that it is about, if it is about one.
    pub(crate) server: Option<String>,
    pub(crate) what: String,
    /// What to do about it.
    pub(crate) remedy: String,
    /// Since when: as the hub has it, or since it was first seen here.
    pub(crate) since: Option<String>,
    /// Names it while it lasts.
    #[serde(skip)]
    pub(crate) key: String,
}

impl Problem {
    fn new(severity: Severity, kind: &str, server: Option<&str>, what: String, remedy: String) -> Self {
        let key = format!("{kind} {}", server.unwrap_or_default());
        Self { severity, server: server.map(str::to_owned), what, remedy, since: None, key }
    }

    fn since(mut self, since: Option<&String>) -> Self {
        self.since = since.cloned();
        self
    }

    /// Of several of a kind on one server.
    fn of(mut self, which: &str) -> Self {
        self.key.push(' ');
        self.key.push_str(which);
        self
    }

    /// Since it was first seen, if nothing better is known.
    pub(crate) fn set_since(&mut self, first_ms: u64) {
        if self.since.is_none() {
            self.since = timestamp::format(first_ms);
        }
    }
}

/// All that is wrong, the worst first.
pub(crate) fn find(cluster: &ClusterRecord) -> Vec<Problem> {
    let mut problems = of_hub(cluster);
    for server in &cluster.servers {
        problems.extend(presence(server));
        problems.extend(resources(server));
        problems.extend(apps(server));
        problems.extend(traffic(server));
    }
    problems.extend(agreement(cluster));
    problems.extend(deployments(cluster));
    problems.sort_by_key(|it| it.severity);
    problems
}

fn of_hub(cluster: &ClusterRecord) -> Vec<Problem> {
    let hub = &cluster.hub;
    let mut found = Vec::new();
    let live = hub.servers.iter().filter(|it| it.answers).count();
    let needed = hub.servers.len() / 2 + 1;
    if hub.leader.is_none() {
        let what = format!(
            "The hub has no leader that answers: {live} of its {} servers answer, {needed} are needed. Nothing is saved",
            hub.servers.len()
        );
        let remedy = "Start the hub servers that are down. Apps go on from their servers' memory until then.";
        found.push(Problem::new(Severity::Fault, "no-leader", None, what, remedy.to_owned()));
    } else if live < hub.servers.len() && live == needed {
        let what = format!(
            "The hub has no server to spare: {live} of {} answer, and all of these are needed",
            hub.servers.len()
        );
        let remedy = "Bring the missing hub server back before another one fails.";
        found.push(Problem::new(Severity::Warning, "no-spare", None, what, remedy.to_owned()));
    }
    for server in hub.servers.iter().filter(|it| it.lag.is_some_and(|lag| lag > LAG_MAX)) {
        let what = format!("{} is {} entries behind the hub's leader", server.id, server.lag.unwrap_or(0));
        let remedy = "It may be catching up after a restart; if the number does not fall, look at its disk and network.";
        found.push(Problem::new(Severity::Warning, "lag", Some(&server.id), what, remedy.to_owned()));
    }
    found
}

fn presence(server: &ServerRecord) -> Option<Problem> {
    let known = &server.known;
    let id = known.id.as_str();
    if known.state == "unknown" && server.answer.is_none() {
        let remedy = format!("Start it: `copal start --server {id}`, or take it out of the file.");
        let what = format!("{id} has never been started");
        return Some(Problem::new(Severity::Warning, "never", Some(id), what, remedy));
    }
    if known.state == "down" && known.in_file {
        let remedy = format!("Start it again: `copal start --server {id}`. Its log says why it ended.");
        let what = format!("{id} is down");
        return Some(
            Problem::new(Severity::Fault, "down", Some(id), what, remedy).since(known.state_since.as_ref()),
        );
    }
    if let Some(silent) = &server.silent {
        let what = format!("{id} does not answer: {}", silent.why);
        let remedy = "Is the process there, and can its cluster port be reached from this server?";
        let problem = Problem::new(Severity::Fault, "silent", Some(id), what, remedy.to_owned());
        return Some(problem.since(silent.since.as_ref()));
    }
    if known.admin != "enabled" {
        let what = match known.admin {
            "disabled" => format!("{id} is disabled: web-tiers send it nothing"),
            _ => format!("{id} is disabled softly: it gets requests of its own sessions alone"),
        };
        let remedy = format!("An administrator wants it so. `deploy-tool server enable {id}` puts it back.");
        let problem = Problem::new(Severity::Notice, "disabled", Some(id), what, remedy);
        return Some(problem.since(known.admin_since.as_ref()));
    }
    None
}

fn resources(server: &ServerRecord) -> Vec<Problem> {
    let Some(answer) = &server.answer else { return Vec::new() };
    let (id, process) = (server.known.id.as_str(), &answer.process);
    let mut found = Vec::new();
    let mut low = |kind: &str, what: &str, free: u64, total: u64, remedy: &str| {
        let hundredths = free.saturating_mul(100).checked_div(total);
        if let Some(hundredths) = hundredths.filter(|it| *it < FREE_LOW) {
            let severity = if hundredths < FREE_MIN { Severity::Fault } else { Severity::Warning };
            let text = format!("{id} has {hundredths} % of its {what} free");
            found.push(Problem::new(severity, kind, Some(id), text, remedy.to_owned()));
        }
    };
    let remedy = "Make room: the hub stops when it can't write, and no version can be deployed.";
    low("disk", "disk", process.disk_free_bytes, process.disk_total_bytes, remedy);
    let remedy = "Look at which process takes it: the kernel ends one when none is left.";
    low("memory", "machine's memory", process.memory_free_bytes, process.memory_total_bytes, remedy);
    let files = process.open_files.saturating_mul(100).checked_div(process.open_files_max);
    if files.is_some_and(|it| it >= FILES_HIGH) {
        let what = format!("{id} has {} of {} files open", process.open_files, process.open_files_max);
        let remedy = "Raise the limit (`ulimit -n`, `LimitNOFILE=`): new connections will have to wait.";
        found.push(Problem::new(Severity::Warning, "files", Some(id), what, remedy.to_owned()));
    }
    if answer.clock_ahead_ms.abs() > CLOCK_MAX_MS {
        let word = if answer.clock_ahead_ms > 0 { "ahead of" } else { "behind" };
        let apart = answer.clock_ahead_ms.unsigned_abs() / 1000;
        let what = format!("The clock of {id} is {apart} s {word} this server's");
        let remedy = "Let NTP set the clocks of all servers.";
        found.push(Problem::new(Severity::Warning, "clock", Some(id), what, remedy.to_owned()));
    }
    if answer.hub_heard_ms.is_none_or(|it| it > HUB_SILENT_MS) {
        let what = match answer.hub_heard_ms {
            Some(ms) => format!("{id} has not heard the hub's leader for {} s", ms / 1000),
            None => format!("{id} has not heard a leader of the hub since it started"),
        };
        let remedy = "Can it reach the hub's servers? It goes on with what it knew last.";
        found.push(Problem::new(Severity::Fault, "deaf", Some(id), what, remedy.to_owned()));
    }
    found
}

fn apps(server: &ServerRecord) -> Vec<Problem> {
    let id = server.known.id.as_str();
    let mut found = Vec::new();
    for app in server.answer.iter().flat_map(|it| &it.apps) {
        for instance in app.instances.iter().filter(|it| it.state == "down") {
            let what = format!("The app {} is down on {id}: {}", app.name, instance.why);
            let remedy = "It is started again by itself; requests go to other servers. Its lines are in the server's log.";
            let problem = Problem::new(Severity::Fault, "app", Some(id), what, remedy.to_owned());
            found.push(problem.of(&app.name));
        }
        if let Some(sessions) = app.sessions.as_ref().filter(|it| it.unsaved > 0 && server.cut_off()) {
            let what = format!("{} sessions of {} on {id} are not on the hub", sessions.unsaved, app.name);
            let remedy = "They are lost if this server ends before it hears the hub again.";
            let problem = Problem::new(Severity::Fault, "unsaved", Some(id), what, remedy.to_owned());
            found.push(problem.of(&app.name));
        }
    }
    found
}

fn traffic(server: &ServerRecord) -> Vec<Problem> {
    let id = server.known.id.as_str();
    let Some(web_tier) = server.answer.as_ref().and_then(|it| it.web_tier.as_ref()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let (errors, answers) = (web_tier.recent.answers[5], web_tier.recent.answers.iter().sum::<u64>());
    if answers >= REQUESTS_MIN && errors * 100 >= answers * ERRORS_HIGH {
        let what = format!("{errors} of the last {answers} answers of {id} were errors of a server (5xx)");
        let remedy = "Look at the balancer for servers that fail, and at the apps' lines in the log.";
        found.push(Problem::new(Severity::Fault, "errors", Some(id), what, remedy.to_owned()));
    }
    if web_tier.silent_workers > 0 {
        let what =
            format!("{} of {} workers of {id} do not answer", web_tier.silent_workers, web_tier.workers);
        let remedy = "They are busy or hang: look at the CPU of its threads `web-N`.";
        found.push(Problem::new(Severity::Warning, "workers", Some(id), what, remedy.to_owned()));
    }
    for upstream in &web_tier.upstreams {
        for seen in upstream.servers.iter().filter(|it| matches!(it.state, "failing" | "unhealthy" | "busy"))
        {
            let what = format!("{id} sends {} nothing new: {}", seen.id, seen.why);
            let remedy = "Requests go to the other servers; it is tried again by itself.";
            let problem = Problem::new(Severity::Warning, "upstream", Some(id), what, remedy.to_owned());
            found.push(problem.of(&seen.id).since(seen.trouble_since.as_ref()));
        }
    }
    found
}

/// Servers that go by other files, or run other versions.
fn agreement(cluster: &ClusterRecord) -> Vec<Problem> {
    let mut found = Vec::new();
    for server in cluster.servers.iter().map(|it| &it.known) {
        let id = server.id.as_str();
        if server.same_file == Some(false) && server.state != "down" {
            let what = format!("The configuration file of {id} has other servers than this one's");
            let remedy = "Give all servers the same file; `kill -HUP` makes them read it.";
            found.push(Problem::new(Severity::Warning, "file", Some(id), what, remedy.to_owned()));
        }
        if !server.in_file {
            let what = format!("The hub knows {id}, and this server's file does not");
            let remedy = "Put it into the file, or forget it if it is gone for good.";
            found.push(Problem::new(Severity::Notice, "stranger", Some(id), what, remedy.to_owned()));
        }
    }
    let mut versions: Vec<&str> = cluster
        .servers
        .iter()
        .filter(|it| it.answer.is_some())
        .filter_map(|it| it.known.version.as_deref())
        .collect();
    versions.sort_unstable();
    versions.dedup();
    if versions.len() > 1 {
        let what = format!("Servers run different versions: {}", versions.join(", "));
        let remedy = "In the middle of an upgrade that is as it should be; finish it.";
        found.push(Problem::new(Severity::Notice, "versions", None, what, remedy.to_owned()));
    }
    found
}

fn deployments(cluster: &ClusterRecord) -> Vec<Problem> {
    let mut found = Vec::new();
    for app in &cluster.apps {
        for server in app.wrong() {
            let what = format!("{} is {} on {}", app.tag(), server.state, server.server);
            let remedy = if server.text.is_empty() {
                "It catches up by itself; `deploy-tool list` shows how far it is.".to_owned()
            } else {
                server.text.clone()
            };
            let problem = Problem::new(Severity::Warning, "deployed", Some(&server.server), what, remedy);
            found.push(problem.of(app.tag()));
        }
    }
    found
}
