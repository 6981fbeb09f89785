//! The health checks as the page and the JSON have them: what is looked at, where a problem begins, each server's value now, what is wrong
//! since when, and what was done lately.

use super::monitor::{BEGINS, ENDS};
use crate::{
    AnswerBody, Inner,
    audit::{AuditQuery, EntryRecord, PAGE_WAIT},
    json,
    refusal::Refusal,
    status::{check, collect::Snapshot, problem::Problem, record::ClusterRecord},
    timestamp,
};
use common::config::{Config, HealthChecks, LeastSeverity};
use http::{Response, StatusCode};
use proto::status::v1::HealthProblem;
use serde::Serialize;

/// Entries of what was done lately.
const ACTIONS: u32 = 50;

/// The checks that have no number, in words.
const OTHERS: [(&str, &str, &str); 15] = [
    ("down", "Heartbeat", "three missed, or its connections are refused"),
    ("silent", "Answers this page", "up by the hub's word, and does not answer"),
    ("never", "Has been started", "the file has it, and the hub does not know it"),
    ("no-leader", "The hub leads", "no leader answers"),
    ("no-spare", "The hub's spare server", "one more lost hub server, and nothing is saved"),
    ("app", "Apps", "a process is down"),
    ("daemon", "Daemons", "one has failed three times in a row"),
    ("unsaved", "Sessions saved", "some are not on the hub, and the server is cut off from it"),
    ("deployed", "Versions in use", "a server has another tree than the hub"),
    ("upstream", "Balancing", "a web-tier sends a server nothing new"),
    ("workers", "Workers", "one does not answer"),
    ("file", "Configuration file", "other servers in it than in this server's"),
    ("versions", "Software", "servers run different versions"),
    ("disabled", "Enabled", "an administrator has disabled it"),
    ("stranger", "In the file", "the hub knows a server that the file does not have"),
];

/// `GET /api/v1/health`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct HealthRecord {
    pub(crate) taken: Option<String>,
    /// The server that watches: the hub's leader; none while nobody does.
    pub(crate) watched_by: Option<String>,
    pub(crate) interval_ms: u64,
    /// How long a problem has to last before anything is done about it.
    pub(crate) for_ms: u64,
    pub(crate) checks: Vec<CheckRecord>,
    pub(crate) problems: Vec<FoundRecord>,
    pub(crate) webhooks: Vec<WebhookRecord>,
    /// How often in an hour an app that is down is started anew; none: never.
    pub(crate) restarts_per_hour: Option<u32>,
    /// What was done lately, the newest first.
    pub(crate) actions: Vec<EntryRecord>,
    /// Why that is not known.
    pub(crate) actions_unknown: Option<String>,
}

/// A check.
#[derive(Debug, Serialize)]
pub(crate) struct CheckRecord {
    pub(crate) check: &'static str,
    pub(crate) name: &'static str,
    /// Where a problem begins, in words.
    pub(crate) threshold: String,
    /// False: the file has it `off`.
    pub(crate) on: bool,
    /// How many problems it finds now.
    pub(crate) problems: usize,
    /// Of each server, where it is a number.
    pub(crate) values: Vec<ValueRecord>,
}

/// A server's value.
#[derive(Debug, Serialize)]
pub(crate) struct ValueRecord {
    pub(crate) server: String,
    /// Which one of several.
    pub(crate) subject: String,
    pub(crate) value: String,
    /// `fault`, `warning` or `notice`; none: it is well.
    pub(crate) wrong: Option<&'static str>,
}

/// A problem, and whether anything was done about it.
#[derive(Debug, Serialize)]
pub(crate) struct FoundRecord {
    #[serde(flatten)]
    pub(crate) problem: Problem,
    /// Since when the server that watches has told of it; none: it has not lasted long enough.
    pub(crate) begun: Option<String>,
}

/// Who is told.
#[derive(Debug, Serialize)]
pub(crate) struct WebhookRecord {
    /// Without its path, which may be a secret.
    pub(crate) to: String,
    pub(crate) severity: &'static str,
    /// None: all.
    pub(crate) checks: Vec<&'static str>,
}

impl Inner {
    /// The health checks now.
    pub(crate) async fn health(&self, config: &Config) -> HealthRecord {
        let (snapshot, cluster) = (self.snapshot(config).await, self.cluster(config).await);
        let query = AuditQuery { before: 0, limit: ACTIONS, kind: Some("health") };
        let log = self.audit(&query, PAGE_WAIT).await;
        let unknown = log.as_ref().err().map(ToString::to_string);
        let mut record = HealthRecord::of(&snapshot, &cluster, &config.health);
        record.actions = log.map(|it| it.entries).unwrap_or_default();
        record.actions_unknown = unknown;
        record
    }

    /// The same as an answer.
    pub(crate) async fn health_answer(&self, config: &Config) -> Result<Response<AnswerBody>, Refusal> {
        Ok(json(StatusCode::OK, &self.health(config).await))
    }
}

impl HealthRecord {
    pub(crate) fn of(snapshot: &Snapshot, cluster: &ClusterRecord, health: &HealthChecks) -> Self {
        let watching = snapshot.answers().find_map(|(id, it)| Some((id, it.status.health.as_ref()?)));
        let begun = watching.map(|(_, it)| it.problems.as_slice()).unwrap_or_default();
        let millis = |it: std::time::Duration| u64::try_from(it.as_millis()).unwrap_or(u64::MAX);
        let webhooks = health.webhooks.iter().map(|it| WebhookRecord {
            to: it.url.shown(),
            severity: match it.severity {
                LeastSeverity::Fault => "fault",
                LeastSeverity::Warning => "warning",
                LeastSeverity::Notice => "notice",
            },
            checks: it.checks.clone(),
        });
        Self {
            taken: cluster.taken.clone(),
            watched_by: watching.map(|(id, _)| id.to_owned()),
            interval_ms: millis(health.interval),
            for_ms: millis(health.lasts),
            checks: checks(cluster, health),
            webhooks: webhooks.collect(),
            restarts_per_hour: health.restarts_per_hour,
            actions: Vec::new(),
            actions_unknown: None,
            problems: cluster.problems.iter().cloned().map(|it| FoundRecord::of(it, begun)).collect(),
        }
    }
}

fn checks(cluster: &ClusterRecord, health: &HealthChecks) -> Vec<CheckRecord> {
    let mut measured: Vec<(&'static str, ValueRecord)> = Vec::new();
    for server in &cluster.servers {
        let measures = check::measures(server, health, cluster.taken_ms);
        measured.extend(measures.into_iter().map(|it| {
            let wrong = it.wrong.as_ref().map(|it| it.severity.word());
            let server = server.known.id.clone();
            (it.check, ValueRecord { server, subject: it.subject, value: it.value, wrong })
        }));
    }
    for server in &cluster.hub.servers {
        if let Some(lag) = server.lag {
            let wrong = (lag > health.thresholds.hub_lag_max).then_some("warning");
            let (server, value) = (server.id.clone(), format!("{lag} entries"));
            measured.push(("lag", ValueRecord { server, subject: String::new(), value, wrong }));
        }
    }
    let with_numbers = check::thresholds(&health.thresholds);
    let others = OTHERS.iter().map(|(check, name, words)| (*check, *name, (*words).to_owned()));
    let all = with_numbers.into_iter().chain(others);
    all.map(|(check, name, threshold)| {
        let (values, rest) = std::mem::take(&mut measured).into_iter().partition(|(it, _)| *it == check);
        measured = rest;
        let values: Vec<(&str, ValueRecord)> = values;
        CheckRecord {
            check,
            name,
            threshold,
            on: !health.off.contains(&check),
            problems: cluster.problems.iter().filter(|it| it.check == check).count(),
            values: values.into_iter().map(|(_, it)| it).collect(),
        }
    })
    .collect()
}

impl FoundRecord {
    fn of(problem: Problem, begun: &[HealthProblem]) -> Self {
        let same = |it: &&HealthProblem| {
            it.check == problem.check
                && it.server == problem.server.as_deref().unwrap_or_default()
                && it.subject == problem.subject
                && it.severity == problem.severity.word()
        };
        let begun = begun.iter().find(same).and_then(|it| timestamp::format(it.since_ms));
        Self { problem, begun }
    }
}

/// An action's words for people.
pub(crate) fn action_name(action: &str) -> &str {
    match action {
        BEGINS => "begins",
        ENDS => "is over",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::planted;
    use common::config::CHECKS;

    #[test]
    fn every_check_is_on_the_page_once() {
        let mut shown: Vec<&str> =
            check::thresholds(&HealthChecks::default().thresholds).iter().map(|it| it.0).collect();
        shown.extend(OTHERS.map(|it| it.0));
        let mut all = CHECKS.to_vec();
        shown.sort_unstable();
        all.sort_unstable();
        assert_eq!(shown, all);
    }

    #[test]
    fn problems_and_values_are_of_the_same_checks() {
        let config = planted::config();
        let cluster = ClusterRecord::of(&planted::snapshot(), &config);
        assert!(cluster.problems.iter().all(|it| CHECKS.contains(&it.check)), "{:?}", cluster.problems);
        let record = HealthRecord::of(&planted::snapshot(), &cluster, &config.health);
        let of = |check: &str| record.checks.iter().find(|it| it.check == check).unwrap();
        let disk: Vec<_> =
            of("disk").values.iter().map(|it| (it.server.as_str(), it.value.as_str(), it.wrong)).collect();
        assert_eq!(disk, [("app-a", "60 %", None), ("app-c", "3 %", Some("fault")), ("web-a", "60 %", None)]);
        assert_eq!((of("disk").problems, of("down").problems), (1, 1));
        assert_eq!(of("lag").values[0].value, "234 entries");
        assert!(record.watched_by.is_none() && record.problems.iter().all(|it| it.begun.is_none()));
    }

    #[test]
    fn a_check_that_is_off_finds_nothing_and_is_shown_so() {
        let mut config = planted::config();
        config.health.off = vec!["disk", "down"];
        config.health.thresholds.load_max = 37;
        let cluster = ClusterRecord::of(&planted::snapshot(), &config);
        assert!(cluster.problems.iter().all(|it| it.check != "disk" && it.check != "down"));
        assert_eq!(cluster.problems.iter().filter(|it| it.check == "load").count(), 3, "37 % of two cores");
        let record = HealthRecord::of(&planted::snapshot(), &cluster, &config.health);
        let off: Vec<_> = record.checks.iter().filter(|it| !it.on).map(|it| it.check).collect();
        assert_eq!(off, ["disk", "down"]);
    }
}
