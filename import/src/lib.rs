//! An archive or a folder on its way into a repository. It is read twice: once to know each file by its content's hash ([`scan()`]),
//! once to pack those that the repository lacks ([`pack()`]). So nothing is sent that is there already, and no memory grows with the
//! archive. Both calls block.

mod packs;
mod scan;
#[cfg(test)]
mod tests;

pub use packs::{Packs, pack};
pub use scan::{Names, Scan, scan};

use archive::ArchiveError;
use repository::TreeError;
use std::io;

/// Why an archive or a folder does not become objects.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It can't be read or must not be deployed.
    #[error(transparent)]
    Archive(#[from] ArchiveError<io::Error>),
    /// Its files can't be put into one tree.
    #[error("the files can't be put into one tree: {0}")]
    Tree(#[from] TreeError),
    /// It is not what it was when it was hashed.
    #[error("it has changed while it was read")]
    Changed,
    /// Nobody takes the packs any more.
    #[error("the packs are not taken any more")]
    Untaken,
}
