//! Finding what the disk damaged, and putting good copies in its place.

use crate::error::RepositoryError;
use crate::garbage::holds;
use crate::pack::{Entry, Pack};
use crate::store::lock;
use crate::{ObjectId, Repository};
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::sync::Arc;

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Bytes of packs and indexes on disk.
    pub bytes: u64,
    /// Objects, counted in each pack that has them.
    pub objects: u64,
    /// Packs.
    pub packs: u64,
}

impl Repository {
    /// How much there is on disk.
    ///
    /// # Errors
    /// The disk.
    pub fn size(&self) -> Result<Size, RepositoryError> {
        let mut size = Size::default();
        for pack in self.packs().iter() {
            size.bytes += pack.bytes() + pack.index().bytes().len() as u64;
            size.objects += pack.index().len() as u64;
            size.packs += 1;
        }
        Ok(size)
    }

    /// Reads and hashes every copy of every object. `read` is called after each with its bytes, and may wait, to spare the disk. The
    /// objects that have a damaged copy, sorted; they are for [`Self::heal`]. A pack or index that is damaged around its objects is
    /// written anew at once.
    ///
    /// # Errors
    /// The disk.
    pub fn scrub(&self, mut read: impl FnMut(u64)) -> Result<Vec<ObjectId>, RepositoryError> {
        let mut damaged = BTreeSet::new();
        for pack in self.packs().iter() {
            let before = damaged.len();
            for line in pack.index().iter() {
                let entry = Entry { pack: pack.clone(), line };
                match self.hash(line.id, &entry) {
                    Ok(bytes) => read(bytes),
                    Err(_) => drop(damaged.insert(line.id)),
                }
            }
            if damaged.len() == before && !is_framed(pack) {
                let _one_at_a_time = lock(&self.0.maintenance);
                self.replace(std::slice::from_ref(pack))?;
            }
        }
        Ok(damaged.into_iter().collect())
    }

    /// Reads one copy; the bytes of it.
    fn hash(&self, id: ObjectId, entry: &Entry) -> io::Result<u64> {
        if !entry.is_whole()? {
            return Err(io::Error::other("its bytes are not those that were stored"));
        }
        let mut reader = self.entry_reader(id, entry)?;
        let mut buffer = vec![0; 64 << 10];
        while reader.read(&mut buffer)? > 0 {}
        Ok(reader.size())
    }

    /// Takes a pack with good copies of damaged objects, from another server, and removes the damaged ones: the packs that have them are
    /// written anew without. The pack may be empty when each has a good copy here too.
    ///
    /// # Errors
    /// The pack is refused; an object of `damaged`, or one beside it in its pack, has no good copy now: then the damaged ones stay.
    pub fn heal(&self, damaged: &[ObjectId], pack: impl Read) -> Result<(), RepositoryError> {
        self.store_pack(pack)?;
        self.step("good-copies-stored");
        let _one_at_a_time = lock(&self.0.maintenance);
        let mut broken: Vec<Arc<Pack>> = Vec::new();
        for id in damaged {
            for entry in self.copies(id) {
                let known = broken.iter().any(|it| Arc::ptr_eq(it, &entry.pack));
                if !known && self.hash(*id, &entry).is_err() {
                    broken.push(entry.pack);
                }
            }
        }
        self.replace(&broken)
    }

    /// Writes packs anew, from the good copies of what they hold.
    fn replace(&self, broken: &[Arc<Pack>]) -> Result<(), RepositoryError> {
        let is_broken = |pack: &Arc<Pack>| broken.iter().any(|it| Arc::ptr_eq(it, pack));
        let kept: Vec<_> = self.packs().iter().filter(|it| !is_broken(it)).cloned().collect();
        let (mut needed, mut aside) = (BTreeSet::new(), BTreeSet::new());
        for pack in broken {
            let ids = pack.index().iter().map(|it| it.id).filter(|it| !holds(&kept, it));
            if pack.is_garbage() { aside.extend(ids) } else { needed.extend(ids) }
        }
        // What nothing leads to and nothing can read is no loss.
        aside.retain(|it| !needed.contains(it) && self.content(*it).is_ok());
        let list = |set: BTreeSet<ObjectId>| set.into_iter().collect::<Vec<_>>();
        self.write_pack(&list(needed), false)?;
        self.write_pack(&list(aside), true)?;
        if broken.is_empty() { Ok(()) } else { self.remove_packs(broken) }
    }
}

/// Are a pack's ends and its index those that were stored?
fn is_framed(pack: &Pack) -> bool {
    let index = fs::read(pack.stem().with_extension("idx"));
    // A pack that was removed meanwhile has no files any more, and is whole.
    let gone = index.as_ref().is_err_and(|it| it.kind() == io::ErrorKind::NotFound);
    gone || (index.is_ok_and(|it| it == pack.index().bytes()) && pack.frame_is_whole().unwrap_or(false))
}
