//! Limits of connections that the workers of a web-tier can't keep: each worker has connections of its own, at least one to every
//! server.

use super::{
    model::{Cluster, Config},
    rule::{Action, Backend},
};

/// What is limited to fewer connections than there are `workers`, in words, each once.
pub fn limits_below_workers(config: &Config, web_tier: &Cluster, workers: usize) -> Vec<String> {
    let mut found = Vec::new();
    for rule in web_tier.hosts.iter().flat_map(|host| &host.dispatch) {
        match &rule.action {
            Action::HttpProxy(rule) if rule.connection_max < workers => {
                let backend = rule.backends.first().map(Backend::authority).unwrap_or_default();
                found.push(format!("`connection-max: {}` of `http-proxy` to {backend}", rule.connection_max));
            }
            Action::LoadBalance(rule) => {
                let target = config.clusters.iter().filter(|it| it.id == rule.cluster);
                let servers = target.flat_map(|it| &it.servers).filter(|it| it.connection_max < workers);
                found.extend(servers.map(|it| {
                    format!("`load-balance-connection-max: {}` of the server `{}`", it.connection_max, it.id)
                }));
            }
            _ => {}
        }
    }
    for listener in web_tier.servers.iter().flat_map(|server| &server.tcp) {
        for target in listener.targets().filter(|it| it.connection_max < workers) {
            let backend = target.backends.first().map(Backend::name).unwrap_or_default();
            found.push(format!("`connection-max: {}` of `tcp-proxy` to {backend}", target.connection_max));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The same as a sentence that says what to write.
pub fn limit_below_workers_text(limit: &str, workers: usize) -> String {
    format!(
        "{limit} can't be kept by {workers} workers, each of which has connections of its own, at least one: there would be \
         {workers}. Write `workers: 1`, or a limit of {workers} or more"
    )
}
