//! Commits and their history.

use crate::error::RepositoryError;
use crate::objects::{Commit, ObjectError, Signature};
use crate::{Kind, ObjectId, Repository};
use std::collections::{BinaryHeap, HashMap, HashSet};

/// A commit as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitInfo {
    /// The tree of its files.
    pub tree: ObjectId,
    /// What came before it.
    pub parents: Vec<ObjectId>,
    /// Who made it.
    pub author: Signature,
    /// When it got what it has before it, in seconds since 1970: after its parents, as far as clocks are right.
    pub committed_s: i64,
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
        let Commit { tree, parents, author, committed_s, message } =
            Commit::parse(&content).map_err(refused)?;
        Ok(CommitInfo { tree, parents, author, committed_s, message })
    }

    /// A commit and what came before it, the newest first, `max` at most.
    ///
    /// # Errors
    /// A commit is missing or damaged.
    pub fn log(&self, from: ObjectId, max: usize) -> Result<Vec<(ObjectId, CommitInfo)>, RepositoryError> {
        let mut log = Vec::new();
        let mut seen = HashSet::from([from]);
        let first = self.commit_info(from)?;
        let mut waiting = BinaryHeap::from([(first.author.time_s, from)]);
        let mut read = HashMap::from([(from, first)]);
        while log.len() < max {
            let Some((_, id)) = waiting.pop() else { break };
            let Some(info) = read.remove(&id) else { continue };
            for parent in info.parents.iter().filter(|it| seen.insert(**it)) {
                let info = self.commit_info(*parent)?;
                waiting.push((info.author.time_s, *parent));
                read.insert(*parent, info);
            }
            log.push((id, info));
        }
        Ok(log)
    }
}
