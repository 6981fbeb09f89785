//! Where each deployed app is served, and which clusters' servers run it.

use super::{
    deployment::Versioning,
    model::{Config, Content, Host, Server},
    rule::Action,
};
use crate::{
    app_tag::{AppTag, DEFAULT_HOST},
    id::ClusterId,
};

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
            let listens = cluster.servers.iter().any(Server::listens);
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
