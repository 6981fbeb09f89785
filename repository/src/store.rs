//! A repository on disk: its packs, how it is opened, how packs get into it.

use crate::error::{At, RepositoryError};
use crate::files::{self, TEMPORARY};
use crate::pack::{Entry, GARBAGE, Index, Indexed, Pack, PackWriter, Received, receive, stem_of};
use crate::references::References;
use crate::verify::Verified;
use crate::{Kind, Limits, ObjectId, Options, objects};
use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use tempfile::NamedTempFile;

/// A bare repository. Clones share it; one process opens it at a time.
#[derive(Debug, Clone)]
pub struct Repository(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    path: PathBuf,
    options: Options,
    /// What is searched: the newest first, what holds garbage last. Readers keep what they took.
    packs: RwLock<Arc<Vec<Arc<Pack>>>>,
    /// Held while the folder of packs and the list above change.
    publishing: Mutex<()>,
    pub(crate) references: Mutex<References>,
    pub(crate) verified: Mutex<Verified>,
    /// Folders that are being checked out.
    pub(crate) checkouts: Mutex<HashSet<PathBuf>>,
}

/// What a pack brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Objects in it, also those that were here already.
    pub objects: u64,
    /// Bytes of it on disk.
    pub bytes: u64,
}

/// Git's settings: nothing of Git's own is to change what this crate keeps.
const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n\tlogAllRefUpdates = false\n\
                      [gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n";

/// A lock whose holder panicked: what it guards is only changed when the disk was.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

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
        let packs = load_packs(&path.join("objects/pack"))?;
        let references = References::open(path)?;
        Ok(Self(Arc::new(Inner {
            path: path.to_owned(),
            options,
            packs: RwLock::new(Arc::new(packs)),
            publishing: Mutex::new(()),
            references: Mutex::new(references),
            verified: Mutex::default(),
            checkouts: Mutex::default(),
        })))
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.options.limits
    }

    pub(crate) fn step(&self, name: &'static str) {
        (self.0.options.on_step)(name);
    }

    pub(crate) fn packs_folder(&self) -> PathBuf {
        self.0.path.join("objects/pack")
    }

    pub(crate) fn packs(&self) -> Arc<Vec<Arc<Pack>>> {
        self.0.packs.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Every copy of an object, the best first.
    pub(crate) fn copies(&self, id: &ObjectId) -> impl Iterator<Item = Entry> + use<> {
        let (packs, id) = (self.packs(), *id);
        (0..packs.len()).filter_map(move |place| {
            let line = packs[place].index().find(&id)?;
            Some(Entry { pack: packs[place].clone(), line })
        })
    }

    /// Is it here, and not among what is to be deleted?
    pub(crate) fn has(&self, id: &ObjectId) -> bool {
        self.copies(id).next().is_some_and(|it| !it.pack.is_garbage())
    }

    /// Those of the objects that have to be sent, in the order asked. What is only kept until it is old enough to delete counts as missing.
    #[must_use]
    pub fn missing(&self, ids: &[ObjectId]) -> Vec<ObjectId> {
        ids.iter().filter(|it| !self.has(it)).copied().collect()
    }

    /// Stores a pack: every object is hashed and checked as `git fsck --strict` does, deltas are resolved, bases that a thin pack lacks are
    /// added. It is durable when this returns. An empty pack is fine.
    ///
    /// # Errors
    /// [`PackError`](crate::PackError), when nothing of it was stored; the disk.
    pub fn store_pack(&self, pack: impl Read) -> Result<Stored, RepositoryError> {
        let bases = |id: &ObjectId| self.content(*id).ok();
        let received = receive(pack, &self.packs_folder(), self.limits(), &bases)?;
        self.step("pack-received");
        let stored = Stored { objects: received.objects.len() as u64, bytes: received.bytes };
        if stored.objects > 0 {
            self.publish(received)?;
        }
        Ok(stored)
    }

    /// Stores small objects durably, those that are not here yet. Their ids, in the order given.
    ///
    /// # Errors
    /// An object that Git would refuse; the disk.
    pub fn write_objects(&self, objects: &[(Kind, Vec<u8>)]) -> Result<Vec<ObjectId>, RepositoryError> {
        let mut ids = Vec::with_capacity(objects.len());
        let mut new = Vec::new();
        let mut seen = BTreeSet::new();
        for (kind, content) in objects {
            let refused =
                |_| RepositoryError::Object { id: ObjectId::NULL, cause: objects::ObjectError::Collision };
            let id = objects::id_of(*kind, content).map_err(refused)?;
            ids.push(id);
            if seen.insert(id) && !self.has(&id) {
                new.push((*kind, content));
            }
        }
        if !new.is_empty() {
            let pack = in_memory(&new).at("pack objects for", &self.0.path)?;
            self.store_pack(&pack[..])?;
        }
        Ok(ids)
    }

    /// Makes a received pack durable, then visible.
    pub(crate) fn publish(&self, received: Received) -> Result<Arc<Pack>, RepositoryError> {
        let index = self.write_index(&received.objects, received.checksum)?;
        self.publish_files(received.file, index, received.checksum, false)
    }

    pub(crate) fn write_index(
        &self,
        objects: &[Indexed],
        pack: ObjectId,
    ) -> Result<NamedTempFile, RepositoryError> {
        let index = files::temporary(&self.packs_folder(), 0o444)?;
        let mut out = BufWriter::new(index.as_file());
        Index::write(objects, pack, &mut out).and_then(|()| out.flush()).at("write", index.path())?;
        drop(out);
        Ok(index)
    }

    pub(crate) fn publish_files(
        &self,
        pack: NamedTempFile,
        index: NamedTempFile,
        checksum: ObjectId,
        garbage: bool,
    ) -> Result<Arc<Pack>, RepositoryError> {
        let _publishing = lock(&self.0.publishing);
        let stem = self.free_stem(checksum);
        let published = self.rename(&stem, pack, index, garbage);
        if published.is_err() {
            for extension in ["idx", "pack", GARBAGE] {
                // The error that is told is the first one, and opening removes what is left.
                let _ = files::remove(&stem.with_extension(extension));
            }
        }
        let pack = published?;
        self.change_packs(&[], Some(&pack));
        Ok(pack)
    }

    /// Git does not see a pack before its index is there, so that comes last.
    fn rename(
        &self,
        stem: &Path,
        pack: NamedTempFile,
        index: NamedTempFile,
        garbage: bool,
    ) -> Result<Arc<Pack>, RepositoryError> {
        let folder = self.packs_folder();
        if garbage {
            let path = stem.with_extension(GARBAGE);
            File::create_new(&path).and_then(|it| it.sync_all()).at("write", &path)?;
        }
        files::publish(pack, &stem.with_extension("pack"))?;
        files::sync_folder(&folder)?;
        self.step("pack-renamed");
        files::publish(index, &stem.with_extension("idx"))?;
        self.step("index-renamed");
        files::sync_folder(&folder)?;
        self.step("pack-stored");
        Pack::open(stem.to_owned()).map(Arc::new).at("open", &stem.with_extension("pack"))
    }

    /// Packs are named by their checksums, as Git's are. A second one of the same content, which may be there to heal the first, gets the next name.
    fn free_stem(&self, checksum: ObjectId) -> PathBuf {
        let mut name = checksum;
        loop {
            let stem = self.packs_folder().join(format!("pack-{name}"));
            if !stem.with_extension("pack").exists() && !stem.with_extension("idx").exists() {
                return stem;
            }
            let mut bytes = [0; 20];
            bytes.copy_from_slice(name.as_bytes());
            bytes[19] = bytes[19].wrapping_add(1);
            name = ObjectId::from(bytes);
        }
    }

    /// Changes the list; whoever reads goes on with the old one. Called with the folder locked.
    fn change_packs(&self, remove: &[Arc<Pack>], add: Option<&Arc<Pack>>) {
        let mut packs = self.0.packs.write().unwrap_or_else(PoisonError::into_inner);
        let kept = packs.iter().filter(|it| !remove.iter().any(|gone| Arc::ptr_eq(it, gone)));
        let mut list: Vec<_> = add.into_iter().chain(kept).cloned().collect();
        list.sort_by_key(|it| it.is_garbage());
        *packs = Arc::new(list);
    }
}

fn in_memory(objects: &[(Kind, &Vec<u8>)]) -> std::io::Result<Vec<u8>> {
    let count = u32::try_from(objects.len()).map_err(std::io::Error::other)?;
    let mut writer = PackWriter::new(Vec::new(), count)?;
    for (kind, content) in objects {
        writer.add(*kind, content.len() as u64, &mut &content[..])?;
    }
    Ok(writer.finish()?.1)
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

fn remove_temporary(path: &Path) -> Result<(), RepositoryError> {
    for folder in [path.to_owned(), path.join("objects/pack")] {
        for file in fs::read_dir(&folder).at("read", &folder)? {
            let file = file.at("read", &folder)?;
            if file.file_name().to_string_lossy().starts_with(TEMPORARY) {
                files::remove(&file.path())?;
            }
        }
    }
    Ok(())
}

/// Opens all packs, the newest first. Of a pack that was not stored to its end, or not removed to its end, the rest is removed.
fn load_packs(folder: &Path) -> Result<Vec<Arc<Pack>>, RepositoryError> {
    let mut stems = BTreeSet::new();
    for file in fs::read_dir(folder).at("read", folder)? {
        stems.extend(stem_of(&file.at("read", folder)?.path()));
    }
    let mut packs = Vec::new();
    for stem in stems {
        let (pack, index) = (stem.with_extension("pack"), stem.with_extension("idx"));
        if pack.exists() && index.exists() {
            let changed = fs::metadata(&pack).and_then(|it| it.modified()).at("read", &pack)?;
            packs.push((changed, Arc::new(Pack::open(stem).at("open", &index)?)));
        } else {
            [index, pack, stem.with_extension(GARBAGE)].iter().try_for_each(|it| files::remove(it))?;
        }
    }
    packs.sort_by_key(|(changed, pack)| (pack.is_garbage(), std::cmp::Reverse(*changed)));
    Ok(packs.into_iter().map(|(_, pack)| pack).collect())
}
