//! Where an answer is sent: frames on a stream, as far as QUIC takes them.

use super::{
    Connection,
    frame::{Code, DATA, HEADERS, put_head},
    head::{put_response, put_trailers},
};
use crate::client::stream::sides::{AnswerSide, Reset};
use bytes::Bytes;
use http::{HeaderMap, Response};
use quinn::{SendStream, StoppedError, VarInt};
use std::{
    cell::Cell,
    collections::VecDeque,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

/// How much of an answer is taken at a time.
const ROOM: usize = 32 * 1024;

type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>>>>;

/// An answer.
pub(super) struct ToClient {
    /// Until all has been given to QUIC.
    send: Option<SendStream>,
    connection: Rc<Connection>,
    /// What QUIC has not taken yet.
    pending: VecDeque<Bytes>,
    state: State,
    /// The client has taken its request back, which is not whole: nothing is said to it (RFC 9114 §4.1.1).
    gone: Rc<Cell<bool>>,
    /// Tells when the client wants no more.
    stopped: Option<Stopped>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its head has not been sent.
    New,
    Begun,
    /// All of it has been given to this, ...
    Ending,
    /// ... and to QUIC.
    Ended,
    Reset,
}

impl ToClient {
    pub(super) fn new(send: SendStream, connection: &Rc<Connection>, gone: &Rc<Cell<bool>>) -> Self {
        Self {
            send: Some(send),
            connection: connection.clone(),
            pending: VecDeque::new(),
            state: State::New,
            gone: gone.clone(),
            stopped: None,
        }
    }

    /// Ends the stream before its time.
    pub(super) fn reset_with(&mut self, code: Code) {
        if !matches!(self.state, State::Ended | State::Reset) {
            self.state = State::Reset;
            if let Some(send) = &mut self.send {
                let _ = send.reset(code.into());
            }
            self.connection.stream_was_reset();
        }
    }

    fn put(&mut self, frame: [Bytes; 2], ends: bool) -> Result<(), Reset> {
        self.pending.extend(frame.into_iter().filter(|it| !it.is_empty()));
        if ends {
            self.state = State::Ending;
        }
        // Most often QUIC takes all of it at once; who waits for it is woken by `poll_flushed`.
        match self.poll_write(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Err(reset)) => Err(reset),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Reset>> {
        while !self.pending.is_empty() {
            let chunks = self.pending.make_contiguous();
            let Some(send) = &mut self.send else { return Poll::Ready(Err(Reset::Cancelled)) };
            let written = pin!(send.write_chunks(chunks)).poll(cx);
            let Poll::Ready(written) = written else {
                self.connection.widen();
                return Poll::Pending;
            };
            let written = written.map_err(|_| Reset::Cancelled)?;
            self.pending.drain(..written.chunks);
        }
        if self.state == State::Ending {
            self.state = State::Ended;
            if let Some(mut send) = self.send.take() {
                let _ = send.finish();
                self.connection.answered(send);
            }
        }
        Poll::Ready(Ok(()))
    }

    fn is_open(&self) -> Result<(), Reset> {
        if self.state == State::Begun { Ok(()) } else { Err(Reset::Cancelled) }
    }
}

/// A frame of HEADERS with what `put` puts into it.
fn headers(put: impl FnOnce(&mut Vec<u8>)) -> [Bytes; 2] {
    let mut section = Vec::with_capacity(512);
    put(&mut section);
    let mut head = Vec::with_capacity(8);
    put_head(&mut head, HEADERS, section.len());
    [head.into(), section.into()]
}

impl AnswerSide for ToClient {
    fn begin(&mut self, head: Response<()>, ends: bool) -> Result<(), Reset> {
        if self.state != State::New || self.gone.get() {
            return Err(Reset::Cancelled);
        }
        self.state = State::Begun;
        self.put(headers(|out| put_response(out, &head)), ends)
    }

    fn inform(&mut self, head: Response<()>) -> Result<(), Reset> {
        if self.state != State::New {
            return Err(Reset::Cancelled);
        }
        self.put(headers(|out| put_response(out, &head)), false)
    }

    fn poll_room(&mut self, cx: &mut Context<'_>, _: usize) -> Poll<Result<usize, Reset>> {
        self.is_open()?;
        self.poll_write(cx).map_ok(|()| ROOM)
    }

    fn send(&mut self, data: Bytes, ends: bool) -> Result<(), Reset> {
        self.is_open()?;
        let mut head = Vec::new();
        if !data.is_empty() {
            put_head(&mut head, DATA, data.len());
        }
        self.put([head.into(), data], ends)
    }

    fn send_trailers(&mut self, trailers: HeaderMap) -> Result<(), Reset> {
        self.is_open()?;
        self.put(headers(|out| put_trailers(out, &trailers)), true)
    }

    fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Reset>> {
        self.poll_write(cx)
    }

    fn reset(&mut self, reason: Reset) {
        self.reset_with(match reason {
            Reset::Malformed => Code::Message,
            Reset::Internal => Code::Internal,
            Reset::Shed => Code::ExcessiveLoad,
            Reset::Cancelled => Code::RequestCancelled,
        });
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // What was sent may still be on its way.
        if matches!(self.poll_write(cx), Poll::Ready(Err(_))) {
            return Poll::Ready(());
        }
        let Some(send) = &self.send else { return Poll::Pending };
        let stopped = self.stopped.get_or_insert_with(|| Box::pin(send.stopped()));
        match ready!(stopped.as_mut().poll(cx)) {
            Ok(None) => Poll::Pending,
            Ok(Some(_)) | Err(_) => Poll::Ready(()),
        }
    }
}

impl Drop for ToClient {
    /// Nobody must take what was sent for the whole: QUIC would end the stream as if it were.
    fn drop(&mut self) {
        self.reset_with(Code::RequestCancelled);
    }
}
