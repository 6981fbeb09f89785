//! Which objects lead to which.

use crate::error::RepositoryError;
use crate::objects::{Mode, ObjectError, tag_target};
use crate::{Kind, ObjectId, Repository};
use std::collections::HashSet;

/// Collects objects, each once.
#[derive(Debug)]
struct Walk<'a> {
    repository: &'a Repository,
    seen: HashSet<ObjectId>,
    found: Vec<ObjectId>,
}

impl Repository {
    /// Every object that the roots lead to, each once, but for what `have` leads to as Git sees it: all commits before it, and the files of
    /// its newest ones. Roots are commits, tags, trees or blobs. Of `have`, ids that are not here are ignored.
    ///
    /// # Errors
    /// A commit, tag or tree that the roots lead to is missing or damaged. Blobs are not read.
    pub fn reachable(&self, roots: &[ObjectId], have: &[ObjectId]) -> Result<Vec<ObjectId>, RepositoryError> {
        let mut walk = Walk { repository: self, seen: HashSet::new(), found: Vec::new() };
        let excluded = walk.exclude(have)?;
        let trees = walk.commits(roots, &excluded)?;
        trees.into_iter().try_for_each(|it| walk.tree(it))?;
        Ok(walk.found)
    }
}

impl Walk<'_> {
    /// Marks what the other side has; the commits of it.
    fn exclude(&mut self, have: &[ObjectId]) -> Result<HashSet<ObjectId>, RepositoryError> {
        let known: Vec<_> =
            have.iter().copied().filter(|it| self.repository.copies(it).next().is_some()).collect();
        let mut commits = HashSet::new();
        let mut waiting = known.clone();
        while let Some(id) = waiting.pop() {
            match optional(self.repository.header(id))? {
                Some((Kind::Commit, _)) if commits.insert(id) => {
                    waiting.extend(
                        optional(self.repository.commit_info(id))?.into_iter().flat_map(|it| it.parents),
                    );
                }
                Some((Kind::Tag, _)) => {
                    self.seen.insert(id);
                    waiting.extend(optional(self.repository.tag_target(id))?.map(|(_, it)| it));
                }
                Some((Kind::Tree, _)) => drop(optional(self.tree(id))?),
                Some((Kind::Blob, _)) => drop(self.seen.insert(id)),
                Some((Kind::Commit, _)) | None => {}
            }
        }
        for id in known.iter().filter(|it| commits.contains(it)) {
            self.exclude_files(*id)?;
        }
        self.found.clear();
        Ok(commits)
    }

    fn exclude_files(&mut self, commit: ObjectId) -> Result<(), RepositoryError> {
        if let Some(info) = optional(self.repository.commit_info(commit))? {
            optional(self.tree(info.tree))?;
        }
        Ok(())
    }

    /// Finds commits and tags; the trees that they lead to.
    fn commits(
        &mut self,
        roots: &[ObjectId],
        excluded: &HashSet<ObjectId>,
    ) -> Result<Vec<ObjectId>, RepositoryError> {
        let (mut trees, mut border) = (Vec::new(), HashSet::new());
        let mut waiting: Vec<_> = roots.iter().rev().copied().collect();
        while let Some(id) = waiting.pop() {
            if excluded.contains(&id) {
                border.insert(id);
                continue;
            }
            let (kind, _) = self.repository.header(id)?;
            if kind == Kind::Tree {
                trees.push(id);
                continue;
            }
            if !self.seen.insert(id) {
                continue;
            }
            self.found.push(id);
            match kind {
                Kind::Commit => {
                    let info = self.repository.commit_info(id)?;
                    trees.push(info.tree);
                    waiting.extend(info.parents);
                }
                Kind::Tag => waiting.push(self.repository.tag_target(id)?.1),
                Kind::Tree | Kind::Blob => {}
            }
        }
        // What the other side's commits beside ours have is not sent again.
        let found = std::mem::take(&mut self.found);
        border.into_iter().try_for_each(|it| self.exclude_files(it))?;
        self.found = found;
        Ok(trees)
    }

    /// Finds a tree, the trees below it and their blobs.
    fn tree(&mut self, root: ObjectId) -> Result<(), RepositoryError> {
        let mut waiting = vec![root];
        while let Some(tree) = waiting.pop() {
            if !self.seen.insert(tree) {
                continue;
            }
            self.found.push(tree);
            for child in self.repository.children(tree)? {
                if child.mode == Mode::Folder {
                    waiting.push(child.id);
                } else if self.seen.insert(child.id) {
                    self.found.push(child.id);
                }
            }
        }
        Ok(())
    }
}

/// What is missing on the other side's account is no error.
fn optional<T>(result: Result<T, RepositoryError>) -> Result<Option<T>, RepositoryError> {
    match result {
        Ok(it) => Ok(Some(it)),
        Err(RepositoryError::Missing(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Repository {
    /// What a tag names.
    pub(crate) fn tag_target(&self, id: ObjectId) -> Result<(Kind, ObjectId), RepositoryError> {
        let refused = |why| RepositoryError::Object { id, cause: ObjectError::Malformed(why) };
        tag_target(&self.read(id, Kind::Tag)?).map_err(refused)
    }
}
