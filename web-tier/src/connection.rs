//! One client's connection: `http1` serves its requests, `deadline` ends it when nothing moves.

mod http1;
mod passing;

use crate::{
    deadline::{Progress, Verdict},
    upstream::Lease,
    worker::Worker,
};
use http1::{After, Http1};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::poll_fn,
    net::SocketAddr,
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
    /// `X-Forwarded-For`: the client's IP address, written once.
    pub(crate) forwarded_for: String,
    pub(crate) progress: Progress,
    server_silent: Cell<bool>,
}

impl Client {
    fn new(worker: Rc<Worker>, peer: SocketAddr) -> Self {
        let now = worker.read_clock();
        let forwarded_for = peer.ip().to_canonical().to_string();
        Self { worker, forwarded_for, progress: Progress::new(now), server_silent: Cell::new(false) }
    }

    /// Whether there is no hope for an answer. The connection's timer finds out that the server is silent, and the hub's word
    /// that it is gone wakes every connection, so this costs no timer and no list.
    pub(crate) fn hopeless(&self, lease: &Lease) -> Option<Hopeless> {
        let silent = self.server_silent.take();
        if lease.is_lost() { Some(Hopeless::Gone) } else { silent.then_some(Hopeless::Silent) }
    }
}

/// Serves a client's connection to its end.
pub(crate) async fn serve(worker: Rc<Worker>, stream: TcpStream, peer: SocketAddr) {
    let entry = Entry::new(&worker);
    let client = Rc::new(Client::new(worker.clone(), peer));
    let mut http = Http1::new(client.clone(), stream);
    let ended = {
        let timer = sleep_until((worker.now() + worker.limits.shortest).into());
        let mut timed = Timed { client: &client, entry: &entry, timer: pin!(timer), started: false };
        let mut running = pin!(http.run());
        poll_fn(|cx| timed.poll(cx, running.as_mut())).await
    };
    match ended {
        Ended::Done(after) => http.end(after).await,
        Ended::Stuck => {}
        Ended::HeadLate => http.try_last_word(),
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Done(After),
    Stuck,
    HeadLate,
}

/// A connection under its time-outs and the worker's stop.
struct Timed<'a> {
    client: &'a Client,
    entry: &'a Entry<'a>,
    timer: Pin<&'a mut Sleep>,
    started: bool,
}

impl Timed<'_> {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut running: Pin<&mut impl Future<Output = After>>,
    ) -> Poll<Ended> {
        if !self.started {
            self.entry.wake_by(cx.waker());
        }
        loop {
            if let Poll::Ready(after) = running.as_mut().poll(cx) {
                return Poll::Ready(Ended::Done(after));
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
