//! A server's data folder: made, kept from others, tested for writing and locked, so that two processes never share one.

use anyhow::{Context, bail};
use common::private;
use std::{
    fs::{self, File, Metadata, TryLockError},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{FileExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

/// In the data folder: the process that has it.
pub(crate) const LOCK: &str = "lock";

/// In the data folder: why the last upgrade failed.
pub(crate) const UPGRADE: &str = "upgrade";

/// A locked data folder; the kernel releases the lock however the process ends.
#[derive(Debug)]
pub(crate) struct DataFolder {
    path: PathBuf,
    lock: File,
}

impl DataFolder {
    /// Takes `folder`, and makes it first when there is none.
    pub(crate) fn take(folder: &Path) -> anyhow::Result<Self> {
        let shown = folder.display();
        private::make_folder(folder).with_context(|| format!("data folder {shown} can't be made"))?;
        let path = folder.join(LOCK);
        let lock = private::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("data folder {shown} is not writable: {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&path).unwrap_or_default();
                bail!(
                    "data folder {shown} is in use by another process (pid {}): stop it, or give this server another --data-dir",
                    holder.trim()
                );
            }
            Err(TryLockError::Error(cause)) => {
                return Err(cause).with_context(|| format!("data folder {shown} can't be locked"));
            }
        }
        Self::mend(folder)?;
        let taken = Self { path: folder.to_owned(), lock };
        taken.sign()?;
        Ok(taken)
    }

    /// Has `folder` together with the process that gave `lock`, until that one ends.
    ///
    /// # Errors
    /// It is the lock of another folder.
    pub(crate) fn share(folder: &Path, lock: File) -> anyhow::Result<Self> {
        let identity = |it: Metadata| (it.dev(), it.ino());
        let own = fs::metadata(folder.join(LOCK)).ok().map(identity);
        if own.is_none_or(|own| lock.metadata().map(identity).ok() != Some(own)) {
            bail!(
                "data folder {}: the running process has another one, restart the server",
                folder.display()
            );
        }
        Self::mend(folder)?;
        Ok(Self { path: folder.to_owned(), lock })
    }

    fn mend(folder: &Path) -> anyhow::Result<()> {
        let mended = private::mend_but(folder, &app_tier::APP_FOLDERS).context("data folder")?;
        if mended > 0 {
            tracing::warn!(
                folder = %folder.display(),
                mended,
                "others could read or change the data folder or files in it: they are this server's user's alone from now on"
            );
        }
        Ok(())
    }

    /// Writes down that it is this process's.
    pub(crate) fn sign(&self) -> anyhow::Result<()> {
        let text = format!("{}\n", std::process::id());
        let written = self.lock.write_all_at(text.as_bytes(), 0);
        written
            .and_then(|()| self.lock.set_len(text.len() as u64))
            .with_context(|| format!("data folder {} is not writable", self.path.display()))
    }

    /// The lock, for a process that takes over.
    pub(crate) fn lock(&self) -> io::Result<OwnedFd> {
        self.lock.as_fd().try_clone_to_owned()
    }

    /// When this process was started, in milliseconds since 1970; later than any before it here, whatever its clock says: processes of the same
    /// server are told apart by it.
    pub(crate) fn started_ms(&self, now_ms: u64) -> u64 {
        let path = self.path.join("started");
        let before = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u64>().ok());
        let started_ms = before.map_or(now_ms, |before| now_ms.max(before.saturating_add(1)));
        if let Err(cause) = private::write(&path, started_ms.to_string().as_bytes()) {
            tracing::warn!(path = %path.display(), %cause, "when this process was started can't be written down");
        }
        started_ms
    }

    /// Writes down why an upgrade failed, for the command that waits for it.
    pub(crate) fn note_upgrade(&self, failure: &str) {
        if let Err(cause) = private::write(&self.path.join(UPGRADE), failure.as_bytes()) {
            tracing::warn!(%cause, "why an upgrade failed can't be written down");
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_new_folder_is_private_and_one_that_was_not_is_made_so() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("data/app-a");
        let _new = DataFolder::take(&folder).unwrap();
        assert_eq!((mode(&folder), mode(&folder.join("lock"))), (0o700, 0o600));
        // As an older version has left it. (Another folder: a process that another test starts holds the lock too until it is itself.)
        let folder = root.path().join("data/app-b");
        fs::create_dir_all(folder.join("hub/log")).unwrap();
        let log = folder.join("hub/log/0000000001.log");
        fs::write(&log, "sessions").unwrap();
        for (path, open) in [(&folder, 0o755), (&folder.join("hub/log"), 0o755), (&log, 0o644)] {
            fs::set_permissions(path, fs::Permissions::from_mode(open)).unwrap();
        }
        let _old = DataFolder::take(&folder).unwrap();
        assert_eq!((mode(&folder), mode(&folder.join("hub/log")), mode(&log)), (0o700, 0o700, 0o600));
    }
}
