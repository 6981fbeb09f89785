//! The file system.

use super::{Disk, DiskFile};
use common::private;
use std::{
    fs, io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A folder of the file system.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes the folder, durably, unless it is there.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if !path.is_dir() {
            private::make_folder(path).map_err(|cause| place(path, "make the folder", &cause))?;
            if let Some(parent) = path.parent() {
                sync_folder(parent)?;
            }
        }
        Ok(Self(path.to_owned()))
    }

    fn file(&self, name: &str, make: bool) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.0.join(name);
        let opened = private::options().read(true).write(true).create(make).truncate(make).open(&path);
        match opened {
            Ok(file) => Ok(Arc::new(OpenFile { file, path })),
            Err(cause) => Err(place(&path, if make { "create" } else { "open" }, &cause)),
        }
    }
}

impl Disk for Folder {
    fn list(&self) -> io::Result<Vec<String>> {
        let read = || fs::read_dir(&self.0)?.map(|it| Ok(it?.file_name())).collect::<io::Result<Vec<_>>>();
        let names = read().map_err(|cause| place(&self.0, "list", &cause))?;
        Ok(names.into_iter().filter_map(|it| it.into_string().ok()).collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.file(name, true)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.file(name, false)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.0.join(name);
        fs::remove_file(&path).map_err(|cause| place(&path, "remove", &cause))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let to = self.0.join(to);
        fs::rename(self.0.join(from), &to).map_err(|cause| place(&to, "rename to", &cause))
    }

    fn sync(&self) -> io::Result<()> {
        sync_folder(&self.0)
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    fs::File::open(path).and_then(|it| it.sync_all()).map_err(|cause| place(path, "sync", &cause))
}

#[derive(Debug)]
struct OpenFile {
    file: fs::File,
    path: PathBuf,
}

impl DiskFile for OpenFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|cause| place(&self.path, "write", &cause))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset).map_err(|cause| place(&self.path, "read", &cause))
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata().map_err(|cause| place(&self.path, "look at", &cause))?.len())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length).map_err(|cause| place(&self.path, "cut", &cause))
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data().map_err(|cause| place(&self.path, "sync", &cause))
    }
}

fn place(path: &Path, action: &str, cause: &io::Error) -> io::Error {
    io::Error::new(cause.kind(), format!("can't {action} {}: {cause}", path.display()))
}
