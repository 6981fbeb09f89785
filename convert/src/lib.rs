//! Translates `nginx.conf` and `haproxy.cfg` into a file of Copal's, and names each line that can't be.
//!
//! What decides where a request goes, or who may send it, and can't be translated, is answered with an error in the translation: nothing
//! is open there that was closed before.

mod backends;
mod haproxy;
mod header;
mod left;
mod listeners;
mod network;
mod nginx;
mod output;
mod pattern;
mod peer;
mod tcp;
#[cfg(test)]
mod tests;
mod value;
mod yaml;

pub use left::Left;
pub use peer::Peer;

use left::Remarks;
use std::path::{Path, PathBuf};

/// The largest text that is read, in bytes; included files count too.
pub const TEXT_MAX: u64 = 4 << 20;

/// What became of a file.
#[derive(Debug, Clone)]
pub struct Converted {
    /// A file of Copal's, with what was left as comments.
    pub yaml: String,
    /// What could not be translated, in the order of the file.
    pub left: Vec<Left>,
}

/// Why a file can't be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// It can be opened by nobody, or is too large.
    #[error("can't read `{}`: {why}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It is not what it should be.
    #[error("{}:{line}:{column}: {why}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What was expected.
        why: String,
    },
    /// Neither of the two.
    #[error("`{}` has neither the blocks of nginx nor the sections of HAProxy: say whose it is with --from", .0.display())]
    Unknown(PathBuf),
}

/// Translates `text`, the content of the file at `path`. What it includes is read from beside it.
///
/// # Errors
/// What it is can't be told, it is not well formed, or it is larger than [`TEXT_MAX`].
pub fn convert(text: &str, path: &Path, peer: Option<Peer>) -> Result<Converted, ConvertError> {
    if text.len() as u64 > TEXT_MAX {
        let why = format!("it is larger than {} MiB", TEXT_MAX >> 20);
        return Err(ConvertError::Read { path: path.to_owned(), why });
    }
    let peer = peer.or_else(|| Peer::of(text)).ok_or_else(|| ConvertError::Unknown(path.to_owned()))?;
    let mut remarks = Remarks::default();
    let cluster = match peer {
        Peer::Nginx => nginx::translate(text, path, &mut remarks)?,
        Peer::Haproxy => haproxy::translate(text, path, &mut remarks)?,
    };
    let name = path.file_name().map_or_else(|| "standard input".into(), |it| it.to_string_lossy());
    Ok(Converted { yaml: cluster.write(&name), left: remarks.into_left() })
}
