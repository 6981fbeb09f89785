//! A file's bytes on their way out: a small one at once, a larger one in pieces.

use bytes::{Bytes, BytesMut};
use std::{fs::File, io, os::unix::fs::FileExt};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// A body up to this size is read at once; a larger one is streamed in pieces of this size.
pub const PIECE: usize = 64 * 1024;

/// An answer's body.
#[derive(Debug)]
pub enum FileBody {
    /// Nothing.
    Empty,
    /// All of it, at most [`PIECE`] bytes.
    Whole(Bytes),
    /// A part at a time.
    Stream(FileStream),
}

impl FileBody {
    /// `length` bytes of `file` from `first` on.
    pub(crate) async fn open(file: File, first: u64, length: u64) -> io::Result<Self> {
        match usize::try_from(length) {
            Ok(length) if length <= PIECE => {
                let read = tokio::task::spawn_blocking(move || {
                    let mut bytes = vec![0; length];
                    file.read_exact_at(&mut bytes, first).map(|()| bytes)
                });
                Ok(Self::Whole(read.await.map_err(io::Error::other)??.into()))
            }
            _ => {
                let mut file = tokio::fs::File::from_std(file);
                file.set_max_buf_size(PIECE);
                file.seek(io::SeekFrom::Start(first)).await?;
                Ok(Self::Stream(FileStream { file, left: length }))
            }
        }
    }
}

/// The rest of a file, read by a thread that may block.
#[derive(Debug)]
pub struct FileStream {
    file: tokio::fs::File,
    left: u64,
}

impl FileStream {
    /// How many bytes are to come.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The next piece, at most [`PIECE`] bytes; `None` at the end.
    ///
    /// # Errors
    /// The disk's; a file that has become shorter is one, so that a body is never silently cut.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut bytes = BytesMut::with_capacity(PIECE);
        (&mut self.file).take(self.left).read_buf(&mut bytes).await?;
        if bytes.is_empty() {
            let message = format!("the file became {} bytes shorter while it was sent", self.left);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        self.left -= bytes.len() as u64;
        Ok(Some(bytes.freeze()))
    }
}
