//! What a client of HTTP/2 may cost beside its requests. Frames that ask for nothing cost more to handle than to send; `h2`
//! bounds some of them (headers, streams reset before they are looked at, empty data), this bounds the rest: each costs points,
//! and so does each stream that we have to reset. Points come back with time, with what is sent to the client, as a client that
//! is served a lot has a lot to say about it, and with each answer: a request that is answered makes up for one that is reset,
//! however long the connection lives. Who has none left is to get a GOAWAY with ENHANCE_YOUR_CALM. A frame that no client may
//! send ends the connection too, before `h2` would wait for the rest of it.

use super::{
    batch::Batch,
    blocks::Blocks,
    frames::{
        ACK_OR_END_STREAM, DATA, Found, Frame, Frames, HEADERS, PING, PUSH_PROMISE, RST_STREAM, SETTINGS,
        WINDOW_UPDATE,
    },
};
use crate::{
    client::budget::{Budget, RESET},
    worker::client::Client,
};
use h2::Reason;
use std::{
    cell::{Cell, RefCell},
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Instant,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes sent to the client that bring a point.
const BYTES_PER_POINT: u64 = 32;

/// Streams that the client made `h2` reset, over the connection's life: beyond it `h2` ends the connection. This bounds what a
/// flood leaves in memory before the resets are sent, which is when they cost points.
pub(super) const FAULTS_MAX: usize = 1024;

/// Streams that are known to be malformed and are still to be reset.
const MALFORMED_MAX: usize = 256;

/// Frames without data that `h2` takes over a connection's life (its `MAX_RECV_EMPTY_DATA_FRAMES`).
const EMPTY_MAX: usize = 100;

/// The points of one connection.
#[derive(Debug)]
pub(super) struct Points {
    budget: Budget,
    /// Bytes sent for which no point was given yet.
    odd: Cell<u64>,
    /// Why nothing is read any more.
    over: Cell<Option<Reason>>,
    /// Bytes of bodies that the client has sent, with their padding.
    data: Cell<u64>,
    /// Streams that we have reset.
    resets: Cell<usize>,
    /// Frames of the client with no data in them, nor an end.
    empty: Cell<usize>,
    /// Streams with a block that `h2` takes and must not.
    malformed: RefCell<Vec<u32>>,
}

impl Points {
    fn new(now: Instant) -> Self {
        Self {
            budget: Budget::new(now),
            odd: Cell::new(0),
            over: Cell::new(None),
            data: Cell::new(0),
            resets: Cell::new(0),
            empty: Cell::new(0),
            malformed: RefCell::default(),
        }
    }

    /// Why the connection is to end, if it is: the client has asked for more than it may, or has sent what no client may send.
    pub(super) fn over(&self) -> Option<Reason> {
        self.over.get()
    }

    /// How many bytes of bodies the client has sent (RFC 9113 §6.9.1: with their padding).
    pub(super) fn data(&self) -> u64 {
        self.data.get()
    }

    /// Whether the last block of a stream is malformed. It is asked once.
    pub(super) fn take_malformed(&self, stream: u32) -> bool {
        let mut malformed = self.malformed.borrow_mut();
        let place = malformed.iter().position(|it| *it == stream);
        place.map(|place| malformed.swap_remove(place)).is_some()
    }

    /// Notes what the client has sent.
    fn received(&self, frames: &Received, now: Instant) {
        let mut malformed = self.malformed.borrow_mut();
        malformed.extend_from_slice(&frames.malformed);
        if malformed.len() > MALFORMED_MAX {
            self.over.set(Some(Reason::ENHANCE_YOUR_CALM));
        }
        self.data.set(self.data.get() + frames.data);
        self.empty.set(self.empty.get() + frames.empty);
        self.spend(frames.cost, now);
        if frames.forbidden {
            self.over.set(Some(Reason::PROTOCOL_ERROR));
        }
    }

    /// Whether something comes near its bound that `h2` counts over a connection's whole life.
    pub(super) fn are_worn(&self) -> bool {
        self.resets.get() >= FAULTS_MAX / 2 || self.empty.get() >= EMPTY_MAX / 2
    }

    /// Bytes were sent, with the beginning of these frames among them.
    fn sent(&self, bytes: usize, answers: u64, resets: usize, now: Instant) {
        let bytes = self.odd.get() + bytes as u64;
        self.odd.set(bytes % BYTES_PER_POINT);
        self.budget.earn(bytes / BYTES_PER_POINT + answers * RESET);
        self.resets.set(self.resets.get() + resets);
        self.spend(resets as u64 * RESET, now);
    }

    fn spend(&self, points: u64, now: Instant) {
        if !self.budget.spend(points, now) {
            self.over.set(Some(Reason::ENHANCE_YOUR_CALM));
        }
    }
}

/// Frames that a client has sent.
#[derive(Debug, Default)]
struct Received {
    cost: u64,
    data: u64,
    /// Those of DATA with no data in them, nor an end.
    empty: usize,
    /// There is one that no client may send.
    forbidden: bool,
    /// Streams with a block that is malformed.
    malformed: Vec<u32>,
}

impl Received {
    fn note(&mut self, frame: Frame) {
        self.cost += price(frame);
        if frame.kind == DATA {
            self.data += frame.length as u64;
            self.empty += usize::from(frame.length == 0 && frame.flags & ACK_OR_END_STREAM == 0);
        }
        self.forbidden |= is_forbidden(frame);
    }
}

/// Whether a client may never send it: a promise (RFC 9113 §8.4), or a request on a stream that is none of a client's (§5.1.1).
/// `h2` says so when it has the frame's last CONTINUATION.
fn is_forbidden(frame: Frame) -> bool {
    frame.kind == PUSH_PROMISE || (frame.kind == HEADERS && frame.stream.is_multiple_of(2))
}

/// What a frame costs. Requests and their bodies are free: they have bounds of their own.
fn price(frame: Frame) -> u64 {
    match (frame.kind, frame.flags & ACK_OR_END_STREAM != 0) {
        // DATA that is neither data nor an end.
        (DATA, false) if frame.length == 0 => 4,
        // Other DATA, HEADERS, and our SETTINGS acknowledged.
        (DATA | HEADERS, _) | (SETTINGS, true) => 0,
        (RST_STREAM, _) => RESET,
        // The answer to a PING that we never sent, mostly: `h2` writes a line to the log.
        (PING, true) => 32,
        // Some clients send two for each frame of data.
        (WINDOW_UPDATE, _) => 1,
        // PRIORITY, SETTINGS, PING, GOAWAY, CONTINUATION, and what nobody knows.
        _ => 4,
    }
}

/// A client's connection with an account of what is said on it.
#[derive(Debug)]
pub(super) struct FloodGuard<'a, S> {
    stream: Rc<Batch<'a, S>>,
    client: &'a Client,
    points: Rc<Points>,
    received: Frames,
    blocks: Blocks,
    sent: Frames,
}

impl<'a, S> FloodGuard<'a, S> {
    /// Of a connection that begins with the preface.
    pub(super) fn new(stream: Rc<Batch<'a, S>>, client: &'a Client) -> Self {
        let points = Rc::new(Points::new(client.worker.now()));
        let (received, sent) = (Frames::of_client(), Frames::of_server());
        Self { stream, client, points, received, blocks: Blocks::default(), sent }
    }

    /// The account.
    pub(super) fn points(&self) -> Rc<Points> {
        self.points.clone()
    }

    /// Where what is written waits.
    pub(super) fn batch(&self) -> Rc<Batch<'a, S>> {
        self.stream.clone()
    }

    /// Notes what became of an attempt to send: a client that takes nothing is not waited for.
    fn wrote(&mut self, written: &Poll<io::Result<usize>>, pieces: &[IoSlice<'_>]) {
        if written.is_pending() {
            return self.client.progress.write_waits();
        }
        let now = self.client.worker.now();
        self.client.progress.wrote(now);
        let Poll::Ready(Ok(count)) = *written else { return };
        let (mut answers, mut resets, mut left) = (0, 0, count);
        for piece in pieces {
            let sent = &piece[..left.min(piece.len())];
            left -= sent.len();
            self.sent.each(sent, |found| match found {
                Found::Frame(Frame { kind: HEADERS, .. }) => answers += 1,
                Found::Frame(Frame { kind: RST_STREAM, .. }) => resets += 1,
                _ => {}
            });
        }
        self.points.sent(count, answers, resets, now);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for FloodGuard<'_, S> {
    /// Once it is over nothing is read any more, and nobody woken: whoever polls is to ask for the points.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.points.over().is_some() {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(self.stream.with(|stream| stream.poll_read(cx, buffer)))?;
        let me = &mut *self;
        let mut received = Received::default();
        me.received.each(&buffer.filled()[before..], |found| match found {
            Found::Frame(frame) => {
                received.note(frame);
                me.blocks.begin(frame);
            }
            Found::Payload(bytes) => received.malformed.extend(me.blocks.payload(bytes)),
        });
        me.points.received(&received, me.client.worker.now());
        if me.points.over().is_some() {
            buffer.set_filled(before);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for FloodGuard<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.stream.with(|stream| stream.poll_write(cx, bytes));
        self.wrote(&written, &[IoSlice::new(bytes)]);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream.with(|stream| stream.poll_write_vectored(cx, pieces));
        self.wrote(&written, pieces);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.with(|stream| stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.with(|stream| stream.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::budget::POINTS_MAX;
    use std::time::Duration;

    #[test]
    fn points_come_back_with_time_and_with_what_is_sent() {
        let start = Instant::now();
        let points = Points::new(start);
        points.spend(POINTS_MAX, start);
        assert!(points.over().is_none());
        points.sent(31, 0, 0, start);
        points.sent(33, 0, 0, start);
        points.spend(2, start);
        assert!(points.over().is_none(), "64 bytes are two points");
        let later = start + Duration::from_millis(500);
        points.spend(32, later);
        assert!(points.over().is_none(), "half a second is 32 points");
        points.spend(1, later);
        assert!(points.over().is_some());
    }

    #[test]
    fn no_more_than_the_most_is_saved_up() {
        let start = Instant::now();
        let points = Points::new(start);
        points.sent(1_000_000_000, 9, 0, start);
        points.spend(POINTS_MAX + 1, start + Duration::from_secs(1_000_000));
        assert!(points.over().is_some());
    }

    #[test]
    fn as_many_requests_as_may_be_under_way_can_be_reset_at_once_and_not_twice_as_many() {
        let start = Instant::now();
        let points = Points::new(start);
        let streams = super::super::STREAMS_MAX as usize;
        points.spend(1000, start);
        points.sent(13 * streams, 0, streams, start);
        assert!(points.over().is_none());
        points.sent(13 * streams, 0, streams, start);
        assert!(points.over().is_some());
    }

    #[test]
    fn an_answer_makes_up_for_a_reset_and_a_life_of_them_wears_out() {
        let start = Instant::now();
        let points = Points::new(start);
        for number in 0..100_000 {
            assert_eq!(points.are_worn(), number >= FAULTS_MAX / 2, "{number}");
            points.sent(20, 1, 0, start);
            points.spend(price(Frame { kind: RST_STREAM, flags: 0, stream: 1, length: 4 }), start);
            points.sent(20, 1, 1, start);
        }
        assert!(points.over().is_none());
    }
}
