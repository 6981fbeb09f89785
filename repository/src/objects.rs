//! Objects without a repository: their kinds, ids and encodings. Nothing here touches a disk.

mod check;
mod commit;
mod hash;
mod ident;
mod names;
mod tree;
mod tree_builder;

pub use check::ObjectError;
pub use commit::{NewCommit, Signature};
pub use tree::{Mode, blobs_in};
pub use tree_builder::{TreeBuilder, TreeError};

pub(crate) use check::{check, check_attributes, is_attributes, tag_target};
pub(crate) use commit::Commit;
pub(crate) use hash::Hasher;
pub(crate) use tree::{TreeEntry, entries};

use crate::ObjectId;
use std::fmt;
use std::io::{self, Read};

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A version: a tree, what came before it, who made it and why.
    Commit,
    /// A folder.
    Tree,
    /// A file's content, or where a link points to.
    Blob,
    /// A signed or annotated name of another object.
    Tag,
}

impl Kind {
    /// As Git writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Tree => "tree",
            Self::Blob => "blob",
            Self::Tag => "tag",
        }
    }

    pub(crate) fn from_name(name: &[u8]) -> Option<Self> {
        [Self::Commit, Self::Tree, Self::Blob, Self::Tag]
            .into_iter()
            .find(|it| it.as_str().as_bytes() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The id of a file's content, read as it streams.
///
/// # Errors
/// What reading says; `InvalidData` when the content has another size than `size` bytes, or was made to collide.
pub fn blob_id(size: u64, content: impl Read) -> io::Result<ObjectId> {
    let mut hasher = Hasher::of_object(Kind::Blob, size);
    // One byte more than expected would be noticed.
    let copied = io::copy(&mut content.take(size.saturating_add(1)), &mut hasher)?;
    if copied != size {
        let more = if copied > size { "more" } else { "fewer" };
        let text = format!("the content has {more} than the {size} bytes that were announced");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(hasher.finish()?)
}

/// The id of an object in memory; `None` when its content was made to collide with another one's SHA-1.
#[must_use]
pub fn id(kind: Kind, content: &[u8]) -> Option<ObjectId> {
    id_of(kind, content).ok()
}

pub(crate) fn id_of(kind: Kind, content: &[u8]) -> Result<ObjectId, hash::Collision> {
    let mut hasher = Hasher::of_object(kind, content.len() as u64);
    hasher.update(content);
    hasher.finish()
}

#[cfg(test)]
mod tests;
