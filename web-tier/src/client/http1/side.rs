//! What the proxy asks of an HTTP/1.1 client while it serves a request: its body, interim answers, whether it is still there.

use super::Http1;
use crate::{
    http1::{ResponseHead, Version, put_chunk, put_last_chunk},
    memory::buffer::SIZE,
    proxy::forward::Framing,
    transport::stream::ClientStream,
    upstream::exchange::{BodyError, ClientSide},
};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio_util::io::poll_read_buf;

impl ClientSide for Http1 {
    fn drop_trailers(&mut self) {
        self.body.drop_trailers();
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<bool, BodyError>> {
        let worker = &self.client.worker;
        loop {
            if !self.input.is_empty() && !self.body.is_done() {
                let chunked = self.chunked;
                let put =
                    |data: &[u8]| if chunked { put_chunk(out, data) } else { out.extend_from_slice(data) };
                let taken = self.body.decode(self.input.bytes(), put).map_err(|_| BodyError::Broken)?;
                self.input.consume(taken);
                return Poll::Ready(self.body_moved(taken, out));
            }
            if self.body.is_done() {
                return Poll::Ready(Ok(true));
            }
            let count = if let Some(plain) = self.body.plain() {
                let before = out.len();
                let read = poll_read_buf(Pin::new(&mut self.stream), cx, out);
                let Poll::Ready(read) = read else {
                    self.client.progress.read_waits(worker.now());
                    return Poll::Pending;
                };
                let count = read.map_err(|_| BodyError::Broken)?;
                self.client.body_came(count);
                if count > 0 {
                    // What follows the body is the next request.
                    let length = usize::try_from(plain).unwrap_or(usize::MAX).min(count);
                    if length < count {
                        self.input.end(&worker.buffers).extend_from_slice(&out[before + length..]);
                        out.truncate(before + length);
                    }
                    self.body.skip(length as u64);
                    return Poll::Ready(self.body_moved(length, out));
                }
                count
            } else {
                let read = self.input.poll_fill(cx, &mut self.stream, &worker.buffers);
                let Poll::Ready(read) = read else {
                    self.client.progress.read_waits(worker.now());
                    return Poll::Pending;
                };
                let count = read.map_err(|_| BodyError::Broken)?;
                self.client.body_came(count);
                count
            };
            if count == 0 {
                return Poll::Ready(Err(BodyError::Broken));
            }
        }
    }

    fn poll_inform(&mut self, cx: &mut Context<'_>, head: &mut ResponseHead) -> Poll<io::Result<()>> {
        if self.version == Version::Http10 {
            return Poll::Ready(Ok(()));
        }
        if !std::mem::replace(&mut self.informing, true) {
            self.put_head(head, Framing::None, true, false);
        }
        ready!(self.poll_write(cx))?;
        self.informing = false;
        Poll::Ready(Ok(()))
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Pipelined requests are read ahead, and a body whose request still waits, but not without bound.
        while self.input.len() < SIZE / 2 && !self.ended {
            match self.input.poll_fill(cx, &mut self.stream, &self.client.worker.buffers) {
                Poll::Pending => break,
                Poll::Ready(Ok(count)) if count > 0 => {}
                // It may only have said its last (`shutdown`, `nc -N`), and wait for the answer. Over TLS nobody does that.
                Poll::Ready(Ok(_)) if matches!(self.stream, ClientStream::Plain(_)) => {
                    self.ended = true;
                    self.client.progress.client_ended();
                }
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    fn has_ended(&self) -> bool {
        self.ended
    }
}

impl Http1 {
    /// Takes note that more of the body has been read; whether that was the last of it.
    fn body_moved(&mut self, count: usize, out: &mut Vec<u8>) -> Result<bool, BodyError> {
        self.received += count as u64;
        if self.received > self.client.worker.routes().body_max {
            return Err(BodyError::TooLarge);
        }
        let done = self.body.is_done();
        if done {
            self.client.progress.uploaded();
            if self.chunked {
                put_last_chunk(out, self.body.trailers().as_ref());
            }
        }
        Ok(done)
    }
}
