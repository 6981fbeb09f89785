//! A tree's files in a folder: made beside its place, synced, then renamed into it.

use crate::error::{At, RepositoryError};
use crate::objects::Mode;
use crate::store::lock;
use crate::trees::{Child, text};
use crate::{Kind, ObjectId, Repository, files};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckedOut {
    /// Files and links.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
}

impl Repository {
    /// Writes a tree's files to the folder `to`, which is not there yet. They are written to a folder beside it, which is then
    /// renamed: `to` is whole whenever it is there, and the machine has not lost its power since. Nothing is synced, which would take most of the
    /// time: after a start of the machine [`Self::verify_checkout`] tells what is missing. Files have mode 0644 or 0755, folders 0755. Every file's hash is checked.
    ///
    /// # Errors
    /// An object that is missing or damaged; a link that leads out; more than the limits; the disk. Nothing is left of it then.
    pub fn checkout(&self, tree: ObjectId, to: &Path) -> Result<CheckedOut, RepositoryError> {
        self.survey(tree)?;
        if fs::symlink_metadata(to).is_ok() {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists)).at("check out to", to);
        }
        let _reserved = Reserved::new(self, to)?;
        let beside = beside(to)?;
        remove_whatever(&beside)?;
        let written = self.write_tree(tree, &beside, false).and_then(|done| {
            self.step("checkout-written");
            fs::rename(&beside, to).at("rename the checkout to", to)?;
            self.step("checkout-renamed");
            Ok(done)
        });
        if written.is_err() {
            // The error that is told is the first one, and the next checkout removes what is left.
            let _ = remove_whatever(&beside);
        }
        written
    }

    /// Writes a folder that is not there yet.
    pub(crate) fn write_tree(
        &self,
        tree: ObjectId,
        folder: &Path,
        sync: bool,
    ) -> Result<CheckedOut, RepositoryError> {
        fs::create_dir(folder).at("make the folder", folder)?;
        fs::set_permissions(folder, Permissions::from_mode(0o755)).at("set the mode of", folder)?;
        let mut done = CheckedOut::default();
        for child in self.children(tree)? {
            let path = folder.join(OsStr::from_bytes(&child.name));
            let one = self.write_child(&child, &path, sync)?;
            done = CheckedOut { files: done.files + one.files, bytes: done.bytes + one.bytes };
        }
        if sync {
            files::sync_folder(folder)?;
        }
        Ok(done)
    }

    /// Writes a file, link or folder that is not there yet.
    pub(crate) fn write_child(
        &self,
        child: &Child,
        path: &Path,
        sync: bool,
    ) -> Result<CheckedOut, RepositoryError> {
        // Git's names have no slash in them; this is the last look at what is written where.
        if child.name.is_empty() || child.name.contains(&b'/') || matches!(&child.name[..], b"." | b"..") {
            return Err(RepositoryError::NoPath(text(&child.name)));
        }
        let bytes = match child.mode {
            Mode::Folder => return self.write_tree(child.id, path, sync),
            Mode::File => self.write_file(child.id, path, 0o644, sync)?,
            Mode::Executable => self.write_file(child.id, path, 0o755, sync)?,
            Mode::Link => {
                let target = self.read(child.id, Kind::Blob)?;
                std::os::unix::fs::symlink(OsStr::from_bytes(&target), path).at("make the link", path)?;
                target.len() as u64
            }
        };
        Ok(CheckedOut { files: 1, bytes })
    }

    fn write_file(&self, id: ObjectId, path: &Path, mode: u32, sync: bool) -> Result<u64, RepositoryError> {
        let new = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
        let mut file = new.at("make the file", path)?;
        let bytes = self.copy_blob(id, &mut file, path)?;
        file.set_permissions(Permissions::from_mode(mode)).at("set the mode of", path)?;
        if sync {
            file.sync_all().at("sync", path)?;
        }
        Ok(bytes)
    }

    /// Writes a blob to an empty file: from another copy when one is found damaged on the way.
    pub(crate) fn copy_blob(
        &self,
        id: ObjectId,
        file: &mut File,
        path: &Path,
    ) -> Result<u64, RepositoryError> {
        let mut is_empty = true;
        let copied = self.any_copy(id, |entry| {
            let emptied = if is_empty { Ok(()) } else { file.rewind().and_then(|()| file.set_len(0)) };
            if let Err(error) = emptied {
                return Ok(Err(error));
            }
            is_empty = false;
            let mut reader = self.entry_reader(id, entry)?;
            if reader.kind() != Kind::Blob {
                return Err(io::Error::other("it is no blob"));
            }
            // What is wrong with the file is no matter of this copy.
            Ok(copy(&mut reader, file)?.map(|()| reader.size()))
        })?;
        copied.at("write", path)
    }
}

/// An error of reading outside, one of writing inside.
fn copy(reader: &mut impl Read, file: &mut File) -> io::Result<io::Result<()>> {
    let mut buffer = [0; 16 << 10];
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            return Ok(Ok(()));
        }
        if let Err(error) = file.write_all(&buffer[..count]) {
            return Ok(Err(error));
        }
    }
}

/// Where a folder is made before it gets its name.
fn beside(to: &Path) -> Result<PathBuf, RepositoryError> {
    let no_name = || io::Error::new(io::ErrorKind::InvalidInput, "it has no name");
    let mut name = OsString::from(".");
    name.push(to.file_name().ok_or_else(no_name).at("check out to", to)?);
    name.push(".partial");
    Ok(to.with_file_name(name))
}

/// Removes a folder, or what is in its place, if anything; no link is followed.
pub(crate) fn remove_whatever(path: &Path) -> Result<(), RepositoryError> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    let removed = if found.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.at("remove", path)
}

/// A folder that no other call checks out to meanwhile.
#[derive(Debug)]
struct Reserved<'a> {
    repository: &'a Repository,
    path: PathBuf,
}

impl<'a> Reserved<'a> {
    fn new(repository: &'a Repository, path: &Path) -> Result<Self, RepositoryError> {
        if !lock(&repository.0.checkouts).insert(path.to_owned()) {
            return Err(RepositoryError::Busy(path.to_owned()));
        }
        Ok(Self { repository, path: path.to_owned() })
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        lock(&self.repository.0.checkouts).remove(&self.path);
    }
}
