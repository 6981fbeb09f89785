//! What the command line and the environment add to a file.

use super::servers_own::ServersOwn;
use std::{collections::HashMap, fmt, path::PathBuf};

/// What the command line and the environment add to a file.
#[derive(Clone, Default)]
pub struct LoadOptions {
    /// The environment for `${VAR}`.
    pub environment: HashMap<String, String>,
    /// Of it, what an `app.yaml` can't have.
    pub servers_own: ServersOwn,
    /// `--data-dir`, instead of the file's.
    pub data_dir: Option<PathBuf>,
    /// `--stage`, instead of the file's.
    pub stage: Option<String>,
    /// `--port-offset`, added to every port of the file.
    pub port_offset: u16,
    /// Refuse a cluster key that can be guessed. Otherwise it is warned of: a server that an upgrade has made wiser starts all the
    /// same.
    pub refuse_guessable_key: bool,
}

impl LoadOptions {
    /// Options with this process's environment; variables that are not UTF-8 are left out.
    pub fn from_environment() -> Self {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { environment, ..Self::default() }
    }
}

/// The environment holds secrets: only its size is shown.
impl fmt::Debug for LoadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadOptions")
            .field("environment", &self.environment.len())
            .field("data_dir", &self.data_dir)
            .field("port_offset", &self.port_offset)
            .field("refuse_guessable_key", &self.refuse_guessable_key)
            .finish()
    }
}
