//! Checked-out folders, compared with their trees and put right.

use crate::checkout::{Writer, remove_whatever};
use crate::error::{At, RepositoryError};
use crate::objects::{Hasher, Mode};
use crate::trees::{Child, text};
use crate::{Kind, ObjectId, Repository, files};
use rustix::fs::{Mode as OpenMode, OFlags};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

impl Repository {
    /// Compares a checked-out folder with its tree: every content is hashed, links are not followed. The paths that are wrong, missing or
    /// extra, below the folder; of a wrong folder only itself.
    ///
    /// # Errors
    /// A tree is missing or damaged, or more than the limits; the folder itself can't be read.
    pub fn verify_checkout(&self, tree: ObjectId, folder: &Path) -> Result<Vec<PathBuf>, RepositoryError> {
        let found = fs::symlink_metadata(folder).at("read", folder)?;
        if !found.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory)).at("read", folder);
        }
        self.survey(tree)?;
        let mut wrong = Vec::new();
        self.compare_folder(tree, folder, Path::new(""), &mut wrong)?;
        wrong.sort_unstable();
        Ok(wrong)
    }

    fn compare_folder(
        &self,
        tree: ObjectId,
        root: &Path,
        below: &Path,
        wrong: &mut Vec<PathBuf>,
    ) -> Result<(), RepositoryError> {
        let mut expected: BTreeMap<OsString, Child> =
            self.children(tree)?.into_iter().map(|it| (OsString::from_vec(it.name.clone()), it)).collect();
        let folder = root.join(below);
        for file in fs::read_dir(&folder).at("read", &folder)? {
            let name = file.at("read", &folder)?.file_name();
            let path = below.join(&name);
            let Some(child) = expected.remove(&name) else {
                wrong.push(path);
                continue;
            };
            let there = root.join(&path);
            let found = fs::symlink_metadata(&there).at("read", &there)?;
            if !is_as_stored(&child, &there, &found)? {
                wrong.push(path);
            } else if child.mode == Mode::Folder {
                self.compare_folder(child.id, root, &path, wrong)?;
            }
        }
        wrong.extend(expected.into_keys().map(|it| below.join(it)));
        Ok(())
    }

    /// Puts paths right that [`Self::verify_checkout`] named: what is extra is removed, what is wrong or missing is written anew, durably.
    /// Each file is the old or the new one at every instant.
    ///
    /// # Errors
    /// A path that leads out of the folder; an object that is missing or damaged; the disk.
    pub fn mend_checkout(
        &self,
        tree: ObjectId,
        folder: &Path,
        paths: &[PathBuf],
    ) -> Result<(), RepositoryError> {
        self.survey(tree)?;
        let mut paths: Vec<_> = paths.iter().collect();
        // Folders before what is in them.
        paths.sort_unstable();
        for path in paths {
            check_inside(folder, path)?;
            let child = match self.find(tree, path.as_os_str().as_bytes()) {
                Err(RepositoryError::NoPath(_)) => None,
                other => other?,
            };
            self.mend(child.as_ref(), &folder.join(path))?;
        }
        Ok(())
    }

    fn mend(&self, child: Option<&Child>, path: &Path) -> Result<(), RepositoryError> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        let Some(child) = child else {
            remove_whatever(path)?;
            return files::sync_folder(parent);
        };
        let found = fs::symlink_metadata(path);
        if child.mode == Mode::Folder {
            if found.as_ref().is_ok_and(Metadata::is_dir) {
                return fs::set_permissions(path, fs::Permissions::from_mode(0o755))
                    .at("set the mode of", path);
            }
            remove_whatever(path)?;
            Writer::new(self, true).child(child, path, b"")?;
            return files::sync_folder(parent);
        }
        if found.is_ok_and(|it| it.is_dir()) {
            remove_whatever(path)?;
        }
        let beside = tempfile::Builder::new()
            .prefix(files::TEMPORARY)
            .tempdir_in(parent)
            .at("make a folder in", parent)?;
        let new = beside.path().join("new");
        Writer::new(self, true).child(child, &new, b"")?;
        fs::rename(&new, path).at("rename a file to", path)?;
        files::sync_folder(parent)
    }
}

/// Is a file, link or folder what its entry says? Of a folder only itself is looked at.
fn is_as_stored(child: &Child, path: &Path, found: &Metadata) -> Result<bool, RepositoryError> {
    let mode = found.permissions().mode() & 0o7777;
    let fits = |bytes: &[u8]| crate::objects::id(Kind::Blob, bytes) == Some(child.id);
    Ok(match child.mode {
        Mode::Folder => found.is_dir() && mode == 0o755,
        Mode::Link => {
            found.is_symlink() && fits(fs::read_link(path).at("read", path)?.as_os_str().as_bytes())
        }
        Mode::File => found.is_file() && mode == 0o644 && file_fits(path, child.id).at("read", path)?,
        Mode::Executable => found.is_file() && mode == 0o755 && file_fits(path, child.id).at("read", path)?,
    })
}

/// Hashes a file, without following a link that was put there meanwhile.
fn file_fits(path: &Path, id: ObjectId) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(path, flags, OpenMode::empty())?);
    let found = file.metadata()?;
    if !found.is_file() {
        return Ok(false);
    }
    let mut hasher = Hasher::of_object(Kind::Blob, found.len());
    let copied = io::copy(&mut file, &mut hasher)?;
    Ok(copied == found.len() && hasher.finish().ok() == Some(id))
}

/// A path of names only, below folders that are no links.
fn check_inside(folder: &Path, path: &Path) -> Result<(), RepositoryError> {
    let refused = || RepositoryError::NoPath(text(path.as_os_str().as_bytes()));
    let mut at = folder.to_owned();
    let mut parts = path.components().peekable();
    if parts.peek().is_none() {
        return Err(refused());
    }
    while let Some(part) = parts.next() {
        let Component::Normal(name) = part else { return Err(refused()) };
        at.push(OsStr::new(name));
        let is_last = parts.peek().is_none();
        if !is_last && !fs::symlink_metadata(&at).is_ok_and(|it| it.is_dir()) {
            return Err(refused());
        }
    }
    Ok(())
}
