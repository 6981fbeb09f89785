//! An answer's body on its way to a client, while the rest of the request may still be on its way to the server.

use super::http1::Http1;
use crate::{
    http1::put_last_chunk,
    proxy::forward::Framing,
    upstream::exchange::{ClientSide, Exchange, Outgoing, SendError},
};
use std::task::{Context, Poll};

/// What is under way.
#[derive(Debug)]
pub(super) struct Passing {
    /// Until the last of the answer has come.
    exchange: Option<Box<Exchange>>,
    outgoing: Outgoing,
    chunked: bool,
    server_persists: bool,
    /// The server takes no more of the request.
    refused: bool,
    /// Only the answer's head is in the client's output.
    begins: bool,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passed {
    /// The answer is complete.
    Whole,
    /// The client went away.
    ClientGone,
    /// The server broke off: the client must not take what it has for the whole.
    Broken,
}

impl Passing {
    pub(super) fn new(
        exchange: Box<Exchange>,
        outgoing: Outgoing,
        framing: Framing,
        server_persists: bool,
    ) -> Self {
        let chunked = framing == Framing::Chunked;
        Self { exchange: Some(exchange), outgoing, chunked, server_persists, refused: false, begins: true }
    }

    /// Goes on until both sides wait.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, http: &mut Http1) -> Poll<Passed> {
        loop {
            let waits = match self.poll_exchange(cx, http) {
                Poll::Ready(Some(passed)) => {
                    // What came before the break is the client's.
                    let _ = http.poll_write(cx);
                    return Poll::Ready(passed);
                }
                Poll::Ready(None) => false,
                Poll::Pending => true,
            };
            // A look is no progress.
            if waits && http.output.is_empty() {
                return Poll::Pending;
            }
            let was_full = !http.output.has_room();
            match http.poll_write(cx) {
                Poll::Ready(Ok(())) if waits => return Poll::Pending,
                Poll::Ready(Ok(())) if self.exchange.is_none() => return Poll::Ready(Passed::Whole),
                Poll::Ready(Ok(())) if was_full => http.output.enlarge(&http.client.worker.buffers),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Passed::ClientGone),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Sends more of the request, and takes more of the answer into the client's output. Ready with nothing when there is
    /// something to write.
    fn poll_exchange(&mut self, cx: &mut Context<'_>, http: &mut Http1) -> Poll<Option<Passed>> {
        let Some(exchange) = &mut self.exchange else { return Poll::Ready(None) };
        if !self.refused && !self.outgoing.is_sent() {
            match exchange.poll_send(cx, &mut self.outgoing, http) {
                Poll::Ready(Err(SendError::Client(_))) => return Poll::Ready(Some(Passed::ClientGone)),
                Poll::Ready(Err(SendError::Server(_))) => self.refused = true,
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        // The client has not yet taken what there is; a head waits for the first of its body.
        if !http.output.is_empty() && !std::mem::take(&mut self.begins) {
            return Poll::Ready(None);
        }
        match exchange.poll_body(cx, &mut http.output, self.chunked) {
            Poll::Ready(Ok(last)) => {
                http.client.progress.server_moved(http.client.worker.now());
                if last {
                    self.last(http);
                }
                Poll::Ready(None)
            }
            Poll::Ready(Err(cause)) => {
                tracing::debug!(%cause, "a server broke off in the middle of an answer");
                exchange.broke(&cause, http.client.worker.read_clock());
                Poll::Ready(Some(Passed::Broken))
            }
            Poll::Pending if exchange.lease.is_lost() => {
                tracing::debug!("a server went down in the middle of an answer");
                http.client.worker.counters.upstream_failures.up();
                Poll::Ready(Some(Passed::Broken))
            }
            Poll::Pending => {
                if self.outgoing.is_complete() && http.poll_gone(cx).is_ready() {
                    return Poll::Ready(Some(Passed::ClientGone));
                }
                Poll::Pending
            }
        }
    }

    /// The answer is complete: the socket can serve another request, even before the client has taken it all.
    fn last(&mut self, http: &mut Http1) {
        let Some(mut exchange) = self.exchange.take() else { return };
        if self.chunked {
            let trailers = exchange.take_trailers();
            put_last_chunk(http.output.end(&http.client.worker.buffers), trailers.as_ref());
        }
        exchange.finish(self.outgoing.is_sent(), self.server_persists);
    }
}
