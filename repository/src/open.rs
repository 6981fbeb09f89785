//! Opening a repository: made when it is not there, and cleared of what a dead process left.

use crate::checkout::remove_whatever;
use crate::error::{At, RepositoryError};
use crate::files::{self, TEMPORARY};
use crate::pack::{GARBAGE, Pack, receive, stem_of};
use crate::references::References;
use crate::store::{Inner, write_index};
use crate::{Limits, Options, Repository};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Git's settings: nothing of Git's own is to change what this crate keeps.
const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n\tlogAllRefUpdates = false\n\
                      [gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n";

impl Repository {
    /// Opens a repository with the usual limits, and makes it when it is not there.
    ///
    /// # Errors
    /// See [`Self::open_with`].
    pub fn open(path: &Path) -> Result<Self, RepositoryError> {
        Self::open_with(path, Options::default())
    }

    /// Opens a repository, and makes it when it is not there. What an ended process left half-written is removed.
    ///
    /// # Errors
    /// The disk; an index or a list of references that can't be read; loose objects, which only `git` writes.
    pub fn open_with(path: &Path, options: Options) -> Result<Self, RepositoryError> {
        create(path)?;
        refuse_loose_objects(path)?;
        remove_temporary(path)?;
        let packs = load_packs(&path.join("objects/pack"), &options.limits)?;
        let references = References::open(path)?;
        Ok(Self(Arc::new(Inner::new(path, options, packs, references))))
    }
}

/// Makes what is not there; whatever is cut off is made by the next one.
fn create(path: &Path) -> Result<(), RepositoryError> {
    let head = path.join("HEAD");
    if head.exists() {
        return Ok(());
    }
    for folder in ["objects/pack", "objects/info", "refs/heads", "refs/tags"] {
        let folder = path.join(folder);
        fs::create_dir_all(&folder).at("make the folder", &folder)?;
    }
    for folder in ["objects", "refs", ""] {
        files::sync_folder(&path.join(folder))?;
    }
    files::replace(&path.join("config"), CONFIG.as_bytes())?;
    files::replace(&head, b"ref: refs/heads/main\n")?;
    files::sync_folder(path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new(".")))
}

fn refuse_loose_objects(path: &Path) -> Result<(), RepositoryError> {
    let folder = path.join("objects");
    for file in fs::read_dir(&folder).at("read", &folder)? {
        let loose = file.at("read", &folder)?.path();
        let is_loose = loose.file_name().is_some_and(|it| it.len() == 2);
        if is_loose && fs::read_dir(&loose).at("read", &loose)?.next().is_some() {
            return Err(RepositoryError::Loose(path.to_owned()));
        }
    }
    Ok(())
}

/// Removes temporary files, and what `git gc` derives from packs that may be gone when Git reads it the next time.
fn remove_temporary(path: &Path) -> Result<(), RepositoryError> {
    for folder in ["", "objects/pack", "objects/info"] {
        let folder = path.join(folder);
        for file in fs::read_dir(&folder).at("read", &folder)? {
            let file = file.at("read", &folder)?;
            let name = file.file_name().to_string_lossy().into_owned();
            if [TEMPORARY, "commit-graph", "multi-pack-index"].iter().any(|it| name.starts_with(it)) {
                remove_whatever(&file.path())?;
            }
        }
    }
    Ok(())
}

/// Opens all packs, the newest first. Of a pack that was not stored to its end, or not removed to its end, the rest is removed.
fn load_packs(folder: &Path, limits: &Limits) -> Result<Vec<Arc<Pack>>, RepositoryError> {
    let mut stems = BTreeSet::new();
    for file in fs::read_dir(folder).at("read", folder)? {
        stems.extend(stem_of(&file.at("read", folder)?.path()));
    }
    let mut packs = Vec::new();
    for stem in stems {
        let (pack, index) = (stem.with_extension("pack"), stem.with_extension("idx"));
        if pack.exists() && index.exists() {
            let changed = fs::metadata(&pack).and_then(|it| it.modified()).at("read", &pack)?;
            packs.push((changed, Arc::new(open_pack(stem, limits)?)));
        } else {
            [index, pack, stem.with_extension(GARBAGE)].iter().try_for_each(|it| files::remove(it))?;
        }
    }
    packs.sort_by_key(|(changed, pack)| (pack.is_garbage(), std::cmp::Reverse(*changed)));
    Ok(packs.into_iter().map(|(_, pack)| pack).collect())
}

/// Opens a pack; an index that is damaged is made anew, as everything in it is in the pack.
fn open_pack(stem: PathBuf, limits: &Limits) -> Result<Pack, RepositoryError> {
    let path = stem.with_extension("idx");
    match Pack::open(stem.clone()) {
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            let pack = stem.with_extension("pack");
            let folder = path.parent().unwrap_or(Path::new("."));
            let limits =
                Limits { pack_bytes: u64::MAX, objects: u64::MAX, unpacked_bytes: u64::MAX, ..*limits };
            let found = receive(File::open(&pack).at("open", &pack)?, folder, &limits, &|_| None)?;
            files::publish(write_index(folder, &found.objects, found.checksum)?, &path)?;
            files::sync_folder(folder)?;
            Pack::open(stem)
        }
        other => other,
    }
    .at("open", &path)
}
