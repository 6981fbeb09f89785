//! What a client sends on a stream: a head, a body, trailers (RFC 9114 §4.1), in frames.

use super::{
    Connection,
    frame::{
        CANCEL_PUSH, Code, DATA, FrameHead, GOAWAY, HEADERS, MAX_PUSH_ID, PUSH_PROMISE, SETTINGS, is_of_http2,
    },
    head::{self, Unusable},
    qpack,
};
use crate::client::stream::{
    head::are_malformed,
    sides::{BodyFault, RequestBody},
};
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Request};
use quinn::RecvStream;
use std::{
    cell::Cell,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
};
use tokio_util::io::poll_read_buf;

/// How much of a body is read at a time.
const READ: usize = 16 * 1024;

/// What a frame costs that brings nothing.
const EMPTY: u64 = 4;

/// A client's side of a stream.
pub(super) struct Body {
    recv: RecvStream,
    connection: Rc<Connection>,
    /// The client has taken the request back.
    gone: Rc<Cell<bool>>,
    /// Read and not yet looked at.
    input: Bytes,
    head: FrameHead,
    state: State,
    expects: Expects,
    /// What `Content-Length` says.
    length: Option<u64>,
    received: u64,
    trailers: Option<HeaderMap>,
}

/// Where in a frame the stream is.
#[derive(Debug)]
enum State {
    Between,
    /// So much of a body is still to come.
    Data(u64),
    /// And so much that nobody knows.
    Unknown(u64),
    /// So much of a section, behind what is here.
    Section(usize, BytesMut),
    /// A section that is too large.
    TooLarge,
    Ended,
}

/// What may come next (RFC 9114 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expects {
    Head,
    Data,
    End,
}

/// Why a stream can't be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The client has given up, or its connection has broken.
    Gone,
    /// It has ended before its head was complete.
    Incomplete,
    /// What came is no request.
    Malformed(&'static str),
    /// The connection has been closed for it.
    Closed,
}

impl Body {
    pub(super) fn new(recv: RecvStream, connection: &Rc<Connection>, gone: Rc<Cell<bool>>) -> Self {
        Self {
            recv,
            connection: connection.clone(),
            gone,
            input: Bytes::new(),
            head: FrameHead::default(),
            state: State::Between,
            expects: Expects::Head,
            length: None,
            received: 0,
            trailers: None,
        }
    }

    /// Reads the head; `None`: it is larger than allowed.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Request<()>>, Fault>> {
        ready!(self.poll_frame(cx))?;
        match self.state {
            State::TooLarge => return Poll::Ready(Ok(None)),
            State::Ended => return Poll::Ready(Err(Fault::Incomplete)),
            _ => {}
        }
        let section = ready!(self.poll_section(cx))?;
        self.expects = Expects::Data;
        Poll::Ready(match head::request(&section, self.connection.head_max) {
            Ok(request) => Ok(Some(request)),
            Err(Unusable::Section(qpack::Fault::TooLarge)) => Ok(None),
            Err(cause) => Err(self.unusable(cause)),
        })
    }

    /// Whether something follows the head.
    pub(super) fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Fault>> {
        ready!(self.poll_frame(cx))?;
        Poll::Ready(Ok(!matches!(self.state, State::Ended)))
    }

    /// Notes how long the body is to be.
    pub(super) fn set_length(&mut self, length: Option<u64>) {
        self.length = length;
    }

    /// Goes on to the next frame that matters, or to the end.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        loop {
            match &mut self.state {
                State::Data(0) | State::Unknown(0) => self.state = State::Between,
                State::Data(_) | State::Section(..) | State::TooLarge | State::Ended => {
                    return Poll::Ready(Ok(()));
                }
                State::Unknown(_) => {
                    ready!(self.poll_inside(cx))?;
                    if let State::Unknown(left) = &mut self.state {
                        let count = self.input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                        *left -= count as u64;
                        self.input.advance(count);
                    }
                }
                State::Between => {
                    if !ready!(self.poll_input(cx))? {
                        if !self.head.is_empty() {
                            return Poll::Ready(Err(self.close(Code::Frame, "a frame that breaks off")));
                        }
                        self.state = State::Ended;
                        continue;
                    }
                    let (taken, head) = self.head.take(&self.input);
                    self.input.advance(taken);
                    if let Some((kind, length)) = head {
                        self.state = self.begin(kind, length)?;
                    }
                }
            }
        }
    }

    fn begin(&mut self, kind: u64, length: u64) -> Result<State, Fault> {
        match (kind, self.expects) {
            (DATA, Expects::Data) => {
                if length == 0 {
                    self.connection.spend(EMPTY);
                }
                Ok(State::Data(length))
            }
            (HEADERS, Expects::Head | Expects::Data) => {
                // The packed section is rarely larger than what is in it.
                let fits = usize::try_from(length).ok().filter(|it| *it <= self.connection.head_max);
                Ok(fits.map_or(State::TooLarge, |length| State::Section(length, BytesMut::new())))
            }
            (DATA | HEADERS | CANCEL_PUSH | SETTINGS | PUSH_PROMISE | GOAWAY | MAX_PUSH_ID, _) => {
                Err(self.close(Code::FrameUnexpected, "a frame where none of its type may be"))
            }
            (kind, _) if is_of_http2(kind) => Err(self.close(Code::FrameUnexpected, "a frame of HTTP/2")),
            _ => {
                self.connection.spend(EMPTY);
                Ok(State::Unknown(length))
            }
        }
    }

    /// The section that has begun.
    fn poll_section(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Fault>> {
        loop {
            let State::Section(left, _) = self.state else { return Poll::Ready(Err(Fault::Gone)) };
            if left > 0 {
                ready!(self.poll_inside(cx))?;
            }
            let State::Section(left, begun) = &mut self.state else { continue };
            let piece = self.input.split_to(self.input.len().min(*left));
            *left -= piece.len();
            if *left > 0 {
                begun.extend_from_slice(&piece);
                continue;
            }
            let section = if begun.is_empty() {
                piece
            } else {
                begun.extend_from_slice(&piece);
                std::mem::take(begun).freeze()
            };
            self.state = State::Between;
            return Poll::Ready(Ok(section));
        }
    }

    /// Has some input in the middle of a frame.
    fn poll_inside(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        if ready!(self.poll_input(cx))? {
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(Err(self.close(Code::Frame, "a frame that breaks off")))
    }

    /// Has some input, or `false` at the end.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Fault>> {
        if !self.input.is_empty() {
            return Poll::Ready(Ok(true));
        }
        if self.expects == Expects::Head {
            let read = ready!(pin!(self.recv.read_chunk(READ, true)).poll(cx));
            let chunk = read.map_err(|_| self.is_gone())?;
            self.input = chunk.map(|it| it.bytes).unwrap_or_default();
        } else {
            // A client's packets are small, and each piece is a write to the server.
            let mut input = BytesMut::with_capacity(READ);
            let read = ready!(poll_read_buf(Pin::new(&mut self.recv), cx, &mut input));
            read.map_err(|_| self.is_gone())?;
            self.input = input.freeze();
        }
        Poll::Ready(Ok(!self.input.is_empty()))
    }

    fn is_gone(&self) -> Fault {
        self.gone.set(true);
        Fault::Gone
    }

    fn close(&self, code: Code, why: &'static str) -> Fault {
        self.connection.close(code, why);
        Fault::Closed
    }

    fn unusable(&self, cause: Unusable) -> Fault {
        match cause {
            Unusable::Section(qpack::Fault::Invalid) => {
                self.close(Code::QpackDecompression, "a section of fields that can't be read")
            }
            Unusable::Section(qpack::Fault::TooLarge) => Fault::Malformed("trailers that are too large"),
            Unusable::Malformed(why) => Fault::Malformed(why),
        }
    }

    /// More of the body; `None` at the end.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Fault>> {
        loop {
            ready!(self.poll_frame(cx))?;
            match &mut self.state {
                State::Ended if self.length.is_some_and(|length| length != self.received) => {
                    return Poll::Ready(Err(Fault::Malformed("less body than Content-Length says")));
                }
                State::Ended => return Poll::Ready(Ok(None)),
                State::TooLarge => return Poll::Ready(Err(Fault::Malformed("trailers that are too large"))),
                State::Section(..) => {
                    let section = ready!(self.poll_section(cx))?;
                    self.expects = Expects::End;
                    let trailers = head::trailers(&section, self.connection.head_max);
                    self.trailers = Some(trailers.map_err(|cause| self.unusable(cause))?);
                }
                _ => {
                    ready!(self.poll_inside(cx))?;
                    let State::Data(left) = &mut self.state else { continue };
                    let count = self.input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= count as u64;
                    self.received += count as u64;
                    if self.length.is_some_and(|length| length < self.received) {
                        return Poll::Ready(Err(Fault::Malformed("more body than Content-Length says")));
                    }
                    return Poll::Ready(Ok(Some(self.input.split_to(count))));
                }
            }
        }
    }
}

impl RequestBody for Body {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyFault>>> {
        self.poll_body(cx).map_err(BodyFault::from).map(Result::transpose)
    }

    fn poll_trailers(&mut self, _: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, BodyFault>> {
        let trailers = self.trailers.take();
        let malformed = trailers.as_ref().is_some_and(are_malformed);
        Poll::Ready(if malformed { Err(BodyFault::Malformed) } else { Ok(trailers) })
    }

    fn release(&mut self, bytes: usize) {
        self.connection.body_came(bytes);
    }

    fn is_over(&self) -> bool {
        matches!(self.state, State::Ended)
    }
}

impl From<Fault> for BodyFault {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Malformed(why) => {
                tracing::debug!(why, "a request of HTTP/3 is malformed");
                Self::Malformed
            }
            Fault::Gone | Fault::Incomplete | Fault::Closed => Self::Gone,
        }
    }
}

impl Drop for Body {
    /// The rest is not wanted.
    fn drop(&mut self) {
        if !matches!(self.state, State::Ended) {
            let _ = self.recv.stop(Code::NoError.into());
        }
    }
}
