//! What HTTP/2 and HTTP/3 give of a stream, as far as a request and its answer need it: all else is told of them alike.

use bytes::Bytes;
use http::{HeaderMap, Response};
use std::task::{Context, Poll};

/// Why a stream ends before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::client) enum Reset {
    /// What the client has sent is no request (RFC 9113 §8.1.1, RFC 9114 §4.1.2).
    Malformed,
    /// The answer's server has broken off, or we have failed.
    Internal,
    /// For others: the client takes nothing.
    Shed,
    /// The client wants no more of it.
    Cancelled,
}

/// Why there is no more of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::client) enum BodyFault {
    /// The client has given up, or its connection has broken.
    Gone,
    /// The stream is to be reset for it.
    Malformed,
}

/// What a client sends of a request behind its head. The length that the head says holds: both protocols refuse what does not
/// agree with it.
pub(in crate::client) trait RequestBody: Unpin {
    /// More of it; `None` behind the last.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyFault>>>;

    /// Its trailers, behind the last of its data.
    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, BodyFault>>;

    /// So many bytes have gone on: the client may send as many again.
    fn release(&mut self, bytes: usize);

    /// Whether it is known that nothing follows what was read.
    fn is_over(&self) -> bool;
}

/// Where an answer is sent.
pub(in crate::client) trait AnswerSide: Unpin {
    /// Sends its head; `ends`: there is no more. The error: the client has gone.
    fn begin(&mut self, head: Response<()>, ends: bool) -> Result<(), Reset>;

    /// Sends an interim head (RFC 9110 §15.2).
    fn inform(&mut self, head: Response<()>) -> Result<(), Reset>;

    /// How much the client takes now, if that is anything; `wanted` is what there is to send.
    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<Result<usize, Reset>>;

    /// Sends what there is room for; `ends`: it is the last.
    fn send(&mut self, data: Bytes, ends: bool) -> Result<(), Reset>;

    /// Ends the answer with trailers.
    fn send_trailers(&mut self, trailers: HeaderMap) -> Result<(), Reset>;

    /// Whether all that was sent is in the hands of the connection. An answer that is dropped before is cut off.
    fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Reset>>;

    /// Ends the stream before its time.
    fn reset(&mut self, reason: Reset);

    /// Ready when the client wants no more of the answer.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}
