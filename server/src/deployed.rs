//! Deployments, wired: a server's repository, the hub's servers that keep the objects, and what the app tier asks of both.

use anyhow::Context;
use app_tier::{Apps, DeployConfig};
use cluster_port::Credentials;
use common::{config::Config, id::ServerId, private};
use deployments::{HubServers, ObjectService};
use futures_util::future::BoxFuture;
use proto::hub::v1::{ReportApp, objects_server::ObjectsServer};
use repository::{ObjectId, Repository, RepositoryError};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio_util::task::AbortOnDropHandle;
use triad_client::Hub;

/// The repository in the server's data folder.
const REPOSITORY: &str = "repository.git";

/// Archives that are being read, in the data folder.
const SPOOL: &str = "archives";

/// One report to the hub.
const REPORT_WAIT: Duration = Duration::from_secs(5);

/// What a server has of deployments.
#[derive(Debug, Clone)]
pub(crate) struct Deployed {
    repository: Repository,
    spool: PathBuf,
    hub_servers: HubServers,
    hub: Hub,
    apps: Apps,
}

impl Deployed {
    /// Opens the repository, which another process may have too while this one takes over from it; `None` where the file has no `deploy-service`.
    ///
    /// # Errors
    /// The repository can't be opened or made.
    pub(crate) fn open(
        config: &Config,
        me: &ServerId,
        credentials: &Credentials,
        data: &Path,
        hub: &Hub,
        (apps, takes_over): (Apps, bool),
    ) -> anyhow::Result<Option<Self>> {
        if !config.deployments.enabled {
            return Ok(None);
        }
        let path = data.join(REPOSITORY);
        let repository = Repository::open(&path)
            .with_context(|| format!("the repository {} can't be opened", path.display()))?;
        // What a server that was killed has left behind.
        let spool = data.join(SPOOL);
        // The process that this one takes over from reads them yet.
        if spool.exists() && !takes_over {
            fs::remove_dir_all(&spool).with_context(|| format!("{} can't be emptied", spool.display()))?;
        }
        let servers: Vec<_> =
            config.hub().into_iter().map(|server| (server.id.clone(), server.cluster_address())).collect();
        let hub_servers = HubServers::new(me, credentials, &servers);
        Ok(Some(Self { repository, spool, hub_servers, hub: hub.clone(), apps }))
    }

    /// For the administration.
    pub(crate) fn administered(&self) -> admin::Deployments {
        let Self { repository, spool, hub_servers, apps, .. } = self.clone();
        admin::Deployments { hub_servers, repository, spool, apps }
    }

    /// For the app tier of the process that started at `started_ms`.
    pub(crate) fn deploy(&self, started_ms: u64) -> DeployConfig {
        DeployConfig { apps: self.apps.clone(), deployments: Arc::new(self.clone()), started_ms }
    }

    /// A hub server's service.
    pub(crate) fn objects(&self) -> ObjectsServer<ObjectService> {
        deployments::objects(self.repository.clone())
    }

    /// Looks after the repository; of a hub server it has what the hub has.
    pub(crate) fn upkeep(&self, is_hub: bool) -> AbortOnDropHandle<()> {
        let Self { repository, hub_servers, apps, .. } = self.clone();
        let mirror = deployments::mirror(repository.clone(), hub_servers.clone(), apps.clone());
        let upkeep = deployments::upkeep(repository, hub_servers, apps);
        AbortOnDropHandle::new(tokio::spawn(async move {
            if is_hub {
                tokio::join!(mirror, upkeep);
            } else {
                upkeep.await;
            }
        }))
    }
}

impl app_tier::Deployments for Deployed {
    fn fetch<'a>(&'a self, commit: &'a [u8]) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let commit = ObjectId::from_bytes(commit).map_err(|cause| cause.to_string())?;
            let here = self.repository.clone();
            let references = tokio::task::spawn_blocking(move || here.references()).await;
            let references =
                references.map_err(|cause| cause.to_string())?.map_err(|cause| cause.to_string())?;
            // A server that is not of the hub has no branches; of what is in use it has what it runs.
            let in_use: Vec<_> =
                self.apps.borrow().iter().flat_map(|it| it.values()).map(|it| it.commit.clone()).collect();
            let in_use: Vec<_> = in_use.iter().flat_map(|it| ObjectId::from_bytes(it)).collect();
            let lacking = self.repository.missing(&in_use);
            let in_use = in_use.into_iter().filter(|it| *it != commit && !lacking.contains(it));
            let have: Vec<_> = references.into_values().chain(in_use).collect();
            self.hub_servers.fetch(&self.repository, commit, &have).await.map_err(|cause| cause.to_string())
        })
    }

    fn check_out<'a>(
        &'a self,
        tree: &'a [u8],
        to: PathBuf,
        spare: Option<PathBuf>,
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let tree = ObjectId::from_bytes(tree).map_err(|cause| cause.to_string())?;
            let repository = self.repository.clone();
            let done =
                tokio::task::spawn_blocking(move || check_out(&repository, tree, &to, spare.as_deref()))
                    .await;
            done.map_err(|cause| cause.to_string())?
        })
    }

    fn verify<'a>(
        &'a self,
        tree: &'a [u8],
        folder: PathBuf,
        others: bool,
    ) -> BoxFuture<'a, Result<bool, String>> {
        Box::pin(async move {
            let tree = ObjectId::from_bytes(tree).map_err(|cause| cause.to_string())?;
            let repository = self.repository.clone();
            let done = tokio::task::spawn_blocking(move || verify(&repository, tree, &folder, others)).await;
            done.map_err(|cause| cause.to_string())?.map_err(|cause| cause.to_string())
        })
    }

    fn report(&self, report: ReportApp) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(
            async move { self.hub.report_app(report, REPORT_WAIT).await.map_err(|cause| cause.to_string()) },
        )
    }
}

fn check_out(repository: &Repository, tree: ObjectId, to: &Path, spare: Option<&Path>) -> Result<(), String> {
    let folder = to.parent().unwrap_or(to);
    private::make_folder(folder).map_err(|cause| format!("{} can't be made: {cause}", folder.display()))?;
    repository.checkout(tree, to, spare).map(drop).map_err(|cause| cause.to_string())
}

fn verify(
    repository: &Repository,
    tree: ObjectId,
    folder: &Path,
    others: bool,
) -> Result<bool, RepositoryError> {
    let mut wrong = repository.verify_checkout(tree, folder)?;
    if others {
        wrong.retain(|path| is_of(repository, tree, path));
    }
    if wrong.is_empty() {
        return Ok(true);
    }
    let (files, cure) = (wrong.len(), if others { "it is checked out anew" } else { "mending them" });
    tracing::warn!(folder = %folder.display(), files, "files of a version were changed: {cure}");
    if others {
        return Ok(false);
    }
    repository.mend_checkout(tree, folder, &wrong)?;
    Ok(true)
}

/// Whether the tree has something at this path.
fn is_of(repository: &Repository, tree: ObjectId, path: &Path) -> bool {
    path.to_str().is_some_and(|path| repository.entries(tree, path).is_ok())
}
