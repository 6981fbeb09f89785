//! The cluster port's own keys: `cluster-encryption` and `cluster-tls`.

use super::{
    address::is_loopback,
    decode::Fields,
    file_path::{CertificateFiles, FilePath},
    keys,
};
use crate::id::ServerId;

/// `cluster-encryption`: which connections between servers have TLS on them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClusterEncryption {
    /// Those to addresses that are not loopback (unless the file says otherwise).
    #[default]
    BeyondLoopback,
    /// `true`: all.
    Always,
    /// `false`: none.
    Never,
    /// `optional`: both are taken, and TLS is tried first; for the time in which a running cluster changes.
    Optional,
}

/// Whether one address's connections have TLS on them. Dialler and acceptor both know it from the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// They have none.
    Plain,
    /// They have.
    Encrypted,
    /// Either.
    Either,
}

impl ClusterEncryption {
    /// The rule for a server's `address` of the file, with a port (`host:port`, `[::1]:port`) or without.
    pub fn of(self, address: &str) -> Encryption {
        match self {
            Self::Never => Encryption::Plain,
            Self::Optional => Encryption::Either,
            Self::BeyondLoopback if is_loopback(host(address)) => Encryption::Plain,
            Self::Always | Self::BeyondLoopback => Encryption::Encrypted,
        }
    }
}

/// Of `host:port`, `[v6]:port`, `[v6]`, `v6` or `host`.
fn host(address: &str) -> &str {
    if let Some((bare, _)) = address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return bare;
    }
    match address.split_once(':') {
        Some((host, port)) if !port.contains(':') => host,
        _ => address,
    }
}

/// `cluster-tls`: certificates with which servers show who they are. A name is believed if the certificate bears it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterTls {
    /// `ca`: who signs them, in PEM.
    pub ca: FilePath,
    /// `cert` and `key`: this server's own. [`ClusterTls::of`] puts the server's id in their names.
    own: CertificateFiles,
}

impl ClusterTls {
    /// What stands for the id of a server in the names of its files.
    const SERVER: &str = "${server.id}";

    /// The files of one server.
    pub fn of(&self, server: &ServerId) -> CertificateFiles {
        let named = |file: &FilePath| match file.path.to_str() {
            Some(path) => {
                FilePath { path: path.replace(Self::SERVER, server.as_str()).into(), ..file.clone() }
            }
            None => file.clone(),
        };
        CertificateFiles { cert: named(&self.own.cert), key: named(&self.own.key) }
    }
}

/// `cluster-encryption`.
pub(super) fn encryption(fields: &Fields<'_>) -> ClusterEncryption {
    let words = [
        ("true", ClusterEncryption::Always),
        ("false", ClusterEncryption::Never),
        ("optional", ClusterEncryption::Optional),
    ];
    fields.choice("cluster-encryption", &words).unwrap_or_default()
}

/// `cluster-tls`. What the files hold is not looked at: they are on the servers.
pub(super) fn tls(fields: &Fields<'_>, encryption: ClusterEncryption) -> Option<ClusterTls> {
    let entry = fields.entry("cluster-tls").filter(|entry| !entry.value.is_null())?;
    let context = fields.context.in_server(ClusterTls::SERVER);
    let tls = Fields::open(context, &entry.value, &keys::CLUSTER_TLS)?;
    if encryption == ClusterEncryption::Never {
        context.error(
            fields.span("cluster-encryption"),
            "`cluster-tls` has certificates, and `cluster-encryption: false` uses none: take one of them out",
        );
    }
    let file = |key, hint| tls.required(key, hint).and_then(|node| context.file_path(node));
    // All, so that the faults of all are told.
    let (ca, cert, key) = (
        file("ca", "name the file of those who sign the servers' certificates (PEM)"),
        file("cert", "name the file of the server's certificate and its chain (PEM)"),
        file("key", "name the file of its private key (PEM)"),
    );
    Some(ClusterTls { ca: ca?, own: CertificateFiles { cert: cert?, key: key? } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_leaves_its_machine_is_encrypted() {
        use Encryption::{Either, Encrypted, Plain};
        let rule = ClusterEncryption::default();
        for loopback in
            ["127.0.0.1", "127.9.8.7:6800", "localhost", "LocalHost:1", "::1", "[::1]:6800", "[::1]"]
        {
            assert_eq!(rule.of(loopback), Plain, "{loopback}");
            assert_eq!(ClusterEncryption::Always.of(loopback), Encrypted, "{loopback}");
        }
        for open in
            ["10.0.0.1", "10.0.0.1:6800", "app-a:6800", "localhost.example", "fd00::1", "[fd00::1]:6800"]
        {
            assert_eq!(rule.of(open), Encrypted, "{open}");
            assert_eq!(ClusterEncryption::Never.of(open), Plain, "{open}");
            assert_eq!(ClusterEncryption::Optional.of(open), Either, "{open}");
        }
    }
}
