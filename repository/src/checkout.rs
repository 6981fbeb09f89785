//! A tree's files in a folder: made beside its place, synced, then renamed into it.

use crate::error::{At, RepositoryError};
use crate::objects::Mode;
use crate::store::lock;
use crate::trees::{Child, join, text};
use crate::worktree_index::{NewIndex, WorktreeIndex};
use crate::{Kind, ObjectId, Repository, files, room};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What a file takes beside its content, in bytes, or a folder: a block that is not full, and an inode.
const FILE: u64 = 4096;

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
    /// `spare` is a folder that was checked out before, beside `to`, and that nobody needs any more: it becomes the new one, and only what is not
    /// as it has to be is written. Which of its files nobody has touched since tells the [`WorktreeIndex`] beside it.
    ///
    /// # Errors
    /// An object that is missing or damaged; a link that leads out; more than the limits; the disk. Nothing is left of it then.
    pub fn checkout(
        &self,
        tree: ObjectId,
        to: &Path,
        spare: Option<&Path>,
    ) -> Result<CheckedOut, RepositoryError> {
        let measure = self.survey(tree)?;
        if fs::symlink_metadata(to).is_ok() {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists)).at("check out to", to);
        }
        let _reserved = Reserved::new(self, to)?;
        let beside = beside(to)?;
        remove_whatever(&beside)?;
        let from_spare = spare.and_then(|spare| {
            let mut writer = Writer { known: take(spare, &beside)?, ..Writer::new(self, false) };
            room::check_folder(&beside, 0).ok()?;
            writer.update_folder(tree, &beside, b"").ok().map(|()| writer)
        });
        let written = match from_spare {
            Some(writer) => Ok(writer),
            None => remove_whatever(&beside).and_then(|()| {
                let folder = to.parent().unwrap_or(to);
                room::check_folder(folder, measure.bytes.saturating_add(measure.files * FILE))
                    .at("check out to", to)?;
                let mut writer = Writer::new(self, false);
                writer.folder(tree, &beside, b"").map(|()| writer)
            }),
        };
        let placed = written.and_then(|writer| {
            self.step("checkout-written");
            // Without it the next version is written as a whole.
            let _unknown = writer.index.write(&index_of(to));
            fs::rename(&beside, to).at("rename the checkout to", to)?;
            self.step("checkout-renamed");
            Ok(writer.done)
        });
        if placed.is_err() {
            // The error that is told is the first one, and the next checkout removes what is left.
            let _ = remove_whatever(&beside);
        }
        placed
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

/// Writes trees to folders, durably or not.
pub(crate) struct Writer<'a> {
    repository: &'a Repository,
    sync: bool,
    /// What is known of the files that are there already.
    known: WorktreeIndex,
    index: NewIndex,
    done: CheckedOut,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(repository: &'a Repository, sync: bool) -> Self {
        let (known, index, done) = Default::default();
        Self { repository, sync, known, index, done }
    }

    /// Writes a folder that is not there yet; `below` is its path in the checkout.
    fn folder(&mut self, tree: ObjectId, folder: &Path, below: &[u8]) -> Result<(), RepositoryError> {
        fs::create_dir(folder).at("make the folder", folder)?;
        fs::set_permissions(folder, Permissions::from_mode(0o755)).at("set the mode of", folder)?;
        for child in self.repository.children(tree)? {
            self.child(&child, &folder.join(OsStr::from_bytes(&child.name)), below)?;
        }
        if self.sync {
            files::sync_folder(folder)?;
        }
        Ok(())
    }

    /// Writes a file, link or folder that is not there yet; `below` is the path of its folder in the checkout.
    pub(crate) fn child(&mut self, child: &Child, path: &Path, below: &[u8]) -> Result<(), RepositoryError> {
        // Git's names have no slash in them; this is the last look at what is written where.
        if child.name.is_empty() || child.name.contains(&b'/') || matches!(&child.name[..], b"." | b"..") {
            return Err(RepositoryError::NoPath(text(&child.name)));
        }
        let written = match child.mode {
            Mode::Folder => return self.folder(child.id, path, &join(below, &child.name)),
            Mode::File => self.file(child.id, path, 0o644)?,
            Mode::Executable => self.file(child.id, path, 0o755)?,
            Mode::Link => {
                let target = self.repository.read(child.id, Kind::Blob)?;
                std::os::unix::fs::symlink(OsStr::from_bytes(&target), path).at("make the link", path)?;
                fs::symlink_metadata(path).at("read", path)?
            }
        };
        self.count(child, below, &written);
        Ok(())
    }

    fn count(&mut self, child: &Child, below: &[u8], found: &Metadata) {
        self.index.add(join(below, &child.name), child.id, found);
        self.done.files += 1;
        self.done.bytes += found.len();
    }

    fn file(&self, id: ObjectId, path: &Path, mode: u32) -> Result<Metadata, RepositoryError> {
        let new = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
        let mut file = new.at("make the file", path)?;
        self.repository.copy_blob(id, &mut file, path)?;
        file.set_permissions(Permissions::from_mode(mode)).at("set the mode of", path)?;
        if self.sync {
            file.sync_all().at("sync", path)?;
        }
        file.metadata().at("read", path)
    }

    /// Makes a folder of another tree one of this: what is in place and untouched stays.
    fn update_folder(&mut self, tree: ObjectId, folder: &Path, below: &[u8]) -> Result<(), RepositoryError> {
        let mut lacking: HashMap<_, _> =
            self.repository.children(tree)?.into_iter().map(|it| (it.name.clone(), it)).collect();
        for file in fs::read_dir(folder).at("read", folder)? {
            let name = file.at("read", folder)?.file_name().into_vec();
            let path = folder.join(OsStr::from_bytes(&name));
            let stays = lacking.get(&name).map(|child| self.keep(child, &path, below)).transpose()?;
            if stays == Some(true) {
                lacking.remove(&name);
            } else {
                remove_whatever(&path)?;
            }
        }
        lacking
            .into_values()
            .try_for_each(|it| self.child(&it, &folder.join(OsStr::from_bytes(&it.name)), below))
    }

    /// Whether what is at a path is what has to be there, after what is below it was put right.
    fn keep(&mut self, child: &Child, path: &Path, below: &[u8]) -> Result<bool, RepositoryError> {
        let found = fs::symlink_metadata(path).at("read", path)?;
        let in_checkout = join(below, &child.name);
        if child.mode != Mode::Folder {
            let untouched = self.known.content(&in_checkout, &found) == Some((child.mode, child.id));
            if untouched {
                self.count(child, below, &found);
            }
            return Ok(untouched);
        }
        if !found.is_dir() {
            return Ok(false);
        }
        if found.permissions().mode() & 0o7777 != 0o755 {
            fs::set_permissions(path, Permissions::from_mode(0o755)).at("set the mode of", path)?;
        }
        self.update_folder(child.id, path, &in_checkout)?;
        Ok(true)
    }
}

/// Where a folder's [`WorktreeIndex`] is: beside it.
fn index_of(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".index");
    name.into()
}

/// Takes a folder that was checked out before out of its place, to `beside`, with what is known of it. `None`: nothing is.
fn take(spare: &Path, beside: &Path) -> Option<WorktreeIndex> {
    let index = index_of(spare);
    let known = WorktreeIndex::read(&index);
    let _gone = fs::remove_file(index);
    if !fs::symlink_metadata(spare).ok()?.is_dir() {
        return None;
    }
    fs::rename(spare, beside).ok()?;
    // By its time it is seen how old a version is.
    File::open(beside).and_then(|it| it.set_modified(SystemTime::now())).ok()?;
    Some(known)
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
