//! Packs between blocking code, which reads and writes, and streams of chunks. Few chunks are under way at a time: whoever is slow
//! holds up the other side.

use bytes::Bytes;
use repository::{ObjectId, Repository};
use std::io::{self, Read, Write};
use tokio::sync::mpsc;

/// Bytes of one chunk.
const CHUNK: usize = 64 << 10;

/// Chunks that wait for the other side.
const UNDER_WAY: usize = 8;

/// A pack that is read in blocking code, and the other end, which takes its chunks. An error that is sent breaks the read off.
pub(crate) fn reader() -> (mpsc::Sender<io::Result<Bytes>>, impl Read + Send + 'static) {
    let (sender, chunks) = mpsc::channel(UNDER_WAY);
    (sender, Chunks { chunks, rest: Bytes::new() })
}

/// A pack of what `roots` lead to and `have` does not, made on a thread of its own: its chunks as they come, of about 64 KiB. What goes
/// wrong is the last of them, and then the pack is not whole. When nobody takes them any more, the thread ends.
pub fn pack(
    repository: &Repository,
    roots: Vec<ObjectId>,
    have: Vec<ObjectId>,
) -> mpsc::Receiver<Result<Bytes, String>> {
    let (sender, chunks) = mpsc::channel(UNDER_WAY);
    let repository = repository.clone();
    tokio::task::spawn_blocking(move || {
        let mut writer = ChunkWriter { sender, pending: Vec::with_capacity(CHUNK) };
        let packed = repository.pack(&roots, &have, &mut writer).map_err(|cause| cause.to_string());
        let packed = packed.and_then(|_| writer.flush().map_err(|cause| cause.to_string()));
        if let Err(cause) = packed
            && writer.sender.blocking_send(Err(cause.clone())).is_ok()
        {
            tracing::warn!(cause, "objects can't be handed out");
        }
    });
    chunks
}

struct Chunks {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.rest = chunk?,
                None => return Ok(0),
            }
        }
        let length = self.rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.rest.split_to(length));
        Ok(length)
    }
}

/// Gathers what is written into chunks.
#[derive(Debug)]
struct ChunkWriter {
    sender: mpsc::Sender<Result<Bytes, String>>,
    pending: Vec<u8>,
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.pending, Vec::with_capacity(CHUNK));
        self.sender.blocking_send(Ok(chunk.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
