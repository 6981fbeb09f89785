//! One request and its answer with a server: what was sent, what has come, and whether the connection can serve again. `socket` has
//! them in HTTP/1.1, `stream` in HTTP/2; whoever passes them on sees no difference.

mod outgoing;
mod socket;
mod stream;

use crate::{
    compress::BodyEncoder,
    http1::{Fields, HeadError, HeadLimits, Length, ResponseHead, put_chunk},
    memory::buffer::{Buffer, Buffers},
    upstream::{
        Lease,
        pool::{Pooled, Taken},
    },
};
use h2::Reason;
use http::StatusCode;
pub(crate) use outgoing::{Outgoing, SendError};
use socket::SocketExchange;
use std::{
    io,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use stream::StreamExchange;
#[cfg(any(test, fuzzing))]
pub(crate) use stream::request_of as request_in_http2;
use tokio::{task::spawn_local, time::timeout};

/// What an answer that nobody wants may cost before its socket is closed instead.
const DISCARD_BYTES: u64 = 64 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

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

    /// The request's trailers are not to be passed on: a server may take them for fields that the proxy vouches for.
    fn drop_trailers(&mut self);

    /// Passes an interim answer on.
    fn poll_inform(&mut self, cx: &mut Context<'_>, head: &mut ResponseHead) -> Poll<io::Result<()>>;

    /// Ready when the client has gone away. To be asked while nothing is read of its body; what comes meanwhile is kept, within
    /// bounds.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Whether the client will send no more, as [`poll_gone`](Self::poll_gone) has found: it has gone away, or only waits.
    fn has_ended(&self) -> bool;
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
    #[error("invalid answer: {0}")]
    Http2(&'static str),
    /// The server gave this one request up.
    #[error("the server reset the stream: {0}")]
    Reset(Reason),
    /// The server has not looked at the request (RFC 9113 §8.7).
    #[error("the server refused the stream")]
    Refused,
    /// Nor has it here: the request came when the server was about to end the connection (RFC 9113 §6.8).
    #[error("the server takes no more requests on the connection")]
    GoneAway,
    /// The server was not asked: the request is one that only HTTP/1.1 can say.
    #[error("{0}")]
    Unsayable(&'static str),
}

impl AnswerError {
    /// Whether the server said something that makes no sense, rather than nothing.
    pub(crate) fn is_invalid(&self) -> bool {
        matches!(self, Self::Head(_) | Self::Chunk(_) | Self::Interim | Self::Http2(_))
    }

    /// Whether the request is certain not to have been looked at, though it was sent.
    pub(crate) fn is_unprocessed(&self) -> bool {
        matches!(self, Self::Refused | Self::GoneAway)
    }

    /// Whether it is about this request alone: the connection, and the server, are as good as they were.
    fn is_of_request(&self) -> bool {
        self.is_unprocessed() || matches!(self, Self::Reset(_) | Self::Unsayable(_))
    }
}

impl From<h2::Error> for AnswerError {
    fn from(cause: h2::Error) -> Self {
        match cause.reason() {
            Some(Reason::REFUSED_STREAM) if cause.is_remote() && cause.is_reset() => Self::Refused,
            Some(reason) if cause.is_remote() && cause.is_reset() => Self::Reset(reason),
            _ if cause.is_remote() && cause.is_go_away() => Self::GoneAway,
            _ if cause.is_io() => cause.into_io().map_or(Self::Closed, Self::Io),
            _ => Self::Http2("it breaks the rules of HTTP/2"),
        }
    }
}

/// How the server is spoken to.
#[derive(Debug)]
enum Link {
    Socket(SocketExchange),
    Stream(StreamExchange),
}

impl Link {
    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Buffer,
        chunked: bool,
        buffers: &Buffers,
    ) -> Poll<Result<bool, AnswerError>> {
        match self {
            Self::Socket(link) => link.poll_body(cx, out, chunked, buffers),
            Self::Stream(link) => link.poll_body(cx, out, chunked, buffers),
        }
    }
}

/// A request and its answer. Dropped before [`finish`](Self::finish), it closes the socket, or resets the stream. It is handed on many
/// times, and so lives in a box.
#[derive(Debug)]
pub(crate) struct Exchange {
    link: Link,
    pub(crate) lease: Lease,
    buffers: Rc<Buffers>,
    /// How many interim answers there have been.
    interim: u8,
    /// Its body is compressed on its way.
    packing: Option<Box<Packing>>,
}

/// A body that is compressed on its way.
#[derive(Debug)]
struct Packing {
    encoder: BodyEncoder,
    plain: Buffer,
}

impl Exchange {
    pub(crate) fn new(taken: Taken, lease: Lease, buffers: Rc<Buffers>) -> Box<Self> {
        let link = match taken {
            Taken::Socket(socket) => Link::Socket(SocketExchange::new(socket)),
            Taken::Stream(stream) => Link::Stream(StreamExchange::new(stream)),
        };
        Box::new(Self { link, lease, buffers, interim: 0, packing: None })
    }

    /// Whether it shares its connection with others.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.link, Link::Stream(_))
    }

    /// Whether the connection has served before.
    pub(crate) fn reused(&self) -> bool {
        match &self.link {
            Link::Socket(link) => link.reused(),
            Link::Stream(link) => link.reused(),
        }
    }

    /// The server is to blame, unless the cause is of this request alone.
    pub(crate) fn broke(&self, cause: &AnswerError, now: Instant) {
        if !cause.is_of_request() {
            self.lease.broke(now);
        }
    }

    /// Sends the request on.
    pub(crate) fn poll_send<S: ClientSide>(
        &mut self,
        cx: &mut Context<'_>,
        outgoing: &mut Outgoing,
        side: &mut S,
    ) -> Poll<Result<(), SendError>> {
        match &mut self.link {
            Link::Socket(link) => outgoing.poll_send(cx, side, &self.buffers, link),
            Link::Stream(link) => outgoing.poll_send(cx, side, &self.buffers, link),
        }
    }

    /// Reads the head of an answer, interim ones too; an interim one is to be passed on before the next call.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut ResponseHead,
    ) -> Poll<Result<(), AnswerError>> {
        ready!(match &mut self.link {
            Link::Socket(link) => link.poll_head(cx, head, &self.buffers),
            Link::Stream(link) => link.poll_head(cx, head),
        })?;
        if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
            self.interim += 1;
            if self.interim > INTERIM_MAX {
                return Poll::Ready(Err(AnswerError::Interim));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whether nothing has come behind the answer's head. What HTTP/2 has frames for is not asked for here.
    pub(crate) fn is_at_head(&self) -> bool {
        matches!(&self.link, Link::Socket(link) if link.is_at_head())
    }

    /// Waits for what comes behind the answer's head; its body is still to begin.
    pub(crate) fn poll_behind_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), AnswerError>> {
        match &mut self.link {
            Link::Socket(link) => link.poll_behind_head(cx, &self.buffers),
            Link::Stream(_) => Poll::Ready(Ok(())),
        }
    }

    /// The head was the answer's: a body of this length follows.
    pub(crate) fn begin_body(&mut self, length: Length) {
        // One that is compressed has begun, with the length that its server said.
        if self.packing.is_some() {
            return;
        }
        match &mut self.link {
            Link::Socket(link) => link.begin_body(length),
            Link::Stream(link) => link.begin_body(length),
        }
    }

    /// The same of a body that is compressed on its way: what comes out has another length.
    pub(crate) fn begin_packing(&mut self, length: Length, encoder: BodyEncoder) {
        self.begin_body(length);
        self.packing = Some(Box::new(Packing { encoder, plain: Buffer::default() }));
    }

    /// Puts more of the body into `out`, in chunks if `chunked`; whether that was the last of it. `out` is empty, or holds the
    /// answer's head.
    pub(crate) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Buffer,
        chunked: bool,
    ) -> Poll<Result<bool, AnswerError>> {
        let Some(packing) = &mut self.packing else {
            return self.link.poll_body(cx, out, chunked, &self.buffers);
        };
        let mut packed = Vec::new();
        loop {
            let read = match self.link.poll_body(cx, &mut packing.plain, false, &self.buffers) {
                Poll::Ready(read) => Some(read?),
                Poll::Pending => None,
            };
            match read {
                Some(last) => {
                    packing.encoder.write(packing.plain.bytes(), &mut packed)?;
                    packing.plain.consume(packing.plain.len());
                    packing.plain.release();
                    if last {
                        packing.encoder.finish(&mut packed)?;
                    }
                }
                // What is there leaves before the rest is waited for.
                None => packing.encoder.flush(&mut packed)?,
            }
            if !packed.is_empty() {
                put(out.end(&self.buffers), &packed, chunked);
            }
            match read {
                Some(true) => return Poll::Ready(Ok(true)),
                _ if !packed.is_empty() => return Poll::Ready(Ok(false)),
                Some(false) => {}
                None => return Poll::Pending,
            }
        }
    }

    /// The trailers behind the body that may be passed on.
    pub(crate) fn take_trailers(&mut self) -> Option<Fields> {
        match &mut self.link {
            Link::Socket(link) => link.trailers(),
            Link::Stream(link) => link.take_trailers(),
        }
    }

    /// All of the body has come: the connection can serve again, if both sides are done with it.
    pub(crate) fn finish(self: Box<Self>, sent: bool, persists: bool) {
        match self.link {
            Link::Socket(link) => link.finish(sent, persists),
            // Of a request that has not been sent to its end, the rest is not wanted: the stream is reset.
            Link::Stream(_) => {}
        }
    }

    /// Reads an answer that nobody wants to its end, so that its socket can serve another request; within bounds.
    pub(crate) fn discard(mut self: Box<Self>, persists: bool) {
        // A stream is reset: its connection serves on in any case.
        if matches!(self.link, Link::Stream(_)) {
            return;
        }
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

    /// The parts, for a tunnel: the socket, what has come already, and the lease. A stream has none, as it never gets a `101`.
    pub(crate) fn into_parts(self: Box<Self>) -> Option<(Pooled, Buffer, Lease)> {
        let Link::Socket(link) = self.link else { return None };
        let (socket, came) = link.into_parts();
        Some((socket, came, self.lease))
    }
}

fn put(out: &mut Vec<u8>, data: &[u8], chunked: bool) {
    if chunked { put_chunk(out, data) } else { out.extend_from_slice(data) }
}
