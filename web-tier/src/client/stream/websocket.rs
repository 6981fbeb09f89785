//! WebSockets over HTTP/2 (RFC 8441) and HTTP/3 (RFC 9220): the client's extended `CONNECT` becomes an upgrade behind the proxy, and a `101` becomes a
//! `200`.

use super::{
    Stream, head,
    sides::{AnswerSide, RequestBody, Reset},
};
use crate::{
    client::Active,
    error::ProxyError,
    http1::{Length, Name, RequestHead},
    memory::buffer::Buffer,
    observe::access_log::End,
    proxy::{self, ClientGone, Reply, local::Local, tunnel},
};
use bytes::Bytes;
use h2::ext::Protocol;
use http::{Method, Request, StatusCode};
use std::{
    io, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Whether a request asks for one.
pub(super) fn is_asked_for<B>(request: &Request<B>) -> bool {
    request.method() == Method::CONNECT
        && request.extensions().get::<Protocol>().is_some_and(|it| it.as_str() == "websocket")
}

/// Asks a server for the upgrade, and passes bytes both ways if it agrees.
pub(super) async fn serve<B: RequestBody, A: AnswerSide>(
    mut stream: Stream<'_, B, A>,
    head: &mut RequestHead,
    active: Active<'_>,
) {
    head.method = Method::GET;
    head.length = Length::Empty;
    head.connection.upgrade = true;
    head.fields.push(Name::Upgrade, b"upgrade", b"websocket");
    // The client of HTTP/2 has none (RFC 8441 §5), the server of HTTP/1.1 wants one: ours, whatever the client says.
    head.fields.remove_if(|field| field.name.eq_ignore_ascii_case(b"sec-websocket-key"));
    head.fields.push(Name::Other, b"sec-websocket-key", &key());
    let client = stream.client();
    client.progress.asked(client.worker.now(), false);
    let reply = proxy::answer(client, head, &mut stream).await;
    if let Ok(reply) = &reply {
        active.decided(head, reply);
    }
    let answer = match reply {
        Ok(Reply::Server(answer)) => answer,
        Ok(Reply::Local(local)) => return stream.give(false, local, &active).await,
        Err(ClientGone) => return active.ended(End::ClientGone),
    };
    let answer = match answer {
        answer if answer.head.status == StatusCode::SWITCHING_PROTOCOLS => answer,
        // It took the request for one without an upgrade. To the client 2xx would mean that its WebSocket is open.
        answer if answer.head.status.is_success() => {
            drop(answer);
            let local = Local::refusal(client, ProxyError::NoUpgrade);
            active.refused(head, &local);
            return stream.give(false, local, &active).await;
        }
        answer => return stream.pass(head, answer, &active).await,
    };
    let mut head = answer.head;
    let Some((socket, from_server, lease)) = answer.exchange.into_parts() else { return };
    head.status = StatusCode::OK;
    head.fields.remove_if(|field| field.name.eq_ignore_ascii_case(b"sec-websocket-accept"));
    let response = head::response(&mut head, Length::UntilClose, &client.worker.date.get());
    active.answered(StatusCode::OK);
    drop(head);
    let (body, to_client) = stream.into_halves();
    if to_client.begin(response, false).is_err() {
        return active.ended(End::ClientGone);
    }
    client.progress.tunnelling(client.worker.now());
    let mut io = StreamIo { body, to_client, data: Bytes::new(), writing: 0 };
    tunnel::run(client, (&mut io, Buffer::default()), (socket, from_server), &lease).await;
    active.ended(End::Complete);
}

/// 16 random bytes in base 64 (RFC 6455 §4.1).
fn key() -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: u128 = rand::random();
    // 21 digits of 6 bits, one of the last 2, and the padding.
    let digits = (0..21).map(|place| (bits >> (122 - 6 * place)) & 63).chain([(bits & 3) << 4]);
    digits.map(|digit| DIGITS[digit as usize]).chain(*b"==").collect()
}

/// The data of a stream as bytes.
struct StreamIo<'a, B, A> {
    body: B,
    to_client: &'a mut A,
    /// Received and not yet read.
    data: Bytes,
    /// How much is being written.
    writing: usize,
}

impl<B: RequestBody, A: AnswerSide> AsyncRead for StreamIo<'_, B, A> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.data.is_empty() {
            match ready!(self.body.poll_data(cx)) {
                Some(data) => self.data = data.map_err(|_| io::ErrorKind::ConnectionReset)?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.data.len().min(buffer.remaining());
        buffer.put_slice(&self.data.split_to(count));
        self.body.release(count);
        Poll::Ready(Ok(()))
    }
}

impl<B: RequestBody, A: AnswerSide> AsyncWrite for StreamIo<'_, B, A> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.writing == 0 {
            let room = ready!(self.to_client.poll_room(cx, bytes.len())).map_err(broken)?;
            let count = bytes.len().min(room);
            self.to_client.send(Bytes::copy_from_slice(&bytes[..count]), false).map_err(broken)?;
            self.writing = count;
        }
        ready!(self.to_client.poll_flushed(cx)).map_err(broken)?;
        Poll::Ready(Ok(mem::take(&mut self.writing)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.to_client.poll_flushed(cx).map_err(broken)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.to_client.send(Bytes::new(), true).map_err(broken))
    }
}

fn broken(_: Reset) -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_24_digits_of_base_64() {
        let keys = [key(), key()];
        assert_ne!(keys[0], keys[1]);
        for key in keys {
            assert!(key.len() == 24 && key.ends_with(b"=="), "{key:?}");
        }
    }
}
