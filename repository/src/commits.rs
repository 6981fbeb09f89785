//! Commits and their history.

use crate::error::RepositoryError;
use crate::objects::{Commit, ObjectError, Signature};
use crate::{Kind, ObjectId, Repository};

/// A commit as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitInfo {
    /// The tree of its files.
    pub tree: ObjectId,
    /// What came before it.
    pub parents: Vec<ObjectId>,
    /// Who made it.
    pub author: Signature,
    /// Why.
    pub message: String,
}

impl Repository {
    /// Reads a commit.
    ///
    /// # Errors
    /// It is missing, damaged, or no commit.
    pub fn commit_info(&self, id: ObjectId) -> Result<CommitInfo, RepositoryError> {
        let content = self.read(id, Kind::Commit)?;
        let refused = |why| RepositoryError::Object { id, cause: ObjectError::Malformed(why) };
        let Commit { tree, parents, author, message } = Commit::parse(&content).map_err(refused)?;
        Ok(CommitInfo { tree, parents, author, message })
    }
}
