//! Files that are there as a whole or not at all, also after a power loss.

use crate::RepositoryError;
use crate::error::At;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::NamedTempFile;

/// What names of temporary files begin with; Git's own clean-up knows these too.
pub(crate) const TEMPORARY: &str = "tmp_";

/// Makes what was created, renamed or removed in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), RepositoryError> {
    File::open(folder).and_then(|it| it.sync_all()).at("sync", folder)
}

/// A temporary file that goes away when it is dropped.
pub(crate) fn temporary(folder: &Path, mode: u32) -> Result<NamedTempFile, RepositoryError> {
    tempfile::Builder::new()
        .prefix(TEMPORARY)
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(folder)
        .at("make a temporary file in", folder)
}

/// Syncs a temporary file and gives it its name. The folder is for the caller to sync.
pub(crate) fn publish(file: NamedTempFile, to: &Path) -> Result<(), RepositoryError> {
    file.as_file().sync_all().at("sync", file.path())?;
    file.persist(to).map_err(|it| it.error).at("rename a file to", to)?;
    Ok(())
}

/// Replaces a file's content durably.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), RepositoryError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = temporary(folder, 0o644)?;
    file.write_all(content).at("write", path)?;
    publish(file, path)?;
    sync_folder(folder)
}

/// Removes a file that may be gone already.
pub(crate) fn remove(path: &Path) -> Result<(), RepositoryError> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause).at("remove", path),
        _ => Ok(()),
    }
}
