//! Whenever the hub says that something has changed of a deployed app, this web-tier forgets the answers of its paths: at each server that goes
//! over to another version, and when it is in use on all. One that was cut off from the hub does it when it hears the hub again.

use app_tier::Apps;
use common::{
    app_tag::AppTag,
    config::{Config, Host},
};
use proto::{
    hub::v1::App,
    web::v1::{PurgeCache, purge_cache::What},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::task::spawn_blocking;
use web_tier::WebTierView;

/// Follows the hub for as long as it tells.
pub(crate) fn follow(config: &Arc<Config>, mut apps: Apps, view: WebTierView) {
    let config = config.clone();
    tokio::spawn(async move {
        let mut known = apps.borrow_and_update().clone().unwrap_or_default();
        while apps.changed().await.is_ok() {
            let present = apps.borrow_and_update().clone().unwrap_or_default();
            let changed: BTreeSet<String> =
                changed(&known, &present).flat_map(|tag| paths(&config, tag)).collect();
            known = present;
            for path in changed {
                let (view, asked) = (
                    view.clone(),
                    PurgeCache { what: Some(What::Prefix(path.clone())), ..PurgeCache::default() },
                );
                let purged = spawn_blocking(move || view.purge(&asked)).await;
                if let Ok(Ok(purged)) = purged
                    && purged.count > 0
                {
                    tracing::info!(
                        path,
                        count = purged.count,
                        "an app has changed: its kept answers are forgotten"
                    );
                }
            }
        }
    });
}

/// The tags of the apps that are not as they were.
fn changed<'a>(
    before: &'a BTreeMap<String, App>,
    now: &'a BTreeMap<String, App>,
) -> impl Iterator<Item = &'a String> {
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
        assert_eq!(changed(&before, &now).collect::<Vec<_>>(), ["b", "d", "c"]);
    }
}
