//! Backends, and how one of them is chosen.

use crate::{output::Entries, value::is_host, yaml::Yaml};
use std::{collections::HashMap, net::IpAddr};

/// A rule has no more of them.
const BACKENDS_MAX: usize = 4096;

/// The longest path that a Unix socket can have.
const PATH_MAX: usize = 107;

/// A server that is not ours.
#[derive(Debug, Clone)]
pub(crate) struct Backend {
    at: Place,
    pub(crate) weight: u64,
    pub(crate) backup: bool,
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Place {
    /// Host and port.
    Host(String),
    /// The path of a Unix socket.
    Socket(String),
}

impl Backend {
    /// One at a host. `None`: this is no host to connect to.
    pub(crate) fn at(host: &str, port: u16) -> Option<Self> {
        let host = host.to_ascii_lowercase();
        let nobody = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
        if nobody || port == 0 || !is_host(&host) {
            return None;
        }
        let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        Some(Self { at: Place::Host(address), weight: 1, backup: false })
    }

    /// One behind a Unix socket. `None`: the path is not one from the root, or too long.
    pub(crate) fn socket(path: &str) -> Option<Self> {
        let path = format!("/{}", path.strip_prefix('/')?.trim_start_matches('/'));
        let good = path.len() <= PATH_MAX
            && !path.ends_with('/')
            && path.bytes().all(|it| it.is_ascii_graphic() && it != b'$');
        good.then_some(Self { at: Place::Socket(path), weight: 1, backup: false })
    }

    pub(crate) fn is_socket(&self) -> bool {
        matches!(self.at, Place::Socket(_))
    }

    /// `scheme` is `http`, `https`, `h2c`, `h2`, `tls`, or nothing for TCP.
    fn address(&self, scheme: &str) -> String {
        match (&self.at, scheme) {
            (Place::Host(host), "") => host.clone(),
            (Place::Host(host), _) => format!("{scheme}://{host}"),
            (Place::Socket(path), "h2c") => format!("h2c+unix:{path}"),
            (Place::Socket(path), _) => format!("unix:{path}"),
        }
    }
}

/// Some of them, each once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backends {
    all: Vec<Backend>,
    known: HashMap<Place, usize>,
}

impl Backends {
    /// Adds one. One that stands twice has both shares. `false`: there are too many.
    pub(crate) fn add(&mut self, new: Backend) -> bool {
        match self.known.get(&new.at) {
            Some(at) => self.all[*at].weight = (self.all[*at].weight + new.weight).min(10_000),
            None if self.all.len() == BACKENDS_MAX => return false,
            None => {
                self.known.insert(new.at.clone(), self.all.len());
                self.all.push(new);
            }
        }
        true
    }

    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn has_sockets(&self) -> bool {
        self.all.iter().any(Backend::is_socket)
    }

    /// The keys `backends` and how one of several is chosen. `None`: there is none.
    pub(crate) fn keys(&self, scheme: &str, balance: &Balance) -> Option<Entries> {
        let most = self.all.iter().map(|it| it.weight).max()?;
        let factor = (10_000 / most.max(1)).clamp(1, 100);
        // Where there are no others they are all there is.
        let others = self.all.iter().any(|it| !it.backup);
        let backends = self.all.iter().map(|it| {
            let mut entries = vec![("address", Yaml::text(it.address(scheme)))];
            let weight = (it.weight * factor).min(10_000);
            entries.extend((weight != 100).then(|| ("weight", Yaml::plain(weight))));
            entries.extend((it.backup && others).then(|| ("backup", Yaml::plain(true))));
            Yaml::Map(entries)
        });
        let mut keys = vec![("backends", Yaml::List(backends.collect()))];
        if self.all.len() > 1 {
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

    /// By the client's address.
    pub(crate) fn by_client() -> Self {
        Self::Hash(Yaml::text("remote-addr"))
    }

    /// Whether it can be said of connections of which nothing is read.
    pub(crate) fn is_of_tcp(&self) -> bool {
        matches!(self, Self::Strategy(_))
            || matches!(self, Self::Hash(Yaml::Text(key)) if key == "remote-addr")
    }
}

/// The most connections to a backend that can be asked for.
pub(crate) const CONNECTIONS_MAX: u64 = 1_000_000;

/// What is said where the peer takes any certificate of a backend.
pub(crate) const VERIFIED: &str = "certificates of backends are verified here: write `tls` with the `ca` that signs them, or with `verify: off`";

/// What is said of a server that can't be one of the backends.
pub(crate) const NO_BACKEND: &str = "a backend is a host and a port, or a Unix socket whose path begins with a slash and has at most 107 characters of ASCII";

/// The same where there are too many.
pub(crate) const TOO_MANY: &str = "there are at most 4096 backends";

/// The same where TLS goes to a Unix socket.
pub(crate) const SOCKET_TLS: &str = "there is no TLS to a Unix socket: nobody is between";

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
