//! One client's connection: `http1`, `http2` or `http3` serves its requests, `deadline` ends it when nothing moves.

mod budget;
mod http1;
mod http2;
mod http3;
mod passing;
mod stream;
mod streams;
mod timed;
mod window;

use crate::{
    http1::RequestHead,
    observe::{
        access_log::{AccessLog, End},
        notable::CutOff,
    },
    proxy::{Reply, local::Local, why},
    route::trusted::Peer,
    transport::{
        listener::Listener,
        proxy_protocol::{self, Source},
        stream::ClientStream,
        tls,
    },
    worker::{Worker, client::Client, connections::Entry, opening::Opening},
};
use http::StatusCode;
use http1::{After, Http1};
use std::{
    borrow::Cow,
    future::poll_fn,
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    time::{Duration, Instant},
};
use stream::sides::AnswerSide;
use timed::{Ended, timed};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

/// How long a client may take for the answer that it was too slow.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Serves a client's connection to its end.
pub(crate) fn serve(
    worker: Rc<Worker>,
    listener: Rc<Listener>,
    stream: TcpStream,
    peer: SocketAddr,
) -> impl Future<Output = ()> {
    // In boxes, and the arguments with it: what only a handshake, HTTP/2 or the last steps need is no part of an idle connection.
    // It counts from now on, not from when its task first runs.
    let entry = Entry::connection(&worker);
    let opening = Box::pin(begin(entry, worker, listener, stream, peer));
    async move {
        let Some((mut http, entry)) = opening.await else { return };
        let ended = {
            let client = http.client.clone();
            let running = pin!(http.run());
            timed(&client, &entry, running).await
        };
        Box::pin(finish(http, ended, &entry)).await;
    }
}

/// Brings a connection to its first request; one that speaks HTTP/2 is served to its end here.
async fn begin(
    entry: Entry,
    worker: Rc<Worker>,
    listener: Rc<Listener>,
    stream: TcpStream,
    peer: SocketAddr,
) -> Option<(Box<Http1>, Entry)> {
    let h2c = listener.terms.h2c;
    let opened = entry.unless_closing(Box::pin(open(&worker, listener, stream, peer))).await?;
    let (client, stream) = match opened {
        Ok((client, stream)) => (Rc::new(client), stream),
        Err(cause) => {
            if !matches!(cause, OpenError::Acme) {
                worker.counters.connections_refused.up();
            }
            tracing::debug!(%cause, %peer, "a connection is refused");
            return None;
        }
    };
    if client.tls.as_ref().is_some_and(|tls| tls.h2) {
        http2::serve(&client, &entry, stream).await;
        return None;
    }
    Some((Box::new(Http1::new(client, stream, h2c)), entry))
}

async fn finish(mut http: Box<Http1>, ended: Ended<After>, entry: &Entry) {
    match ended {
        Ended::Done(After::Http2) => {
            let client = http.client.clone();
            http2::serve(&client, entry, http.into_stream()).await;
        }
        Ended::Done(after) => http.end(after).await,
        Ended::Stuck => {}
        Ended::Late => http.last_word().await,
    }
}

/// Serves a client's connection over QUIC to its end.
pub(crate) fn serve_quic(
    worker: Rc<Worker>,
    listener: Rc<Listener>,
    connecting: quinn::Connecting,
    opening: Opening,
) -> impl Future<Output = ()> {
    http3::serve(worker, listener, connecting, opening)
}

/// Why a connection came to no request.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error(transparent)]
    Proxy(#[from] proxy_protocol::ReadError),
    #[error(transparent)]
    Tls(#[from] tls::HandshakeError),
    /// It has seen what it wanted.
    #[error("it was the authority of ACME, by acme-tls/1")]
    Acme,
}

/// Reads what comes before the first request, in `request-header-timeout` each.
async fn open(
    worker: &Rc<Worker>,
    listener: Rc<Listener>,
    mut stream: TcpStream,
    peer: SocketAddr,
) -> Result<(Client, ClientStream), OpenError> {
    let routes = worker.routes();
    let source = if listener.terms.proxy_protocol {
        proxy_protocol::read_header(&mut stream, peer.ip(), &routes.trusted, routes.limits.head).await?
    } else {
        Source::Proxy
    };
    let from = match source {
        Source::Client { from, to } => Peer::new(from, Some(to), Some(peer.ip())),
        // A system call that is not made for nothing.
        Source::Proxy if routes.tells_endpoints => Peer::new(peer, stream.local_addr().ok(), None),
        Source::Proxy => Peer::new(peer, None, None),
    };
    let mut client = Client::new(worker.clone(), from, listener.clone());
    let Some(tls) = &listener.terms.tls else { return Ok((client, ClientStream::Plain(stream))) };
    let accepted = tls::accept(tls.current(), stream, routes.limits.head).await;
    let (stream, connection) = accepted.inspect_err(|cause| {
        worker.counters.handshakes_failed[cause.failure() as usize].up();
    })?;
    worker.counters.handshakes.up();
    if connection.resumed {
        worker.counters.handshakes_resumed.up();
    }
    if !connection.tls13 {
        worker.counters.handshakes_tls12.up();
    }
    if connection.is_acme {
        let mut stream = stream;
        let _gone = timeout(routes.limits.head, stream.shutdown()).await;
        return Err(OpenError::Acme);
    }
    client.tls = Some(Rc::new(connection));
    Ok((client, ClientStream::Tls(Box::new(stream))))
}

/// Serves a stream of a connection under its time-outs: `serving` does. Where it has not begun to answer when the request does not
/// come in time, the client is told so.
async fn serve_timed<A: AnswerSide>(client: &Client, to_client: &mut A, serving: impl AsyncFnOnce(&mut A)) {
    let entry = Entry::stream(&client.worker);
    let ended = {
        let running = pin!(serving(to_client));
        let ended = timed(client, &entry, running).await;
        if ended == Ended::Late {
            // While its line is not written.
            client.worker.counters.answered(StatusCode::REQUEST_TIMEOUT);
            client.log.note(|record| {
                record.answered(StatusCode::REQUEST_TIMEOUT);
                record.failed(Some("the request did not come in time".into()));
            });
        }
        ended
    };
    if ended == Ended::Late && to_client.begin(stream::head::late(&client.worker.date.get()), true).is_ok() {
        // The rest of the body is not wanted: `h2` resets the stream behind the answer, with NO_ERROR (RFC 9113 §8.1).
        let _ = timeout(LAST_WORD, poll_fn(|cx| to_client.poll_flushed(cx))).await;
    }
}

/// A request that is being answered, among the worker's counts; its line is written when it is dropped.
struct Active<'a> {
    client: &'a Client,
    /// When its head had been read.
    begun: Instant,
}

impl<'a> Active<'a> {
    fn new(client: &'a Client) -> Self {
        client.worker.counters.requests.up();
        client.worker.counters.requests_active.up();
        if client.worker.records_requests() {
            client.log.begin(&client.worker.records);
        }
        if let Some(tls) = &client.tls {
            client.log.note(|record| record.tls(tls));
        }
        Self { client, begun: client.worker.read_clock() }
    }

    /// It was read.
    fn asks(&self, head: &RequestHead) {
        let log = self.client.worker.access_log.borrow();
        let names = log.as_ref().map_or(&[][..], AccessLog::headers);
        self.client.log.note(|record| record.head(head, names));
    }

    /// It could not be read, and begins so.
    fn unread(&self, input: &[u8]) {
        self.client.log.note(|record| record.unread(input));
    }

    /// It is known what answers it.
    fn decided(&self, head: &RequestHead, reply: &Reply) {
        self.noted(head, reply.status(), || why::why(reply));
    }

    /// What a server said is of no use to the client, which is told so.
    fn refused(&self, head: &RequestHead, local: &Local) {
        self.noted(head, local.head.status, || why::why_here(local));
    }

    fn noted(&self, head: &RequestHead, status: StatusCode, why: impl FnOnce() -> Option<Cow<'static, str>>) {
        let worker = &self.client.worker;
        worker.notable.answered(head, status, why, (self.taken(), worker.wall()));
    }

    /// Its server did this in the middle of an answer that had begun.
    fn cut(&self, head: &RequestHead, status: StatusCode, why: CutOff) {
        let worker = &self.client.worker;
        worker.notable.cut(head, status, why, (self.taken(), worker.wall()));
        self.client.log.note(|record| record.failed(Some(Cow::Borrowed(why.words()))));
    }

    /// The access log hears why an answer of this status is an error, if it is one.
    fn because(&self, status: StatusCode, why: impl FnOnce() -> Option<Cow<'static, str>>) {
        if status.is_client_error() || status.is_server_error() {
            self.client.log.note(|record| record.failed(why()));
        }
    }

    /// Since it was read, as of the last look at the clock: that was when its server answered.
    fn taken(&self) -> Duration {
        self.client.worker.now().saturating_duration_since(self.begun)
    }

    fn answered(&self, status: StatusCode) {
        let worker = &self.client.worker;
        worker.counters.answered(status);
        worker.counters.latency.note(worker.read_clock().saturating_duration_since(self.begun));
        self.client.log.note(|record| record.answered(status));
    }

    fn ended(&self, end: End) {
        self.client.log.note(|record| record.ended(end));
    }
}

/// An answer that is passed on. Dropped before it is over, it was cut off, which is told where its server was silent.
struct Underway<'a> {
    active: &'a Active<'a>,
    request: &'a RequestHead,
    status: StatusCode,
    over: bool,
}

impl<'a> Underway<'a> {
    fn new(active: &'a Active<'a>, request: &'a RequestHead, status: StatusCode) -> Self {
        Self { active, request, status, over: false }
    }

    /// It came to an end, or its server `broke` off.
    fn over(mut self, broke: bool) {
        self.over = true;
        if broke {
            self.active.cut(self.request, self.status, CutOff::Broke);
        }
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        let Client { worker, progress, .. } = self.active.client;
        if !self.over && progress.is_answer_stuck(worker.now(), &worker.routes().limits) {
            self.active.cut(self.request, self.status, CutOff::Silent);
        }
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        let Client { worker, peer, log, .. } = self.client;
        worker.counters.requests_active.down();
        self.client.request_ended();
        log.finish(worker.access_log.borrow().as_ref(), &peer.text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::deadline::Progress;
    use tokio::time::Sleep;

    fn size_of_future<A, B, C, D, R>(_: fn(A, B, C, D) -> R) -> usize {
        size_of::<R>()
    }

    /// Ten thousand idle connections hold one each.
    #[test]
    fn what_an_idle_connection_holds_is_small() {
        let sizes = (
            size_of_future(serve),
            size_of::<Client>(),
            size_of::<Http1>(),
            size_of::<Sleep>(),
            size_of::<Progress>(),
        );
        // With the runtime's 104 bytes for a task, 256; the other two, the counts of an `Rc` included, 128 each. (Without
        // optimisation a socket has 8 more.)
        assert!(sizes.0 <= 152 && sizes.1 <= 112 && sizes.2 <= 136, "{sizes:?}");
    }
}
