//! Copies of certificates in a server's data folder, sealed as they are on the hub: what a start without the hub shows.

use common::private;
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use tokio::task::spawn_blocking;

/// The folder in a server's data folder.
const FOLDER: &str = "acme";

/// The largest file that is read.
const FILE_MAX: u64 = 1 << 20;

/// The folder of copies.
#[derive(Debug, Clone)]
pub(crate) struct Copies(PathBuf);

impl Copies {
    /// Of the server with this data folder.
    pub(crate) fn new(data: &Path) -> Self {
        Self(data.join(FOLDER))
    }

    fn file(&self, first: &str) -> PathBuf {
        // A host name: no part of it is a way out of the folder.
        self.0.join(format!("{first}.sealed"))
    }

    /// The certificate whose first name this is. Blocks on the file system.
    pub(crate) fn read(&self, first: &str) -> io::Result<Vec<u8>> {
        let file = self.file(first);
        let length = fs::metadata(&file)?.len();
        if length > FILE_MAX {
            return Err(io::Error::other(format!("it has {length} bytes, more than {FILE_MAX}")));
        }
        fs::read(file)
    }

    /// Keeps it; a disk that can't is told in the log.
    pub(crate) async fn write(&self, first: &str, sealed: Vec<u8>) {
        let (folder, file) = (self.0.clone(), self.file(first));
        let written = spawn_blocking(move || write(&folder, &file, &sealed)).await;
        if let Ok(Err(cause)) = written {
            tracing::warn!(certificate = first, %cause, "a copy of this certificate can't be kept on disk");
        }
    }
}

/// As a whole or not at all, for this user alone.
fn write(folder: &Path, file: &Path, sealed: &[u8]) -> io::Result<()> {
    if fs::read(file).is_ok_and(|it| it == sealed) {
        return Ok(());
    }
    private::make_folder(folder)?;
    let new = file.with_extension("new");
    private::write(&new, sealed)?;
    fs::File::open(&new)?.sync_all()?;
    fs::rename(&new, file)?;
    fs::File::open(folder)?.sync_all()
}
