//! Is everything there that a commit leads to, and can it be checked out?

use crate::error::RepositoryError;
use crate::objects::{Mode, check_attributes, is_attributes};
use crate::store::lock;
use crate::trees::Child;
use crate::{Kind, ObjectId, Repository, links};
use std::collections::{BTreeSet, HashMap, HashSet};

/// How large a tree is with all that is below it, each file counted as often as it appears.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Measure {
    /// Folders too: a few hundred trees can stand for any number of empty ones.
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// Folders within folders.
    depth: u32,
    /// Bytes of the longest path.
    path: u32,
    pub(crate) links: bool,
}

/// What was found to be here with all that it leads to.
#[derive(Debug, Default)]
pub(crate) struct Verified {
    trees: HashMap<ObjectId, Measure>,
    /// With their history.
    commits: HashSet<ObjectId>,
    /// Counts when objects were deleted.
    generation: u64,
}

impl Verified {
    pub(crate) fn get(&self, tree: &ObjectId) -> Option<Measure> {
        self.trees.get(tree).copied()
    }

    fn has_commit(&self, commit: &ObjectId) -> bool {
        self.commits.contains(commit)
    }

    /// Remembers what was found, unless objects were deleted since that generation.
    fn remember(&mut self, generation: u64, trees: HashMap<ObjectId, Measure>, commits: Vec<ObjectId>) {
        if self.trees.len() + trees.len() > REMEMBERED {
            self.trees.clear();
        }
        if self.commits.len() + commits.len() > REMEMBERED {
            self.commits.clear();
        }
        if self.generation == generation {
            self.trees.extend(trees.into_iter().take(REMEMBERED));
            self.commits.extend(commits.into_iter().take(REMEMBERED));
        }
    }

    /// Forgets all, as objects are being deleted.
    pub(crate) fn forget(&mut self) {
        self.trees.clear();
        self.commits.clear();
        self.generation += 1;
    }
}

/// Trees that are remembered as verified, and commits.
const REMEMBERED: usize = 200_000;

impl Repository {
    /// Checks that every object is here which a commit, tag or tree leads to, history included, and that its own tree can be checked out:
    /// its size, its depth, its paths, no link that leads out. What is in a tree was checked when it was stored. `known` are commits that were
    /// verified before, and their history with them. What was set aside as garbage is taken back. Returns how many commits, tags, trees and
    /// roots were looked at: what was found in a call before is remembered, so that a new version costs what is new in it.
    ///
    /// # Errors
    /// The first thing that is missing, damaged or refused; the disk.
    pub fn verify(&self, root: ObjectId, known: &[ObjectId]) -> Result<u64, RepositoryError> {
        let generation = lock(&self.0.verified).generation;
        let mut verification = Verification::new(self);
        let known: HashSet<_> = known.iter().copied().collect();
        let (mut seen, mut commits, mut is_proven) = (HashSet::new(), Vec::new(), true);
        let mut waiting = vec![root];
        while let Some(id) = waiting.pop() {
            let remembered = lock(&self.0.verified).has_commit(&id);
            if id != root && (remembered || known.contains(&id)) {
                // What somebody says to be here is believed this time, and proves nothing for the next.
                is_proven &= remembered;
                continue;
            }
            if !seen.insert(id) {
                continue;
            }
            verification.need(id)?;
            match self.header(id)?.0 {
                Kind::Commit => {
                    let info = self.commit_info(id)?;
                    let measure = verification.measure(info.tree, 0)?;
                    if id == root {
                        self.check_measure(info.tree, measure)?;
                    }
                    if !remembered {
                        waiting.extend(info.parents);
                    }
                    commits.push(id);
                }
                Kind::Tree => self.check_measure(id, verification.measure(id, 0)?)?,
                Kind::Tag => waiting.push(self.tag_target(id)?.1),
                Kind::Blob => {}
            }
        }
        let looked_at = (seen.len() + verification.found.len()) as u64;
        let aside: Vec<_> = verification.aside.into_iter().collect();
        self.write_pack(&aside, false)?;
        if !is_proven {
            commits.clear();
        }
        lock(&self.0.verified).remember(generation, verification.found, commits);
        Ok(looked_at)
    }

    /// Those of the objects that are not here, and the trees below which something is not, in the order asked.
    #[must_use]
    pub fn incomplete(&self, ids: &[ObjectId]) -> Vec<ObjectId> {
        let generation = lock(&self.0.verified).generation;
        let mut verification = Verification::new(self);
        let mut is_whole = |id: ObjectId| match self.header(id) {
            Ok((Kind::Tree, _)) => verification.measure(id, 0).is_ok(),
            Ok(_) => true,
            Err(_) => false,
        };
        let incomplete = ids.iter().copied().filter(|id| !is_whole(*id)).collect();
        // What was set aside as garbage is for `verify` to take back: it has to look at it.
        if verification.aside.is_empty() {
            lock(&self.0.verified).remember(generation, verification.found, Vec::new());
        }
        incomplete
    }

    /// Counts a tree's files and checks what could lead out of it, before anything is written.
    pub(crate) fn survey(&self, tree: ObjectId) -> Result<Measure, RepositoryError> {
        let measure = Verification::new(self).measure(tree, 0)?;
        self.check_measure(tree, measure)?;
        Ok(measure)
    }

    /// Refuses what is too large to check out, and links that lead out.
    fn check_measure(&self, tree: ObjectId, measure: Measure) -> Result<(), RepositoryError> {
        let limits = self.limits();
        let sizes = [
            ("the number of files", measure.files, limits.files),
            ("the bytes of all files", measure.bytes, limits.checkout_bytes),
            ("the bytes of a path", measure.path.into(), limits.path_bytes.into()),
        ];
        if let Some((what, _, limit)) = sizes.into_iter().find(|(_, found, limit)| found > limit) {
            return Err(RepositoryError::Limit { what: what.to_owned(), limit });
        }
        if measure.links {
            links::check(&self.links(tree)?)?;
        }
        Ok(())
    }
}

/// What was found to be here in one call.
#[derive(Debug)]
struct Verification<'a> {
    repository: &'a Repository,
    found: HashMap<ObjectId, Measure>,
    /// Objects that are only kept until they are old enough to delete.
    aside: BTreeSet<ObjectId>,
}

impl<'a> Verification<'a> {
    fn new(repository: &'a Repository) -> Self {
        Self { repository, found: HashMap::new(), aside: BTreeSet::new() }
    }

    fn need(&mut self, id: ObjectId) -> Result<(), RepositoryError> {
        let best = self.repository.copies(&id).next().ok_or(RepositoryError::Missing(id))?;
        if best.pack.is_garbage() {
            self.aside.insert(id);
        }
        Ok(())
    }

    /// Checks that all objects of a tree are here, and counts them.
    fn measure(&mut self, tree: ObjectId, depth: u32) -> Result<Measure, RepositoryError> {
        let remembered = self.found.get(&tree).copied();
        if let Some(measure) = remembered.or_else(|| lock(&self.repository.0.verified).get(&tree)) {
            self.repository.check_depth(depth.saturating_add(measure.depth))?;
            return Ok(measure);
        }
        self.repository.check_depth(depth)?;
        self.need(tree)?;
        let mut all = Measure::default();
        for child in self.repository.children(tree)? {
            let one = self.measure_child(&child, depth)?;
            let name = u32::try_from(child.name.len()).unwrap_or(u32::MAX);
            let below = if one.path > 0 { one.path.saturating_add(1) } else { 0 };
            all = Measure {
                files: all.files.saturating_add(one.files),
                bytes: all.bytes.saturating_add(one.bytes),
                depth: all.depth.max(one.depth),
                path: all.path.max(below.saturating_add(name)),
                links: all.links || one.links,
            };
        }
        self.found.insert(tree, all);
        Ok(all)
    }

    fn measure_child(&mut self, child: &Child, depth: u32) -> Result<Measure, RepositoryError> {
        if child.mode == Mode::Folder {
            let below = self.measure(child.id, depth + 1)?;
            let files = below.files.saturating_add(1);
            return Ok(Measure { files, depth: below.depth.saturating_add(1), ..below });
        }
        self.need(child.id)?;
        let (found, bytes) = self.repository.header(child.id)?;
        if found != Kind::Blob {
            return Err(RepositoryError::Kind { id: child.id, found, expected: Kind::Blob });
        }
        if is_attributes(child.mode, &child.name) {
            let refused = |cause| RepositoryError::Object { id: child.id, cause };
            check_attributes(&self.repository.read(child.id, Kind::Blob)?).map_err(refused)?;
        }
        Ok(Measure { files: 1, bytes, links: child.mode == Mode::Link, ..Measure::default() })
    }
}
