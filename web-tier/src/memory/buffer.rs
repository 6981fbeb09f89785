//! Bytes on their way: read from one socket, written to another, from a worker's stock of buffers.

use crate::memory::shelf::{Shelf, Shelved};
use std::{
    io::{self, IoSlice},
    ops::{Deref, DerefMut},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::poll_read_buf;

/// The size of a buffer: most messages fit into one.
pub(crate) const SIZE: usize = 16 * 1024;

/// The size of a buffer for a body that filled a small one: fewer system calls a megabyte.
pub(crate) const SIZE_LARGE: usize = 128 * 1024;

/// The room before an answer: our head says more than the server's.
const HEADROOM: usize = 256;

/// Memory with bytes in it, of which the first ones may have been taken out.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    bytes: Vec<u8>,
    start: usize,
}

impl Deref for Piece {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Piece {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

/// A worker's buffers.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    small: Shelf<Box<Piece>>,
    large: Shelf<Box<Piece>>,
}

impl Buffers {
    /// An empty one.
    pub(crate) fn take(&self) -> Shelved<Box<Piece>> {
        Self::fit(&self.small, SIZE)
    }

    /// An empty one for a long body.
    pub(crate) fn take_large(&self) -> Shelved<Box<Piece>> {
        Self::fit(&self.large, SIZE_LARGE)
    }

    /// One that grew (a long head, many chunks) is not kept that way.
    fn fit(shelf: &Shelf<Box<Piece>>, size: usize) -> Shelved<Box<Piece>> {
        let mut piece = shelf.take(|| Box::new(Piece { bytes: Vec::with_capacity(size), start: 0 }));
        piece.start = 0;
        piece.bytes.clear();
        if piece.bytes.capacity() > 2 * size {
            piece.bytes.shrink_to(size);
        }
        piece
    }
}

/// Bytes that were put in and are not yet taken out. It holds memory only while there are any.
#[derive(Debug, Default)]
pub(crate) struct Buffer(Option<Shelved<Box<Piece>>>);

impl Buffer {
    /// What is in it.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |piece| &piece.bytes[piece.start..])
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// How many bytes there are.
    pub(crate) fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Takes bytes out.
    pub(crate) fn consume(&mut self, count: usize) {
        if let Some(piece) = &mut self.0 {
            piece.start += count;
            if piece.start >= piece.bytes.len() {
                piece.bytes.clear();
                piece.start = 0;
            }
        }
    }

    /// Gives the memory back if there is nothing in it.
    pub(crate) fn release(&mut self) {
        if self.is_empty() {
            self.0 = None;
        }
    }

    fn piece(&mut self, buffers: &Buffers) -> &mut Piece {
        self.0.get_or_insert_with(|| buffers.take())
    }

    /// Where bytes are put in, behind those that are there.
    pub(crate) fn end(&mut self, buffers: &Buffers) -> &mut Vec<u8> {
        &mut self.piece(buffers).bytes
    }

    /// Whether it can take more before it would have to grow.
    pub(crate) fn has_room(&self) -> bool {
        self.0.as_ref().is_none_or(|piece| piece.bytes.len() < piece.bytes.capacity())
    }

    /// Replaces the memory by a larger piece, if nothing is in it.
    pub(crate) fn enlarge(&mut self, buffers: &Buffers) {
        if self.is_empty() && self.0.as_ref().is_none_or(|piece| piece.bytes.capacity() < SIZE_LARGE) {
            self.0 = Some(buffers.take_large());
        }
    }

    /// Makes room for a message that goes beyond the buffer: what was consumed makes way first.
    fn make_room(&mut self, buffers: &Buffers) {
        let Piece { bytes, start } = self.piece(buffers);
        if bytes.len() == bytes.capacity() && *start > 0 {
            bytes.drain(..*start);
            *start = 0;
        }
    }

    /// Reads once into it; how many bytes, 0 at the end. With nothing to read the memory is given back.
    pub(crate) fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        buffers: &Buffers,
    ) -> Poll<io::Result<usize>> {
        self.make_room(buffers);
        let read = poll_read_buf(Pin::new(stream), cx, self.end(buffers));
        if read.is_pending() {
            self.release();
        }
        read
    }

    /// The same, leaving room before the first bytes for a head that is longer than the one that comes.
    pub(crate) fn poll_fill_behind<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        buffers: &Buffers,
    ) -> Poll<io::Result<usize>> {
        if self.is_empty() {
            let piece = self.piece(buffers);
            piece.bytes.clear();
            piece.bytes.resize(HEADROOM, 0);
            piece.start = HEADROOM;
        }
        self.poll_fill(cx, stream, buffers)
    }

    /// Takes bytes away at the end: `length` are left.
    pub(crate) fn truncate(&mut self, length: usize) {
        if let Some(piece) = &mut self.0 {
            let end = piece.start + length;
            piece.bytes.truncate(end);
        }
    }

    /// Takes what is in `head` and puts it before its own bytes, if there is room: a head and the body that came with another one
    /// leave as one piece, and the body stays where it is.
    pub(crate) fn prepend(&mut self, head: &mut Self) -> bool {
        let Some(Piece { bytes, start }) = self.0.as_deref_mut().map(|piece| &mut **piece) else {
            return false;
        };
        let Some(before) = start.checked_sub(head.len()) else { return false };
        bytes[before..*start].copy_from_slice(head.bytes());
        *start = before;
        head.consume(head.len());
        true
    }

    /// Writes all there is.
    pub(crate) fn poll_drain<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<()>> {
        self.poll_drain_with(cx, stream, &mut &[][..])
    }

    /// Writes all there is, and `rest` behind it, which is not copied: both leave at once where there is room.
    pub(crate) fn poll_drain_with<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        rest: &mut &[u8],
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() || !rest.is_empty() {
            let stream = Pin::new(&mut *stream);
            let written = match (self.bytes(), *rest) {
                ([], bytes) | (bytes, []) => stream.poll_write(cx, bytes),
                (bytes, rest) => stream.poll_write_vectored(cx, &[IoSlice::new(bytes), IoSlice::new(rest)]),
            };
            let written = ready!(written)?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let own = written.min(self.len());
            self.consume(own);
            *rest = &rest[written - own..];
        }
        Pin::new(stream).poll_flush(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test]
    async fn a_head_goes_before_a_body_that_stays_where_it_is() {
        let buffers = Buffers::default();
        let (mut body, mut head) = (Buffer::default(), Buffer::default());
        let mut source = &b"old head|body and more"[..];
        let count = poll_fn(|cx| body.poll_fill_behind(cx, &mut source, &buffers)).await.unwrap();
        assert_eq!(count, 22);
        body.consume(b"old head|".len());
        body.truncate(4);
        head.end(&buffers).extend_from_slice(b"a longer head|");
        assert!(body.prepend(&mut head) && head.is_empty());
        assert_eq!(body.bytes(), b"a longer head|body");
        head.end(&buffers).extend_from_slice(&[b'x'; 300]);
        assert!(!body.prepend(&mut head) && head.len() == 300, "no room");
        assert_eq!(body.bytes(), b"a longer head|body");
    }
}
