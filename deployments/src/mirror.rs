//! A hub server's repository follows the hub's log: what is in use is brought here if it is not, and the branches say so. So a server
//! that was away, or lost its disk, has everything again.

use crate::HubServers;
use common::{app_tag::AppTag, backoff::Backoff};
use proto::hub::v1::App;
use repository::{ObjectId, Repository};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;

/// Waits before what failed is tried again.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Follows until nobody tells of apps any more.
pub async fn mirror(
    repository: Repository,
    hub: HubServers,
    mut apps: watch::Receiver<Option<Arc<BTreeMap<String, App>>>>,
) {
    let mut backoff = Backoff::new(FIRST_WAIT, MAX_WAIT);
    loop {
        let present = apps.borrow_and_update().clone();
        let failed = match &present {
            Some(present) => follow(&repository, &hub, present).await,
            None => false,
        };
        let changed = apps.changed();
        let ended = if failed {
            let wait = backoff.wait(rand_share());
            matches!(tokio::time::timeout(wait, changed).await, Ok(Err(_)))
        } else {
            backoff.reset();
            changed.await.is_err()
        };
        if ended {
            return;
        }
    }
}

fn rand_share() -> f64 {
    0.5
}

/// Brings the repository up to date; whether something could not be had.
async fn follow(repository: &Repository, hub: &HubServers, apps: &BTreeMap<String, App>) -> bool {
    let wanted: HashMap<String, ObjectId> = apps
        .iter()
        .filter_map(|(tag, app)| {
            Some((AppTag::parse(tag).ok()?.reference(), ObjectId::from_bytes(&app.commit).ok()?))
        })
        .collect();
    let here = repository.clone();
    let references = match tokio::task::spawn_blocking(move || here.references()).await {
        Ok(Ok(references)) => references,
        Ok(Err(cause)) => {
            tracing::error!(%cause, "the repository's branches can't be read");
            return true;
        }
        Err(_) => return true,
    };
    let have: Vec<ObjectId> = references.values().copied().collect();
    let mut failed = false;
    for (name, commit) in &wanted {
        if references.get(name) == Some(commit) {
            continue;
        }
        match hub.fetch(repository, *commit, &have).await {
            Ok(()) => failed |= !set(repository, name, Some(*commit)).await,
            Err(cause) => {
                tracing::warn!(name, %cause, "a version that is in use can't be brought here yet");
                failed = true;
            }
        }
    }
    let gone =
        references.keys().filter(|name| name.starts_with("refs/heads/") && !wanted.contains_key(*name));
    for name in gone {
        failed |= !set(repository, name, None).await;
    }
    failed
}

async fn set(repository: &Repository, name: &str, to: Option<ObjectId>) -> bool {
    let (repository, owned) = (repository.clone(), name.to_owned());
    match tokio::task::spawn_blocking(move || repository.set_reference(&owned, to)).await {
        Ok(Ok(())) => true,
        Ok(Err(cause)) => {
            tracing::error!(name, %cause, "a branch of the repository can't be moved");
            false
        }
        Err(_) => false,
    }
}
