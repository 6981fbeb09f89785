//! What is wrong now, in words: since when, and what to do about it.

use super::{
    check, daemon,
    record::{ClusterRecord, ServerRecord},
};
use crate::timestamp;
use common::config::HealthChecks;
use serde::Serialize;

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
    /// The check that has found it, of `common::config::CHECKS`.
    pub(crate) check: &'static str,
    pub(crate) severity: Severity,
    /// The server that it is about, if it is about one.
    pub(crate) server: Option<String>,
    pub(crate) what: String,
    /// What to do about it.
    pub(crate) remedy: String,
    /// Since when: as the hub has it, or since it was first seen here.
    pub(crate) since: Option<String>,
    /// Which one, of several of a kind on one server: an app, a certificate, another server.
    #[serde(skip)]
    pub(crate) subject: String,
    /// Names it while it lasts.
    #[serde(skip)]
    pub(crate) key: String,
}

impl Problem {
    pub(crate) fn new(
        severity: Severity,
        check: &'static str,
        server: Option<&str>,
        what: String,
        remedy: String,
    ) -> Self {
        // One that gets worse is another one: who is told of faults alone hears of it then.
        let key = format!("{check} {} {}", server.unwrap_or_default(), severity.word());
        let (server, subject) = (server.map(str::to_owned), String::new());
        Self { check, severity, server, what, remedy, since: None, subject, key }
    }

    fn since(mut self, since: Option<&String>) -> Self {
        self.since = since.cloned();
        self
    }

    /// Of several of a kind on one server.
    pub(super) fn of(mut self, which: &str) -> Self {
        which.clone_into(&mut self.subject);
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

/// All that is wrong by the checks that are on, the worst first.
pub(crate) fn find(cluster: &ClusterRecord, health: &HealthChecks) -> Vec<Problem> {
    let mut problems = of_hub(cluster, health.thresholds.hub_lag_max);
    for server in &cluster.servers {
        problems.extend(presence(server));
        let measures = check::measures(server, health, cluster.taken_ms);
        problems.extend(measures.into_iter().filter_map(|it| it.wrong));
        problems.extend(apps(server));
        problems.extend(traffic(server));
    }
    problems.extend(daemon::problems(cluster));
    problems.extend(agreement(cluster));
    problems.extend(deployments(cluster));
    problems.retain(|it| !health.off.contains(&it.check));
    problems.sort_by_key(|it| it.severity);
    problems
}

fn of_hub(cluster: &ClusterRecord, lag_max: u64) -> Vec<Problem> {
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
    for server in hub.servers.iter().filter(|it| it.lag.is_some_and(|lag| lag > lag_max)) {
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
    if web_tier.silent_workers > 0 {
        let what =
            format!("{} of {} workers of {id} do not answer", web_tier.silent_workers, web_tier.workers);
        let remedy = "They are busy or hang: look at the CPU of its threads `web-N`.";
        found.push(Problem::new(Severity::Warning, "workers", Some(id), what, remedy.to_owned()));
    }
    for upstream in &web_tier.upstreams {
        if upstream.servers.is_empty() {
            let what = format!("{id} knows no server of {}: its requests fail", upstream.name);
            let remedy = "Does DNS have records of the service, and can the resolvers be reached? The server's log has what they said.";
            let problem = Problem::new(Severity::Fault, "upstream", Some(id), what, remedy.to_owned());
            found.push(problem.of(&upstream.name));
        }
        for seen in upstream
            .servers
            .iter()
            .filter(|it| matches!(it.state, "failing" | "unhealthy" | "busy" | "ejected"))
        {
            let what = format!("{id} sends {} nothing new: {}", seen.id, seen.why);
            let others = upstream.servers.iter().any(|it| it.state == "well" && it.id != seen.id);
            let remedy = if others {
                "Requests go to the other servers; it is tried again by itself."
            } else {
                "No other server is well: requests wait or fail until one is, which is tried again and again."
            };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::planted;
    use proto::status::v1::Upstream;

    #[test]
    fn a_service_without_a_server_is_a_fault_of_each_web_tier() {
        let mut snapshot = planted::snapshot();
        let web_tier = snapshot
            .servers
            .iter_mut()
            .find_map(|it| it.answer.as_mut().ok()?.status.web_tier.as_mut())
            .unwrap();
        web_tier.upstreams.push(Upstream { name: "srv:_http._tcp.shop.test".into(), ..Upstream::default() });
        let cluster = ClusterRecord::of(&snapshot, &planted::config());
        let found: Vec<_> = cluster.problems.iter().filter(|it| it.subject.starts_with("srv:")).collect();
        let [problem] = &found[..] else { panic!("{found:?}") };
        assert_eq!((problem.check, problem.severity), ("upstream", Severity::Fault));
        assert_eq!(problem.what, "web-a knows no server of srv:_http._tcp.shop.test: its requests fail");
    }
}
