//! What the configuration gives clients: time-outs and a least rate.

use common::config::Server;
use std::time::Duration;

/// However short a time-out is, the timer fires no more often than this.
const SHORTEST: Duration = Duration::from_millis(50);

/// The configured time-outs of this server's clients.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// `keepalive-timeout`: an idle connection waits this long for a request.
    pub(crate) keepalive: Duration,
    /// `request-header-timeout`: from a head's first byte to its last.
    pub(crate) head: Duration,
    /// `socket-timeout`: the client takes nothing of the answer, or sends nothing of its body.
    pub(crate) socket: Duration,
    /// `request-rate-min`, in bytes a second; 0: any.
    pub(crate) rate_min: u32,
    /// The shortest time-out there is, those of silent servers included: how far the timer may be set.
    pub(crate) shortest: Duration,
}

impl Limits {
    /// Of the clients of `server`, before upstream servers that may be silent for `silence` at least.
    pub(crate) fn new(server: &Server, silence: Duration) -> Self {
        let (keepalive, head, socket) =
            (server.keepalive_timeout, server.request_header_timeout, server.socket_timeout);
        let shortest = keepalive.min(head).min(socket).min(silence).max(SHORTEST);
        let rate_min = server.request_limits.rate_min.map_or(0, u32::from);
        Self { keepalive, head, socket, rate_min, shortest }
    }
}
