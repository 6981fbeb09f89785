//! Who is in the cluster, by the file, and what each server may do on another's cluster port. The key makes a name believable; what
//! the name may do is the file's to say.

use crate::Protocol;
use common::{
    config::{Cluster, Config, Content, Server},
    id::ServerId,
};
use std::{collections::HashMap, sync::Arc};
use tokio::sync::watch;

/// What a server may do, by the roles that the file gives it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rights {
    /// It is of the hub (`triad`): it may speak Raft.
    pub hub: bool,
    /// It has web-apps other than the administration, or runs deployed ones: it may load and write sessions.
    pub apps: bool,
    /// It has listeners (`http`): it may forward requests, and what it says in headers is believed.
    pub listens: bool,
    /// It has a web-app with `admin: true`: it may say what an administrator said.
    pub administers: bool,
}

impl Rights {
    /// All there are.
    pub const ALL: Self = Self { hub: true, apps: true, listens: true, administers: true };

    fn of(config: &Config, cluster: &Cluster, server: &Server) -> Self {
        let web_apps = || cluster.hosts.iter().flat_map(|host| &host.web_apps);
        Self {
            hub: config.triad.contains(&server.id),
            apps: web_apps().any(|web_app| web_app.content != Content::Admin)
                || (config.deployments.enabled && config.app_clusters().contains(&cluster.id)),
            listens: server.listens(),
            administers: web_apps().any(|web_app| web_app.content == Content::Admin),
        }
    }

    /// Whether a connection of this kind may be made at all. Which calls of gRPC it may make is asked call by call.
    pub(crate) fn may_speak(self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Http1 => self.listens,
            Protocol::Grpc => true,
        }
    }
}

/// The servers of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster(HashMap<ServerId, Rights>);

impl Roster {
    /// As a configuration says.
    pub fn of(config: &Config) -> Self {
        config
            .servers()
            .map(|(cluster, server)| (server.id.clone(), Rights::of(config, cluster, server)))
            .collect()
    }

    /// What a server may do; `None` for one that is none of the file's.
    pub fn rights(&self, id: &ServerId) -> Option<Rights> {
        self.0.get(id).copied()
    }

    /// A roster that never changes.
    pub fn fixed(self) -> watch::Receiver<Arc<Self>> {
        watch::channel(Arc::new(self)).1
    }
}

impl FromIterator<(ServerId, Rights)> for Roster {
    fn from_iter<I: IntoIterator<Item = (ServerId, Rights)>>(servers: I) -> Self {
        Self(servers.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::config::{LoadOptions, load_str};
    use std::path::Path;

    #[test]
    fn rights_are_those_of_the_roles_in_the_file() {
        let text = "
triad: [app-a, app-b, hub-c]
clusters:
  - id: app-tier
    servers:
      - {id: app-a, address: 127.0.0.1, port: 6800}
      - {id: app-b, address: 127.0.0.1, port: 6801}
      - {id: app-d, address: 127.0.0.1, port: 6802}
    hosts: [{id: '', web-apps: [{id: '', root-directory: app}]}]
  - {id: hub, servers: [{id: hub-c, address: 127.0.0.1, port: 6803}]}
  - id: web-tier
    servers: [{id: web-a, address: 127.0.0.1, port: 6804, http: [{port: 8080}]}]
    hosts:
      - id: ''
        web-apps: [{id: /admin, admin: true}]
        dispatch: [{load-balance: {cluster: app-tier}}]
";
        let config = load_str(text, Path::new("copal.yaml"), &LoadOptions::default()).unwrap().config;
        let roster = Roster::of(&config);
        let rights = |id: &str| roster.rights(&id.into());
        let none = Rights::default();
        assert_eq!(rights("app-a"), Some(Rights { hub: true, apps: true, ..none }));
        assert_eq!(rights("app-d"), Some(Rights { apps: true, ..none }));
        assert_eq!(rights("hub-c"), Some(Rights { hub: true, ..none }));
        assert_eq!(rights("web-a"), Some(Rights { listens: true, administers: true, ..none }));
        assert_eq!(rights("app-c"), None);
        assert!(rights("web-a").unwrap().may_speak(Protocol::Http1));
        assert!(!rights("app-a").unwrap().may_speak(Protocol::Http1));
    }
}
