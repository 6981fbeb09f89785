//! What a rollout comes to, told to the client of a push as it happens.

use super::answer::{Answer, KEEP_ALIVE};
use crate::{
    Inner,
    apps::{
        change::TIMEOUT_S,
        record::{AppRecord, step},
    },
};
use common::{app_tag::AppTag, config::Config};
use proto::hub::v1::{App, Rollout, RolloutOutcome, RolloutServer, RolloutStep};
use std::{collections::HashMap, time::Duration};
use tokio::time::Instant;

/// When all are told to go by the new version, they do so within this.
const ACTIVE_MAX: Duration = Duration::from_secs(30);

/// A rollout's end may be late by so much: the hub's leader may have changed.
const GRACE: Duration = Duration::from_secs(60);

/// A rollout that is followed.
#[derive(Debug)]
struct Followed<'a> {
    tag: &'a AppTag,
    number: u64,
    told: HashMap<String, RolloutStep>,
    begun: Instant,
    activated: Option<Instant>,
}

impl Inner {
    /// Waits until the rollout of `begun` is over and its servers go by it.
    ///
    /// # Errors
    /// It has failed, or how it ends is not known: why, in one line. The failed servers' last words have been told before.
    pub(crate) async fn follow_rollout(
        &self,
        config: &Config,
        tag: &AppTag,
        begun: App,
        answer: &mut Answer,
    ) -> Result<(), String> {
        let number = begun.rollout.as_ref().map_or(0, |it| it.number);
        let mut followed =
            Followed { tag, number, told: HashMap::new(), begun: Instant::now(), activated: None };
        let mut apps = self.deployments().map_err(|cause| cause.to_string())?.apps.clone();
        let mut app = begun;
        while !followed.look(&app, answer).await? {
            // The hub tells of changes; where it does not, it is asked.
            apps.mark_unchanged();
            if !matches!(tokio::time::timeout(KEEP_ALIVE, apps.changed()).await, Ok(Ok(()))) {
                answer.keep_alive().await;
            }
            if apps.has_changed().is_err() {
                tokio::time::sleep(KEEP_ALIVE).await;
            }
            match self.app(tag).await {
                Ok(Some(present)) => app = present,
                Ok(None) => return Err(format!("{tag} was taken away meanwhile")),
                Err(cause) => tracing::debug!(%cause, "a rollout can't be looked at"),
            }
        }
        let paths = AppRecord::of(&app, &[], config).map(|it| it.paths.join(", ")).unwrap_or_default();
        answer.tell(&format!("{tag} is in use at {paths}")).await;
        Ok(())
    }
}

impl Followed<'_> {
    /// Tells what is new; whether it is over, and well.
    async fn look(&mut self, app: &App, answer: &mut Answer) -> Result<bool, String> {
        let Some(rollout) = app.rollout.as_ref().filter(|it| it.number == self.number) else {
            return Err("another deployment has begun meanwhile".to_owned());
        };
        for server in &rollout.servers {
            if server.step() != RolloutStep::Waiting
                && self.told.insert(server.server.clone(), server.step()) != Some(server.step())
            {
                answer.tell(&format!("{}: {}", server.server, step(server.step()))).await;
            }
        }
        match rollout.outcome() {
            RolloutOutcome::Failed => Err(self.failed(app, rollout, answer).await),
            RolloutOutcome::Activated => Ok(self.is_active(rollout, answer).await),
            RolloutOutcome::UnderWay if self.begun.elapsed() > Duration::from_secs(TIMEOUT_S) + GRACE => {
                Err("it is still under way: `deploy-tool list` tells what comes of it".to_owned())
            }
            RolloutOutcome::UnderWay => Ok(false),
        }
    }

    /// The last words of those that failed; the reason.
    async fn failed(&self, app: &App, rollout: &Rollout, answer: &mut Answer) -> String {
        let failed = |it: &&RolloutServer| it.step() == RolloutStep::Failed;
        let failed: Vec<_> = rollout.servers.iter().filter(failed).collect();
        for server in &failed {
            answer.tell(&format!("{}: {}", server.server, server.text.trim_end())).await;
        }
        let goes_on = if app.commit.is_empty() { "nothing is in use" } else { "what was in use goes on" };
        answer.tell(&format!("{} is not deployed, {goes_on}", self.tag)).await;
        let names: Vec<_> = failed.iter().map(|it| it.server.as_str()).collect();
        if names.is_empty() { rollout.why.clone() } else { format!("it failed on {}", names.join(", ")) }
    }

    /// Whether all go by it, or have had time enough to say so.
    async fn is_active(&mut self, rollout: &Rollout, answer: &mut Answer) -> bool {
        let active = |it: &RolloutServer| matches!(it.step(), RolloutStep::Active | RolloutStep::Gone);
        let behind: Vec<_> =
            rollout.servers.iter().filter(|it| !active(it)).map(|it| it.server.as_str()).collect();
        if behind.is_empty() {
            return true;
        }
        let late = self.activated.get_or_insert_with(Instant::now).elapsed() > ACTIVE_MAX;
        if late {
            let behind = behind.join(", ");
            answer.tell(&format!("{behind} did not say within {ACTIVE_MAX:?} that it is in use there")).await;
        }
        late
    }
}
