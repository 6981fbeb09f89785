//! What a new configuration changes, as far as it matters to a web tier, in one line for the log.

use common::{
    config::{Cluster, Config, Server},
    id::ServerId,
};
use std::fmt;

/// What a reload has changed. Its `Display` is one line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes(Vec<String>);

impl Changes {
    /// Whether all is as it was.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What differs between two configurations that both have the server `me`; listeners and the access log apart.
    pub(crate) fn between(old: &Config, new: &Config, me: &ServerId) -> Self {
        let mut changes = Self::default();
        if let (Some((old, old_me)), Some((new, new_me))) = (old.server(me), new.server(me)) {
            if debug(&old.hosts) != debug(&new.hosts) {
                changes.add("rules");
            }
            if old_me.tcp != new_me.tcp {
                changes.add("tcp-proxy");
            }
            if own(old_me) != own(new_me) {
                changes.add("limits and time-outs");
            }
            if debug(&old.trusted_proxies) != debug(&new.trusted_proxies) {
                changes.add("trusted-proxies");
            }
        }
        for cluster in &new.clusters {
            match old.cluster(&cluster.id) {
                None => changes.add(format!("cluster {} added", cluster.id)),
                Some(before) => changes.0.extend(cluster_changes(before, cluster, me)),
            }
        }
        for gone in old.clusters.iter().filter(|it| new.cluster(&it.id).is_none()) {
            changes.add(format!("cluster {} removed", gone.id));
        }
        changes
    }

    /// Adds a thing that has changed.
    pub fn add(&mut self, what: impl Into<String>) {
        self.0.push(what.into());
    }

    /// Adds what else has changed.
    pub(crate) fn append(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Adds things, if there are any.
    pub(crate) fn add_list(&mut self, what: &str, list: &[String]) {
        if !list.is_empty() {
            self.add(format!("{what} {}", list.join(", ")));
        }
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() { f.write_str("nothing has changed") } else { f.write_str(&self.0.join("; ")) }
    }
}

/// What has changed of a cluster, its rules and this server itself apart.
fn cluster_changes(old: &Cluster, new: &Cluster, me: &ServerId) -> Option<String> {
    let find = |list: &Cluster, id: &ServerId| list.servers.iter().find(|it| it.id == *id).map(own);
    let ids = |list: &[&Server]| list.iter().map(|it| it.id.as_str()).collect::<Vec<_>>().join(", ");
    let missing_in = |other: &Cluster, list: &Cluster| {
        ids(&list.servers.iter().filter(|it| find(other, &it.id).is_none()).collect::<Vec<_>>())
    };
    let (added, removed) = (missing_in(old, new), missing_in(new, old));
    let is_other = |it: &&Server| it.id != *me && find(old, &it.id).is_some_and(|before| before != own(it));
    let changed = ids(&new.servers.iter().filter(is_other).collect::<Vec<_>>());
    let order = |list: &Cluster, other: &Cluster| {
        let known = list.servers.iter().filter(|it| find(other, &it.id).is_some());
        known.map(|it| it.id.clone()).collect::<Vec<_>>()
    };
    let mut parts = Vec::new();
    for (what, which) in [("added", added), ("removed", removed), ("changed", changed)] {
        if !which.is_empty() {
            parts.push(format!("{what} {which}"));
        }
    }
    if order(old, new) != order(new, old) {
        parts.push("order".to_owned());
    }
    if old.session_cookie != new.session_cookie {
        parts.push("session-cookie".to_owned());
    }
    if old.outlier_detection != new.outlier_detection {
        parts.push("outlier-detection".to_owned());
    }
    (!parts.is_empty()).then(|| format!("cluster {}: {}", new.id, parts.join(", ")))
}

/// A server's own keys, its listeners and its place apart.
fn own(server: &Server) -> String {
    debug(&Server { http: Vec::new(), tcp: Vec::new(), index: common::id::ServerIndex(0), ..server.clone() })
}

fn debug(thing: &impl fmt::Debug) -> String {
    format!("{thing:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::cluster::{config, server};
    use std::time::Duration;

    fn told(change: impl FnOnce(&mut Config)) -> String {
        let (old, mut new) = (config(&[1, 2]), config(&[1, 2]));
        change(&mut new);
        Changes::between(&old, &new, &"web-a".into()).to_string()
    }

    #[test]
    fn nothing_changes_nothing() {
        assert_eq!(told(|_| {}), "nothing has changed");
        assert!(Changes::default().is_empty());
    }

    #[test]
    fn what_has_changed_is_named() {
        let all = told(|new| {
            let web = &mut new.clusters[1];
            web.hosts[0].aliases.push("other".to_owned());
            web.servers[0].request_limits.uri = 64;
            web.trusted_proxies.push("10.0.0.0/8".parse().unwrap());
            let app = &mut new.clusters[0];
            app.servers.remove(0);
            app.servers[0].connect_timeout = Duration::from_secs(1);
            app.servers.push(server("app-c", 1, 3));
            app.session_cookie = "SID".to_owned();
        });
        assert_eq!(
            all,
            "rules; limits and time-outs; trusted-proxies; cluster app-tier: added app-c, removed app-a, changed app-b, \
             session-cookie"
        );
        assert_eq!(told(|new| new.clusters[0].servers.swap(0, 1)), "cluster app-tier: order");
    }

    #[test]
    fn clusters_come_and_go() {
        let renamed = told(|new| new.clusters[0].id = "other".into());
        assert_eq!(renamed, "cluster other added; cluster app-tier removed");
    }
}
