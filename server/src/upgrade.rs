//! `copal upgrade`: asks a running server to hand over to the program as it is on the disk now, and waits for what comes of it.

use crate::{
    check::{BAD_CONFIGURATION, complain, read, say},
    cli::UpgradeArguments,
    data_folder::{LOCK, UPGRADE},
    server::unknown_server,
};
use anyhow::{Context, anyhow, bail};
use common::id::ServerId;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, File, TryLockError},
    io,
    path::Path,
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};

/// Longer than both processes wait for each other's words.
const WAIT: Duration = Duration::from_secs(200);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

pub(crate) fn run(arguments: &UpgradeArguments) -> ExitCode {
    // A file that is not valid is told before anything happens.
    let config = match read(&arguments.file) {
        Ok(loaded) => loaded.config,
        Err(status) => return status,
    };
    let id = ServerId::from(arguments.server.as_str());
    if config.server(&id).is_none() {
        complain(&unknown_server(&config, &id));
        return BAD_CONFIGURATION.into();
    }
    match upgrade(&config.data_dir.join(id.as_str())) {
        Ok((old, new)) => {
            say(&format!(
                "{id}  process {new} has taken over from {old}, which ends when its connections have"
            ));
            ExitCode::SUCCESS
        }
        Err(cause) => {
            complain(&cause.context(format!("server {id} is not upgraded")));
            ExitCode::FAILURE
        }
    }
}

/// The ids of the process that was the server, and of the one that is now.
fn upgrade(folder: &Path) -> anyhow::Result<(Pid, Pid)> {
    let old = running(folder)?;
    if !hands_over(old) {
        bail!("process {old} is of a version that does not hand over, or has not started yet: restart it");
    }
    let failure = folder.join(UPGRADE);
    match fs::remove_file(&failure) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            return Err(cause).with_context(|| format!("{} can't be removed", failure.display()));
        }
        _ => {}
    }
    kill_process(old, Signal::USR2).with_context(|| format!("process {old} can't be signalled"))?;
    let end = Instant::now() + WAIT;
    while Instant::now() < end {
        sleep(LOOK);
        if let Ok(why) = fs::read_to_string(&failure) {
            bail!("process {old} goes on: {why}");
        }
        let now = running(folder)?;
        if now != old {
            return Ok((old, now));
        }
    }
    Err(anyhow!("process {old} did not hand over within {WAIT:?}; its log may say why"))
}

/// The process that has the data folder.
fn running(folder: &Path) -> anyhow::Result<Pid> {
    let path = folder.join(LOCK);
    let lock = File::open(&path).with_context(|| format!("it does not run: {}", path.display()))?;
    match lock.try_lock() {
        Err(TryLockError::WouldBlock) => {}
        Ok(()) => bail!("it does not run: nobody has its data folder {}", folder.display()),
        Err(TryLockError::Error(cause)) => return Err(cause.into()),
    }
    let text = fs::read_to_string(&path)?;
    let pid = text.trim().parse().ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| anyhow!("{} has no process id, but `{}`", path.display(), text.trim()))
}

/// Whether it listens to the signal, which would end a process that does not (`SigCgt` in proc(5)).
fn hands_over(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|it| it.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|it| u64::from_str_radix(it.trim(), 16).ok());
    caught.is_some_and(|it| it >> (Signal::USR2.as_raw() - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_folder::DataFolder;

    #[test]
    fn a_server_that_does_not_run_or_does_not_listen_is_not_signalled() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("web-a");
        let text = |folder: &Path| format!("{:#}", upgrade(folder).unwrap_err());
        assert!(text(&folder).starts_with("it does not run: "), "{}", text(&folder));
        let taken = DataFolder::take(&folder).unwrap();
        // This process has the folder, and would be ended by the signal.
        let expected = format!(
            "process {} is of a version that does not hand over, or has not started yet: restart it",
            std::process::id()
        );
        assert_eq!(text(&folder), expected);
        fs::write(folder.join(LOCK), "nobody\n").unwrap();
        assert!(text(&folder).ends_with("has no process id, but `nobody`"), "{}", text(&folder));
        drop(taken);
    }
}
