//! Deployed apps: what there is (`record`), what may be done with them (`change`, `publish`), and what is in their versions
//! (`history`). docs/deployments.md has the API.

pub(crate) mod archive;
pub(crate) mod change;
pub(crate) mod history;
pub(crate) mod publish;
pub(crate) mod record;
pub(crate) mod route;

use crate::{HUB_WAIT, Inner, refusal::Refusal};
use common::app_tag::{AppTag, PRODUCTION};
use deployments::HubServers;
use proto::hub::v1::{App, Member, RolloutOutcome};
use repository::Repository;
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};
use tokio::sync::watch;

/// What the administration of deployments needs.
#[derive(Debug, Clone)]
pub struct Deployments {
    /// The hub's servers, which keep the objects.
    pub hub_servers: HubServers,
    /// This server's own copy of what it has been asked for.
    pub repository: Repository,
    /// A folder of this server's alone for archives that are being read; what is in it is left over.
    pub spool: PathBuf,
    /// The apps, as the hub tells of them.
    pub apps: watch::Receiver<Option<Arc<BTreeMap<String, App>>>>,
}

/// Whether there is anything to tell of: what failed the first time is none.
pub(crate) fn is_there(app: &App) -> bool {
    let under_way = app.rollout.as_ref().is_some_and(|it| it.outcome() == RolloutOutcome::UnderWay);
    !app.commit.is_empty() || under_way
}

/// Whether a server is to run the app of a tag, by its cluster and the stage that the tag begins with.
pub(crate) fn is_to_run(member: &Member, tag: &str, clusters: &[String]) -> bool {
    let stage = if member.stage.is_empty() { PRODUCTION } else { &member.stage };
    tag.split('/').next() == Some(stage) && clusters.contains(&member.cluster)
}

impl Inner {
    /// Deployments, where the file has them.
    pub(crate) fn deployments(&self) -> Result<&Deployments, Refusal> {
        self.deployments.as_ref().ok_or(Refusal::NoDeployService)
    }

    /// An app, as the hub's leader has it.
    pub(crate) async fn app(&self, tag: &AppTag) -> Result<Option<App>, Refusal> {
        let text = tag.to_string();
        Ok(self.hub.apps(HUB_WAIT).await?.into_iter().find(|it| it.tag == text))
    }

    /// The same, if there is one; the refusal names those that there are.
    pub(crate) async fn known_app(&self, tag: &AppTag) -> Result<App, Refusal> {
        let (text, apps) = (tag.to_string(), self.hub.apps(HUB_WAIT).await?);
        let known = || apps.iter().filter(|it| !it.commit.is_empty()).map(|it| it.tag.clone()).collect();
        let found = apps.iter().find(|it| it.tag == text && !it.commit.is_empty());
        found.cloned().ok_or_else(|| Refusal::UnknownApp { tag: text.clone(), known: known() })
    }
}
