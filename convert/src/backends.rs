//! Backends, and how one of them is chosen.

use crate::{output::Entries, yaml::Yaml};

/// A server that is not ours.
#[derive(Debug, Clone)]
pub(crate) struct Backend {
    /// Host and port.
    pub(crate) address: String,
    pub(crate) weight: u64,
    pub(crate) backup: bool,
}

impl Backend {
    pub(crate) fn new(host: &str, port: u16) -> Self {
        let host = host.to_ascii_lowercase();
        let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        Self { address, weight: 1, backup: false }
    }
}

/// Some of them, each once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backends(Vec<Backend>);

impl Backends {
    /// Adds one. One that stands twice has both shares.
    pub(crate) fn add(&mut self, new: Backend) {
        match self.0.iter_mut().find(|known| known.address == new.address) {
            Some(known) => known.weight = (known.weight + new.weight).min(10_000),
            None => self.0.push(new),
        }
    }

    /// The keys `backends` and how one of several is chosen. `None`: there is none.
    pub(crate) fn keys(&self, scheme: &str, balance: &Balance) -> Option<Entries> {
        let most = self.0.iter().map(|it| it.weight).max()?;
        let factor = (10_000 / most.max(1)).clamp(1, 100);
        // Where there are no others they are all there is.
        let others = self.0.iter().any(|it| !it.backup);
        let backends = self.0.iter().map(|it| {
            let mut entries = vec![("address", Yaml::text(format!("{scheme}://{}", it.address)))];
            let weight = (it.weight * factor).min(10_000);
            entries.extend((weight != 100).then(|| ("weight", Yaml::plain(weight))));
            entries.extend((it.backup && others).then(|| ("backup", Yaml::plain(true))));
            Yaml::Map(entries)
        });
        let mut keys = vec![("backends", Yaml::List(backends.collect()))];
        if self.0.len() > 1 {
            keys.push(match balance {
                Balance::Strategy(name) => ("strategy", Yaml::text(*name)),
                Balance::Hash(key) => ("hash-by", key.clone()),
            });
        }
        Some(keys)
    }
}

/// How a backend is chosen.
#[derive(Debug, Clone)]
pub(crate) enum Balance {
    Strategy(&'static str),
    /// Requests with the same key go to the same one.
    Hash(Yaml),
}

impl Default for Balance {
    fn default() -> Self {
        Self::Strategy("round-robin")
    }
}

impl Balance {
    /// By a header or a cookie.
    pub(crate) fn by(kind: &'static str, name: &str) -> Option<Self> {
        let word = !name.is_empty()
            && name.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_'));
        word.then(|| Self::Hash(Yaml::Map(vec![(kind, Yaml::text(name))])))
    }
}

/// What is said where the peer takes any certificate of a backend.
pub(crate) const VERIFIED: &str = "certificates of backends are verified here: write `tls` with the `ca` that signs them, or with `verify: off`";

/// The kind of rule that redirects with a status.
pub(crate) fn redirect(code: &str) -> Option<&'static str> {
    match code {
        "301" => Some("moved-permanently"),
        "302" => Some("redirect"),
        "307" => Some("temporary-redirect"),
        "308" => Some("permanent-redirect"),
        _ => None,
    }
}
