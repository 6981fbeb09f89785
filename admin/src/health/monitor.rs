//! Looks at the whole cluster while this server leads the hub, and does what the file says about problems that begin or end.

use super::{
    Counts,
    damper::{Damper, Turn},
    restarts::Restarts,
    webhook::{Told, Webhooks, Word},
};
use crate::{
    Admin, HUB_WAIT, Inner,
    apps::change::How,
    sign_in::SignedIn,
    status::{
        problem::{Problem, Severity},
        record::ClusterRecord,
    },
    timestamp,
};
use common::{
    app_tag::AppTag,
    config::{AdminUser, Config, LeastSeverity, Role, Webhook},
    password::PasswordHash,
};
use proto::{
    hub::v1::{AuditEntry, AuditKind, NoteAudit},
    status::v1::HealthProblem,
};
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc};

/// Entries of the hub that tell what the server that led before has begun.
const REMEMBERED: u32 = 1000;

/// Actions as the audit log has them.
pub(crate) const BEGINS: &str = "problem-begins";
pub(crate) const ENDS: &str = "problem-ends";
const WEBHOOK: &str = "webhook";
const RESTART: &str = "restart-app";

/// A hash that is no password's.
const NOBODYS: &str =
    "$argon2id$v=19$m=256,t=2,p=1$AAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// What a webhook is sent.
#[derive(Debug, Serialize)]
struct Payload<'a> {
    event: &'static str,
    delivery: &'a str,
    time: Option<String>,
    /// Who has found it.
    server: &'a str,
    problem: ToldProblem<'a>,
}

#[derive(Debug, Serialize)]
struct ToldProblem<'a> {
    key: &'a str,
    #[serde(flatten)]
    problem: Option<&'a Problem>,
}

/// What the server that watches knows; another one begins anew.
struct Watching {
    damper: Damper,
    restarts: Restarts,
    /// Whether the hub has answered since the last look: one that does not is not waited for again and again.
    hub_answers: bool,
}

impl Admin {
    /// Watches the cluster for as long as `leads` says that this server leads the hub; until the returned future is dropped. Needs a tokio
    /// runtime.
    pub fn watch_health(
        &self,
        leads: impl Fn() -> bool + Send + Sync + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let inner = self.inner.clone();
        async move { inner.watch(leads).await }
    }

    /// What the health checks of this server have found.
    pub fn health_view(&self) -> super::HealthView {
        self.inner.health.clone()
    }
}

impl Inner {
    async fn watch(self: Arc<Self>, leads: impl Fn() -> bool + Send + Sync) {
        let mut watching: Option<Watching> = None;
        let mut webhooks = self.webhooks();
        loop {
            let config = self.config();
            tokio::time::sleep(config.health.interval).await;
            if !leads() {
                watching = None;
                self.health.set(None);
                continue;
            }
            if watching.is_none() {
                watching = self.begin_watch().await;
            }
            let Some(watching) = &mut watching else { continue };
            let cluster = self.cluster(&config).await;
            webhooks.keep(&config.health.webhooks);
            let at = (self.clock.now(), self.clock.unix_ms());
            watching.hub_answers = true;
            for turn in watching.damper.look(&cluster.problems, at, config.health.lasts) {
                self.heed(&config, &cluster, turn, &mut webhooks, watching).await;
            }
            self.health.set(Some(watching.damper.begun().map(shown).collect()));
        }
    }

    fn webhooks(self: &Arc<Self>) -> Webhooks {
        let inner = Arc::downgrade(self);
        let told: Told = Arc::new(move |to: String, word: &Word, outcome: String| {
            if let Some(inner) = inner.upgrade() {
                inner.note(entry(WEBHOOK, to, format!("{} {}", word.key, word.event), outcome));
            }
        });
        Webhooks::new(self.health.clone(), self.clock.clone(), told)
    }

    /// Goes on where the server that led before has stopped; `None`: the hub can't be asked yet.
    async fn begin_watch(&self) -> Option<Watching> {
        let asked = self.hub.audit((0, REMEMBERED), &[AuditKind::Health], HUB_WAIT).await;
        let asked = asked.inspect_err(|cause| tracing::debug!(%cause, "health checks wait for the hub"));
        let mut watching =
            Watching { damper: Damper::default(), restarts: Restarts::default(), hub_answers: true };
        let open = open(asked.ok()?.entries, &mut watching.restarts);
        tracing::info!(problems = open.len(), "this server watches the cluster's health");
        for (key, since_ms) in open {
            watching.damper.restore(key, since_ms);
        }
        Some(watching)
    }

    async fn heed(
        self: &Arc<Self>,
        config: &Arc<Config>,
        cluster: &ClusterRecord,
        turn: Turn,
        webhooks: &mut Webhooks,
        watching: &mut Watching,
    ) {
        let (event, action, key, problem) = match &turn {
            Turn::Begins(it) => ("begins", BEGINS, it.key.as_str(), Some(it)),
            Turn::Ends { key, problem } => ("ends", ENDS, key.as_str(), problem.as_ref()),
        };
        let what = problem.map(|it| it.what.as_str()).unwrap_or_default();
        let severity = problem.map(|it| it.severity.word()).unwrap_or_default();
        match &turn {
            Turn::Begins(it) if it.severity != Severity::Notice => {
                tracing::warn!(problem = key, severity, what, "a health check has found a problem");
            }
            Turn::Begins(_) => tracing::info!(problem = key, what, "a health check has something to say"),
            Turn::Ends { .. } => {
                tracing::info!(problem = key, what, "a problem of the health checks is over");
            }
        }
        // On the hub before anybody is told: whoever leads next does not tell it again.
        let note = entry(action, key.to_owned(), what.to_owned(), severity.to_owned());
        if watching.hub_answers
            && let Err(cause) = self.hub.note(note, HUB_WAIT).await
        {
            watching.hub_answers = false;
            tracing::warn!(%cause, problem = key, "not in the audit log");
        }
        for webhook in config.health.webhooks.iter().filter(|it| wants(it, key, problem)) {
            webhooks.tell(webhook, &self.word(event, key, problem));
        }
        if let (Turn::Begins(problem), Some(per_hour)) = (&turn, config.health.restarts_per_hour)
            && let Some(tag) = tag_of(problem, cluster)
        {
            self.restart_app(config, &tag, &mut watching.restarts, per_hour).await;
        }
    }

    fn word(&self, event: &'static str, key: &str, problem: Option<&Problem>) -> Word {
        let delivery = format!("{:032x}", rand::random::<u128>());
        let time = timestamp::format(self.clock.unix_ms());
        let problem = ToldProblem { key, problem };
        let told = Payload { event, delivery: &delivery, time, server: self.me.as_str(), problem };
        let body = serde_json::to_vec(&told).expect("records of texts").into();
        Word { event, delivery, key: key.to_owned(), body }
    }

    /// Starts an app's processes anew, server by server, as an administrator would.
    async fn restart_app(
        self: &Arc<Self>,
        config: &Arc<Config>,
        tag: &str,
        restarts: &mut Restarts,
        per_hour: u32,
    ) {
        if !restarts.allow(tag, self.clock.unix_ms(), per_hour) {
            tracing::warn!(
                app = tag,
                per_hour,
                "a health check does not start an app anew: that was done too often"
            );
            let outcome = format!("left: {per_hour} times within an hour");
            self.note(entry(RESTART, tag.to_owned(), String::new(), outcome));
            return;
        }
        Counts::add(&self.health.counts().restarts);
        let outcome = match (AppTag::parse(tag), by_itself()) {
            (Ok(tag), Some(asker)) => {
                let restarted = self.restart(config, &asker, &tag, &How::default()).await;
                restarted.map_or_else(|why| format!("failed: {why}"), |_| "begun".to_owned())
            }
            _ => "failed: it has no tag".to_owned(),
        };
        tracing::info!(app = tag, outcome, "a health check starts an app anew");
        self.note(entry(RESTART, tag.to_owned(), String::new(), outcome));
    }
}

/// A server that acts by itself: it may deploy. It is no user of the file, so its password is asked for nowhere.
fn by_itself() -> Option<SignedIn> {
    let (name, roles) = ("health-check".to_owned(), vec![Role::Deploy]);
    let password = PasswordHash::parse(NOBODYS).ok()?;
    Some(SignedIn::new(AdminUser { name, password, roles }, None, &http::HeaderMap::new()))
}

fn entry(action: &str, target: String, detail: String, outcome: String) -> NoteAudit {
    let (kind, action) = (AuditKind::Health.into(), action.to_owned());
    NoteAudit { kind, action, target, detail, outcome, ..NoteAudit::default() }
}

/// The problems that have begun and not ended, by the hub's entries, the newest first; apps that were started anew are counted.
fn open(entries: Vec<AuditEntry>, restarts: &mut Restarts) -> BTreeMap<String, u64> {
    let mut open = BTreeMap::new();
    for it in entries.into_iter().rev() {
        match it.action.as_str() {
            BEGINS => {
                open.insert(it.target, it.time_ms);
            }
            ENDS => {
                open.remove(&it.target);
            }
            RESTART if !it.outcome.starts_with("left") => restarts.restore(&it.target, it.time_ms),
            _ => {}
        }
    }
    open
}

/// Whether a webhook is for this problem. Of one that another server had begun the key alone is known: its check comes first in it, and
/// its severity stands in it as a word.
fn wants(webhook: &Webhook, key: &str, problem: Option<&Problem>) -> bool {
    let words: Vec<&str> = key.split(' ').collect();
    let check = words.first().copied().unwrap_or_default();
    let severity = problem.map(|it| it.severity).or_else(|| {
        [Severity::Fault, Severity::Warning, Severity::Notice]
            .into_iter()
            .find(|it| words.contains(&it.word()))
    });
    let least = match webhook.severity {
        LeastSeverity::Fault => Severity::Fault,
        LeastSeverity::Warning => Severity::Warning,
        LeastSeverity::Notice => Severity::Notice,
    };
    severity.is_none_or(|it| it <= least) && (webhook.checks.is_empty() || webhook.checks.contains(&check))
}

/// The deployed app that a problem is about, if it is one that a restart may help.
fn tag_of(problem: &Problem, cluster: &ClusterRecord) -> Option<String> {
    let server = cluster.servers.iter().find(|it| Some(&it.known.id) == problem.server.as_ref())?;
    let mut apps = server.answer.iter().flat_map(|it| &it.apps);
    let app = apps.find(|it| problem.check == "app" && it.name == problem.subject)?;
    app.tag.clone()
}

fn shown((problem, since_ms): (&Problem, u64)) -> HealthProblem {
    HealthProblem {
        check: problem.check.to_owned(),
        server: problem.server.clone().unwrap_or_default(),
        subject: problem.subject.clone(),
        severity: problem.severity.word().to_owned(),
        since_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::planted;

    fn note(action: &str, target: &str, time_ms: u64, outcome: &str) -> AuditEntry {
        let (action, target, outcome) = (action.to_owned(), target.to_owned(), outcome.to_owned());
        AuditEntry { action, target, time_ms, outcome, ..AuditEntry::default() }
    }

    #[test]
    fn the_next_leader_knows_what_has_begun_and_how_often_apps_were_started_anew() {
        let newest_first = vec![
            note(RESTART, "shop", 9, "left: 2 times within an hour"),
            note(RESTART, "shop", 8, "begun"),
            note(BEGINS, "down a fault", 7, ""),
            note(ENDS, "down a fault", 6, ""),
            note(ENDS, "disk b warning", 5, ""),
            note(WEBHOOK, "https://h", 4, "delivered"),
            note(BEGINS, "disk b warning", 3, ""),
            note(BEGINS, "down a fault", 2, ""),
        ];
        let mut restarts = Restarts::default();
        assert_eq!(open(newest_first, &mut restarts), [("down a fault".to_owned(), 7)].into());
        assert!(restarts.allow("shop", 10, 2) && !restarts.allow("shop", 11, 2));
    }

    #[test]
    fn a_webhook_hears_of_its_checks_and_severities() {
        let webhook = |text: &str| -> Webhook {
            let yaml = format!(
                "clusters: [{{id: c, servers: [{{id: a, address: 127.0.0.1}}]}}]\n\
                 health: {{webhooks: [{{webhook-url: 'http://127.0.0.1:1/', secret: 0123456789abcdef{text}}}]}}\n"
            );
            let loaded = common::config::load_str(
                &yaml,
                std::path::Path::new("x"),
                &common::config::LoadOptions::default(),
            );
            loaded.unwrap_or_else(|errors| panic!("{errors}")).config.health.webhooks.remove(0)
        };
        let problem = |severity| Problem::new(severity, "disk", Some("a"), String::new(), String::new());
        let hears =
            |hook: &Webhook, it: &Problem| (wants(hook, &it.key, Some(it)), wants(hook, &it.key, None));
        for (text, fault, warning, notice) in [
            ("", true, true, false),
            (", severity: fault", true, false, false),
            (", severity: notice", true, true, true),
            (", checks: [disk, app]", true, true, false),
            (", checks: [app], severity: notice", false, false, false),
        ] {
            let hook = webhook(text);
            for (severity, expected) in
                [(Severity::Fault, fault), (Severity::Warning, warning), (Severity::Notice, notice)]
            {
                assert_eq!(hears(&hook, &problem(severity)), (expected, expected), "{text} {severity:?}");
            }
        }
    }

    #[test]
    fn of_a_deployed_app_that_is_down_the_tag_is_known() {
        let cluster = ClusterRecord::of(&planted::snapshot(), &planted::config());
        let found: Vec<_> = cluster.problems.iter().filter_map(|it| tag_of(it, &cluster)).collect();
        assert!(
            !found.is_empty() && found.iter().all(|it| it == "production/webapp/default/shop-1.2.0"),
            "{found:?}"
        );
    }
}
