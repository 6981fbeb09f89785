//! What a client of HTTP/2 may cost beside its requests. Frames that ask for nothing cost more to handle than to send; `h2`
//! bounds some of them (headers, streams reset before they are looked at, empty data), this bounds the rest: each costs points,
//! and so does each stream that we have to reset. Points come back with time, with what is sent to the client, as a client that
//! is served a lot has a lot to say about it, and with each answer: a request that is answered makes up for one that is reset,
//! however long the connection lives. Who has none left is to get a GOAWAY with ENHANCE_YOUR_CALM.

use super::frames::{ACK_OR_END_STREAM, DATA, Frames, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE};
use crate::connection::Client;
use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Instant,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Points that a connection begins with, and never has more of.
const POINTS_MAX: u64 = 4096;

/// Points that come back in a second.
const POINTS_PER_SECOND: u64 = 64;

/// Bytes sent to the client that bring a point.
const BYTES_PER_POINT: u64 = 32;

/// What a stream costs that is reset, by either side: a request was made for nothing ("rapid reset", "made you reset"). As many
/// as a client can have under way may be reset at once, with points to spare. An answer's head brings as much.
const RESET: u64 = 24;

/// Streams that the client made `h2` reset, over the connection's life: beyond it `h2` ends the connection. This bounds what a
/// flood leaves in memory before the resets are sent, which is when they cost points.
pub(super) const FAULTS_MAX: usize = 1024;

/// Frames without data that `h2` takes over a connection's life (its `MAX_RECV_EMPTY_DATA_FRAMES`).
const EMPTY_MAX: usize = 100;

/// The points of one connection.
#[derive(Debug)]
pub(super) struct Points {
    left: Cell<u64>,
    /// Bytes sent for which no point was given yet.
    odd: Cell<u64>,
    since: Cell<Instant>,
    spent: Cell<bool>,
    /// Streams that we have reset.
    resets: Cell<usize>,
    /// Frames of the client with no data in them, nor an end.
    empty: Cell<usize>,
}

impl Points {
    fn new(now: Instant) -> Self {
        Self {
            left: Cell::new(POINTS_MAX),
            odd: Cell::new(0),
            since: Cell::new(now),
            spent: Cell::new(false),
            resets: Cell::new(0),
            empty: Cell::new(0),
        }
    }

    /// Whether the client has asked for more than it may.
    pub(super) fn are_spent(&self) -> bool {
        self.spent.get()
    }

    /// Whether something comes near its bound that `h2` counts over a connection's whole life.
    pub(super) fn are_worn(&self) -> bool {
        self.resets.get() >= FAULTS_MAX / 2 || self.empty.get() >= EMPTY_MAX / 2
    }

    fn earn(&self, points: u64) {
        self.left.set(self.left.get().saturating_add(points).min(POINTS_MAX));
    }

    /// Bytes were sent, with the beginning of these frames among them.
    fn sent(&self, bytes: usize, answers: u64, resets: usize, now: Instant) {
        let bytes = self.odd.get() + bytes as u64;
        self.odd.set(bytes % BYTES_PER_POINT);
        self.earn(bytes / BYTES_PER_POINT + answers * RESET);
        self.resets.set(self.resets.get() + resets);
        self.spend(resets as u64 * RESET, now);
    }

    fn spend(&self, points: u64, now: Instant) {
        if points == 0 {
            return;
        }
        let passed = now.saturating_duration_since(self.since.get()).as_millis();
        let earned = u64::try_from(passed).unwrap_or(u64::MAX).saturating_mul(POINTS_PER_SECOND) / 1000;
        if earned > 0 {
            self.since.set(now);
            self.earn(earned);
        }
        match self.left.get().checked_sub(points) {
            Some(left) => self.left.set(left),
            None => self.spent.set(true),
        }
    }
}

/// What a frame costs. Requests and their bodies are free: they have bounds of their own.
fn price(kind: u8, flags: u8, length: usize) -> u64 {
    match (kind, flags & ACK_OR_END_STREAM != 0) {
        // DATA that is neither data nor an end.
        (DATA, false) if length == 0 => 4,
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
pub(super) struct Calm<'a, S> {
    stream: &'a mut S,
    client: &'a Client,
    points: Rc<Points>,
    received: Frames,
    sent: Frames,
}

impl<'a, S> Calm<'a, S> {
    /// Of a connection that begins with the preface.
    pub(super) fn new(stream: &'a mut S, client: &'a Client) -> Self {
        let points = Rc::new(Points::new(client.worker.now()));
        Self { stream, client, points, received: Frames::of_client(), sent: Frames::of_server() }
    }

    /// The account.
    pub(super) fn points(&self) -> Rc<Points> {
        self.points.clone()
    }

    /// Notes what became of an attempt to send: a client that takes nothing is not waited for.
    fn wrote<T>(&mut self, written: &Poll<T>, bytes: &[u8]) {
        if written.is_pending() {
            return self.client.progress.write_waits();
        }
        let now = self.client.worker.now();
        self.client.progress.wrote(now);
        let (mut answers, mut resets) = (0, 0);
        self.sent.each(bytes, |kind, _, _| match kind {
            HEADERS => answers += 1,
            RST_STREAM => resets += 1,
            _ => {}
        });
        self.points.sent(bytes.len(), answers, resets, now);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Calm<'_, S> {
    /// Once the points are spent nothing is read any more, and nobody woken: whoever polls is to ask for the points.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.points.are_spent() {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut *self.stream).poll_read(cx, buffer))?;
        let me = &mut *self;
        let (mut cost, mut empty) = (0, 0);
        let bytes = &buffer.filled()[before..];
        me.received.each(bytes, |kind, flags, length| {
            cost += price(kind, flags, length);
            empty += usize::from((kind, flags & ACK_OR_END_STREAM, length) == (DATA, 0, 0));
        });
        self.points.empty.set(self.points.empty.get() + empty);
        self.points.spend(cost, self.client.worker.now());
        if self.points.are_spent() {
            buffer.set_filled(before);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Calm<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *self.stream).poll_write(cx, bytes);
        let count = if let Poll::Ready(Ok(count)) = written { count } else { 0 };
        self.wrote(&written, &bytes[..count]);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn points_come_back_with_time_and_with_what_is_sent() {
        let start = Instant::now();
        let points = Points::new(start);
        points.spend(POINTS_MAX, start);
        assert!(!points.are_spent());
        points.sent(31, 0, 0, start);
        points.sent(33, 0, 0, start);
        points.spend(2, start);
        assert!(!points.are_spent(), "64 bytes are two points");
        let later = start + Duration::from_millis(500);
        points.spend(32, later);
        assert!(!points.are_spent(), "half a second is 32 points");
        points.spend(1, later);
        assert!(points.are_spent());
    }

    #[test]
    fn no_more_than_the_most_is_saved_up() {
        let start = Instant::now();
        let points = Points::new(start);
        points.sent(1_000_000_000, 9, 0, start);
        points.spend(POINTS_MAX + 1, start + Duration::from_secs(1_000_000));
        assert!(points.are_spent());
    }

    #[test]
    fn as_many_requests_as_may_be_under_way_can_be_reset_at_once_and_not_twice_as_many() {
        let start = Instant::now();
        let points = Points::new(start);
        let streams = super::super::STREAMS_MAX as usize;
        points.spend(1000, start);
        points.sent(13 * streams, 0, streams, start);
        assert!(!points.are_spent());
        points.sent(13 * streams, 0, streams, start);
        assert!(points.are_spent());
    }

    #[test]
    fn an_answer_makes_up_for_a_reset_and_a_life_of_them_wears_out() {
        let start = Instant::now();
        let points = Points::new(start);
        for number in 0..100_000 {
            assert_eq!(points.are_worn(), number >= FAULTS_MAX / 2, "{number}");
            points.sent(20, 1, 0, start);
            points.spend(price(RST_STREAM, 0, 4), start);
            points.sent(20, 1, 1, start);
        }
        assert!(!points.are_spent());
    }
}
