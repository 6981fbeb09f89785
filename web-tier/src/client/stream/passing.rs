//! An answer's body on its way to a client of HTTP/2 or HTTP/3: read from a file or a server as the client's window has room for it.

use super::{
    Stream,
    sides::{AnswerSide, RequestBody, Reset},
};
use crate::{
    memory::buffer::Buffer,
    proxy::local::LocalBody,
    upstream::exchange::{Exchange, Outgoing, SendError},
    worker::{client::Client, stalled::Stalled},
};
use bytes::Bytes;
use http::HeaderMap;
use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
};

/// What is read of a file when the client's window has room for the first byte of it.
const AHEAD: usize = 32 * 1024;

/// Sends a body of our own. Nothing of it is read while the client takes nothing.
pub(super) async fn give_body<A: AnswerSide>(
    client: &Client,
    body: &mut LocalBody,
    to_client: &mut A,
) -> Result<(), Reset> {
    while !body.is_done() {
        await_room(client, to_client, 1).await?;
        let piece = body.next(AHEAD).await.map_err(|_| Reset::Internal)?;
        let mut piece = piece.unwrap_or_default();
        client.progress.server_moved(client.worker.now());
        client.log.note(|record| record.sent(piece.len()));
        let is_last = body.is_done();
        while !piece.is_empty() {
            let count = piece.len().min(await_room(client, to_client, piece.len()).await?);
            client.took(count);
            let ends = is_last && count == piece.len();
            to_client.send(piece.split_to(count), ends)?;
            if ends {
                return Ok(());
            }
        }
    }
    to_client.send(Bytes::new(), true)
}

/// Waits until the client takes one of `wanted` bytes at least; how many it takes.
async fn await_room<A: AnswerSide>(
    client: &Client,
    to_client: &mut A,
    wanted: usize,
) -> Result<usize, Reset> {
    client.progress.write_waits();
    poll_fn(|cx| to_client.poll_room(cx, wanted)).await
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
    /// The client takes nothing, and the server has not said its last.
    stalled: Option<Stalled>,
}

impl Passing {
    pub(super) fn new(exchange: Box<Exchange>, outgoing: Outgoing, persists: bool) -> Self {
        Self {
            exchange: Some(exchange),
            outgoing,
            persists,
            refused: false,
            data: Buffer::default(),
            trailers: None,
            stalled: None,
        }
    }

    /// Goes on until both sides wait. The error is what the client's stream is reset with.
    pub(super) fn poll<B: RequestBody, A: AnswerSide>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream<'_, B, A>,
    ) -> Poll<Result<(), Reset>> {
        if !self.refused
            && !self.outgoing.is_sent()
            && let Some(exchange) = &mut self.exchange
        {
            match exchange.poll_send(cx, &mut self.outgoing, stream) {
                Poll::Ready(Err(SendError::Client(_))) => return Poll::Ready(Err(Reset::Cancelled)),
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
            let Some(exchange) = &mut self.exchange else { return Poll::Ready(self.end(stream)) };
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
                    return Poll::Ready(Err(Reset::Internal));
                }
                Poll::Pending if exchange.lease.is_lost() => {
                    client.worker.counters.upstream_failures.up();
                    return Poll::Ready(Err(Reset::Internal));
                }
                Poll::Pending => return stream.to_client.poll_gone(cx).map(|()| Err(Reset::Cancelled)),
            }
        }
    }

    /// Sends what the client's window allows.
    fn poll_data<B: RequestBody, A: AnswerSide>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream<'_, B, A>,
    ) -> Poll<Result<(), Reset>> {
        let Poll::Ready(room) = stream.to_client.poll_room(cx, self.data.len())? else {
            return self.stall(cx, stream);
        };
        self.stalled = None;
        let count = self.data.len().min(room);
        let piece = Bytes::copy_from_slice(&self.data.bytes()[..count]);
        self.data.consume(count);
        let last = self.exchange.is_none() && self.data.is_empty() && self.trailers.is_none();
        Poll::Ready(stream.to_client.send(piece, last))
    }

    /// The client takes nothing. An answer that holds no server any more costs only what it has in memory.
    fn stall<B: RequestBody, A: AnswerSide>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &Stream<'_, B, A>,
    ) -> Poll<Result<(), Reset>> {
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
                "clients of HTTP/2 or HTTP/3 do not take their answers: those that stall for longest end for others"
            );
        }
        Poll::Ready(Err(Reset::Shed))
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

    fn end<B, A: AnswerSide>(&mut self, stream: &mut Stream<'_, B, A>) -> Result<(), Reset> {
        match self.trailers.take() {
            Some(trailers) => stream.to_client.send_trailers(trailers),
            None => stream.to_client.send(Bytes::new(), true),
        }
    }
}
