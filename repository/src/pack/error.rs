//! Why a pack is refused.

use crate::ObjectId;
use crate::objects::ObjectError;
use std::io;

/// Why a pack is refused. Nothing of it was stored.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The sender's stream broke.
    #[error("the pack could not be received: {0}")]
    Read(io::Error),
    /// It ended too early.
    #[error("the pack is cut off after {0} bytes")]
    Truncated(u64),
    /// Something else, or another version.
    #[error("this is no pack of version 2: it begins with {0:02x?}")]
    NotAPack(Vec<u8>),
    /// The checksum at its end is not that of what came before.
    #[error("the pack's checksum is {found}, and its content has {expected}")]
    Checksum {
        /// What it says.
        found: ObjectId,
        /// What it should be.
        expected: ObjectId,
    },
    /// Something follows the pack.
    #[error("there is more after the pack's end")]
    Trailing,
    /// More than the limits allow.
    #[error("the pack has {found} {what}, and the limit is {limit}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much there is, or at least.
        found: u64,
        /// How much there may be.
        limit: u64,
    },
    /// An entry can't be read.
    #[error("the pack's entry at byte {offset} {why}")]
    Entry {
        /// Where it begins.
        offset: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A delta's base is neither in the pack nor in the repository.
    #[error("the pack has a delta upon {0}, which is not here")]
    NoBase(ObjectId),
    /// An object is there twice.
    #[error("the pack has object {0} twice")]
    Twice(ObjectId),
    /// An object that Git would refuse, or that was made to collide.
    #[error("the pack's object {id} is refused: {cause}")]
    Object {
        /// The object.
        id: ObjectId,
        /// What is wrong with it.
        cause: ObjectError,
    },
    /// The server's disk: a temporary file could not be written or read.
    #[error("the pack could not be stored: {0}")]
    Disk(io::Error),
}
