//! Deployed apps: whether there are any, where each of them is served, and which clusters' servers run it.

use super::{
    decode::Fields,
    model::{Config, Content, Host},
    rule::Action,
};
use crate::{
    app_tag::{AppTag, DEFAULT_HOST, PRODUCTION},
    id::ClusterId,
};
use std::{ops::RangeInclusive, time::Duration};

/// Versions of an app that a server may keep.
const KEPT: RangeInclusive<u64> = 1..=100;

/// `old-version-timeout`, unless the file says otherwise.
const OLD_VERSION_TIMEOUT: Duration = Duration::from_secs(3600);

/// So many unless the file says otherwise.
const KEEP: usize = 3;

/// What the file says of deployments as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployments {
    /// `deploy-service` (false): apps may be deployed, and those that are deployed run.
    pub enabled: bool,
    /// `stage` (production): the stage whose apps the servers run.
    pub stage: String,
    /// `keep-versions` (3): versions of each app, the one in use counted, whose files a server keeps.
    pub keep_versions: usize,
}

/// None, of the usual stage.
impl Default for Deployments {
    fn default() -> Self {
        Self { enabled: false, stage: PRODUCTION.to_owned(), keep_versions: KEEP }
    }
}

/// Reads the root's keys.
pub(super) fn decode(fields: &Fields<'_>, chosen: Option<&str>) -> Deployments {
    let own = fields.get("stage").and_then(|node| fields.context.checked(node, stage));
    Deployments {
        enabled: fields.boolean("deploy-service").unwrap_or(false),
        stage: chosen.map(str::to_owned).or(own).unwrap_or_else(|| PRODUCTION.to_owned()),
        keep_versions: fields.integer("keep-versions", KEPT).unwrap_or(KEEP),
    }
}

fn stage(text: &str) -> Result<(), String> {
    AppTag::new(text, DEFAULT_HOST, "app", None).map(drop).map_err(|cause| cause.to_string())
}

/// How several versions of an app that are deployed side by side are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Versioning {
    /// `versioning: multiversion-routing`: users stay with the version in which their session has begun, for so long after a newer one
    /// has come (`old-version-timeout`, 1 h). Without it the highest version is everyone's.
    pub sessions_stay: Option<Duration>,
}

/// Reads a web-app's keys.
pub(super) fn versioning(fields: &Fields<'_>) -> Versioning {
    let timeout = fields.duration("old-version-timeout", Duration::ZERO..=Duration::from_secs(366 * 86_400));
    let routing = fields.choice("versioning", &[("multiversion-routing", true), ("highest", false)]);
    let timeout = timeout.unwrap_or(OLD_VERSION_TIMEOUT);
    Versioning { sessions_stay: routing.unwrap_or_default().then_some(timeout) }
}

/// The name of a deployed app, as a web-app has it under `deploy`.
pub(super) fn app_name(text: &str) -> Result<(), String> {
    AppTag::new(PRODUCTION, DEFAULT_HOST, text, None).map(drop).map_err(|cause| cause.to_string())
}

impl Host {
    /// The host's name in the tags of its apps.
    pub fn tag_name(&self) -> &str {
        if self.id.is_empty() { DEFAULT_HOST } else { &self.id }
    }

    /// The paths at which an app of this host is served: those that the file names, or else `/NAME`.
    pub fn paths_of(&self, tag: &AppTag) -> Vec<String> {
        let named = |content: &Content| matches!(content, Content::Deploy(name) if *name == tag.name);
        let paths: Vec<_> =
            self.web_apps.iter().filter(|it| named(&it.content)).map(|it| it.id.clone()).collect();
        if paths.is_empty() { vec![tag.path()] } else { paths }
    }
}

impl Host {
    /// How the versions of an app of this host are used: as the web-app that names it says, or as the defaults above the host say.
    pub fn versioning(&self, tag: &AppTag) -> Versioning {
        let named = |content: &Content| matches!(content, Content::Deploy(name) if *name == tag.name);
        let web_app = self.web_apps.iter().find(|it| named(&it.content));
        web_app.map_or(self.versioning_default, |it| it.versioning)
    }
}

impl Config {
    /// The clusters whose servers run the apps of a host (by its name in tags): those that have this host, if there are any among the
    /// [app clusters](Self::app_clusters), or all of them for the default host.
    pub fn clusters_of(&self, tag: &AppTag) -> Vec<ClusterId> {
        let named = |host: &Host| {
            host.tag_name() == tag.host
                && host.web_apps.iter().any(|it| it.content == Content::Deploy(tag.name.clone()))
        };
        let naming: Vec<_> =
            self.clusters.iter().filter(|it| it.hosts.iter().any(named)).map(|it| it.id.clone()).collect();
        if !naming.is_empty() {
            return naming;
        }
        let has = |id: &ClusterId| {
            let cluster = self.clusters.iter().find(|it| it.id == *id);
            let mut hosts = cluster.into_iter().flat_map(|it| &it.hosts);
            tag.host == DEFAULT_HOST || hosts.any(|host| host.tag_name() == tag.host)
        };
        self.app_clusters().into_iter().filter(has).collect()
    }

    /// The clusters whose servers run deployed apps: those that a rule balances over, those that name one, and those that have no
    /// listeners; a cluster that is alone runs them itself.
    pub fn app_clusters(&self) -> Vec<ClusterId> {
        let mut found = Vec::new();
        for cluster in &self.clusters {
            let balanced = self
                .hosts()
                .flat_map(|host| &host.dispatch)
                .any(|rule| matches!(&rule.action, Action::LoadBalance(to) if to.cluster == cluster.id));
            let names = cluster.hosts.iter().flat_map(|host| &host.web_apps);
            let names = names.into_iter().any(|it| matches!(it.content, Content::Deploy(_)));
            let listens = cluster.servers.iter().any(|server| !server.http.is_empty());
            if balanced || names || !listens || self.clusters.len() == 1 {
                found.push(cluster.id.clone());
            }
        }
        found
    }

    fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.clusters.iter().flat_map(|cluster| &cluster.hosts)
    }
}
