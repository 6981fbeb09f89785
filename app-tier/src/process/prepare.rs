//! `prepare`: what an app wants to be run once in the folder of a new version, before that is started.

use super::{confine::Place, hand_over::hand_over, launch::Launch, output::Output};
use crate::spec::Spec;
use common::config::fill_placeholders;
use std::{
    io,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::Arc,
    time::Duration,
};
use tokio::time::timeout;

/// What a command that was ended printed last is waited for so long: something that it left behind may hold the pipe.
const LAST_LINES: Duration = Duration::from_secs(1);

/// What is to be run did not succeed.
#[derive(Debug, thiserror::Error)]
#[error("prepare {command:?}: {why}{}", tail(log))]
pub(crate) struct PrepareError {
    /// The command line.
    pub(crate) command: Vec<String>,
    /// What happened.
    pub(crate) why: Why,
    /// The last lines of its output.
    pub(crate) log: Vec<String>,
}

/// Why a preparation did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Why {
    /// The folder can't be given to the app's user.
    #[error("the folder can't be given to the app's user: {0}")]
    Folder(io::Error),
    /// The command can't be run.
    #[error("it can't be started: {0}")]
    NotStarted(io::Error),
    /// It ended without success.
    #[error("it ended with {0}")]
    Ended(ExitStatus),
    /// The server hands files out with its own rights: what it is told to must be the app's.
    #[error("`static` leads to {}, outside of the app's folder", .0.display())]
    Outside(PathBuf),
    /// It was ended.
    #[error("it did not end within {0:?}, its `prepare-timeout`, and was killed")]
    TimedOut(Duration),
}

fn tail(log: &[String]) -> String {
    if log.is_empty() {
        String::new()
    } else {
        format!("\nlast lines of its output:\n  {}", log.join("\n  "))
    }
}

/// Makes a checked-out folder ready for its app: readable for the app's user, if it has one, and prepared by the app's `prepare`, which is
/// confined as the app is, but may write to the folder. Nothing else may have written to it, and its files have no other names (hard links):
/// their owners and modes are changed.
///
/// Dropped, it kills the command.
///
/// # Errors
/// See [`PrepareError`].
pub(crate) async fn prepare(launch: &Launch, spec: &Spec) -> Result<(), PrepareError> {
    let output = Arc::new(Output::new(&launch.app));
    let prepared = match give(launch, !spec.prepare.is_empty()).await {
        Ok(()) if spec.prepare.is_empty() => Ok(()),
        Ok(()) => run(launch, spec, &output).await.and_then(|()| stays_inside(&launch.root, spec)),
        Err(cause) => Err(Why::Folder(cause)),
    };
    prepared.map_err(|why| PrepareError { command: spec.prepare.clone(), why, log: output.tail() })
}

/// A command may have put a link in the place of the folder of static files.
fn stays_inside(root: &Path, spec: &Spec) -> Result<(), Why> {
    let Some(folder) = &spec.static_dir else { return Ok(()) };
    // One that is not there is told of when the app is read.
    let (Ok(root), Ok(real)) = (root.canonicalize(), folder.canonicalize()) else { return Ok(()) };
    if real.starts_with(root) { Ok(()) } else { Err(Why::Outside(real)) }
}

async fn give(launch: &Launch, to_write: bool) -> io::Result<()> {
    let Some(user) = launch.confinement.user.clone() else { return Ok(()) };
    let root = launch.root.clone();
    tokio::task::spawn_blocking(move || hand_over(&root, &user, to_write)).await.map_err(io::Error::other)?
}

async fn run(launch: &Launch, spec: &Spec, output: &Arc<Output>) -> Result<(), Why> {
    let data = launch.confinement.data().map_err(Why::NotStarted)?;
    let words = spec.prepare.iter().map(|word| fill_placeholders(word, &[("DATA", data)]));
    let at = Place { root: &launch.root, writes_root: true, sockets: None };
    let mut command = launch.command(&words.collect::<Vec<_>>(), at).map_err(Why::NotStarted)?;
    command.envs(spec.env.iter().map(|(name, value)| (name, fill_placeholders(value, &[("DATA", data)]))));
    tracing::info!(app = %launch.app, command = ?spec.prepare, "preparing");
    let mut running = launch.run(command, output).map_err(Why::NotStarted)?;
    let ended = timeout(spec.prepare_timeout, running.ended()).await;
    // Its group goes with it, and what holds its pipes.
    let printed = running.printed();
    drop(running);
    let _ = timeout(LAST_LINES, printed).await;
    match ended {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(Why::Ended(status)),
        Ok(Err(cause)) => Err(Why::NotStarted(cause)),
        Err(_) => Err(Why::TimedOut(spec.prepare_timeout)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::launch::tests::launch;
    use std::fs;

    /// Runs a script of sh in a new folder.
    async fn prepared(root: &Path, script: &str, limit: Duration) -> Result<(), PrepareError> {
        let spec = Spec {
            prepare: ["sh", "-c", script].map(str::to_owned).to_vec(),
            prepare_timeout: limit,
            env: vec![("OWN".to_owned(), "in ${DATA}".to_owned())],
            ..Spec::default()
        };
        prepare(&launch(root), &spec).await
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_command_runs_in_the_folder_without_a_token() {
        let root = tempfile::tempdir().unwrap();
        let script = "echo \"$OWN\" > own; env > environment; test -w \"$DATA\"";
        prepared(root.path(), script, LONG).await.unwrap();
        let read = |name| fs::read_to_string(root.path().join(name)).unwrap();
        assert!(read("own").starts_with("in /") && read("own").contains("app-data/app"), "{}", read("own"));
        assert!(read("environment").contains("COPAL_APP=") && !read("environment").contains("TOKEN"));
    }

    #[tokio::test]
    async fn a_failure_says_how_and_what_was_printed() {
        let root = tempfile::tempdir().unwrap();
        let failed = prepared(root.path(), "echo one; echo two >&2; exit 7", LONG).await.unwrap_err();
        assert!(matches!(failed.why, Why::Ended(status) if status.code() == Some(7)), "{failed}");
        let mut log = failed.log.clone();
        log.sort();
        assert_eq!(log, ["one", "two"]);
        assert!(failed.to_string().contains("it ended with exit status: 7\nlast lines"), "{failed}");
        let spec = Spec { prepare: vec!["./none".to_owned()], ..Spec::default() };
        let failed = prepare(&launch(root.path()), &spec).await.unwrap_err();
        assert!(matches!(failed.why, Why::NotStarted(_)), "{failed}");
    }

    #[tokio::test]
    async fn what_takes_too_long_is_killed_with_all_that_it_started() {
        let root = tempfile::tempdir().unwrap();
        let script = "echo begun; mkfifo pipe; (cat pipe; echo survived > survived) & wait";
        let failed = prepared(root.path(), script, Duration::from_millis(300)).await.unwrap_err();
        assert!(matches!(failed.why, Why::TimedOut(_)), "{failed}");
        // Nobody reads the pipe any more; in case it was not even made, nothing is proved.
        let pipe = root.path().join("pipe");
        if pipe.exists() {
            use std::os::unix::fs::OpenOptionsExt;
            // O_NONBLOCK: an error without a reader.
            let opened = fs::File::options().write(true).custom_flags(0o4000).open(&pipe);
            assert!(opened.is_err(), "someone reads");
        }
    }

    #[tokio::test]
    async fn what_leaves_the_group_is_killed_too() {
        let root = tempfile::tempdir().unwrap();
        let script = "mkfifo pipe; setsid sh -c 'read line < pipe; echo survived > survived' & exit 7";
        let failed = prepared(root.path(), script, LONG).await.unwrap_err();
        assert!(matches!(failed.why, Why::Ended(_)), "{failed}");
        let pipe = root.path().join("pipe");
        if pipe.exists() {
            use std::os::unix::fs::OpenOptionsExt;
            let opened = fs::File::options().write(true).custom_flags(0o4000).open(&pipe);
            assert!(opened.is_err(), "someone reads");
        }
        assert!(!root.path().join("survived").exists());
    }

    #[tokio::test]
    async fn files_are_not_served_from_elsewhere_by_a_link() {
        let root = tempfile::tempdir().unwrap();
        let prepared = async |script: &str| {
            let prepare_command = ["sh", "-c", script].map(str::to_owned).to_vec();
            let static_dir = Some(root.path().join("htdocs"));
            let spec = Spec { prepare: prepare_command, static_dir, ..Spec::default() };
            prepare(&launch(root.path()), &spec).await
        };
        prepared("mkdir dist; ln -s dist htdocs").await.unwrap();
        let failed = prepared("rm htdocs; ln -s /etc htdocs").await.unwrap_err();
        assert!(matches!(&failed.why, Why::Outside(path) if path == Path::new("/etc")), "{failed}");
    }

    #[tokio::test]
    async fn nothing_to_prepare_is_prepared() {
        let root = tempfile::tempdir().unwrap();
        prepare(&launch(root.path()), &Spec::default()).await.unwrap();
    }
}
