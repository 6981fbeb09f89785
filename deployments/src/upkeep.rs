//! What a repository needs now and then: what nobody needs any more is deleted, and everything is read, so that damage is found while
//! other servers have good copies.

use crate::HubServers;
use proto::hub::v1::App;
use repository::{ObjectId, Repository};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::watch;

/// From one time to the next; the first comes sooner, but not while a server has other things to do.
const FIRST: Duration = Duration::from_secs(600);
const EACH: Duration = Duration::from_secs(24 * 3600);

/// What nothing leads to stays for so long: somebody may be about to use it, or want it back.
const GRACE: Duration = Duration::from_secs(14 * 24 * 3600);

/// The disk is read at no more than so many bytes a second.
const SCRUB_RATE: u64 = 32 << 20;

/// Looks after a repository for as long as it is polled.
pub async fn upkeep(
    repository: Repository,
    hub: HubServers,
    apps: watch::Receiver<Option<Arc<BTreeMap<String, App>>>>,
) {
    tokio::time::sleep(FIRST).await;
    loop {
        // Before the hub's first word nobody knows what is needed.
        let present = apps.borrow().clone();
        if let Some(present) = present {
            tidy(&repository, &present, SystemTime::now() - GRACE).await;
        }
        scrub(&repository, &hub).await;
        tokio::time::sleep(EACH).await;
    }
}

/// Deletes what nobody needs and was set aside before `older_than`.
async fn tidy(repository: &Repository, apps: &BTreeMap<String, App>, older_than: SystemTime) {
    let commits = apps.values().flat_map(|app| {
        let rollout = app.rollout.as_ref().map(|it| it.commit.clone());
        [Some(app.commit.clone()), rollout]
    });
    let keep: Vec<_> = commits.flatten().flat_map(|id| ObjectId::from_bytes(&id)).collect();
    let repository = repository.clone();
    let tidied = tokio::task::spawn_blocking(move || repository.delete_garbage(&keep, older_than)).await;
    match tidied {
        Ok(Ok(collected)) => tracing::info!(?collected, "the repository is tidy"),
        Ok(Err(cause)) => tracing::warn!(%cause, "the repository can't be tidied"),
        Err(cause) => tracing::warn!(%cause, "the repository can't be tidied"),
    }
}

/// Reads everything, and replaces what is damaged by another server's copy.
pub(crate) async fn scrub(repository: &Repository, hub: &HubServers) {
    let here = repository.clone();
    let mut pause = Pause::default();
    let scrubbed = tokio::task::spawn_blocking(move || here.scrub(|bytes| pause.after(bytes))).await;
    let damaged = match scrubbed {
        Ok(Ok(damaged)) => damaged,
        Ok(Err(cause)) => return tracing::error!(%cause, "the repository can't be read"),
        Err(cause) => return tracing::error!(%cause, "the repository can't be read"),
    };
    if damaged.is_empty() {
        return;
    }
    let (count, first) = (damaged.len(), damaged.first());
    tracing::error!(objects = count, ?first, path = %repository.path().display(), "objects of the repository are damaged: is the disk?");
    match hub.heal(repository, &damaged).await {
        Ok(()) => {
            tracing::info!(objects = count, "damaged objects were replaced by good copies of another server");
        }
        Err(cause) => tracing::error!(%cause, "damaged objects can't be replaced yet"),
    }
}

/// Sleeps as long as the bytes that were read are worth.
#[derive(Default)]
struct Pause {
    bytes: u64,
}

impl Pause {
    fn after(&mut self, bytes: u64) {
        self.bytes += bytes;
        if self.bytes >= SCRUB_RATE / 16 {
            std::thread::sleep(Duration::from_millis(self.bytes * 1000 / SCRUB_RATE));
            self.bytes = 0;
        }
    }
}
