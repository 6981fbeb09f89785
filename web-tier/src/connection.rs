//! One client's connection: `http1` or `http2` serves its requests, `deadline` ends it when nothing moves.

mod http1;
mod http2;
mod passing;

use crate::{
    access_log::{End, Recording},
    deadline::{Progress, Verdict},
    http1::RequestHead,
    listener::Listener,
    proxy_protocol::{self, Source},
    stream::ClientStream,
    tls::{self, TlsConnection},
    upstream::Lease,
    worker::Worker,
};
use http::StatusCode;
use http1::{After, Http1};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::poll_fn,
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
};
use tokio::{
    net::TcpStream,
    sync::Notify,
    time::{Sleep, sleep_until},
};

/// Why a request waits in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hopeless {
    /// The server has been silent for `load-balance-socket-timeout`.
    Silent,
    /// The hub says that the server's process is gone.
    Gone,
}

/// What the requests of one connection share.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) worker: Rc<Worker>,
    /// Who connected, or whom a PROXY header names.
    pub(crate) address: IpAddr,
    /// `X-Forwarded-For`: the address, written once.
    pub(crate) forwarded_for: Rc<str>,
    /// The client is one of the `trusted-proxies`.
    pub(crate) trusted: bool,
    pub(crate) tls: Option<Rc<TlsConnection>>,
    /// By which it came.
    listener: Rc<Listener>,
    pub(crate) progress: Progress,
    /// What the access log is to say of the present request.
    pub(crate) log: Recording,
    server_silent: Cell<bool>,
}

impl Client {
    fn new(worker: Rc<Worker>, address: IpAddr, listener: Rc<Listener>) -> Self {
        let progress = Progress::new(worker.read_clock());
        let address = address.to_canonical();
        let trusted = worker.routes().trusted.contains(address);
        let forwarded_for = address.to_string().into();
        let (log, server_silent) = (Recording::default(), Cell::new(false));
        Self { worker, address, forwarded_for, trusted, tls: None, listener, progress, log, server_silent }
    }

    /// A stream of this connection, with time-outs of its own.
    fn stream(&self) -> Rc<Self> {
        Rc::new(Self {
            worker: self.worker.clone(),
            forwarded_for: self.forwarded_for.clone(),
            tls: self.tls.clone(),
            listener: self.listener.clone(),
            progress: Progress::new(self.worker.now()),
            log: Recording::default(),
            server_silent: Cell::new(false),
            ..*self
        })
    }

    /// The port by which it came, as rules see it.
    pub(crate) fn local_port(&self) -> u16 {
        self.listener.port
    }

    /// Whether the connection is to end when its present requests have been answered: the worker stops, or the listener has been
    /// retired. (One that has none is closed by a stop alone: a request may be on its way.)
    fn ends_soon(&self) -> bool {
        self.worker.connections.closing() || self.listener.is_retired()
    }

    /// `X-Forwarded-Proto` of a client that is no proxy.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Whether there is no hope for an answer. The connection's timer finds out that the server is silent, and the hub's word
    /// that it is gone wakes every connection, so this costs no timer and no list.
    pub(crate) fn hopeless(&self, lease: &Lease) -> Option<Hopeless> {
        let silent = self.server_silent.take();
        if lease.is_lost() { Some(Hopeless::Gone) } else { silent.then_some(Hopeless::Silent) }
    }
}

/// Serves a client's connection to its end.
pub(crate) async fn serve(worker: Rc<Worker>, listener: Rc<Listener>, stream: TcpStream, peer: SocketAddr) {
    let entry = Entry::connection(&worker);
    // In boxes: what only a handshake, HTTP/2 or the last steps need is no part of an idle connection.
    let Some(mut http) = Box::pin(begin(&worker, listener, &entry, stream, peer)).await else { return };
    let ended = {
        let client = http.client.clone();
        let running = pin!(http.run());
        timed(&client, &entry, running).await
    };
    Box::pin(finish(http, ended, &entry)).await;
}

/// Brings a connection to its first request; one that speaks HTTP/2 is served to its end here.
async fn begin(
    worker: &Rc<Worker>,
    listener: Rc<Listener>,
    entry: &Entry<'_>,
    stream: TcpStream,
    peer: SocketAddr,
) -> Option<Box<Http1>> {
    let h2c = listener.terms.h2c;
    let opened = entry.unless_closing(Box::pin(open(worker, listener, stream, peer))).await?;
    let (client, stream) = match opened {
        Ok((client, stream)) => (Rc::new(client), stream),
        Err(cause) => {
            worker.counters.connections_refused.up();
            tracing::debug!(%cause, %peer, "a connection is refused");
            return None;
        }
    };
    if client.tls.as_ref().is_some_and(|tls| tls.h2) {
        http2::serve(&client, entry, stream).await;
        return None;
    }
    Some(Box::new(Http1::new(client, stream, h2c)))
}

async fn finish(mut http: Box<Http1>, ended: Ended<After>, entry: &Entry<'_>) {
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

/// Why a connection came to no request.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error(transparent)]
    Proxy(#[from] proxy_protocol::ReadError),
    #[error(transparent)]
    Tls(#[from] tls::HandshakeError),
}

/// Reads what comes before the first request, in `request-header-timeout` each.
async fn open(
    worker: &Rc<Worker>,
    listener: Rc<Listener>,
    mut stream: TcpStream,
    peer: SocketAddr,
) -> Result<(Client, ClientStream), OpenError> {
    let mut address = peer.ip();
    let routes = worker.routes();
    if listener.terms.proxy_protocol {
        let source =
            proxy_protocol::read_header(&mut stream, address, &routes.trusted, routes.limits.head).await?;
        if let Source::Client { from, .. } = source {
            address = from.ip();
        }
    }
    let mut client = Client::new(worker.clone(), address, listener.clone());
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
    client.tls = Some(Rc::new(connection));
    Ok((client, ClientStream::Tls(Box::new(stream))))
}

/// Why a connection or stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended<T> {
    Done(T),
    Stuck,
    Late,
}

/// Runs a connection, or a stream of one, under its time-outs.
async fn timed<T>(
    client: &Client,
    entry: &Entry<'_>,
    mut running: Pin<&mut impl Future<Output = T>>,
) -> Ended<T> {
    let timer = pin!(sleep_until((client.worker.now() + client.worker.routes().limits.shortest).into()));
    let mut timed = Timed { client, entry, timer, started: false };
    poll_fn(|cx| timed.poll(cx, running.as_mut())).await
}

struct Timed<'a> {
    client: &'a Client,
    entry: &'a Entry<'a>,
    timer: Pin<&'a mut Sleep>,
    started: bool,
}

impl Timed<'_> {
    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut running: Pin<&mut impl Future<Output = T>>,
    ) -> Poll<Ended<T>> {
        if !self.started {
            self.entry.wake_by(cx.waker());
        }
        loop {
            if let Poll::Ready(done) = running.as_mut().poll(cx) {
                return Poll::Ready(Ended::Done(done));
            }
            match self.look(cx) {
                Look::Wait => return Poll::Pending,
                Look::PollAgain => {}
                Look::Stuck => return Poll::Ready(Ended::Stuck),
                Look::Late => return Poll::Ready(Ended::Late),
            }
        }
    }

    /// Looks at the clock, if the timer has fired.
    fn look(&mut self, cx: &mut Context<'_>) -> Look {
        // Once it is polled the timer wakes this task; to poll it with each request would only cost.
        if self.started && !self.timer.is_elapsed() {
            return Look::Wait;
        }
        self.started = true;
        while self.timer.as_mut().poll(cx).is_ready() {
            let worker = &self.client.worker;
            let (now, limits) = (worker.read_clock(), worker.routes().limits);
            match self.client.progress.verdict(now, &limits) {
                Verdict::Wait(until) => self.timer.as_mut().reset(until.into()),
                Verdict::Late => return Look::Late,
                Verdict::Idle | Verdict::ClientStuck | Verdict::AnswerStuck => {
                    return Look::Stuck;
                }
                Verdict::ServerSilent => {
                    self.client.server_silent.set(true);
                    self.timer.as_mut().reset((now + limits.shortest).into());
                    self.started = false;
                    return Look::PollAgain;
                }
            }
        }
        Look::Wait
    }
}

enum Look {
    Wait,
    PollAgain,
    Stuck,
    Late,
}

/// A request that is being answered, among the worker's counts; its line is written when it is dropped.
struct Active<'a>(&'a Client);

impl<'a> Active<'a> {
    fn new(client: &'a Client) -> Self {
        client.worker.counters.requests.up();
        client.worker.counters.requests_active.up();
        client.log.begin(client.worker.access_log.borrow().as_ref());
        if let Some(tls) = &client.tls {
            client.log.note(|record| record.tls(tls));
        }
        Self(client)
    }

    /// It was read.
    fn asks(&self, head: &RequestHead) {
        self.0.log.note(|record| record.head(head));
    }

    /// It could not be read, and begins so.
    fn unread(&self, input: &[u8]) {
        self.0.log.note(|record| record.unread(input));
    }

    fn answered(&self, status: StatusCode) {
        self.0.worker.counters.answered(status);
        self.0.log.note(|record| record.answered(status));
    }

    fn ended(&self, end: End) {
        self.0.log.note(|record| record.ended(end));
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        let Client { worker, forwarded_for, log, .. } = self.0;
        worker.counters.requests_active.down();
        log.finish(worker.access_log.borrow().as_ref(), forwarded_for);
    }
}

/// The open connections of a worker, so that a stop can reach and await them.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    wakers: RefCell<HashMap<u64, Option<Waker>>>,
    next: Cell<u64>,
    closing: Cell<bool>,
    empty: Notify,
}

impl Connections {
    /// Whether the worker stops: a connection ends with the request that it has.
    fn closing(&self) -> bool {
        self.closing.get()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.wakers.borrow().len() as u64
    }

    /// Makes all of them look at what has changed.
    pub(crate) fn wake(&self) {
        for waker in self.wakers.borrow().values().flatten() {
            waker.wake_by_ref();
        }
    }

    /// Closes the idle ones, lets the others finish their request, and returns when all are gone.
    pub(crate) async fn finish(&self) {
        self.closing.set(true);
        self.wake();
        while !self.wakers.borrow().is_empty() {
            self.empty.notified().await;
        }
    }
}

/// A connection's place among the open ones, or that of a stream.
struct Entry<'a> {
    worker: &'a Worker,
    number: u64,
    is_stream: bool,
}

impl<'a> Entry<'a> {
    fn connection(worker: &'a Worker) -> Self {
        worker.counters.connections.up();
        worker.counters.connections_open.up();
        Self::new(worker, false)
    }

    fn stream(worker: &'a Worker) -> Self {
        Self::new(worker, true)
    }

    fn new(worker: &'a Worker, is_stream: bool) -> Self {
        let connections = &worker.connections;
        let number = connections.next.get();
        connections.next.set(number + 1);
        connections.wakers.borrow_mut().insert(number, None);
        Self { worker, number, is_stream }
    }

    /// Runs `opening` to its end, unless the worker stops before.
    async fn unless_closing<T>(&self, mut opening: Pin<Box<impl Future<Output = T>>>) -> Option<T> {
        poll_fn(|cx| {
            self.wake_by(cx.waker());
            match opening.as_mut().poll(cx) {
                Poll::Ready(opened) => Poll::Ready(Some(opened)),
                Poll::Pending if self.worker.connections.closing() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    fn wake_by(&self, waker: &Waker) {
        self.worker.connections.wakers.borrow_mut().insert(self.number, Some(waker.clone()));
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let connections = &self.worker.connections;
        let mut wakers = connections.wakers.borrow_mut();
        wakers.remove(&self.number);
        if wakers.is_empty() {
            connections.empty.notify_one();
        }
        if !self.is_stream {
            self.worker.counters.connections_open.down();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(sizes.0 <= 640, "{sizes:?}");
    }
}
