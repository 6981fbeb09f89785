//! One client's connection: hyper reads its requests, `proxy` answers them, `deadline` ends it when nothing moves.

use crate::{
    deadline::{Progress, Verdict},
    io::ClientIo,
    proxy,
    upstream::Lease,
    worker::Worker,
};
use http::HeaderValue;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    sync::Notify,
    time::{Sleep, sleep_until, timeout},
};

/// Sent before a connection is closed whose request never got complete.
const LATE: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// How long, and for how many bytes, a client is listened to after an answer that came before its request's end.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 4 * 1024 * 1024;

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
    /// `X-Forwarded-For`: the client's IP address, written once.
    pub(crate) forwarded_for: HeaderValue,
    pub(crate) progress: Progress,
    server_silent: Cell<bool>,
    unread: Cell<bool>,
}

impl Client {
    fn new(worker: Rc<Worker>, peer: SocketAddr) -> Self {
        let now = worker.read_clock();
        let address = peer.ip().to_canonical().to_string();
        let forwarded_for = HeaderValue::try_from(address).expect("an IP address is a header value");
        Self {
            worker,
            forwarded_for,
            progress: Progress::new(now),
            server_silent: Cell::new(false),
            unread: Cell::new(false),
        }
    }

    /// The answer left before the request was read to its end: what the client still sends is to be read when the connection
    /// closes, or the kernel resets it, and the client may never see the answer.
    pub(crate) fn leaves_unread(&self) {
        self.unread.set(true);
    }

    /// Runs `waiting` until it is done, or there is no hope for it. The connection's timer finds out that the server is silent,
    /// and the hub's word that it is gone wakes every connection, so this costs no timer and no list.
    pub(crate) async fn unless_hopeless<T>(
        &self,
        lease: &Lease,
        mut waiting: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, Hopeless> {
        self.server_silent.set(false);
        poll_fn(|cx| match waiting.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending if lease.is_lost() => Poll::Ready(Err(Hopeless::Gone)),
            Poll::Pending if self.server_silent.take() => Poll::Ready(Err(Hopeless::Silent)),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

/// Serves a client's connection to its end.
pub(crate) async fn serve(worker: Rc<Worker>, stream: TcpStream, peer: SocketAddr) {
    let entry = Entry::new(&worker);
    let client = Rc::new(Client::new(worker.clone(), peer));
    let io = TokioIo::new(ClientIo::new(stream, client.clone()));
    let service = {
        let client = client.clone();
        service_fn(move |request| proxy::serve(client.clone(), request))
    };
    let mut http = worker.http.serve_connection(io, service);
    let ended = {
        let timer = sleep_until((worker.now() + worker.limits.shortest).into());
        let mut timed =
            Timed { client: &client, entry: &entry, timer: pin!(timer), started: false, closing: false };
        poll_fn(|cx| timed.poll(cx, Pin::new(&mut http))).await
    };
    match ended {
        Ended::Done if client.unread.get() => linger(http.into_parts().io.into_inner()).await,
        Ended::Done | Ended::Stuck => {}
        Ended::HeadLate => http.into_parts().io.inner().try_last_word(LATE),
    }
}

/// Reads what a client still sends after its last answer, within bounds (nginx's `lingering_close`).
async fn linger(io: ClientIo) {
    let mut rest = io.take(LINGER_BYTES);
    let _ = timeout(LINGER, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Done,
    Stuck,
    HeadLate,
}

/// A connection under its time-outs and the worker's stop.
struct Timed<'a> {
    client: &'a Client,
    entry: &'a Entry<'a>,
    timer: Pin<&'a mut Sleep>,
    started: bool,
    closing: bool,
}

impl Timed<'_> {
    fn poll<H>(&mut self, cx: &mut Context<'_>, mut http: Pin<&mut H>) -> Poll<Ended>
    where
        H: Future<Output = hyper::Result<()>> + Closes,
    {
        if !self.started {
            self.entry.wake_by(cx.waker());
        }
        loop {
            if self.entry.worker.connections.closing() && !self.closing {
                self.closing = true;
                http.as_mut().close_gracefully();
            }
            if let Poll::Ready(result) = http.as_mut().poll(cx) {
                if let Err(cause) = result {
                    tracing::debug!(%cause, "a client's connection ended");
                }
                return Poll::Ready(Ended::Done);
            }
            match self.look(cx) {
                Look::Wait => return Poll::Pending,
                Look::PollAgain => {}
                Look::End(ended) => return Poll::Ready(ended),
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
            let now = worker.read_clock();
            match self.client.progress.verdict(now, &worker.limits) {
                Verdict::Wait(until) => self.timer.as_mut().reset(until.into()),
                Verdict::HeadLate => return Look::End(Ended::HeadLate),
                Verdict::Idle | Verdict::ClientStuck | Verdict::AnswerStuck => {
                    return Look::End(Ended::Stuck);
                }
                Verdict::ServerSilent => {
                    self.client.server_silent.set(true);
                    self.timer.as_mut().reset((now + worker.limits.shortest).into());
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
    End(Ended),
}

/// What can be told to end after the request in flight.
trait Closes {
    fn close_gracefully(self: Pin<&mut Self>);
}

impl<I, S> Closes for hyper::server::conn::http1::Connection<I, S>
where
    S: hyper::service::HttpService<hyper::body::Incoming>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::ResBody: 'static,
    <S::ResBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    fn close_gracefully(self: Pin<&mut Self>) {
        self.graceful_shutdown();
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

/// A connection's place among the open ones.
struct Entry<'a> {
    worker: &'a Worker,
    number: u64,
}

impl<'a> Entry<'a> {
    fn new(worker: &'a Worker) -> Self {
        let connections = &worker.connections;
        let number = connections.next.get();
        connections.next.set(number + 1);
        connections.wakers.borrow_mut().insert(number, None);
        worker.counters.connections.up();
        worker.counters.connections_open.up();
        Self { worker, number }
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
        self.worker.counters.connections_open.down();
    }
}
