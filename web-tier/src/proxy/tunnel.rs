//! After a change of protocols (WebSocket, mostly): bytes pass both ways, and nobody looks at them.

use crate::{
    memory::buffer::{Buffer, Buffers},
    upstream::{Lease, pool::Pooled},
    worker::client::Client,
};
use std::{
    future::poll_fn,
    io, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite};

/// One way of a tunnel. It holds memory only while bytes are under way.
#[derive(Debug)]
struct Way {
    bytes: Buffer,
    /// The source has said its last; the sink is told once all has passed.
    ended: bool,
    closed: bool,
    /// Bytes that the sink has taken, since they were last looked at.
    passed: usize,
}

impl Way {
    fn new(bytes: Buffer) -> Self {
        Self { bytes, ended: false, closed: false, passed: 0 }
    }

    /// Passes bytes on until one side is not ready; `moved` becomes true if any were read.
    fn poll<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut R,
        sink: &mut W,
        buffers: &Buffers,
        moved: &mut bool,
    ) -> Poll<io::Result<()>> {
        loop {
            let before = self.bytes.len();
            let drained = self.bytes.poll_drain(cx, sink);
            self.passed += before - self.bytes.len();
            ready!(drained)?;
            if self.ended {
                if !self.closed {
                    ready!(Pin::new(&mut *sink).poll_shutdown(cx))?;
                    self.closed = true;
                }
                return Poll::Ready(Ok(()));
            }
            self.ended = ready!(self.bytes.poll_fill(cx, source, buffers))? == 0;
            *moved = true;
        }
    }
}

/// Passes bytes until both sides have ended, one breaks, the hub says that the server is gone, or nothing moves for
/// `load-balance-socket-timeout` (the connection's timer sees to that). What one side has sent already goes first.
pub(crate) async fn run<C: AsyncRead + AsyncWrite + Unpin>(
    client: &Client,
    (stream, from_client): (&mut C, Buffer),
    (mut socket, from_server): (Pooled, Buffer),
    lease: &Lease,
) {
    let worker = &client.worker;
    let (mut up, mut down) = (Way::new(from_client), Way::new(from_server));
    let ended: io::Result<()> = poll_fn(|cx| {
        let mut moved = false;
        let up = up.poll(cx, stream, socket.stream(), &worker.buffers, &mut moved)?;
        let passing = down.poll(cx, socket.stream(), stream, &worker.buffers, &mut moved);
        client.log.note(|record| record.sent(mem::take(&mut down.passed)));
        let down = passing?;
        if moved {
            client.progress.server_moved(worker.now());
        }
        if up.is_ready() && down.is_ready() || lease.is_lost() {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    })
    .await;
    if let Err(cause) = ended {
        tracing::debug!(%cause, "a tunnel broke");
    }
}
