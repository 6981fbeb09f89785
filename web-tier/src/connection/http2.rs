//! A client's connection in HTTP/2 (RFC 9113): `h2` reads its frames, each stream is a task that lives as a request does in
//! HTTP/1.1. Behind the proxy all of it is HTTP/1.1.

mod message;
mod stream;
mod websocket;

use super::{Client, Ended, Entry, timed};
use crate::worker::Worker;
use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use http::Request;
use std::{
    cell::Cell,
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::spawn_local,
    time::timeout,
};

/// Requests that one connection may have under way.
const STREAMS_MAX: u32 = 128;

/// What a client may send ahead of one body, and of all bodies of a connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// What is held back of one answer until the client takes it.
const SEND_BUFFER_MAX: usize = 64 * 1024;

/// Streams that a client reset before anyone looked at them, and those that it made us reset: beyond it the connection ends
/// with ENHANCE_YOUR_CALM ("rapid reset", "made you reset").
const RESETS_MAX: usize = 32;

/// How long the last frames may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// How many streams a connection has.
#[derive(Default)]
struct Streams {
    open: Cell<usize>,
    /// The connection's task, which is told when the last one ends.
    waker: Cell<Option<Waker>>,
}

/// One of the streams.
struct Open(Rc<Streams>, Rc<Client>);

impl Open {
    fn new(streams: &Rc<Streams>, client: &Rc<Client>) -> Self {
        streams.open.set(streams.open.get() + 1);
        client.progress.asked(client.worker.now(), false);
        Self(streams.clone(), client.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        if self.0.open.get() == 0 {
            self.1.progress.answered(self.1.worker.now());
            if let Some(waker) = self.0.waker.take() {
                waker.wake();
            }
        }
    }
}

/// Serves a connection to its end.
pub(super) async fn serve<S>(client: &Rc<Client>, entry: &Entry<'_>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = None;
    let ended = {
        let running = pin!(run(client, stream, &mut connection));
        timed(client, entry, running).await
    };
    if let (Ended::Stuck | Ended::Late, Some(mut connection)) = (ended, connection) {
        // Nobody asks for anything: the client is told, and what is under way is nothing.
        connection.graceful_shutdown();
        let _ = timeout(FAREWELL, poll_fn(|cx| connection.poll_closed(cx))).await;
    }
}

async fn run<S>(client: &Rc<Client>, stream: S, place: &mut Option<Connection<S, Bytes>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connection = match builder(&client.worker).handshake(stream).await {
        Ok(connection) => place.insert(connection),
        Err(cause) => {
            tracing::debug!(%cause, "a client's HTTP/2 connection did not begin");
            return;
        }
    };
    client.progress.answered(client.worker.now());
    let streams = Rc::new(Streams::default());
    let mut closing = false;
    loop {
        match poll_fn(|cx| poll_request(cx, connection, &client.worker, &streams, &mut closing)).await {
            Some(Ok((request, respond))) => {
                let open = Open::new(&streams, client);
                spawn_local(serve_stream(client.stream(), request, respond, open));
            }
            Some(Err(cause)) => {
                tracing::debug!(%cause, "a client's HTTP/2 connection broke");
                return;
            }
            None => return,
        }
    }
}

fn builder(worker: &Worker) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(worker.routes().head_limits.bytes).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER_MAX)
        .max_concurrent_reset_streams(RESETS_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(Some(RESETS_MAX))
        .enable_connect_protocol();
    builder
}

type Accepted = Option<Result<(Request<h2::RecvStream>, SendResponse<Bytes>), h2::Error>>;

/// The next request; tells the client to stop asking when the worker stops.
fn poll_request<S>(
    cx: &mut Context<'_>,
    connection: &mut Connection<S, Bytes>,
    worker: &Worker,
    streams: &Streams,
    closing: &mut bool,
) -> Poll<Accepted>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if worker.connections.closing() && !*closing {
        *closing = true;
        connection.graceful_shutdown();
    }
    streams.waker.set(Some(cx.waker().clone()));
    connection.poll_accept(cx)
}

/// Serves a stream under its time-outs: like a connection of its own, with the client's address and the worker's limits.
async fn serve_stream(
    client: Rc<Client>,
    request: Request<h2::RecvStream>,
    respond: SendResponse<Bytes>,
    _open: Open,
) {
    let entry = Entry::stream(&client.worker);
    let running = pin!(stream::serve(&client, request, respond));
    timed(&client, &entry, running).await;
}
