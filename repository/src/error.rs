//! Why a repository could not do what it was asked.

use crate::objects::{ObjectError, TreeError};
use crate::{Kind, ObjectId, PackError, ReferenceError};
use std::io;
use std::path::{Path, PathBuf};

/// Why a repository could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// The disk: full, gone, or without the right.
    #[error("can't {action} {}: {cause}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Objects in files of their own, which only `git` writes.
    #[error("{} has loose objects, which only git writes: run `git -C {} repack -a -d` first", .0.display(), .0.display())]
    Loose(PathBuf),
    /// An object is not here.
    #[error("object {0} is missing")]
    Missing(ObjectId),
    /// What is stored is not what was stored.
    #[error("object {id} is damaged: {why}")]
    Damaged {
        /// The object.
        id: ObjectId,
        /// What is wrong with it.
        why: String,
    },
    /// An object is of another kind than its place asks for.
    #[error("object {id} is a {found}, and a {expected} was expected")]
    Kind {
        /// The object.
        id: ObjectId,
        /// What it is.
        found: Kind,
        /// What it should be.
        expected: Kind,
    },
    /// A pack that arrived is refused.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// An object is not as Git has it.
    #[error("object {id} is refused: {cause}")]
    Object {
        /// The object.
        id: ObjectId,
        /// What is wrong with it.
        cause: ObjectError,
    },
    /// A tree can't be made, or can't be checked out.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A reference can't be set.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The folder is being checked out by another call.
    #[error("{} is being checked out already", .0.display())]
    Busy(PathBuf),
    /// A path that is not in the tree.
    #[error("there is no {0} in the tree")]
    NoPath(String),
    /// More than the limits allow.
    #[error("{what} is over the limit of {limit}")]
    Limit {
        /// What there is too much of.
        what: String,
        /// How much there may be.
        limit: u64,
    },
}

impl RepositoryError {
    /// Is what was sent or asked for at fault, and not this server or its disk?
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        !matches!(
            self,
            Self::Io { .. }
                | Self::Loose(_)
                | Self::Damaged { .. }
                | Self::Busy(_)
                | Self::Pack(PackError::Disk(_))
                | Self::Reference(ReferenceError::Unreadable { .. })
        )
    }

    /// What the system said, where this server is to blame and not what it was given.
    #[must_use]
    pub fn of_the_system(&self) -> Option<&io::Error> {
        match self {
            Self::Io { cause, .. } | Self::Pack(PackError::Disk(cause)) => Some(cause),
            _ => None,
        }
    }

    /// There is no room left on the disk, or none for this user.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        self.of_the_system().is_some_and(|cause| full.contains(&cause.kind()))
    }

    pub(crate) fn damaged(id: ObjectId, why: &io::Error) -> Self {
        Self::Damaged { id, why: why.to_string() }
    }
}

/// Says of which file an error of the system speaks.
pub(crate) trait At<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, RepositoryError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, RepositoryError> {
        self.map_err(|cause| RepositoryError::Io { action, path: path.to_owned(), cause })
    }
}
