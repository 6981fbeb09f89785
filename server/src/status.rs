//! What this server says of itself to whichever server shows the status page.

mod certificates;
mod process;

use admin::HealthView;
use app_tier::AppTier;
use common::{
    clock::{Clock, SystemClock},
    config::FilePath,
    hub_age::LastHeard,
};
use proto::{
    hub::v1::Member,
    status::v1::{
        GetStatus, ServerStatus,
        status_server::{Status, StatusServer},
    },
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::task::JoinError;
use tonic::{Request, Response, Status as Refused};
use triad::Triad;
use web_tier::WebTierView;

/// The hub's files in the data folder.
const HUB: &str = "hub";

/// Files of a folder that are counted, and how deep: what a stranger puts there makes no question take long.
const FILES_MAX: usize = 10_000;
const DEPTH_MAX: usize = 4;

/// What a server knows of itself.
#[derive(Debug)]
pub(crate) struct Knows {
    /// As it has registered.
    member: Member,
    data: PathBuf,
    web_tier: Option<WebTierView>,
    app_tier: Option<Arc<AppTier>>,
    pub(crate) triad: Option<Arc<Triad>>,
    /// The certificate that it shows to other servers.
    cluster_certificate: Option<FilePath>,
    health: HealthView,
    pub(crate) heard: LastHeard,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Knows {
    /// Of the server that registers as `member`, with its data folder and the roles that it plays.
    pub(crate) fn new(
        member: &Member,
        data: &Path,
        (web_tier, app_tier, triad): (Option<WebTierView>, Option<Arc<AppTier>>, Option<Arc<Triad>>),
        (cluster_certificate, health): (Option<FilePath>, HealthView),
        heard: LastHeard,
    ) -> Arc<Self> {
        let (member, data, clock) = (member.clone(), data.to_owned(), Arc::new(SystemClock));
        Arc::new(Self { member, data, web_tier, app_tier, triad, cluster_certificate, health, heard, clock })
    }

    /// How it is now.
    ///
    /// # Errors
    /// The runtime stops.
    pub(crate) async fn status(&self) -> Result<ServerStatus, JoinError> {
        let Self { member, data, web_tier, app_tier, triad, heard, clock, .. } = self;
        let shown = web_tier.as_ref().map(WebTierView::certificates).unwrap_or_default();
        let orders = web_tier.as_ref().map(WebTierView::orders).unwrap_or_default();
        let web_tier = match web_tier {
            Some(view) => Some(view.status().await),
            None => None,
        };
        let (folder, is_hub, own) = (data.clone(), triad.is_some(), self.cluster_certificate.clone());
        let measured = tokio::task::spawn_blocking(move || {
            let certificates = certificates::all(shown, own.as_ref(), &orders);
            let disk_bytes = if is_hub { bytes_below(&folder.join(HUB)) } else { 0 };
            (process::measure(&folder), disk_bytes, certificates)
        });
        let (process, disk_bytes, certificates) = measured.await?;
        let hub = triad.as_ref().map(|it| proto::status::v1::Hub { disk_bytes, ..it.report() });
        let age = heard.age(clock.now());
        Ok(ServerStatus {
            id: member.id.clone(),
            version: member.version.clone(),
            started_ms: member.started_ms,
            now_ms: clock.unix_ms(),
            config_hash: member.config_hash,
            process: Some(process),
            web_tier,
            app_tier: app_tier.as_ref().map(|it| it.status()),
            hub,
            certificates,
            health: self.health.report(),
            hub_heard_ms: age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        })
    }
}

/// The service, for the cluster port.
pub(crate) fn service(knows: Arc<Knows>) -> StatusServer<impl Status> {
    StatusServer::new(StatusService(knows))
}

#[derive(Debug)]
struct StatusService(Arc<Knows>);

#[tonic::async_trait]
impl Status for StatusService {
    async fn get(&self, _: Request<GetStatus>) -> Result<Response<ServerStatus>, Refused> {
        let status = self.0.status().await;
        status.map(Response::new).map_err(|cause| Refused::internal(cause.to_string()))
    }
}

/// What the files of a folder take, without following links.
fn bytes_below(folder: &Path) -> u64 {
    let (mut bytes, mut files) = (0, 0);
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        // A folder that is gone meanwhile takes nothing.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            files += 1;
            if files > FILES_MAX {
                return bytes;
            }
            match entry.metadata() {
                Ok(it) if it.is_dir() && depth < DEPTH_MAX => folders.push((entry.path(), depth + 1)),
                Ok(it) if it.is_file() => bytes += it.len(),
                _ => {}
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_folder_are_added_up() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("log")).unwrap();
        fs::write(folder.path().join("log/1"), [0; 1000]).unwrap();
        fs::write(folder.path().join("vote"), [0; 24]).unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("elsewhere")).unwrap();
        assert_eq!(bytes_below(folder.path()), 1024);
        assert_eq!(bytes_below(&folder.path().join("nowhere")), 0);
    }
}
