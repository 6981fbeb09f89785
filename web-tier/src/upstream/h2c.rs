//! Connections to servers that speak HTTP/2 from the first byte (RFC 9113 §3.3).

use bytes::Bytes;
use h2::{
    Ping,
    client::{Builder, Connection, SendRequest},
};
use http::uri::PathAndQuery;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use std::{future::poll_fn, io, pin::Pin, task::Poll};
use tokio::io::{AsyncRead, AsyncWrite};

/// Requests on one connection, if its server allows as many.
pub(crate) const STREAMS_MAX: usize = 128;

/// What a server may send ahead of one answer. A client that takes nothing holds so much, and the window of the connection has room
/// for all of them: it is in nobody's way.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * STREAMS_MAX as u32;

/// What is held back of one request until the server takes it.
const SEND_BUFFER_MAX: usize = 64 * 1024;

/// The header section of an answer, in bytes.
const HEAD_MAX: u32 = 64 * 1024;

/// What may not stand in a request target (RFC 3986 §2), and in HTTP/1.1 does now and then.
const NOT_IN_TARGETS: &AsciiSet =
    &CONTROLS.add(b'"').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`').add(b'{').add(b'|').add(b'}');

/// A request target in origin form, or `*`, as HTTP/2 has it.
pub(crate) fn target(text: &[u8]) -> Option<PathAndQuery> {
    let encoded =
        || utf8_percent_encode(str::from_utf8(text).unwrap_or_default(), NOT_IN_TARGETS).to_string();
    PathAndQuery::try_from(text).or_else(|_| PathAndQuery::try_from(encoded())).ok()
}

/// Makes a connection of a socket. It has been answered when this returns: what the server allows is known, and that it speaks
/// HTTP/2 at all. The caller bounds the time, and drives the connection.
///
/// # Errors
/// The connection broke, or what came is not HTTP/2.
pub(crate) async fn begin<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
) -> io::Result<(SendRequest<Bytes>, Connection<S, Bytes>)> {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEAD_MAX)
        .max_send_buffer_size(SEND_BUFFER_MAX);
    let (send, mut connection) = builder.handshake(stream).await.map_err(not_begun)?;
    let mut pings = connection.ping_pong().ok_or_else(|| io::Error::other("no pings"))?;
    pings.send_ping(Ping::opaque()).map_err(not_begun)?;
    poll_fn(|cx| {
        if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
            return Poll::Ready(Err(ended.err().map_or_else(ended_at_once, not_begun)));
        }
        pings.poll_pong(cx).map(|pong| pong.map(drop).map_err(not_begun))
    })
    .await?;
    Ok((send, connection))
}

fn ended_at_once() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the server ended the connection at once")
}

fn not_begun(cause: h2::Error) -> io::Error {
    if cause.is_io() {
        return cause.into_io().unwrap_or_else(ended_at_once);
    }
    io::Error::new(io::ErrorKind::InvalidData, format!("it does not speak HTTP/2: {cause}"))
}
