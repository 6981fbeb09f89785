//! A repository on disk: its packs, how it is opened, how packs get into it.

use crate::error::{At, RepositoryError};
use crate::files;
use crate::pack::{Entry, GARBAGE, Index, Indexed, Pack, PackWriter, Received, receive};
use crate::references::References;
use crate::verify::Verified;
use crate::{Kind, Limits, ObjectId, Options, objects};
use std::collections::{BTreeSet, HashSet};
use std::fs::File;
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
    pub(crate) publishing: Mutex<()>,
    /// Held while packs are replaced by others.
    pub(crate) maintenance: Mutex<()>,
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

/// A lock whose holder panicked: what it guards is only changed when the disk was.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    pub(crate) fn new(path: &Path, options: Options, packs: Vec<Arc<Pack>>, references: References) -> Self {
        Self {
            path: path.to_owned(),
            options,
            packs: RwLock::new(Arc::new(packs)),
            publishing: Mutex::new(()),
            maintenance: Mutex::new(()),
            references: Mutex::new(references),
            verified: Mutex::default(),
            checkouts: Mutex::default(),
        }
    }
}

impl Repository {
    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Bytes that this process may still write where it is.
    ///
    /// # Errors
    /// The system does not say.
    pub fn free_bytes(&self) -> std::io::Result<u64> {
        let about = rustix::fs::statvfs(&self.0.path)?;
        Ok(about.f_bavail.saturating_mul(about.f_frsize))
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

    /// Is it here?
    pub(crate) fn has(&self, id: &ObjectId) -> bool {
        self.copies(id).next().is_some()
    }

    /// Those of the objects that are not here, in the order asked.
    #[must_use]
    pub fn missing(&self, ids: &[ObjectId]) -> Vec<ObjectId> {
        ids.iter().filter(|it| !self.has(it)).copied().collect()
    }

    /// Stores a pack: every object is hashed and checked as `git fsck --strict` does, deltas are resolved, bases that a thin pack lacks are
    /// added. It is durable when this returns. An empty pack is fine; each object may be in it once.
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
        let index = write_index(&self.packs_folder(), &received.objects, received.checksum)?;
        self.publish_files(received.file, index, received.checksum, false)
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
    pub(crate) fn change_packs(&self, remove: &[Arc<Pack>], add: Option<&Arc<Pack>>) {
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

/// A temporary file with the index of a pack.
pub(crate) fn write_index(
    folder: &Path,
    objects: &[Indexed],
    pack: ObjectId,
) -> Result<NamedTempFile, RepositoryError> {
    let index = files::temporary(folder, 0o444)?;
    let mut out = BufWriter::new(index.as_file());
    Index::write(objects, pack, &mut out).and_then(|()| out.flush()).at("write", index.path())?;
    drop(out);
    Ok(index)
}
