//! Deleting what nothing leads to, in two steps: it is set aside in a pack of its own, and that pack is deleted when it is old enough.
//!
//! What is set aside is read as before, and taken back when it is verified or a reference leads to it again. So a deletion needs no lock on those
//! who store: what they rely on is set aside at worst, and they have the time until it is old enough to say so.

use crate::error::{At, RepositoryError};
use crate::pack::{Indexed, Pack};
use crate::store::{lock, write_index};
use crate::{ObjectId, Repository, files};
use std::collections::HashSet;
use std::fs;
use std::io::{BufWriter, Write};
use std::sync::Arc;
use std::time::SystemTime;

/// What a collection did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Objects that were deleted.
    pub deleted: u64,
    /// Objects that nothing leads to any more, which a later collection deletes.
    pub set_aside: u64,
    /// Bytes of disk that are free now.
    pub freed: u64,
}

/// What is rewritten, what is made of it, and what goes.
#[derive(Debug, Default)]
struct Plan {
    live: Vec<ObjectId>,
    dead: Vec<ObjectId>,
    /// Packs that the new ones replace.
    replaced: Vec<Arc<Pack>>,
    /// Packs that were set aside long enough ago.
    expired: Vec<Arc<Pack>>,
}

type Packs = Vec<Arc<Pack>>;

impl Repository {
    /// Deletes what neither `keep` nor a reference leads to, if it was set aside before `older_than`; sets aside what else nothing leads to;
    /// and makes few packs of many. A time in the future deletes at once: then nobody may store at the same time. Ids to keep that are not
    /// here are ignored. Whoever reads goes on. What was stored since the call began is left alone.
    ///
    /// # Errors
    /// Something that is kept is missing or damaged, when nothing is deleted; the disk.
    pub fn delete_garbage(
        &self,
        keep: &[ObjectId],
        older_than: SystemTime,
    ) -> Result<Collected, RepositoryError> {
        let _one_at_a_time = lock(&self.0.maintenance);
        let packs = self.packs();
        let mut roots: Vec<_> = lock(&self.0.references).all().values().copied().collect();
        roots.extend(keep.iter().filter(|it| self.copies(it).next().is_some()));
        let live: HashSet<_> = self.reachable(&roots, &[])?.into_iter().collect();
        self.step("garbage-known");
        let plan = plan(&packs, &live, older_than)?;
        let before = self.size()?.bytes;
        let mut done = Collected::default();
        self.write_pack(&plan.live, false)?;
        if SystemTime::now() < older_than {
            done.deleted += plan.dead.len() as u64;
        } else {
            self.write_pack(&plan.dead, true)?;
            done.set_aside = plan.dead.len() as u64;
        }
        let old: Packs = plan.replaced.iter().chain(&plan.expired).cloned().collect();
        if !self.remove_unless_needed(&old, &live)? {
            return Ok(Collected::default());
        }
        let kept = self.packs();
        let deleted =
            |pack: &Arc<Pack>| pack.index().iter().filter(|it| !holds(&kept, &it.id)).count() as u64;
        done.deleted += plan.expired.iter().map(deleted).sum::<u64>();
        done.freed = before.saturating_sub(self.size()?.bytes);
        Ok(done)
    }

    /// Removes packs, unless a reference was set meanwhile to what only they have. References don't move until they are gone.
    fn remove_unless_needed(
        &self,
        old: &[Arc<Pack>],
        live: &HashSet<ObjectId>,
    ) -> Result<bool, RepositoryError> {
        if old.is_empty() {
            return Ok(true);
        }
        let references = lock(&self.0.references);
        let new: Vec<_> = references.all().values().filter(|it| !live.contains(it)).copied().collect();
        let kept: Packs = self.packs().iter().filter(|it| !contains(old, it)).cloned().collect();
        if self.reachable(&new, &[])?.iter().any(|it| !holds(&kept, it)) {
            return Ok(false);
        }
        self.remove_packs(old)?;
        Ok(true)
    }

    /// Writes objects to a new pack; none make none.
    pub(crate) fn write_pack(&self, ids: &[ObjectId], garbage: bool) -> Result<(), RepositoryError> {
        if ids.is_empty() {
            return Ok(());
        }
        let pack = files::temporary(&self.packs_folder(), 0o444)?;
        let mut objects: Vec<Indexed> = Vec::with_capacity(ids.len());
        let mut writer = self.begin_pack(ids, BufWriter::with_capacity(256 << 10, pack.as_file()))?;
        self.fill_pack(ids, &mut writer, |line| objects.push(line))?;
        let (checksum, mut out) = writer.finish().at("write", pack.path())?;
        out.flush().at("write", pack.path())?;
        drop(out);
        objects.sort_unstable();
        let index = write_index(&self.packs_folder(), &objects, checksum)?;
        self.step("pack-rewritten");
        self.publish_files(pack, index, checksum, garbage)?;
        Ok(())
    }

    /// Removes packs from the list, then from the disk: each index first, without which Git does not see the pack.
    pub(crate) fn remove_packs(&self, old: &[Arc<Pack>]) -> Result<(), RepositoryError> {
        let _publishing = lock(&self.0.publishing);
        self.change_packs(old, None);
        lock(&self.0.verified).forget();
        for pack in old {
            for path in pack.files().at("read the folder of", pack.stem())? {
                files::remove(&path)?;
                self.step("pack-file-removed");
            }
        }
        files::sync_folder(&self.packs_folder())
    }
}

fn plan(packs: &Packs, live: &HashSet<ObjectId>, older_than: SystemTime) -> Result<Plan, RepositoryError> {
    let (aside, packs): (Packs, Packs) = packs.iter().cloned().partition(|it| it.is_garbage());
    let mut plan = Plan::default();
    let mut aside_still = Vec::new();
    for pack in aside {
        let path = pack.stem().with_extension("pack");
        let since = fs::metadata(&path).and_then(|it| it.modified()).at("read the time of", &path)?;
        if since < older_than { plan.expired.push(pack) } else { aside_still.push(pack) }
    }
    let (replaced, kept) = choose(packs, live);
    let mut seen = HashSet::new();
    // What was set aside comes last: of it only what is live and nowhere else is taken back.
    for pack in replaced.iter().chain(&plan.expired).chain(&aside_still) {
        for id in pack.index().iter().map(|it| it.id).filter(|it| !holds(&kept, it)) {
            let is_live = live.contains(&id);
            let drop = !is_live && (pack.is_garbage() || holds(&aside_still, &id));
            if !drop && seen.insert(id) {
                if is_live { plan.live.push(id) } else { plan.dead.push(id) }
            }
        }
    }
    plan.replaced = replaced;
    Ok(plan)
}

/// Which packs are written anew: those that hold what nothing leads to, and those that are small beside the others. Each pack that stays is
/// as large as all smaller ones together, so there are few, and a large one is seldom copied.
fn choose(packs: Packs, live: &HashSet<ObjectId>) -> (Packs, Packs) {
    let dirty = |pack: &Arc<Pack>| pack.index().iter().any(|it| !live.contains(&it.id));
    let (mut replaced, mut clean): (Packs, Packs) = packs.into_iter().partition(dirty);
    clean.sort_by_key(|it| std::cmp::Reverse(it.bytes()));
    let mut smaller: u64 = clean.iter().map(|it| it.bytes()).sum();
    let stays = clean.iter().take_while(|it| {
        smaller -= it.bytes();
        it.bytes() >= smaller
    });
    let stays = stays.count();
    let small = clean.split_off(stays);
    replaced.extend(small);
    (replaced, clean)
}

/// Does any of the packs have it?
pub(crate) fn holds(packs: &[Arc<Pack>], id: &ObjectId) -> bool {
    packs.iter().any(|it| it.index().find(id).is_some())
}

fn contains(packs: &[Arc<Pack>], pack: &Arc<Pack>) -> bool {
    packs.iter().any(|it| Arc::ptr_eq(it, pack))
}
