//! A client's connection in HTTP/2 (RFC 9113): `h2` reads its frames, each stream is a task that lives as a request does in
//! HTTP/1.1. Behind the proxy all of it is HTTP/1.1.

mod batch;
mod blocks;
mod flood_guard;
mod frames;
mod sides;

use super::{
    Client, Ended, Entry, serve_timed,
    stream::{
        self, Asked, Malformed,
        sides::{AnswerSide, Reset},
    },
    streams::{Open, Streams},
    timed, window,
};
use crate::{http1::Version, memory::buffer::Buffer, worker::Worker};
use batch::Batch;
use bytes::Bytes;
use flood_guard::{FAULTS_MAX, FloodGuard, Points};
use h2::{
    Reason,
    server::{Builder, Connection, SendResponse},
};
use http::Request;
use sides::{Body, ToClient};
use std::{
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::spawn_local,
    time::timeout,
};

/// Requests that one connection may have under way.
const STREAMS_MAX: u32 = 128;

/// What is held back of one answer until the client takes it.
const SEND_BUFFER_MAX: usize = 64 * 1024;

/// Streams that a client reset before anyone looked at them, and those that are remembered for a second after we reset them, for
/// what the client had sent before it knew. Beyond the first the connection ends with ENHANCE_YOUR_CALM ("rapid reset").
const RESETS_MAX: usize = STREAMS_MAX as usize;

/// Requests that one connection may have under way, those counted that the client has reset and that are still to notice. Beyond
/// it they are refused, which a client may take as an invitation to ask again.
const TASKS_MAX: usize = 2 * STREAMS_MAX as usize;

/// How long the last frames may take, and for how many bytes a client is listened to after them.
const FAREWELL: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// Serves a connection to its end.
pub(super) async fn serve<S>(client: &Rc<Client>, entry: &Entry, mut stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let ended = serve_frames(client, entry, FloodGuard::new(Rc::new(Batch::new(&mut stream)), client)).await;
    if !matches!(ended, Ended::Stuck | Ended::Done(End::Whole)) {
        // Boxed: it is needed once, and would make every connection larger.
        let _ = timeout(FAREWELL, Box::pin(linger(&client.worker, &mut stream))).await;
    }
}

/// Serves its requests, and says the last word.
async fn serve_frames<S>(client: &Rc<Client>, entry: &Entry, stream: FloodGuard<'_, S>) -> Ended<End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = None;
    let batch = stream.batch();
    let ended = {
        let running = pin!(run(client, stream, &mut connection));
        timed(client, entry, running).await
    };
    batch.gather(false);
    if let Some(mut connection) = connection {
        match ended {
            Ended::Done(End::Whole) => return ended,
            Ended::Done(End::Broken) => {}
            Ended::Done(End::Over(reason)) => connection.abrupt_shutdown(reason),
            // Nobody asks for anything: the client is told, and what is under way is nothing.
            Ended::Stuck | Ended::Late => connection.graceful_shutdown(),
        }
        let _ = timeout(FAREWELL, poll_fn(|cx| connection.poll_closed(cx))).await;
    }
    ended
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// As one of the sides wanted.
    Whole,
    /// A side broke the rules or went away.
    Broken,
    /// The client asked for more than it may, or for what nobody may.
    Over(Reason),
}

async fn run<'a, S>(
    client: &Rc<Client>,
    stream: FloodGuard<'a, S>,
    place: &mut Option<Connection<FloodGuard<'a, S>, Bytes>>,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (points, batch) = (stream.points(), stream.batch());
    let connection = match builder(&client.worker).handshake(stream).await {
        Ok(connection) => place.insert(connection),
        Err(cause) => {
            tracing::debug!(%cause, "a client's HTTP/2 connection did not begin");
            return End::Broken;
        }
    };
    batch.gather(true);
    client.progress.answered(client.worker.now());
    let streams = Streams::new(&client.worker);
    let mut closing = false;
    let mut requests = 0;
    loop {
        let worker = &client.worker;
        let asked = poll_fn(|cx| {
            let enough = requests >= worker.routes().keepalive_max || points.are_worn();
            let asked = poll_request(cx, connection, client, &streams, &points, (enough, &mut closing));
            if asked.is_pending() && batch.leave(cx) {
                client.progress.write_waits();
            }
            asked
        });
        match asked.await {
            _ if let Some(reason) = points.over() => {
                tracing::debug!(%reason, "a client's HTTP/2 connection asks for too much, or for what nobody may");
                return End::Over(reason);
            }
            Some(Ok((_, mut respond))) if streams.open.get() >= TASKS_MAX => {
                respond.send_reset(Reason::REFUSED_STREAM);
            }
            Some(Ok((request, respond))) => {
                requests += 1;
                let open = Open::new(&streams, client, !request.body().is_end_stream());
                let client = client.stream();
                let mut to_client = ToClient::new(respond);
                match read(&client, request, &points, to_client.stream_id()) {
                    // In a box: the runtime moves what it has of a task several times, at its beginning and at its end.
                    Ok(asked) => drop(spawn_local(Box::pin(serve_stream(client, asked, to_client, open)))),
                    Err(Malformed(why)) => {
                        tracing::debug!(why, "a request of HTTP/2 is malformed");
                        to_client.reset(Reset::Malformed);
                    }
                }
            }
            Some(Err(cause)) => {
                tracing::debug!(%cause, "a client's HTTP/2 connection broke");
                return End::Broken;
            }
            None => return End::Whole,
        }
    }
}

/// Reads what a client still sends, within bounds: a socket that is closed with unread bytes is reset by the kernel, and the
/// client may never see why the connection ends.
async fn linger<S: AsyncRead + Unpin>(worker: &Worker, stream: &mut S) {
    let mut input = Buffer::default();
    let mut left = LINGER_BYTES;
    while left > 0 {
        match poll_fn(|cx| input.poll_fill(cx, stream, &worker.buffers)).await {
            Ok(count) if count > 0 => {
                left = left.saturating_sub(count);
                input.consume(count);
            }
            _ => return,
        }
    }
}

fn builder(worker: &Worker) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .initial_window_size(window::STREAM)
        .initial_connection_window_size(window::CONNECTION)
        .max_header_list_size(u32::try_from(worker.routes().head_limits.bytes).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER_MAX)
        .max_concurrent_reset_streams(RESETS_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(Some(FAULTS_MAX))
        .enable_connect_protocol();
    builder
}

type Accepted = Option<Result<(Request<h2::RecvStream>, SendResponse<Bytes>), h2::Error>>;

/// The next request. Tells the client to ask no more here when the connection is to end, or has had `enough`; what it has asked before
/// it knew is served. None is served when it is over with the client's points. The connection's window follows its bodies.
fn poll_request<S>(
    cx: &mut Context<'_>,
    connection: &mut Connection<FloodGuard<'_, S>, Bytes>,
    client: &Client,
    streams: &Streams,
    points: &Points,
    (enough, closing): (bool, &mut bool),
) -> Poll<Accepted>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if (enough || client.ends_soon()) && !*closing {
        *closing = true;
        connection.graceful_shutdown();
    }
    streams.waker.set(Some(cx.waker().clone()));
    if let Some(size) = streams.window.change(points.data()) {
        connection.set_target_window_size(size);
    }
    let accepted = connection.poll_accept(cx);
    if points.over().is_some() { Poll::Ready(None) } else { accepted }
}

/// Reads a request before its task begins, which would else carry it along.
fn read(
    client: &Client,
    request: Request<h2::RecvStream>,
    points: &Rc<Points>,
    stream: h2::StreamId,
) -> Result<(Asked, Body), Malformed> {
    if points.take_malformed(stream.as_u32()) {
        return Err(Malformed("a fragment in :path"));
    }
    let (head, recv) = request.into_parts();
    let ends = recv.is_end_stream();
    let request = Request::from_parts(head, ());
    let asked = Asked::read(client, &request, Version::Http2, ends)?;
    Ok((asked, Body::new(recv, points, stream)))
}

/// Serves a stream under its time-outs: like a connection of its own, with the client's address and the worker's limits.
async fn serve_stream(client: Rc<Client>, (asked, body): (Asked, Body), mut to_client: ToClient, open: Open) {
    let connection = open.connection();
    serve_timed(&client, &mut to_client, async |to_client| {
        stream::serve(&client, asked, body, to_client, connection).await;
    })
    .await;
}
