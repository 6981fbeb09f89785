//! A folder on disk, as the log and the snapshots use it; the tests' one loses what was not synced, or fails when told.

mod real;
#[cfg(test)]
pub(crate) mod sim;

pub(crate) use real::Folder;

use std::{fmt::Debug, io, sync::Arc};

/// A folder.
pub(crate) trait Disk: Debug + Send + Sync + 'static {
    /// Names of the files in it, in no order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes an empty file; it is there after a crash once [`Disk::sync`] has returned.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file that is there, to read and write.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Removes a file; those who have it open can still read it.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Renames a file, in place of another of the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Makes creations, removals and renames durable.
    fn sync(&self) -> io::Result<()>;
}

/// A file. Errors name it.
pub(crate) trait DiskFile: Debug + Send + Sync + 'static {
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Fills `buffer` from `offset`; [`io::ErrorKind::UnexpectedEof`] when the file ends before.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
    /// Length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Cuts the file.
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// Makes all that was written durable.
    fn sync(&self) -> io::Result<()>;
}

/// Writes a whole small file so that after a crash there is either the old one or the new one.
pub(crate) fn write_whole(disk: &dyn Disk, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = format!("{name}.tmp");
    let file = disk.create(&new)?;
    file.write_at(0, bytes)?;
    file.sync()?;
    disk.rename(&new, name)?;
    disk.sync()
}

/// Reads a whole file.
pub(crate) fn read_whole(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.length()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}
