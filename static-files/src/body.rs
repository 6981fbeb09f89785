//! A file's bytes on their way out: a small one at once, a larger one in pieces, as they can be sent.

use crate::{
    open_files::{OpenFiles, SentFile},
    resource::Representation,
};
use bytes::Bytes;
use std::{io, os::unix::fs::FileExt, sync::Arc};
use tokio::task::spawn_blocking;

/// A body up to this size is read at once.
const WHOLE_MAX: usize = 16 * 1024;

/// A larger one is streamed in pieces of this size at most.
pub const PIECE: usize = 64 * 1024;

/// An answer's body.
#[derive(Debug)]
pub enum FileBody {
    /// Nothing.
    Empty,
    /// All of it, at most 16 KiB.
    Whole(Bytes),
    /// A part at a time.
    Stream(FileStream),
}

impl FileBody {
    /// `length` bytes of a file from `first` on.
    pub(crate) async fn of(found: Representation, first: u64, length: u64) -> io::Result<Self> {
        let Representation { file, identity, path, .. } = found;
        match usize::try_from(length) {
            Ok(length) if length <= WHOLE_MAX => {
                let read = spawn_blocking(move || {
                    let mut bytes = vec![0; length];
                    file.read_exact_at(&mut bytes, first).map(|()| bytes)
                });
                Ok(Self::Whole(read.await.map_err(io::Error::other)??.into()))
            }
            _ => {
                let file = Arc::new(OpenFiles::of_process().keep(file, identity, path));
                Ok(Self::Stream(FileStream { file, next: first, left: length }))
            }
        }
    }
}

/// The rest of a file, read by a thread that may block. It holds no bytes, and no descriptor for itself.
#[derive(Debug)]
pub struct FileStream {
    file: Arc<SentFile>,
    /// Where the next piece begins.
    next: u64,
    left: u64,
}

impl FileStream {
    /// How many bytes are to come.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The next piece, at most `max` and [`PIECE`] bytes; `None` at the end.
    ///
    /// # Errors
    /// The disk's; a file that has become shorter is one, so that a body is never silently cut. So is one that stalled, was closed
    /// for others, and has been replaced meanwhile.
    pub async fn next(&mut self, max: usize) -> io::Result<Option<Bytes>> {
        let length = usize::try_from(self.left).unwrap_or(PIECE).min(PIECE).min(max.max(1));
        if length == 0 {
            return Ok(None);
        }
        let (file, next) = (self.file.clone(), self.next);
        let bytes = spawn_blocking(move || file.read(next, length)).await.map_err(io::Error::other)??;
        if bytes.is_empty() {
            let message = format!("the file became {} bytes shorter while it was sent", self.left);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        self.next += bytes.len() as u64;
        self.left -= bytes.len() as u64;
        Ok(Some(bytes.into()))
    }
}
