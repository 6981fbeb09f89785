//! Which objects lead to which.

use crate::error::RepositoryError;
use crate::objects::{Mode, ObjectError, tag_target};
use crate::{CommitInfo, Kind, ObjectId, Repository};
use std::collections::{BinaryHeap, HashMap, HashSet};

/// Collects objects, each once.
#[derive(Debug)]
struct Walk<'a> {
    repository: &'a Repository,
    /// Objects that are not to be found (again).
    seen: HashSet<ObjectId>,
    found: Vec<ObjectId>,
    /// Commits that were looked at, and whether the other side has them.
    painted: HashMap<ObjectId, bool>,
    /// Commits whose parents are still to be looked at, as they are painted: the newest first, of one time those of the other side.
    waiting: BinaryHeap<(i64, bool, ObjectId)>,
    read: HashMap<ObjectId, CommitInfo>,
    /// Of those that wait, as many are not the other side's.
    ours: usize,
    /// Commits of the other side whose files are not sent again.
    border: HashSet<ObjectId>,
}

impl Repository {
    /// Every object that the roots lead to, each once, but for what `have` leads to as Git sees it: all commits before it, and the files of
    /// its newest ones. Roots are commits, tags, trees or blobs. Of `have`, ids that are not here are ignored. Of the history no more is read
    /// than what lies between the two, as far as commits are younger than their parents; where clocks were wrong, more may be found.
    ///
    /// # Errors
    /// A commit, tag or tree that the roots lead to is missing or damaged. Blobs are not read.
    pub fn reachable(&self, roots: &[ObjectId], have: &[ObjectId]) -> Result<Vec<ObjectId>, RepositoryError> {
        let mut walk = Walk::new(self);
        walk.exclude(have)?;
        let trees = walk.commits(roots)?;
        trees.into_iter().try_for_each(|it| walk.tree(it))?;
        Ok(walk.found)
    }
}

impl<'a> Walk<'a> {
    fn new(repository: &'a Repository) -> Self {
        Self {
            repository,
            seen: HashSet::new(),
            found: Vec::new(),
            painted: HashMap::new(),
            waiting: BinaryHeap::new(),
            read: HashMap::new(),
            ours: 0,
            border: HashSet::new(),
        }
    }

    /// Marks what the other side has.
    fn exclude(&mut self, have: &[ObjectId]) -> Result<(), RepositoryError> {
        let mut waiting: Vec<_> = have.iter().copied().filter(|it| self.repository.has(it)).collect();
        while let Some(id) = waiting.pop() {
            match optional(self.repository.header(id))? {
                Some((Kind::Commit, _)) => {
                    self.paint(id, true)?;
                    self.border.insert(id);
                }
                Some((Kind::Tag, _)) => {
                    self.seen.insert(id);
                    waiting.extend(optional(self.repository.tag_target(id))?.map(|(_, it)| it));
                }
                Some((Kind::Tree, _)) => drop(optional(self.tree(id))?),
                Some((Kind::Blob, _)) => drop(self.seen.insert(id)),
                None => {}
            }
        }
        self.found.clear();
        Ok(())
    }

    /// A commit is one of the other side, or ours as long as nobody says otherwise.
    fn paint(&mut self, id: ObjectId, theirs: bool) -> Result<(), RepositoryError> {
        if self.painted.get(&id).is_some_and(|known| *known || !theirs) {
            return Ok(());
        }
        let info = self.repository.commit_info(id);
        let Some(info) = (if theirs { optional(info)? } else { Some(info?) }) else { return Ok(()) };
        self.painted.insert(id, theirs);
        self.waiting.push((info.committed_s, theirs, id));
        self.read.insert(id, info);
        self.ours += usize::from(!theirs);
        Ok(())
    }

    fn is_theirs(&self, commit: &ObjectId) -> bool {
        self.painted.get(commit).is_some_and(|theirs| *theirs)
    }

    /// Finds commits and tags; the trees that they lead to.
    fn commits(&mut self, roots: &[ObjectId]) -> Result<Vec<ObjectId>, RepositoryError> {
        let mut trees = Vec::new();
        let mut waiting: Vec<_> = roots.iter().rev().copied().collect();
        while let Some(id) = waiting.pop() {
            match self.repository.header(id)?.0 {
                Kind::Commit => self.paint(id, false)?,
                Kind::Tree => trees.push(id),
                kind => {
                    if self.seen.insert(id) {
                        self.found.push(id);
                        if kind == Kind::Tag {
                            waiting.push(self.repository.tag_target(id)?.1);
                        }
                    }
                }
            }
        }
        let mut commits = self.history()?;
        // What was taken for ours before the way from theirs led to it.
        commits.retain(|(id, _)| !self.is_theirs(id));
        let beside = commits.iter().flat_map(|(_, info)| &info.parents).chain(roots);
        let beside: Vec<_> = beside.filter(|it| self.is_theirs(it)).copied().collect();
        self.border.extend(beside);
        // What the other side's commits beside ours have is not sent again.
        let found = std::mem::take(&mut self.found);
        for commit in std::mem::take(&mut self.border) {
            self.exclude_files(commit)?;
        }
        self.found = found;
        for (id, info) in commits {
            self.found.push(id);
            trees.push(info.tree);
        }
        Ok(trees)
    }

    /// Goes back from the newest commits until all that is left is the other side's; what is not.
    fn history(&mut self) -> Result<Vec<(ObjectId, CommitInfo)>, RepositoryError> {
        let mut ours = Vec::new();
        while self.ours > 0 {
            let Some((_, theirs, id)) = self.waiting.pop() else { break };
            self.ours -= usize::from(!theirs);
            if theirs != self.is_theirs(&id) {
                continue;
            }
            let Some(info) = self.read.remove(&id) else { continue };
            for parent in &info.parents {
                self.paint(*parent, theirs)?;
            }
            if !theirs {
                ours.push((id, info));
            }
        }
        Ok(ours)
    }

    fn exclude_files(&mut self, commit: ObjectId) -> Result<(), RepositoryError> {
        if let Some(info) = optional(self.repository.commit_info(commit))? {
            optional(self.tree(info.tree))?;
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NewCommit, Signature, TreeBuilder, blob_id};

    /// Stores a commit of one file that was made at this time.
    fn commit(repository: &Repository, time_s: i64, parents: &[ObjectId]) -> ObjectId {
        let content = format!("{time_s}").into_bytes();
        let mut builder = TreeBuilder::new();
        builder.file("file", false, blob_id(content.len() as u64, &content[..]).unwrap());
        let (tree, mut trees) = builder.build().unwrap();
        let author = Signature { name: "ops".into(), email: "ops@copal".into(), time_s };
        let commit = NewCommit { tree, parents: parents.to_vec(), author, message: "m".into() };
        let (id, text) = commit.encode();
        let top = trees.remove(0).1;
        repository.write_objects(&[(Kind::Blob, content), (Kind::Tree, top), (Kind::Commit, text)]).unwrap();
        id
    }

    #[test]
    fn of_a_long_history_what_is_new_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::open(&folder.path().join("repository.git")).unwrap();
        let mut line = vec![commit(&repository, 1, &[])];
        for time_s in 2..=100 {
            line.push(commit(&repository, time_s, &line[line.len() - 1..]));
        }
        let looked_at = |root: ObjectId, have: &[ObjectId]| {
            let mut walk = Walk::new(&repository);
            walk.exclude(have).unwrap();
            let trees = walk.commits(&[root]).unwrap();
            (walk.painted.len(), trees.len())
        };
        assert_eq!(looked_at(line[99], &line[98..99]), (2, 1));
        assert_eq!(looked_at(line[99], &line[90..91]), (10, 9));
        assert_eq!(looked_at(line[50], &line[99..]), (51, 0), "it is behind");
        // From a branch that began long before, and one whose clock was wrong.
        let branch = commit(&repository, 200, &line[40..41]);
        assert_eq!(looked_at(branch, &line[98..99]), (61, 1));
        let early = commit(&repository, 0, &line[98..99]);
        assert_eq!(looked_at(early, &line[97..98]).1, 2);
        let wrong = commit(&repository, 5, &line[99..]);
        let (_, found) = looked_at(wrong, &line[99..]);
        assert_eq!(found, 1);
    }
}
