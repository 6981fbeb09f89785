//! A bare Git repository on disk that real `git` reads. Everything that is stored is verified first and is durable when the call returns.
//!
//! The formats are Git's: packs of version 2 and their indexes (gitformat-pack), packed references (gitrepository-layout). Objects are only kept
//! in packs; what arrives is written to a temporary file, synced and renamed, so nothing half-written is ever visible. All calls block.

mod commits;
mod error;
mod files;
mod limits;
mod object_id;
pub mod objects;
mod pack;
mod read;
mod references;
mod store;

pub use commits::CommitInfo;
pub use error::RepositoryError;
pub use limits::{Limits, Options};
pub use object_id::{NotAnObjectId, ObjectId};
pub use objects::{Kind, Mode, NewCommit, ObjectError, Signature, TreeBuilder, TreeError, blob_id};
pub use pack::{PackError, PackWriter};
pub use read::ObjectReader;
pub use references::ReferenceError;
pub use store::{Repository, Stored};
