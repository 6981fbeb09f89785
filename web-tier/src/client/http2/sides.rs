//! A stream of HTTP/2 as requests and answers see it.

use super::flood_guard::Points;
use crate::client::stream::{
    head::are_malformed,
    sides::{AnswerSide, BodyFault, RequestBody, Reset},
};
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, StreamId, server::SendResponse};
use http::{HeaderMap, Response};
use std::{
    rc::Rc,
    task::{Context, Poll, ready},
};

/// A request's body.
pub(super) struct Body {
    recv: RecvStream,
    points: Rc<Points>,
    stream: StreamId,
}

impl Body {
    pub(super) fn new(recv: RecvStream, points: &Rc<Points>, stream: StreamId) -> Self {
        Self { recv, points: points.clone(), stream }
    }
}

impl RequestBody for Body {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyFault>>> {
        self.recv.poll_data(cx).map_err(|_| BodyFault::Gone)
    }

    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, BodyFault>> {
        let trailers = ready!(self.recv.poll_trailers(cx)).map_err(|_| BodyFault::Gone)?;
        if trailers.as_ref().is_some_and(are_malformed) || self.points.take_malformed(self.stream.as_u32()) {
            return Poll::Ready(Err(BodyFault::Malformed));
        }
        Poll::Ready(Ok(trailers))
    }

    fn release(&mut self, bytes: usize) {
        let _ = self.recv.flow_control().release_capacity(bytes);
    }

    fn is_over(&self) -> bool {
        self.recv.is_end_stream()
    }
}

/// An answer.
pub(super) struct ToClient {
    respond: SendResponse<Bytes>,
    /// Once its head has been sent.
    send: Option<SendStream<Bytes>>,
}

impl ToClient {
    pub(super) fn new(respond: SendResponse<Bytes>) -> Self {
        Self { respond, send: None }
    }

    pub(super) fn stream_id(&self) -> StreamId {
        self.respond.stream_id()
    }

    fn send_stream(&mut self) -> Result<&mut SendStream<Bytes>, Reset> {
        self.send.as_mut().ok_or(Reset::Cancelled)
    }
}

impl AnswerSide for ToClient {
    fn begin(&mut self, head: Response<()>, ends: bool) -> Result<(), Reset> {
        let send = self.respond.send_response(head, ends).map_err(|_| Reset::Cancelled)?;
        self.send = Some(send);
        Ok(())
    }

    fn inform(&mut self, head: Response<()>) -> Result<(), Reset> {
        self.respond.send_informational(head).map_err(|_| Reset::Cancelled)
    }

    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<Result<usize, Reset>> {
        let send = self.send_stream()?;
        // What was not used is asked for again.
        send.reserve_capacity(wanted);
        if send.capacity() == 0 {
            match ready!(send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Err(Reset::Cancelled)),
            }
        }
        Poll::Ready(Ok(send.capacity()))
    }

    fn send(&mut self, data: Bytes, ends: bool) -> Result<(), Reset> {
        self.send_stream()?.send_data(data, ends).map_err(|_| Reset::Cancelled)
    }

    fn send_trailers(&mut self, trailers: HeaderMap) -> Result<(), Reset> {
        self.send_stream()?.send_trailers(trailers).map_err(|_| Reset::Cancelled)
    }

    /// `h2` has what was sent, and sends it whatever becomes of this.
    fn poll_flushed(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Reset>> {
        Poll::Ready(Ok(()))
    }

    fn reset(&mut self, reason: Reset) {
        let reason = match reason {
            Reset::Malformed => Reason::PROTOCOL_ERROR,
            Reset::Internal => Reason::INTERNAL_ERROR,
            Reset::Shed => Reason::ENHANCE_YOUR_CALM,
            Reset::Cancelled => Reason::CANCEL,
        };
        match &mut self.send {
            Some(send) => send.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.send {
            Some(send) => send.poll_reset(cx).map(|_| ()),
            None => self.respond.poll_reset(cx).map(|_| ()),
        }
    }
}
