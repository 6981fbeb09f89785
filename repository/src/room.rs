//! Room on the disk: what takes it is refused before the last of it is gone, which whoever else writes there (the hub's log) may need.

use std::{
    io::{self, Write},
    os::fd::AsFd,
    path::Path,
};

/// Is left alone, in bytes.
const RESERVE: u64 = 64 << 20;

/// How much is written between two looks, in bytes.
const LOOK: u64 = 8 << 20;

fn check(found: rustix::io::Result<rustix::fs::StatVfs>, bytes: u64) -> io::Result<()> {
    // A file system that does not tell is written to until it is full.
    let Ok(found) = found else { return Ok(()) };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if free >= bytes.saturating_add(RESERVE) { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
}

/// Whether so many bytes more may be written to the file system of a folder.
pub(crate) fn check_folder(folder: &Path, bytes: u64) -> io::Result<()> {
    check(rustix::fs::statvfs(folder), bytes)
}

/// Writes for as long as there is room.
#[derive(Debug)]
pub(crate) struct WhileRoom<W> {
    inner: W,
    /// Bytes until the next look.
    left: u64,
}

impl<W: Write + AsFd> WhileRoom<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, left: 0 }
    }

    pub(crate) fn into_inner(self) -> W {
        self.inner
    }
}

impl<W: Write + AsFd> Write for WhileRoom<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left < bytes.len() as u64 {
            check(rustix::fs::fstatvfs(self.inner.as_fd()), LOOK)?;
            self.left = LOOK;
        }
        let count = self.inner.write(bytes)?;
        self.left = self.left.saturating_sub(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_there_is_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check_folder(folder.path(), 1).is_ok());
        let refused = check_folder(folder.path(), u64::MAX).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        let mut file = WhileRoom::new(tempfile::tempfile().unwrap());
        file.write_all(&[1; 1000]).unwrap();
        assert_eq!((file.left, file.into_inner().metadata().unwrap().len()), (LOOK - 1000, 1000));
    }
}
