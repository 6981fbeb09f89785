//! A request on its way to a server: its head and body as HTTP/1.1 has them, kept as long as it could be sent again.

use super::{BodyError, ClientSide};
use crate::{
    http1::Length,
    memory::{
        buffer::{Buffers, Piece, SIZE, SIZE_LARGE},
        shelf::Shelved,
    },
};
use std::{
    io,
    task::{Context, Poll, ready},
};

/// A request on its way to a server.
#[derive(Debug)]
pub(crate) struct Outgoing {
    bytes: Shelved<Box<Piece>>,
    sent: usize,
    /// What was written has left: an encrypted connection keeps some of it back where the socket takes no more.
    flushed: bool,
    /// The body's end is in `bytes`, or was.
    complete: bool,
    /// What was sent first is not in `bytes` any more: it can't be sent again.
    partial: bool,
}

/// Where a request goes.
pub(super) trait Sink {
    /// Takes bytes of it.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Ready when all that was taken has left.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// Why a request could not be sent to its end.
#[derive(Debug)]
pub(crate) enum SendError {
    Client(BodyError),
    Server(io::Error),
}

impl Outgoing {
    /// A request of which `head` is ready to be sent.
    pub(crate) fn new(head: Shelved<Box<Piece>>, length: Length) -> Self {
        Self { bytes: head, sent: 0, flushed: false, complete: length == Length::Empty, partial: false }
    }

    /// Puts the whole of the body behind the head.
    pub(crate) fn put_body(&mut self, body: &[u8]) {
        self.bytes.extend_from_slice(body);
        self.complete = true;
    }

    /// Whether nothing has left.
    pub(crate) fn is_unsent(&self) -> bool {
        self.sent == 0 && !self.partial
    }

    /// Whether all has left.
    pub(crate) fn is_sent(&self) -> bool {
        self.complete && self.flushed && self.sent == self.bytes.len()
    }

    /// Whether all of the body has been read from the client.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether all that has left could be sent again.
    pub(crate) fn is_whole(&self) -> bool {
        !self.partial
    }

    /// Whether more of the body may be read from the client. (Chunks make a buffer grow: its capacity is no bound.)
    fn has_room(&self) -> bool {
        self.bytes.len() < if self.partial { SIZE_LARGE / 2 } else { SIZE }
    }

    /// Makes it ready to be sent once more; whether that is possible.
    pub(crate) fn rewind(&mut self) -> bool {
        if !self.partial {
            (self.sent, self.flushed) = (0, false);
        }
        !self.partial
    }

    /// Sends on to `sink`, taking more of the body from the client as it comes. A first piece that is there goes with the head.
    pub(super) fn poll_send<S: ClientSide>(
        &mut self,
        cx: &mut Context<'_>,
        side: &mut S,
        buffers: &Buffers,
        sink: &mut impl Sink,
    ) -> Poll<Result<(), SendError>> {
        loop {
            let mut waits = false;
            if !self.complete && self.has_room() {
                match side.poll_body(cx, &mut self.bytes) {
                    Poll::Ready(last) => self.complete = last.map_err(SendError::Client)?,
                    Poll::Pending => waits = true,
                }
            }
            if self.sent < self.bytes.len() {
                self.flushed = false;
                match ready!(sink.poll_write(cx, &self.bytes[self.sent..])).map_err(SendError::Server)? {
                    0 => return Poll::Ready(Err(SendError::Server(io::ErrorKind::WriteZero.into()))),
                    count => self.sent += count,
                }
                continue;
            }
            if self.complete || waits {
                let flushed = sink.poll_flush(cx).map_err(SendError::Server)?;
                self.flushed = flushed.is_ready();
                if self.complete {
                    return flushed.map(Ok);
                }
            }
            // More than one buffer: from here on it can't be sent again.
            if self.partial {
                self.bytes.clear();
                self.sent = 0;
            } else if !self.has_room() {
                let bytes = buffers.take_large();
                *self = Self { bytes, sent: 0, flushed: false, complete: false, partial: true };
            }
            if waits {
                return Poll::Pending;
            }
        }
    }
}
