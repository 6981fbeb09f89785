//! What a client of HTTP/2 may cost beside its requests. Frames that ask for nothing cost more to handle than to send; `h2`
//! bounds some of them (headers, streams reset before they are looked at, empty data), this bounds the rest: each costs points,
//! and points come back with time and with what is sent to the client, as a client that is served a lot has a lot to say about
//! it. Who has none left is to get a GOAWAY with ENHANCE_YOUR_CALM.

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

/// The length of the preface, and of a frame's header (RFC 9113 §3.4, §4.1).
const PREFACE: usize = 24;
const HEADER: usize = 9;

/// The points of one connection.
#[derive(Debug)]
pub(super) struct Points {
    left: Cell<u64>,
    /// Bytes sent for which no point was given yet.
    odd: Cell<u64>,
    since: Cell<Instant>,
    spent: Cell<bool>,
}

impl Points {
    fn new(now: Instant) -> Self {
        Self {
            left: Cell::new(POINTS_MAX),
            odd: Cell::new(0),
            since: Cell::new(now),
            spent: Cell::new(false),
        }
    }

    /// Whether the client has asked for more than it may.
    pub(super) fn are_spent(&self) -> bool {
        self.spent.get()
    }

    fn earn(&self, points: u64) {
        self.left.set(self.left.get().saturating_add(points).min(POINTS_MAX));
    }

    fn sent(&self, bytes: usize) {
        let bytes = self.odd.get() + bytes as u64;
        self.odd.set(bytes % BYTES_PER_POINT);
        self.earn(bytes / BYTES_PER_POINT);
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

/// Finds the frames among a client's bytes.
#[derive(Debug)]
struct Frames {
    header: [u8; HEADER],
    /// How much of a header there is.
    have: usize,
    /// What is left of a payload, or of the preface.
    rest: usize,
}

impl Frames {
    fn new() -> Self {
        Self { header: [0; HEADER], have: 0, rest: PREFACE }
    }

    /// What the frames cost whose headers end in `bytes`.
    fn cost(&mut self, mut bytes: &[u8]) -> u64 {
        let mut points = 0;
        while !bytes.is_empty() {
            let payload = self.rest.min(bytes.len());
            self.rest -= payload;
            bytes = &bytes[payload..];
            let count = (HEADER - self.have).min(bytes.len());
            self.header[self.have..self.have + count].copy_from_slice(&bytes[..count]);
            self.have += count;
            bytes = &bytes[count..];
            if self.have == HEADER {
                let [a, b, c, kind, flags, ..] = self.header;
                self.rest = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                self.have = 0;
                points += price(kind, flags, self.rest);
            }
        }
        points
    }
}

/// What a frame costs. Requests and their bodies are free: they have bounds of their own.
fn price(kind: u8, flags: u8, length: usize) -> u64 {
    const ACK_OR_END_STREAM: u8 = 1;
    match (kind, flags & ACK_OR_END_STREAM != 0) {
        // DATA that is neither data nor an end.
        (0, false) if length == 0 => 4,
        // Other DATA, HEADERS, and our SETTINGS acknowledged.
        (0 | 1, _) | (4, true) => 0,
        // RST_STREAM: a request was made for nothing; 128 at once are all that a client can have. And the answer to a PING that
        // we never sent, as `h2` writes a line to the log.
        (3, _) | (6, true) => 32,
        // WINDOW_UPDATE: some clients send two for each frame of data.
        (8, _) => 1,
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
    frames: Frames,
}

impl<'a, S> Calm<'a, S> {
    /// Of a connection that begins with the preface.
    pub(super) fn new(stream: &'a mut S, client: &'a Client) -> Self {
        let points = Rc::new(Points::new(client.worker.now()));
        Self { stream, client, points, frames: Frames::new() }
    }

    /// The account.
    pub(super) fn points(&self) -> Rc<Points> {
        self.points.clone()
    }

    /// Notes what became of an attempt to send: a client that takes nothing is not waited for.
    fn wrote<T>(&self, written: &Poll<T>, bytes: usize) {
        match written {
            Poll::Pending => self.client.progress.write_waits(),
            Poll::Ready(_) => {
                self.client.progress.wrote(self.client.worker.now());
                self.points.sent(bytes);
            }
        }
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
        let cost = self.frames.cost(&buffer.filled()[before..]);
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
        self.wrote(&written, count);
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

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let text = [
            vec![b'P'; PREFACE],
            frame(4, 0, &[0; 6]),
            frame(4, 1, &[]),
            frame(1, 5, &[9; 300]),
            frame(0, 0, &[]),
            frame(0, 1, &[]),
            frame(0, 0, &[3; 70_000]),
            frame(3, 0, &[0; 4]),
            frame(6, 0, &[0; 8]),
            frame(6, 1, &[0; 8]),
            frame(8, 0, &[0; 4]),
            frame(0x3a, 0, &[]),
        ]
        .concat();
        for size in [1, 2, 9, 23, 24, 25, 1000, text.len()] {
            let mut frames = Frames::new();
            let cost: u64 = text.chunks(size).map(|piece| frames.cost(piece)).sum();
            assert_eq!(cost, 4 + 4 + 32 + 4 + 32 + 1 + 4, "in pieces of {size}");
            assert_eq!((frames.have, frames.rest), (0, 0));
        }
    }

    #[test]
    fn points_come_back_with_time_and_with_what_is_sent() {
        let start = Instant::now();
        let points = Points::new(start);
        points.spend(POINTS_MAX, start);
        assert!(!points.are_spent());
        points.sent(31);
        points.sent(33);
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
        points.sent(1_000_000_000);
        points.spend(POINTS_MAX + 1, start + Duration::from_secs(1_000_000));
        assert!(points.are_spent());
    }
}
