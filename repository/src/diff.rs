//! What changed between two trees.

use crate::error::RepositoryError;
use crate::objects::Mode;
use crate::trees::{Child, join, text};
use crate::{ObjectId, Repository};
use std::collections::BTreeMap;

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// Only the second tree has it.
    Added,
    /// Only the first tree has it.
    Removed,
    /// Its content or its mode is another one.
    Changed,
}

/// A file or link that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its path; bytes that are not UTF-8 are shown as �.
    pub path: String,
    /// What happened to it.
    pub kind: ChangeKind,
    /// As the first tree has it.
    pub before: Option<(Mode, ObjectId)>,
    /// As the second tree has it.
    pub after: Option<(Mode, ObjectId)>,
}

impl Repository {
    /// Compares two trees, files and links only, by path.
    ///
    /// # Errors
    /// An object is missing or damaged, or no tree; more folders, or deeper ones, than the limits allow.
    pub fn diff(&self, a: ObjectId, b: ObjectId) -> Result<Vec<Change>, RepositoryError> {
        let mut comparison = Comparison { repository: self, changes: Vec::new(), seen: 0 };
        comparison.compare([Some(a), Some(b)], b"", 0)?;
        let mut changes = comparison.changes;
        changes.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(changes)
    }

    /// Refuses folders within folders beyond the limit.
    pub(crate) fn check_depth(&self, depth: u32) -> Result<(), RepositoryError> {
        let limit = self.limits().depth;
        if depth <= limit {
            return Ok(());
        }
        Err(RepositoryError::Limit { what: "the depth of folders".to_owned(), limit: limit.into() })
    }
}

/// Two trees that are compared.
#[derive(Debug)]
struct Comparison<'a> {
    repository: &'a Repository,
    changes: Vec<Change>,
    /// Names that were looked at.
    seen: u64,
}

impl Comparison<'_> {
    fn compare(
        &mut self,
        trees: [Option<ObjectId>; 2],
        folder: &[u8],
        depth: u32,
    ) -> Result<(), RepositoryError> {
        if trees[0] == trees[1] {
            return Ok(());
        }
        self.repository.check_depth(depth)?;
        let mut both: BTreeMap<Vec<u8>, [Option<Child>; 2]> = BTreeMap::new();
        for (side, tree) in trees.into_iter().enumerate() {
            let children = tree.map_or(Ok(Vec::new()), |it| self.repository.children(it))?;
            for child in children {
                let name = child.name.clone();
                both.entry(name).or_default()[side] = Some(child);
            }
        }
        for (name, pair) in both.iter().filter(|(_, [a, b])| a != b) {
            self.count()?;
            let path = join(folder, name);
            let tree = |it: &Child| (it.mode == Mode::Folder).then_some(it.id);
            self.compare(
                [pair[0].as_ref().and_then(tree), pair[1].as_ref().and_then(tree)],
                &path,
                depth + 1,
            )?;
            let file = |it: &Child| (it.mode != Mode::Folder).then_some((it.mode, it.id));
            let (before, after) = (pair[0].as_ref().and_then(file), pair[1].as_ref().and_then(file));
            let kind = match (before, after) {
                (None, None) => continue,
                (None, Some(_)) => ChangeKind::Added,
                (Some(_), None) => ChangeKind::Removed,
                (Some(_), Some(_)) => ChangeKind::Changed,
            };
            self.changes.push(Change { path: text(&path), kind, before, after });
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), RepositoryError> {
        self.seen += 1;
        let limit = self.repository.limits().files.saturating_mul(2);
        if self.seen <= limit {
            return Ok(());
        }
        Err(RepositoryError::Limit { what: "the number of changes".to_owned(), limit })
    }
}
