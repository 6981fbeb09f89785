//! A bare Git repository on disk that real `git` reads. Everything that is stored is verified first and is durable when the call returns.
//!
//! The formats are Git's: packs of version 2 and their indexes (gitformat-pack), packed references (gitrepository-layout). Objects are only kept
//! in packs; what arrives is written to a temporary file, synced and renamed, so nothing half-written is ever visible. All calls block.

mod checkout;
mod commits;
mod diff;
mod error;
mod files;
mod garbage;
mod limits;
mod links;
mod mend;
mod object_id;
pub mod objects;
mod open;
mod pack;
mod packing;
mod read;
mod references;
mod room;
mod scrub;
mod store;
mod trees;
mod verify;
mod walk;
mod worktree_index;

pub use checkout::CheckedOut;
pub use commits::CommitInfo;
pub use diff::{Change, ChangeKind};
pub use error::RepositoryError;
pub use garbage::Collected;
pub use limits::{Limits, Options};
pub use object_id::{NotAnObjectId, ObjectId};
pub use objects::{Kind, Mode, NewCommit, ObjectError, Signature, TreeBuilder, TreeError, blob_id, blobs_in};
pub use pack::{PackError, PackWriter};
pub use read::ObjectReader;
pub use references::ReferenceError;
pub use scrub::Size;
pub use store::{Repository, Stored};
pub use trees::Entry;
pub use worktree_index::{NewIndex, WorktreeIndex};
