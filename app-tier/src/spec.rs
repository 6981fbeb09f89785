//! What an app's folder says of it: its `app.yaml`, or static files without one.

use crate::error::AppTierError;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// An app as its `app.yaml` has it (design/APPS.md).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spec {
    /// `static`: the folder that the server itself serves, inside the root.
    pub(crate) static_dir: Option<PathBuf>,
    /// `command`: program and arguments; empty = static files only.
    pub(crate) command: Vec<String>,
    /// `listen`.
    pub(crate) listen: Listen,
    /// `env`: further variables of the process.
    pub(crate) env: Vec<(String, String)>,
    /// `health`.
    pub(crate) health: Health,
    /// `instances`: processes of this app on this server.
    pub(crate) instances: usize,
    /// `stop-timeout`: from SIGTERM to SIGKILL.
    pub(crate) stop_timeout: Duration,
}

/// Where the process listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listen {
    /// On the loopback port `PORT`.
    Tcp,
    /// On the Unix socket `SOCKET`.
    Unix,
}

/// When a process counts as healthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Health {
    /// A GET of this path is answered with 2xx; without one, the process accepts connections.
    pub(crate) path: Option<String>,
    /// Time between two checks.
    pub(crate) interval: Duration,
    /// How long a starting process may take.
    pub(crate) start_timeout: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self { path: None, interval: Duration::from_secs(5), start_timeout: Duration::from_secs(30) }
    }
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            static_dir: None,
            command: Vec::new(),
            listen: Listen::Tcp,
            env: Vec::new(),
            health: Health::default(),
            instances: 1,
            stop_timeout: Duration::from_secs(15),
        }
    }
}

/// The file that describes an app.
pub(crate) const FILE: &str = "app.yaml";

/// Reads the `app.yaml` of the app in `root`; without one the app is the folder's files.
///
/// # Errors
/// [`AppTierError::AppYaml`] with every error of the file.
pub(crate) fn load(app: &str, root: &Path) -> Result<Spec, AppTierError> {
    let file = root.join(FILE);
    if !file.exists() {
        return Ok(Spec { static_dir: Some(PathBuf::from(".")), ..Spec::default() });
    }
    // The one conversion from `common::config::app_yaml` belongs here.
    Err(AppTierError::AppYaml {
        app: app.to_owned(),
        text: format!("{}: reading app.yaml is not wired yet", file.display()),
    })
}
