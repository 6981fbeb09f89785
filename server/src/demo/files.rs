//! The demo's files: a configuration and an app's folder, written where a newcomer can read and change them.

use anyhow::Context;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The same file that `conf/` shows.
const CONFIGURATION: &str = include_str!("../../../conf/demo.yaml");

/// Writes `demo.yaml` and `counter/app.yaml` under `folder`; gives the former's path.
pub(super) fn write(folder: &Path) -> anyhow::Result<PathBuf> {
    let app = folder.join("counter");
    fs::create_dir_all(&app).with_context(|| format!("the demo's folder {} can't be made", app.display()))?;
    let this = std::env::current_exe().context("where this binary is can't be found out")?;
    // JSON's strings are YAML's double-quoted scalars, whatever the path has in it.
    let command = format!("{:?}", this.to_string_lossy());
    let app_yaml = format!(
        "# The demo's app: a process of its own, here the copal binary's copy of examples/counter.\n\
         name: counter\n\
         command: [{command}, demo-app]\n\
         listen: tcp\n\
         health: {{path: /healthz, interval: 1s, start-timeout: 30s}}\n"
    );
    put(&app.join("app.yaml"), &app_yaml)?;
    let file = folder.join("demo.yaml");
    put(&file, CONFIGURATION)?;
    Ok(file)
}

fn put(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("{} can't be written", path.display()))
}
