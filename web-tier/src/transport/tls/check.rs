//! `copal check` on the files of TLS: what is wrong with them, at the places in the configuration that name them.

use super::{
    backend,
    listener::{authorities, certificates, provider},
};
use common::{
    config::{BackendTls, Cluster, Config, ConfigErrors, Problem},
    id::ServerId,
    tls_files::FileFault,
};

/// Reads the certificates, keys and authorities of every listener and of TLS to backends, or of those of the server `only`: files are
/// on the servers that need them, and need not be on others.
///
/// # Errors
/// Files that are missing or hold something else, keys that are not their certificate's. Without an error, the warnings:
/// certificates that expired, expire within a week, are not valid yet, have no name, or chains out of order.
pub fn check_tls(config: &Config, only: Option<&ServerId>) -> Result<Vec<Problem>, ConfigErrors> {
    let provider = provider();
    let servers = config.servers().filter(|(_, server)| only.is_none_or(|only| server.id == *only));
    let mut problems = Vec::new();
    for tls in servers.flat_map(|(_, server)| &server.http).filter_map(|it| it.tls.as_ref()) {
        match certificates(tls, &provider) {
            Ok(found) => problems.extend(found.iter().flat_map(|it| &it.warnings).map(FileFault::warning)),
            Err(faults) => problems.extend(faults.iter().map(FileFault::error)),
        }
        problems.extend(authorities(tls).err().as_ref().map(FileFault::error));
    }
    for tls in config.web_tiers(only).flat_map(backend_tls) {
        problems.extend(backend::verifier(tls, &provider).err().as_ref().map(FileFault::error));
        match backend::certificate(tls, &provider) {
            Ok(found) => problems.extend(found.iter().flat_map(|it| &it.warnings).map(FileFault::warning)),
            Err(faults) => problems.extend(faults.iter().map(FileFault::error)),
        }
    }
    ConfigErrors::part(problems)
}

/// The `tls` of its rules.
fn backend_tls(cluster: &Cluster) -> impl Iterator<Item = &BackendTls> {
    let rules = cluster.hosts.iter().flat_map(|host| &host.dispatch);
    rules.filter_map(|rule| rule.action.foreign()?.tls.as_deref())
}
