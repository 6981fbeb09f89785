//! Whenever the hub says that something has changed of a deployed app, this web-tier forgets the answers of its paths: at each server that goes
//! over to another version, and when it is in use on all. One that was cut off from the hub does it when it hears the hub again.

use app_tier::Apps;
use common::{
    app_tag::AppTag,
    config::{Config, Host},
};
use prost::Message;
use proto::hub::v1::App;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use tokio::task::spawn_blocking;
use web_tier::WebTierView;

/// The versions of apps, as far as what they answer depends on them.
type Versions = BTreeMap<String, u64>;

/// Follows the hub for as long as it tells.
pub(crate) fn follow(mut apps: Apps, view: WebTierView) {
    tokio::spawn(async move {
        // Those by which the answers are that were kept on disk before this start.
        let mut known = view.apps().and_then(|it| serde_json::from_slice(&it).ok()).unwrap_or_default();
        loop {
            let told = apps.borrow_and_update().clone();
            if let Some(told) = told {
                let (present, config) = (versions(&told), view.config());
                let changed: BTreeSet<String> =
                    changed(&known, &present).flat_map(|tag| paths(&config, tag)).collect();
                forget(&view, changed, &present).await;
                known = present;
            }
            if apps.changed().await.is_err() {
                return;
            }
        }
    });
}

/// Forgets the answers of these paths; what is kept then is by these versions.
async fn forget(view: &WebTierView, paths: BTreeSet<String>, versions: &Versions) {
    let (view, versions) = (view.clone(), serde_json::to_vec(versions).unwrap_or_default());
    let forgotten = spawn_blocking(move || {
        let count = view.apps_changed(paths.iter(), &versions);
        if count > 0 {
            tracing::info!(?paths, count, "apps have changed: their kept answers are forgotten");
        }
    });
    let _ = forgotten.await;
}

fn versions(apps: &BTreeMap<String, App>) -> Versions {
    let hash = |app: &App| {
        let mut hash = Sha256::new();
        hash.update(app.encode_to_vec());
        let hash = hash.finalize();
        u64::from_le_bytes(std::array::from_fn(|it| hash[it]))
    };
    apps.iter().map(|(tag, app)| (tag.clone(), hash(app))).collect()
}

/// The tags of the apps that are not as they were.
fn changed<'a>(before: &'a Versions, now: &'a Versions) -> impl Iterator<Item = &'a String> {
    let gone = before.keys().filter(|tag| !now.contains_key(*tag));
    now.iter().filter(|(tag, app)| before.get(*tag) != Some(app)).map(|(tag, _)| tag).chain(gone)
}

/// Where an app is served, on any host.
fn paths(config: &Config, tag: &str) -> Vec<String> {
    let Ok(tag) = AppTag::parse(tag) else { return Vec::new() };
    let hosts: Vec<&Host> = config.clusters.iter().flat_map(|it| &it.hosts).collect();
    let named = hosts.iter().flat_map(|it| it.paths_of(&tag));
    named.chain([tag.path()]).map(|it| if it.is_empty() { "/".to_owned() } else { it }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_changed_come_or_gone_is_told() {
        let app = |tree: u8| App { tree: vec![tree].into(), ..App::default() };
        let before =
            BTreeMap::from([("a".to_owned(), app(1)), ("b".to_owned(), app(1)), ("c".to_owned(), app(1))]);
        let now =
            BTreeMap::from([("a".to_owned(), app(1)), ("b".to_owned(), app(2)), ("d".to_owned(), app(1))]);
        let (before, now) = (versions(&before), versions(&now));
        assert_eq!(changed(&before, &now).collect::<Vec<_>>(), ["b", "d", "c"]);
    }
}
