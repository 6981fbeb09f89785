//! An answer's body on its way to a client of HTTP/2: read from a file or a server as the client's window has room for it.

use super::stream::Stream;
use crate::{
    memory::buffer::Buffer,
    proxy::local::LocalBody,
    upstream::exchange::{Exchange, Outgoing, SendError},
    worker::{client::Client, stalled::Stalled},
};
use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderMap;
use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
};

/// What is read of a file when the client's window has room for the first byte of it.
const AHEAD: usize = 32 * 1024;

/// Sends a body of our own. Nothing of it is read while the client takes nothing.
pub(super) async fn give_body(
    client: &Client,
    body: &mut LocalBody,
    send: &mut SendStream<Bytes>,
) -> Result<(), Reason> {
    while !body.is_done() {
        await_room(client, send, 1).await?;
        let piece = body.next(AHEAD).await.map_err(|_| Reason::INTERNAL_ERROR)?;
        let mut piece = piece.unwrap_or_default();
        client.progress.server_moved(client.worker.now());
        client.log.note(|record| record.sent(piece.len()));
        let is_last = body.is_done();
        while !piece.is_empty() {
            await_room(client, send, piece.len()).await?;
            let count = piece.len().min(send.capacity());
            client.took(count);
            let ends = is_last && count == piece.len();
            send.send_data(piece.split_to(count), ends).map_err(|_| Reason::CANCEL)?;
            if ends {
                return Ok(());
            }
        }
    }
    send.send_data(Bytes::new(), true).map_err(|_| Reason::CANCEL)
}

/// Waits until the client takes one of `wanted` bytes at least.
async fn await_room(client: &Client, send: &mut SendStream<Bytes>, wanted: usize) -> Result<(), Reason> {
    client.progress.write_waits();
    poll_fn(|cx| poll_room(cx, send, wanted)).await
}

/// Whether the client takes one of `wanted` bytes at least.
fn poll_room(cx: &mut Context<'_>, send: &mut SendStream<Bytes>, wanted: usize) -> Poll<Result<(), Reason>> {
    // What was not used is asked for again.
    send.reserve_capacity(wanted);
    if send.capacity() > 0 {
        return Poll::Ready(Ok(()));
    }
    match ready!(send.poll_capacity(cx)) {
        Some(Ok(_)) => Poll::Ready(Ok(())),
        Some(Err(_)) | None => Poll::Ready(Err(Reason::CANCEL)),
    }
}

/// A server's answer.
pub(super) struct Passing {
    exchange: Option<Box<Exchange>>,
    outgoing: Outgoing,
    persists: bool,
    /// The server takes no more of the request.
    refused: bool,
    data: Buffer,
    trailers: Option<HeaderMap>,
    send: SendStream<Bytes>,
    /// The client takes nothing, and the server has not said its last.
    stalled: Option<Stalled>,
}

impl Passing {
    pub(super) fn new(
        exchange: Box<Exchange>,
        outgoing: Outgoing,
        persists: bool,
        send: SendStream<Bytes>,
    ) -> Self {
        Self {
            exchange: Some(exchange),
            outgoing,
            persists,
            refused: false,
            data: Buffer::default(),
            trailers: None,
            send,
            stalled: None,
        }
    }

    /// Ends the stream before its time.
    pub(super) fn reset(&mut self, reason: Reason) {
        self.send.send_reset(reason);
    }

    /// Goes on until both sides wait. The error is what the client's stream is reset with.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, stream: &mut Stream<'_>) -> Poll<Result<(), Reason>> {
        if !self.refused
            && !self.outgoing.is_sent()
            && let Some(exchange) = &mut self.exchange
        {
            match exchange.poll_send(cx, &mut self.outgoing, stream) {
                Poll::Ready(Err(SendError::Client(_))) => return Poll::Ready(Err(Reason::CANCEL)),
                Poll::Ready(Err(SendError::Server(_))) => self.refused = true,
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        let client = stream.client();
        loop {
            if !self.data.is_empty() {
                client.progress.write_waits();
                let before = self.data.len();
                ready!(self.poll_data(cx, stream))?;
                client.log.note(|record| record.sent(before - self.data.len()));
                client.took(before - self.data.len());
                if self.exchange.is_none() && self.data.is_empty() && self.trailers.is_none() {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            let Some(exchange) = &mut self.exchange else { return Poll::Ready(self.end()) };
            match exchange.poll_body(cx, &mut self.data, false) {
                Poll::Ready(Ok(last)) => {
                    client.progress.server_moved(client.worker.now());
                    if last {
                        self.last();
                    }
                }
                Poll::Ready(Err(cause)) => {
                    tracing::debug!(%cause, "a server broke off in the middle of an answer");
                    exchange.broke(&cause, client.worker.read_clock());
                    return Poll::Ready(Err(Reason::INTERNAL_ERROR));
                }
                Poll::Pending if exchange.lease.is_lost() => {
                    client.worker.counters.upstream_failures.up();
                    return Poll::Ready(Err(Reason::INTERNAL_ERROR));
                }
                Poll::Pending => {
                    return self.send.poll_reset(cx).map(|reason| Err(reason.unwrap_or(Reason::CANCEL)));
                }
            }
        }
    }

    /// Sends what the client's window allows.
    fn poll_data(&mut self, cx: &mut Context<'_>, stream: &Stream<'_>) -> Poll<Result<(), Reason>> {
        if poll_room(cx, &mut self.send, self.data.len())?.is_pending() {
            return self.stall(cx, stream);
        }
        self.stalled = None;
        let count = self.data.len().min(self.send.capacity());
        let piece = Bytes::copy_from_slice(&self.data.bytes()[..count]);
        self.data.consume(count);
        let last = self.exchange.is_none() && self.data.is_empty() && self.trailers.is_none();
        Poll::Ready(self.send.send_data(piece, last).map_err(|_| Reason::CANCEL))
    }

    /// The client takes nothing. An answer that holds no server any more costs only what it has in memory.
    fn stall(&mut self, cx: &mut Context<'_>, stream: &Stream<'_>) -> Poll<Result<(), Reason>> {
        if self.exchange.is_none() {
            return Poll::Pending;
        }
        let worker = &stream.client().worker;
        let stalled =
            self.stalled.get_or_insert_with(|| worker.stalled.begin(stream.connection(), cx.waker()));
        if !stalled.is_shed() {
            return Poll::Pending;
        }
        worker.counters.answers_shed.up();
        if let Some(times) = worker.stalled.said.happened(worker.now()) {
            tracing::warn!(
                times,
                "clients of HTTP/2 do not take their answers: those that stall for longest end for others"
            );
        }
        Poll::Ready(Err(Reason::ENHANCE_YOUR_CALM))
    }

    /// The answer is complete: the socket can serve another request.
    fn last(&mut self) {
        let Some(mut exchange) = self.exchange.take() else { return };
        if let Some(fields) = exchange.take_trailers() {
            let mut map = HeaderMap::new();
            fields.put_into(&mut map);
            self.trailers = Some(map).filter(|map| !map.is_empty());
        }
        exchange.finish(self.outgoing.is_sent(), self.persists);
    }

    fn end(&mut self) -> Result<(), Reason> {
        let ended = match self.trailers.take() {
            Some(trailers) => self.send.send_trailers(trailers),
            None => self.send.send_data(Bytes::new(), true),
        };
        ended.map_err(|_| Reason::CANCEL)
    }
}
