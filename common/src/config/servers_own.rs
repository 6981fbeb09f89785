//! Which variables of the environment are the server's own, and not for the apps that it runs: its secrets, and what its supervisor
//! tells it.

use super::secret::Secret;
use std::{collections::BTreeSet, fmt, sync::Arc};

/// What begins so is the server's.
const PREFIX: &[u8] = b"COPAL_";

/// What systemd tells a service: an app could report in the server's name, or learn where its credentials are
/// (`sd_notify(3)`, `sd_listen_fds(3)`, `systemd.exec(5)`).
const SUPERVISOR: [&str; 7] = [
    "NOTIFY_SOCKET",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "CREDENTIALS_DIRECTORY",
];

/// The server's own variables.
#[derive(Clone, Default)]
pub struct ServersOwn {
    /// Those that its file takes its secrets from.
    pub(super) names: Arc<BTreeSet<String>>,
    /// Its cluster key.
    pub(super) key: Secret,
}

impl ServersOwn {
    /// Whether a variable is not for apps: `COPAL_…`, what the file takes a secret from, what has the cluster key in it under any other name,
    /// and what the server's supervisor tells it.
    pub fn has(&self, name: &[u8], value: &[u8]) -> bool {
        let named = |known: &str| known.as_bytes() == name;
        name.starts_with(PREFIX)
            || SUPERVISOR.iter().any(|known| named(known))
            || self.names.iter().any(|known| named(known))
            || self.has_key(value)
    }

    fn has_key(&self, value: &[u8]) -> bool {
        let key = self.key.bytes();
        !key.is_empty() && value.windows(key.len()).any(|part| part == key)
    }
}

/// Only how many there are.
impl fmt::Debug for ServersOwn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServersOwn").field("names", &self.names.len()).field("key", &self.key).finish()
    }
}
