//! What an app's folder says of it: its `app.yaml`, or static files without one.

use crate::error::AppTierError;
use common::config::{
    AppLimits, Declarations, Health, Listen, LoadOptions, ServersOwn, SessionOverrides, load_app_yaml,
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// What an app was deployed as; nothing of one that the file names.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeployedAs {
    pub(crate) tag: String,
    pub(crate) commit: Vec<u8>,
}

/// The file that describes an app.
pub(crate) const FILE: &str = "app.yaml";

/// An app as its `app.yaml` has it (design/APPS.md).
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// `static`: the folder that the server itself serves.
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
    /// `user`: chosen by the app.
    pub(crate) user: Option<String>,
    /// `memory-max` and its like.
    pub(crate) limits: AppLimits,
    /// `prepare`: program and arguments; empty = nothing to prepare.
    pub(crate) prepare: Vec<String>,
    /// `prepare-timeout`.
    pub(crate) prepare_timeout: Duration,
    /// `session`: beneath what the cluster's file says.
    pub(crate) session: SessionOverrides,
    /// `queues`, `jobs` and the like.
    pub(crate) declared: Declarations,
    /// `declare-at-start`.
    pub(crate) declare_at_start: bool,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            static_dir: None,
            command: Vec::new(),
            listen: Listen::Tcp,
            env: Vec::new(),
            health: Health {
                path: None,
                interval: Duration::from_secs(5),
                start_timeout: Duration::from_secs(30),
            },
            instances: 1,
            stop_timeout: Duration::from_secs(15),
            user: None,
            limits: AppLimits::default(),
            prepare: Vec::new(),
            prepare_timeout: Duration::from_secs(300),
            session: SessionOverrides::default(),
            declared: Declarations::default(),
            declare_at_start: false,
        }
    }
}

/// Reads the `app.yaml` of the app in `root`; without one the app is the folder's files.
///
/// # Errors
/// [`AppTierError::AppYaml`] with every error of the file.
pub(crate) fn load(app: &str, root: &Path, servers_own: &ServersOwn) -> Result<Spec, AppTierError> {
    let file = root.join(FILE);
    if !file.exists() {
        return Ok(Spec { static_dir: Some(root.to_owned()), ..Spec::default() });
    }
    let options = LoadOptions { servers_own: servers_own.clone(), ..LoadOptions::from_environment() };
    let read = load_app_yaml(&file, &options);
    let yaml =
        read.map_err(|errors| AppTierError::AppYaml { app: app.to_owned(), text: errors.to_string() })?;
    Ok(Spec {
        static_dir: yaml.static_dir,
        command: yaml.command,
        listen: yaml.listen,
        env: yaml.env,
        health: yaml.health,
        instances: yaml.instances,
        stop_timeout: yaml.stop_timeout,
        user: yaml.user,
        limits: yaml.limits,
        prepare: yaml.prepare,
        prepare_timeout: yaml.prepare_timeout,
        session: yaml.session,
        declared: yaml.declared,
        declare_at_start: yaml.declare_at_start,
    })
}
