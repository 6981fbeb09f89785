//! One request and its answer on a socket to a server: what was sent, what has come, and whether the socket can serve again.

use crate::{
    buffer::{Buffer, Buffers, Piece, SIZE, SIZE_LARGE},
    http1::{Decoder, HeadError, HeadLimits, Length, ResponseHead, put_chunk},
    pool::Pooled,
    shelf::Shelved,
    upstream::Lease,
};
use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{io::AsyncWrite, net::TcpStream, task::spawn_local, time::timeout};

/// What an answer that nobody wants may cost before its socket is closed instead.
const DISCARD_BYTES: u64 = 64 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// From this size on the piece of a body that came with its head is not copied.
const IN_PLACE_MIN: usize = 1024;

/// Interim answers (1xx) to one request.
const INTERIM_MAX: u8 = 16;

/// What a server's head may be. An app may send more cookies than a client sends back.
const ANSWER_LIMITS: HeadLimits = HeadLimits { count: 256, bytes: 64 * 1024, target: 0 };

/// Why a client's body does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    /// The client went away, or its chunks are not valid.
    #[error("the request's body broke off")]
    Broken,
    /// It is longer than `body-max`.
    #[error("the request's body is too large")]
    TooLarge,
}

/// The side of the client, in one exchange.
pub(crate) trait ClientSide {
    /// Appends more of the request's body to `out`, framed for a server; whether that was the last of it.
    fn poll_body(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<bool, BodyError>>;

    /// Passes an interim answer on.
    fn poll_inform(&mut self, cx: &mut Context<'_>, head: &mut ResponseHead) -> Poll<io::Result<()>>;

    /// Ready when the client has gone away. To be asked while nothing is read of its body; what comes meanwhile is kept, within
    /// bounds.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Whether the client will send no more, as [`poll_gone`](Self::poll_gone) has found: it has gone away, or only waits.
    fn has_ended(&self) -> bool;
}

/// A request on its way to a server.
#[derive(Debug)]
pub(crate) struct Outgoing {
    bytes: Shelved<Box<Piece>>,
    sent: usize,
    /// The body's end is in `bytes`, or was.
    complete: bool,
    /// What was sent first is not in `bytes` any more: it can't be sent again.
    partial: bool,
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
        Self { bytes: head, sent: 0, complete: length == Length::Empty, partial: false }
    }

    /// Whether nothing has left.
    pub(crate) fn is_unsent(&self) -> bool {
        self.sent == 0 && !self.partial
    }

    /// Whether all has left.
    pub(crate) fn is_sent(&self) -> bool {
        self.complete && self.sent == self.bytes.len()
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
            self.sent = 0;
        }
        !self.partial
    }

    /// Sends on, taking more of the body from the client as it comes. A first piece that is there goes with the head.
    fn poll_send<S: ClientSide>(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut TcpStream,
        side: &mut S,
        buffers: &Buffers,
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
                let written = Pin::new(&mut *socket).poll_write(cx, &self.bytes[self.sent..]);
                match ready!(written).map_err(SendError::Server)? {
                    0 => return Poll::Ready(Err(SendError::Server(io::ErrorKind::WriteZero.into()))),
                    count => self.sent += count,
                }
                continue;
            }
            if self.complete {
                return Poll::Ready(Ok(()));
            }
            // More than one buffer: from here on it can't be sent again.
            if self.partial {
                self.bytes.clear();
                self.sent = 0;
            } else if !self.has_room() {
                *self = Self { bytes: buffers.take_large(), sent: 0, complete: false, partial: true };
            }
            if waits {
                return Poll::Pending;
            }
        }
    }
}

/// What is wrong with an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    #[error("the connection ended")]
    Closed,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("invalid answer: {0}")]
    Head(#[from] HeadError),
    #[error("invalid answer: {0}")]
    Chunk(#[from] crate::http1::ChunkError),
    #[error("invalid answer: more than {INTERIM_MAX} interim answers")]
    Interim,
}

impl AnswerError {
    /// Whether the server said something that makes no sense, rather than nothing.
    pub(crate) fn is_invalid(&self) -> bool {
        !matches!(self, Self::Closed | Self::Io(_))
    }
}

/// An answer on its way from a server.
#[derive(Debug, Default)]
struct Incoming {
    input: Buffer,
    body: Decoder,
    interim: u8,
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
        socket: &mut TcpStream,
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

/// A request and its answer on one socket. Dropped before [`finish`](Self::finish), it closes the socket.
#[derive(Debug)]
pub(crate) struct Exchange {
    socket: Pooled,
    pub(crate) lease: Lease,
    incoming: Incoming,
    buffers: Rc<Buffers>,
}

impl Exchange {
    pub(crate) fn new(socket: Pooled, lease: Lease, buffers: Rc<Buffers>) -> Self {
        Self { socket, lease, incoming: Incoming::default(), buffers }
    }

    /// Whether the socket has served before.
    pub(crate) fn reused(&self) -> bool {
        self.socket.reused()
    }

    /// Sends the request on.
    pub(crate) fn poll_send<S: ClientSide>(
        &mut self,
        cx: &mut Context<'_>,
        outgoing: &mut Outgoing,
        side: &mut S,
    ) -> Poll<Result<(), SendError>> {
        outgoing.poll_send(cx, self.socket.stream(), side, &self.buffers)
    }

    /// Reads the head of an answer, interim ones too; an interim one is to be passed on before the next call.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut ResponseHead,
    ) -> Poll<Result<(), AnswerError>> {
        let incoming = &mut self.incoming;
        let mut fresh = !incoming.input.is_empty();
        loop {
            if fresh && let Some(length) = head.parse(incoming.input.bytes(), &ANSWER_LIMITS)? {
                incoming.input.consume(length);
                if head.status.is_informational() && head.status != http::StatusCode::SWITCHING_PROTOCOLS {
                    incoming.interim += 1;
                    if incoming.interim > INTERIM_MAX {
                        return Poll::Ready(Err(AnswerError::Interim));
                    }
                }
                return Poll::Ready(Ok(()));
            }
            let count = ready!(incoming.input.poll_fill_behind(cx, self.socket.stream(), &self.buffers))?;
            if count == 0 {
                return Poll::Ready(Err(AnswerError::Closed));
            }
            fresh = incoming.input.bytes()[incoming.input.len() - count..].contains(&b'\n')
                || incoming.input.len() >= ANSWER_LIMITS.bytes;
        }
    }

    /// The head was the answer's: a body of this length follows.
    pub(crate) fn begin_body(&mut self, length: Length) {
        self.incoming.body = Decoder::new(length);
    }

    /// Puts more of the body into `out`, in chunks if `chunked`; whether that was the last of it. `out` is empty, or holds the
    /// answer's head.
    pub(crate) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Buffer,
        chunked: bool,
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
                let end = out.end(&self.buffers);
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
                let count = ready!(incoming.poll_plain(cx, socket, plain, out, &self.buffers))?;
                if count > 0 {
                    return Poll::Ready(Ok(incoming.body.is_done()));
                }
                0
            } else {
                ready!(incoming.input.poll_fill(cx, self.socket.stream(), &self.buffers))?
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

    /// The decoder of the body, for its trailers.
    pub(crate) fn body(&self) -> &Decoder {
        &self.incoming.body
    }

    /// All of the body has come: the socket goes back to its pool, if both sides are done with it.
    pub(crate) fn finish(self, sent: bool, persists: bool) {
        let incoming = &self.incoming;
        if sent && persists && !incoming.excess && incoming.input.is_empty() && incoming.body.is_done() {
            self.socket.give_back();
        }
    }

    /// Reads an answer that nobody wants to its end, so that its socket can serve another request; within bounds.
    pub(crate) fn discard(mut self, persists: bool) {
        let mut nothing = Buffer::default();
        spawn_local(async move {
            let mut left = DISCARD_BYTES;
            let rest = std::future::poll_fn(|cx| {
                loop {
                    match ready!(self.poll_body(cx, &mut nothing, false)) {
                        Ok(true) => return Poll::Ready(true),
                        Ok(false) if left > nothing.len() as u64 => left -= nothing.len() as u64,
                        _ => return Poll::Ready(false),
                    }
                    nothing.consume(nothing.len());
                }
            });
            if let Ok(true) = timeout(DISCARD_TIMEOUT, rest).await {
                self.finish(true, persists);
            }
        });
    }

    /// The parts, for a tunnel: the socket, what has come already, and the lease.
    pub(crate) fn into_parts(self) -> (Pooled, Buffer, Lease) {
        (self.socket, self.incoming.input, self.lease)
    }
}

fn put(out: &mut Vec<u8>, data: &[u8], chunked: bool) {
    if chunked { put_chunk(out, data) } else { out.extend_from_slice(data) }
}
