//! What a worker counts. Only its own thread writes, so a count is a plain load and store, and the counters of two workers
//! never share a cache line.

use crate::{
    compress::{CompressionCounters, CompressionTotals},
    observe::{
        cache_counters::{CacheCounters, CacheTotals},
        histogram::{Histogram, Times},
    },
    transport::tls::Failure,
};
use http::StatusCode;
use std::{
    iter::Sum,
    ops::Add,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// One count, written by one thread and read by any.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// One more.
    pub(crate) fn up(&self) {
        self.0.store(self.0.load(Relaxed) + 1, Relaxed);
    }

    /// One less, for what is counted while it lasts.
    pub(crate) fn down(&self) {
        self.0.store(self.0.load(Relaxed).saturating_sub(1), Relaxed);
    }

    /// So many more.
    pub(crate) fn add(&self, more: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(more), Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A worker's counters, on cache lines of their own (two: processors fetch lines in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    pub(crate) connections: Count,
    pub(crate) connections_open: Count,
    pub(crate) requests: Count,
    pub(crate) requests_active: Count,
    pub(crate) retries: Count,
    pub(crate) upstream_failures: Count,
    pub(crate) queue_refusals: Count,
    pub(crate) connections_refused: Count,
    pub(crate) connections_held: Count,
    pub(crate) connections_shed: Count,
    pub(crate) places_taken_back: Count,
    pub(crate) dials_short: Count,
    pub(crate) answers_shed: Count,
    pub(crate) mirrored: Count,
    pub(crate) mirrors_left_out: Count,
    pub(crate) mirrors_active: Count,
    pub(crate) handshakes: Count,
    pub(crate) handshakes_resumed: Count,
    pub(crate) handshakes_tls12: Count,
    pub(crate) quic_connections: Count,
    pub(crate) quic_retries: Count,
    /// By [`Failure`].
    pub(crate) handshakes_failed: [Count; Failure::COUNT],
    /// Of requests' bodies.
    pub(crate) received_bytes: Count,
    /// Of answers.
    pub(crate) sent_bytes: Count,
    /// Answers by the first digit of their status.
    answers: [Count; 6],
    /// From a request's head to its answer's.
    pub(crate) latency: Histogram,
    pub(crate) cache: CacheCounters,
    pub(crate) compression: Arc<CompressionCounters>,
}

impl Counters {
    /// Counts an answer.
    pub(crate) fn answered(&self, status: StatusCode) {
        if let Some(count) = self.answers.get(usize::from(status.as_u16() / 100)) {
            count.up();
        }
    }

    /// How many connections clients have.
    pub(crate) fn open(&self) -> u64 {
        self.connections_open.read()
    }

    /// The counts now.
    pub(crate) fn totals(&self) -> Totals {
        Totals {
            connections: self.connections.read(),
            connections_open: self.connections_open.read(),
            requests: self.requests.read(),
            requests_active: self.requests_active.read(),
            retries: self.retries.read(),
            upstream_failures: self.upstream_failures.read(),
            queue_refusals: self.queue_refusals.read(),
            connections_refused: self.connections_refused.read(),
            connections_held: self.connections_held.read(),
            connections_shed: self.connections_shed.read(),
            places_taken_back: self.places_taken_back.read(),
            dials_short: self.dials_short.read(),
            answers_shed: self.answers_shed.read(),
            mirrored: self.mirrored.read(),
            mirrors_left_out: self.mirrors_left_out.read(),
            handshakes: self.handshakes.read(),
            handshakes_resumed: self.handshakes_resumed.read(),
            handshakes_tls12: self.handshakes_tls12.read(),
            quic_connections: self.quic_connections.read(),
            quic_retries: self.quic_retries.read(),
            handshakes_failed: std::array::from_fn(|kind| self.handshakes_failed[kind].read()),
            answers: std::array::from_fn(|class| self.answers[class].read()),
            received_bytes: self.received_bytes.read(),
            sent_bytes: self.sent_bytes.read(),
            latency: self.latency.read(),
            log_lines_lost: 0,
            cache: self.cache.totals(),
            compression: self.compression.totals(),
        }
    }
}

/// The names of the kinds of failed handshakes, as [`Totals::handshakes_failed`] counts them.
pub fn handshake_failures() -> impl Iterator<Item = &'static str> {
    Failure::ALL.into_iter().map(Failure::name)
}

/// Counts since the start, of one worker or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Connections that clients opened.
    pub connections: u64,
    /// Clients' connections that are open now.
    pub connections_open: u64,
    /// Requests that were read.
    pub requests: u64,
    /// Requests that are being answered now.
    pub requests_active: u64,
    /// Further tries of requests, on the same or another server.
    pub retries: u64,
    /// Connects that failed, and connections that broke or fell silent during a request.
    pub upstream_failures: u64,
    /// Requests refused because no socket to a server was free, or came free in time.
    pub queue_refusals: u64,
    /// Connections that ended before a request: failed TLS handshakes, missing or untrusted PROXY headers.
    pub connections_refused: u64,
    /// Times that a connection had to wait because as many were open as there may be.
    pub connections_held: u64,
    /// Connections that were idle and ended to make room for others.
    pub connections_shed: u64,
    /// Requests whose clients kept a server waiting, and that ended to make room for those of others.
    pub places_taken_back: u64,
    /// Connects to servers that failed because this machine was short of file descriptors, ports or memory. The servers are not
    /// blamed for them.
    pub dials_short: u64,
    /// Answers of servers that clients of HTTP/2 did not take, and that ended because there were too many of them.
    pub answers_shed: u64,
    /// Copies of requests that went to servers of a `mirror`.
    pub mirrored: u64,
    /// Copies that did not: too many were under way, or the body was too long.
    pub mirrors_left_out: u64,
    /// TLS handshakes that succeeded.
    pub handshakes: u64,
    /// Those of them that resumed an earlier session.
    pub handshakes_resumed: u64,
    /// Those of them that came to TLS 1.2.
    pub handshakes_tls12: u64,
    /// Connections over QUIC that came to HTTP/3.
    pub quic_connections: u64,
    /// Clients that had to prove their addresses first, because many were shaking hands.
    pub quic_retries: u64,
    /// TLS handshakes that failed, by the kinds of [`handshake_failures`].
    pub handshakes_failed: [u64; Failure::COUNT],
    /// Answers by the first digit of their status: `answers[2]` are the 2xx.
    pub answers: [u64; 6],
    /// Bytes of requests' bodies.
    pub received_bytes: u64,
    /// Bytes of answers; of those in HTTP/1.1 with their heads.
    pub sent_bytes: u64,
    /// How long it took from a request's head to its answer's.
    pub latency: Times,
    /// Lines of the access log that could not be written.
    pub log_lines_lost: u64,
    /// What requests found in the cache.
    pub cache: CacheTotals,
    /// What was compressed.
    pub compression: CompressionTotals,
}

impl Totals {
    /// What has been counted since `before`. What is open or active stays as it is.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let array = |now: &[u64], then: &[u64], at: usize| now[at].saturating_sub(then[at]);
        Self {
            connections: self.connections.saturating_sub(before.connections),
            connections_open: self.connections_open,
            requests: self.requests.saturating_sub(before.requests),
            requests_active: self.requests_active,
            retries: self.retries.saturating_sub(before.retries),
            upstream_failures: self.upstream_failures.saturating_sub(before.upstream_failures),
            queue_refusals: self.queue_refusals.saturating_sub(before.queue_refusals),
            connections_refused: self.connections_refused.saturating_sub(before.connections_refused),
            connections_held: self.connections_held.saturating_sub(before.connections_held),
            connections_shed: self.connections_shed.saturating_sub(before.connections_shed),
            places_taken_back: self.places_taken_back.saturating_sub(before.places_taken_back),
            dials_short: self.dials_short.saturating_sub(before.dials_short),
            answers_shed: self.answers_shed.saturating_sub(before.answers_shed),
            mirrored: self.mirrored.saturating_sub(before.mirrored),
            mirrors_left_out: self.mirrors_left_out.saturating_sub(before.mirrors_left_out),
            handshakes: self.handshakes.saturating_sub(before.handshakes),
            handshakes_resumed: self.handshakes_resumed.saturating_sub(before.handshakes_resumed),
            handshakes_tls12: self.handshakes_tls12.saturating_sub(before.handshakes_tls12),
            quic_connections: self.quic_connections.saturating_sub(before.quic_connections),
            quic_retries: self.quic_retries.saturating_sub(before.quic_retries),
            handshakes_failed: std::array::from_fn(|kind| {
                array(&self.handshakes_failed, &before.handshakes_failed, kind)
            }),
            answers: std::array::from_fn(|class| array(&self.answers, &before.answers, class)),
            received_bytes: self.received_bytes.wrapping_sub(before.received_bytes),
            sent_bytes: self.sent_bytes.wrapping_sub(before.sent_bytes),
            latency: self.latency - before.latency,
            log_lines_lost: self.log_lines_lost.saturating_sub(before.log_lines_lost),
            cache: self.cache.since(&before.cache),
            compression: self.compression.since(&before.compression),
        }
    }
}

impl Add for Totals {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            connections: self.connections + other.connections,
            connections_open: self.connections_open + other.connections_open,
            requests: self.requests + other.requests,
            requests_active: self.requests_active + other.requests_active,
            retries: self.retries + other.retries,
            upstream_failures: self.upstream_failures + other.upstream_failures,
            queue_refusals: self.queue_refusals + other.queue_refusals,
            connections_refused: self.connections_refused + other.connections_refused,
            connections_held: self.connections_held + other.connections_held,
            connections_shed: self.connections_shed + other.connections_shed,
            places_taken_back: self.places_taken_back + other.places_taken_back,
            dials_short: self.dials_short + other.dials_short,
            answers_shed: self.answers_shed + other.answers_shed,
            mirrored: self.mirrored + other.mirrored,
            mirrors_left_out: self.mirrors_left_out + other.mirrors_left_out,
            handshakes: self.handshakes + other.handshakes,
            handshakes_resumed: self.handshakes_resumed + other.handshakes_resumed,
            handshakes_tls12: self.handshakes_tls12 + other.handshakes_tls12,
            quic_connections: self.quic_connections + other.quic_connections,
            quic_retries: self.quic_retries + other.quic_retries,
            handshakes_failed: std::array::from_fn(|kind| {
                self.handshakes_failed[kind] + other.handshakes_failed[kind]
            }),
            answers: std::array::from_fn(|class| self.answers[class] + other.answers[class]),
            received_bytes: self.received_bytes.wrapping_add(other.received_bytes),
            sent_bytes: self.sent_bytes.wrapping_add(other.sent_bytes),
            latency: self.latency + other.latency,
            log_lines_lost: self.log_lines_lost + other.log_lines_lost,
            cache: self.cache + other.cache,
            compression: self.compression + other.compression,
        }
    }
}

impl Sum for Totals {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_workers() {
        let workers = [Counters::default(), Counters::default()];
        workers[0].requests.up();
        workers[0].answered(StatusCode::OK);
        workers[1].requests.up();
        workers[1].requests_active.up();
        workers[1].requests_active.down();
        workers[1].answered(StatusCode::BAD_GATEWAY);
        let sum: Totals = workers.iter().map(Counters::totals).sum();
        let expected = Totals { requests: 2, answers: [0, 0, 1, 0, 0, 1], ..Totals::default() };
        assert_eq!(sum, expected);
    }
}
