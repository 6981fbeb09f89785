//! A request and its answer in HTTP/1.1: they have a socket for themselves.

use super::{ANSWER_LIMITS, AnswerError, outgoing::Sink, put};
use crate::{
    http1::{Decoder, Fields, Length, ResponseHead},
    memory::buffer::{Buffer, Buffers},
    upstream::pool::Pooled,
};
use cluster_port::Stream;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::AsyncWrite;

/// From this size on the piece of a body that came with its head is not copied.
const IN_PLACE_MIN: usize = 1024;

/// An answer on its way from a server.
#[derive(Debug, Default)]
struct Incoming {
    input: Buffer,
    body: Decoder,
    /// The server has said more than its answer.
    excess: bool,
}

impl Incoming {
    /// Makes the buffer that the body came in the client's output, with what is in `out` before it, if that is possible.
    fn take_in_place(&mut self, out: &mut Buffer) -> bool {
        let Some(plain) = self.body.plain() else { return false };
        let (came, head) = (self.input.len(), out.len());
        if !self.input.prepend(out) {
            return false;
        }
        let data = usize::try_from(plain).unwrap_or(usize::MAX).min(came);
        self.excess |= data < came;
        self.input.truncate(head + data);
        self.body.skip(data as u64);
        std::mem::swap(&mut self.input, out);
        true
    }

    /// Reads data straight to where it is written from.
    fn poll_plain(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Stream,
        plain: u64,
        out: &mut Buffer,
        buffers: &Buffers,
    ) -> Poll<io::Result<usize>> {
        self.input.release();
        let count = ready!(out.poll_fill(cx, socket, buffers))?;
        let excess = (count as u64).saturating_sub(plain);
        if excess > 0 {
            self.excess = true;
            let end = out.end(buffers);
            end.truncate(end.len() - usize::try_from(excess).unwrap_or(count));
        }
        self.body.skip(count as u64);
        Poll::Ready(Ok(count))
    }
}

impl Sink for SocketExchange {
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.socket.stream()).poll_write(cx, bytes)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.socket.stream()).poll_flush(cx)
    }
}

/// One of them. Dropped before [`finish`](Self::finish), it closes the socket.
#[derive(Debug)]
pub(super) struct SocketExchange {
    socket: Pooled,
    incoming: Incoming,
}

impl SocketExchange {
    pub(super) fn new(socket: Pooled) -> Self {
        Self { socket, incoming: Incoming::default() }
    }

    /// Whether the socket has served before.
    pub(super) fn reused(&self) -> bool {
        self.socket.reused()
    }

    /// Reads the head of an answer, interim ones too; an interim one is to be passed on before the next call.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut ResponseHead,
        buffers: &Buffers,
    ) -> Poll<Result<(), AnswerError>> {
        let incoming = &mut self.incoming;
        let mut fresh = !incoming.input.is_empty();
        loop {
            if fresh && let Some(length) = head.parse(incoming.input.bytes(), &ANSWER_LIMITS)? {
                incoming.input.consume(length);
                return Poll::Ready(Ok(()));
            }
            let count = ready!(incoming.input.poll_fill_behind(cx, self.socket.stream(), buffers))?;
            if count == 0 {
                return Poll::Ready(Err(AnswerError::Closed));
            }
            fresh = incoming.input.bytes()[incoming.input.len() - count..].contains(&b'\n')
                || incoming.input.len() >= ANSWER_LIMITS.bytes;
        }
    }

    /// Whether nothing has come behind the head.
    pub(super) fn is_at_head(&self) -> bool {
        self.incoming.input.is_empty()
    }

    /// Waits for what comes behind the head.
    pub(super) fn poll_behind_head(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &Buffers,
    ) -> Poll<Result<(), AnswerError>> {
        let count = ready!(self.incoming.input.poll_fill_behind(cx, self.socket.stream(), buffers))?;
        Poll::Ready(if count == 0 { Err(AnswerError::Closed) } else { Ok(()) })
    }

    /// The head was the answer's: a body of this length follows.
    pub(super) fn begin_body(&mut self, length: Length) {
        self.incoming.body = Decoder::of_answer(length);
    }

    /// Puts more of the body into `out`, in chunks if `chunked`; whether that was the last of it. `out` is empty, or holds the
    /// answer's head.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Buffer,
        chunked: bool,
        buffers: &Buffers,
    ) -> Poll<Result<bool, AnswerError>> {
        let incoming = &mut self.incoming;
        loop {
            if incoming.body.is_done() {
                incoming.excess |= !incoming.input.is_empty();
                return Poll::Ready(Ok(true));
            }
            if !chunked && incoming.input.len() >= IN_PLACE_MIN && incoming.take_in_place(out) {
                return Poll::Ready(Ok(incoming.body.is_done()));
            }
            if !incoming.input.is_empty() {
                let end = out.end(buffers);
                let before = end.len();
                let taken = incoming.body.decode(incoming.input.bytes(), |data| put(end, data, chunked))?;
                let moved = end.len() > before;
                incoming.input.consume(taken);
                if moved || incoming.body.is_done() {
                    incoming.excess |= incoming.body.is_done() && !incoming.input.is_empty();
                    return Poll::Ready(Ok(incoming.body.is_done()));
                }
                continue;
            }
            let count = if let Some(plain) = incoming.body.plain().filter(|_| !chunked) {
                if !out.has_room() {
                    return Poll::Ready(Ok(false));
                }
                let socket = self.socket.stream();
                let count = ready!(incoming.poll_plain(cx, socket, plain, out, buffers))?;
                if count > 0 {
                    return Poll::Ready(Ok(incoming.body.is_done()));
                }
                0
            } else {
                ready!(incoming.input.poll_fill(cx, self.socket.stream(), buffers))?
            };
            if count == 0 {
                // The end of the connection is the end of the body only where nothing else says so.
                return Poll::Ready(if incoming.body.ends_with_connection() {
                    Ok(true)
                } else {
                    Err(AnswerError::Closed)
                });
            }
        }
    }

    /// Those of the body, if it had some that may be passed on.
    pub(super) fn trailers(&self) -> Option<Fields> {
        self.incoming.body.trailers()
    }

    /// The socket goes back to its pool, if both sides are done with it.
    pub(super) fn finish(self, sent: bool, persists: bool) {
        let incoming = &self.incoming;
        if sent && persists && !incoming.excess && incoming.input.is_empty() && incoming.body.is_done() {
            self.socket.give_back();
        }
    }

    /// The socket, and what has come already.
    pub(super) fn into_parts(self) -> (Pooled, Buffer) {
        (self.socket, self.incoming.input)
    }
}
