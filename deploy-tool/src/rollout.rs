//! An app as the administration tells of it, and waiting for the end of a rollout.

use crate::{
    client::{self, Body},
    target::Target,
    tell,
};
use anyhow::bail;
use common::app_tag::AppTag;
use http::Method;
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// One question for changes.
const WAIT_S: u64 = 10;

/// When all are told to go by the new version, they do so within this.
const ACTIVE_MAX: Duration = Duration::from_secs(30);

/// Time that a rollout's end may be late beyond its own time-out.
const GRACE: Duration = Duration::from_secs(30);

/// How long no answer may come while one waits: a server that is asked may be the one that is replaced.
const UNHEARD_MAX: Duration = Duration::from_secs(15);

/// The answer to whatever begins a rollout.
#[derive(Debug, Deserialize)]
pub(crate) struct Began {
    pub(crate) changed: bool,
    pub(crate) app: App,
}

/// An app.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct App {
    pub(crate) tag: String,
    paths: Vec<String>,
    host: String,
    commit: Option<String>,
    pub(crate) user: String,
    pub(crate) since: Option<String>,
    pub(crate) stopped: bool,
    pub(crate) servers: Vec<Server>,
    rollout: Option<Rollout>,
    etag: String,
    /// As it came.
    #[serde(flatten)]
    pub(crate) all: HashMap<String, Value>,
}

/// What a server has of it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Server {
    pub(crate) server: String,
    pub(crate) state: String,
    pub(crate) same: bool,
    pub(crate) text: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Rollout {
    number: u64,
    commit: String,
    outcome: String,
    why: String,
    servers: Vec<Step>,
}

#[derive(Debug, Clone, Deserialize)]
struct Step {
    server: String,
    step: String,
    text: String,
}

impl App {
    /// What is in use.
    pub(crate) fn commit(&self) -> &str {
        self.commit.as_deref().map_or("-", |it| &it[..it.len().min(10)])
    }

    /// Whether a server is still to go by what was activated; one that is down, or was started since, catches up by itself.
    fn awaits(&self, step: &Step) -> bool {
        let has = self.servers.iter().find(|it| it.server == step.server);
        let settled = has.is_some_and(|it| it.state == "down");
        !matches!(step.step.as_str(), "active" | "gone") && !settled
    }

    /// What a deployment says that had nothing to do.
    pub(crate) fn unchanged(&self, target: &Target) -> String {
        let (tag, commit) = (&self.tag, self.commit());
        if self.stopped {
            return format!(
                "{tag} ({commit}) has the same content already, and was stopped: `deploy-tool start {tag}`"
            );
        }
        format!("{tag} ({commit}) is in use with the same content already: {}", self.url(target))
    }

    /// Where people see it: at the administration's own address, if it is an app of the default host.
    pub(crate) fn url(&self, target: &Target) -> String {
        let scheme = if target.tls { "https" } else { "http" };
        let host =
            if self.host == common::app_tag::DEFAULT_HOST { target.authority() } else { self.host.clone() };
        let path = self.paths.first().map_or("/", String::as_str);
        format!("{scheme}://{host}{path}")
    }
}

/// Below the administration's own path.
pub(crate) fn path(tag: &AppTag) -> String {
    format!("/api/v1/apps/{tag}")
}

/// Waits until the rollout is over and its servers go by it; tells what happens.
///
/// # Errors
/// It has failed: with the server, the step, and the last lines of the log.
pub(crate) async fn follow(
    target: &Target,
    tag: &AppTag,
    begun: App,
    timeout: Duration,
) -> anyhow::Result<App> {
    let mut app = begun;
    let number = app.rollout.as_ref().map_or(0, |it| it.number);
    let mut told: HashMap<String, String> = HashMap::new();
    let wanted = app.rollout.as_ref().map(|it| it.commit.clone());
    let (start, mut over, mut heard) = (Instant::now(), None, Instant::now());
    loop {
        let Some(rollout) = app.rollout.as_ref().filter(|it| it.number == number) else {
            if wanted.is_some() && app.commit == wanted {
                // In use, and the next one has begun.
                return Ok(app);
            }
            bail!("another deployment of {tag} has begun meanwhile: `deploy-tool list` tells what is in use");
        };
        for it in &rollout.servers {
            if told.insert(it.server.clone(), it.step.clone()).as_ref() != Some(&it.step)
                && it.step != "waiting"
            {
                tell(&format!("{}: {}", it.server, it.step));
            }
        }
        if rollout.outcome == "failed" {
            bail!("{}", failure(tag, rollout));
        }
        if rollout.outcome == "activated" {
            let behind: Vec<_> = rollout.servers.iter().filter(|it| app.awaits(it)).collect();
            if behind.is_empty() {
                return Ok(app);
            }
            let since = *over.get_or_insert_with(Instant::now);
            if since.elapsed() > ACTIVE_MAX {
                let behind: Vec<_> = behind.iter().map(|it| it.server.as_str()).collect();
                tell(&format!(
                    "warning: {} did not say within {ACTIVE_MAX:?} that the new version is in use there",
                    behind.join(", ")
                ));
                return Ok(app);
            }
        } else if start.elapsed() > timeout + GRACE {
            bail!("the rollout of {tag} is still under way: `deploy-tool list` tells what comes of it");
        }
        // A server that dies now is no news of the app.
        let wait_s = if over.is_some() { 1 } else { WAIT_S };
        let question = format!("{}?wait={wait_s}&after={}", path(tag), app.etag);
        match client::ask(target, Method::GET, &question, Body::none()).await {
            Ok(answer) => {
                heard = Instant::now();
                app = answer.read()?;
            }
            Err(_) if heard.elapsed() < UNHEARD_MAX => {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Err(cause) => {
                return Err(cause.context(format!(
                    "the rollout of {tag} goes on, and what comes of it is not known here"
                )));
            }
        }
    }
}

fn failure(tag: &AppTag, rollout: &Rollout) -> String {
    let commit = &rollout.commit[..rollout.commit.len().min(10)];
    let mut text = format!("{tag} ({commit}) is not deployed, what was in use goes on");
    let failed: Vec<_> = rollout.servers.iter().filter(|it| it.step == "failed").collect();
    for it in &failed {
        text.push_str(&format!("\n{}: {}", it.server, it.text.trim_end()));
    }
    if failed.is_empty() {
        text.push_str(&format!("\n{}", rollout.why));
    }
    text
}
