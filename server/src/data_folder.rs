//! A server's data folder: made, tested for writing and locked, so that two processes never share one.

use anyhow::{Context, bail};
use std::{
    fs::{File, TryLockError},
    io::Write,
    path::{Path, PathBuf},
};

/// A locked data folder; the kernel releases the lock however the process ends.
#[derive(Debug)]
pub(crate) struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Takes `folder`, and makes it first when there is none.
    pub(crate) fn take(folder: &Path) -> anyhow::Result<Self> {
        let shown = folder.display();
        std::fs::create_dir_all(folder).with_context(|| format!("data folder {shown} can't be made"))?;
        let path = folder.join("lock");
        let mut lock = File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("data folder {shown} is not writable: {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = std::fs::read_to_string(&path).unwrap_or_default();
                bail!(
                    "data folder {shown} is in use by another process (pid {}): stop it, or give this server another --data-dir",
                    holder.trim()
                );
            }
            Err(TryLockError::Error(cause)) => {
                return Err(cause).with_context(|| format!("data folder {shown} can't be locked"));
            }
        }
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .with_context(|| format!("data folder {shown} is not writable"))?;
        Ok(Self { path: folder.to_owned(), _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
