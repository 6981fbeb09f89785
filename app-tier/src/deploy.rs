//! Deployed apps on this server: what the hub says is to run is fetched, checked out beside the old version, started, and takes
//! the old one's place. docs/deployments.md tells the whole way.
//!
//! One task an app ([`actor`]); what it does next is decided by what the hub says and what it holds ([`decision`]).

mod actor;
mod checkouts;
mod decision;
mod remembered;
mod version;

use crate::{loader::Loader, process::CHECKED_OUT, registry::Registry, session::Sessions};
use actor::Actor;
use checkouts::Checkouts;
use common::{
    app_tag::AppTag,
    config::{Cluster, Config, Host, SessionConfig},
};
use futures_util::future::BoxFuture;
use proto::hub::v1::{App, ReportApp};
use remembered::Remembered;
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What the hub says of its apps, by tag; `None` before its first word.
pub type Apps = watch::Receiver<Option<Arc<BTreeMap<String, App>>>>;

/// A server that starts waits so long for the hub's first word.
const HEARD_MAX: Duration = Duration::from_secs(10);

/// The files of versions, and who is told how far this server is.
pub trait Deployments: fmt::Debug + Send + Sync {
    /// Brings everything here that `commit` leads to, and verifies it.
    fn fetch<'a>(&'a self, commit: &'a [u8]) -> BoxFuture<'a, Result<(), String>>;
    /// Puts the files of `tree` into a folder that is not there yet. `spare` is the folder of a version that is not needed any more, and that
    /// nothing but this server has written to: it may become the new one.
    fn check_out<'a>(
        &'a self,
        tree: &'a [u8],
        to: PathBuf,
        spare: Option<PathBuf>,
    ) -> BoxFuture<'a, Result<(), String>>;
    /// Whether a folder has the files of `tree`. One that nothing but this server has written to is mended, and has them then; one with `others`'
    /// files is left as it is: what is in it beside the tree's files is no fault, and somebody may be changing it.
    fn verify<'a>(
        &'a self,
        tree: &'a [u8],
        folder: PathBuf,
        others: bool,
    ) -> BoxFuture<'a, Result<bool, String>>;
    /// Tells the hub.
    fn report(&self, report: ReportApp) -> BoxFuture<'_, Result<(), String>>;
}

/// What a server needs to run deployed apps.
#[derive(Debug, Clone)]
pub struct DeployConfig {
    /// What is to run.
    pub apps: Apps,
    /// Where it comes from.
    pub deployments: Arc<dyn Deployments>,
    /// This server's process, as the hub knows it, in milliseconds.
    pub started_ms: u64,
}

/// Where this server is in the file.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) config: Arc<Config>,
    pub(crate) cluster: Cluster,
    pub(crate) data_dir: PathBuf,
}

/// Runs the deployed apps of one server; clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Deployer {
    /// Whether all apps are as the hub had them at the first look, or have failed to be.
    caught_up: watch::Receiver<bool>,
    apps: Apps,
    stop: CancellationToken,
}

/// What all actors share.
#[derive(Debug)]
pub(crate) struct Shared {
    deployments: Arc<dyn Deployments>,
    loader: Arc<Loader>,
    registry: Arc<Registry>,
    started_ms: u64,
    keep_versions: usize,
    /// By the name of an app's sessions: those of its versions that run.
    sessions: Mutex<HashMap<String, (SessionConfig, Weak<Sessions>)>>,
    checkouts: Arc<Checkouts>,
}

impl Deployer {
    pub(crate) fn start(
        config: DeployConfig,
        place: Place,
        loader: Arc<Loader>,
        registry: Arc<Registry>,
        end: &CancellationToken,
    ) -> Self {
        let folder = place.data_dir.join(CHECKED_OUT);
        let remembered = Remembered::new(&folder);
        let shared = Arc::new(Shared {
            deployments: config.deployments,
            loader,
            registry,
            started_ms: config.started_ms,
            sessions: Mutex::default(),
            keep_versions: place.config.deployments.keep_versions,
            checkouts: Checkouts::new(folder),
        });
        let (sender, caught_up) = watch::channel(false);
        let stop = end.child_token();
        let apps = config.apps.clone();
        let following = follow(config.apps, place, (shared, remembered), sender, stop.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(following));
        Self { caught_up, apps, stop }
    }

    /// Waits until the apps are as the hub has them, or `timeout` is over; less long for a hub that says nothing.
    pub(crate) async fn caught_up(&self, timeout: Duration) {
        let mut apps = self.apps.clone();
        let heard =
            tokio::time::timeout(timeout.min(HEARD_MAX), apps.wait_for(Option::is_some)).await.is_ok();
        if !heard {
            tracing::warn!(waited = ?HEARD_MAX, "the hub has not said which apps are deployed: going on with those that ran before");
        }
        let mut caught_up = self.caught_up.clone();
        let waited = tokio::time::timeout(timeout, caught_up.wait_for(|it| *it)).await;
        if waited.is_err() {
            tracing::warn!(?timeout, "the deployed apps are not as the hub has them yet: going on without");
        }
    }

    /// Begins nothing more.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }
}

/// An app's task, as the follower knows it.
struct Follows {
    wanted: watch::Sender<Option<App>>,
    settled: watch::Receiver<bool>,
}

/// Hands each app's changes to its task.
async fn follow(
    mut apps: Apps,
    place: Place,
    (shared, mut remembered): (Arc<Shared>, Remembered),
    caught_up: watch::Sender<bool>,
    stop: CancellationToken,
) {
    let mut actors: HashMap<String, Follows> = HashMap::new();
    let (mut looked, mut swept) = (false, false);
    let heard = tokio::time::timeout(HEARD_MAX, apps.wait_for(Option::is_some)).await.is_ok();
    let mut recalled = if heard { None } else { remembered.recall() };
    loop {
        let present = apps.borrow_and_update().clone();
        if let Some(present) = &present {
            remembered.keep(present).await;
        }
        let by_the_hub = present.is_some();
        if let Some(present) = present.or_else(|| recalled.take()) {
            for (tag, app) in present.iter() {
                let Some(host) = runs_here(&place, tag, app) else { continue };
                let follows = actors.entry(tag.clone()).or_insert_with(|| begin(&shared, tag, host, &stop));
                follows.wanted.send_if_modified(|wanted| {
                    let news = wanted.as_ref() != Some(app);
                    if news {
                        *wanted = Some(app.clone());
                    }
                    news
                });
            }
            // Its task takes it away and ends.
            actors.retain(|tag, follows| {
                let stays = present.get(tag).is_some_and(|app| runs_here(&place, tag, app).is_some());
                if !stays {
                    follows.wanted.send_replace(None);
                }
                stays
            });
            if by_the_hub && !std::mem::replace(&mut swept, true) {
                let checkouts = shared.checkouts.clone();
                tokio::task::spawn_blocking(move || checkouts.sweep());
            }
            if !std::mem::replace(&mut looked, true) {
                let settled = actors.values().map(|it| it.settled.clone()).collect();
                tokio::spawn(stop.clone().run_until_cancelled_owned(all(settled, caught_up.clone())));
            }
        }
        if apps.changed().await.is_err() {
            return;
        }
    }
}

/// Says so when all have settled.
async fn all(settled: Vec<watch::Receiver<bool>>, caught_up: watch::Sender<bool>) {
    for mut settled in settled {
        // An error means that its task is gone, and with it the app.
        let _gone = settled.wait_for(|it| *it).await.is_err();
    }
    caught_up.send_replace(true);
}

fn begin(shared: &Arc<Shared>, tag: &str, host: Host, stop: &CancellationToken) -> Follows {
    let (wanted, follows) = watch::channel(None);
    let (sender, settled) = watch::channel(false);
    // `runs_here` has read it.
    if let Ok(parsed) = AppTag::parse(tag) {
        let actor = Actor::new(shared.clone(), parsed, host, sender);
        tokio::spawn(stop.clone().run_until_cancelled_owned(actor.run(follows)));
    }
    Follows { wanted, settled }
}

/// The host at which an app is served here; `None`: it is not for this server.
fn runs_here(place: &Place, tag: &str, app: &App) -> Option<Host> {
    let tag = AppTag::parse(tag).ok()?;
    let here = tag.stage == place.config.deployments.stage
        && app.clusters.iter().any(|it| it == place.cluster.id.as_str());
    if !here {
        return None;
    }
    let hosts = &place.cluster.hosts;
    let default = || hosts.is_empty().then(Host::default);
    hosts.iter().find(|host| host.tag_name() == tag.host).cloned().or_else(default)
}
