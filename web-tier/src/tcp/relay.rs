//! Bytes on their way between a client and a server, until both have ended. They are read into memory that all connections of a worker
//! share and written on at once; what the other side does not take waits in memory of its own, and until it is taken no more is read.
//! `way` has the rest.

mod way;

use super::{Passage, servers::Connected};
use crate::{
    limit::Permit,
    observe::access_log::End,
    upstream::{Lease, pool::Connection},
    worker::connections::Entry,
};
use cluster_port::Stream;
use socket2::SockRef;
use std::{
    mem,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{
    net::TcpStream,
    time::{Sleep, sleep_until},
};
use way::{Broke, Way};

/// A server that breaks off within this, before anybody has said a word, is in trouble. Later it may be tired of a client that says nothing.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(1);

/// What is read at once.
const READ_MAX: usize = 128 * 1024;

/// A connection that is passed on. It is a future; dropped before its end, both sides are reset, so that nobody takes what has come for
/// the whole.
pub(super) struct Relay {
    passage: Passage,
    client: TcpStream,
    server: Connection,
    up: Way,
    down: Way,
    /// When anything last moved.
    moved: Instant,
    idle_timeout: Duration,
    timer: Pin<Box<Sleep>>,
    /// The timer wakes the task.
    is_set: bool,
    over: bool,
    lease: Lease,
    _permits: Vec<Permit>,
    _entry: Entry,
}

impl Relay {
    pub(super) fn new(
        entry: Entry,
        passage: Passage,
        permits: Vec<Permit>,
        client: TcpStream,
        connected: Connected,
    ) -> Self {
        let Connected { server, lease, idle_timeout } = connected;
        let moved = passage.worker.now();
        let timer = Box::pin(sleep_until((moved + idle_timeout).into()));
        Self {
            passage,
            client,
            server,
            up: Way::default(),
            down: Way::default(),
            moved,
            idle_timeout,
            timer,
            is_set: false,
            over: false,
            lease,
            _permits: permits,
            _entry: entry,
        }
    }

    fn poll_ways(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let worker = self.passage.worker.clone();
        let mut memory = worker.passed_on.borrow_mut();
        if memory.is_empty() {
            memory.resize(READ_MAX, 0);
        }
        let up = self.up.poll(cx, (&mut self.client, &mut self.server.stream), (&mut memory, &worker.pipes));
        let down = match &up {
            Poll::Ready(Err(_)) => Poll::Pending,
            _ => {
                let sides = (&mut self.server.stream, &mut self.client);
                self.down.poll(cx, sides, (&mut memory, &worker.pipes))
            }
        };
        drop(memory);
        self.count();
        match (up, down) {
            (Poll::Ready(Err(broke)), _) => Poll::Ready(self.broke(broke, true)),
            (_, Poll::Ready(Err(broke))) => Poll::Ready(self.broke(broke, false)),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(End::Complete),
            _ => Poll::Pending,
        }
    }

    /// Counts what has moved since it was last looked at.
    fn count(&mut self) {
        let (received, sent) = (mem::take(&mut self.up.passed), mem::take(&mut self.down.passed));
        if received + sent > 0 {
            self.moved = self.passage.worker.now();
            self.passage.counters.received_bytes.add(received);
            self.passage.counters.sent_bytes.add(sent);
        }
    }

    /// Sorts out whose fault it is.
    fn broke(&self, broke: Broke, up: bool) -> End {
        let (cause, of_client) = match broke {
            Broke::Source(cause) => (cause, up),
            Broke::Sink(cause) => (cause, !up),
        };
        tracing::debug!(%cause, of_client, "a connection that is passed on broke");
        if of_client {
            return End::ClientGone;
        }
        // A client could make it reset the connection by what it says, by its end, or by saying nothing for long: that is no fault of the server's.
        let now = self.passage.worker.read_clock();
        let is_fresh = now.saturating_duration_since(self.moved) < AT_ONCE;
        if self.up.total == 0 && self.down.total == 0 && !self.up.ended && is_fresh {
            self.lease.broke(now);
        }
        End::ServerBroke
    }

    /// Whether nothing has moved for too long.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Once it is polled the timer wakes this task; to poll it each time would only cost.
        if self.is_set && !self.timer.is_elapsed() {
            return Poll::Pending;
        }
        self.is_set = true;
        while self.timer.as_mut().poll(cx).is_ready() {
            let until = self.moved + self.idle_timeout;
            if until <= self.passage.worker.read_clock() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(until.into());
        }
        Poll::Pending
    }

    fn end(&mut self, end: End, why: Option<&'static str>) {
        self.over = end == End::Complete;
        self.passage.log.note(|record| {
            record.ended(end);
            record.failed(why.map(Into::into));
        });
    }
}

impl Future for Relay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Poll::Ready(end) = self.poll_ways(cx) {
            let why = (end == End::ServerBroke).then_some("the server broke off");
            self.end(end, why);
            return Poll::Ready(());
        }
        if self.poll_idle(cx).is_ready() {
            self.passage.counters.timed_out.up();
            self.end(End::Cut, Some("nothing moved for `idle-timeout`"));
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let (received, sent) = (self.up.total, self.down.total);
        self.passage.log.note(|record| record.passed(received, sent));
        if !self.over {
            reset(&self.client);
            match &self.server.stream {
                Stream::Plain(tcp) => reset(tcp),
                // That no alert says it was the end is enough; a Unix socket knows no reset.
                Stream::Encrypted(_) | Stream::Local(_) => {}
            }
        }
    }
}

/// Lets a socket end with a reset.
fn reset(tcp: &TcpStream) {
    let _ = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
}
