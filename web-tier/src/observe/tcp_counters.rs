//! What a worker counts of the connections of a `tcp-proxy` listener.

use super::counters::Count;
use proto::status::v1::{RefusedCount, TcpListener};

/// Why a connection was not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There was no PROXY header, or not from a trusted proxy.
    ProxyHeader,
    /// By `allow` and `deny`.
    Denied,
    /// By `rate-limit` or `connection-limit`.
    Limited,
    /// There are as many as the limit of open files allows beside those of HTTP.
    Full,
    /// Its ClientHello was not whole in time, or is none that can be read.
    ClientHello,
    /// No route takes it, and there is no default.
    NoRoute,
    /// No server could be reached, or had room.
    NoServer,
}

impl Refusal {
    pub(crate) const ALL: [Self; 7] = [
        Self::ProxyHeader,
        Self::Denied,
        Self::Limited,
        Self::Full,
        Self::ClientHello,
        Self::NoRoute,
        Self::NoServer,
    ];

    /// As metrics have it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::ProxyHeader => "proxy-header",
            Self::Denied => "denied",
            Self::Limited => "limited",
            Self::Full => "full",
            Self::ClientHello => "client-hello",
            Self::NoRoute => "no-route",
            Self::NoServer => "no-server",
        }
    }

    /// The status of its line in the access log: those of nginx's `stream`.
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::ProxyHeader | Self::ClientHello => 400,
            Self::Denied => 403,
            Self::NoRoute => 404,
            Self::Limited | Self::Full => 503,
            Self::NoServer => 502,
        }
    }
}

/// The counts of one worker.
#[derive(Debug, Default)]
pub(crate) struct TcpCounters {
    pub(crate) connections: Count,
    pub(crate) open: Count,
    refused: [Count; Refusal::ALL.len()],
    /// Connects to servers that failed.
    pub(crate) connects_failed: Count,
    /// Nothing moved for `idle-timeout`.
    pub(crate) timed_out: Count,
    /// From clients, and to them.
    pub(crate) received_bytes: Count,
    pub(crate) sent_bytes: Count,
}

impl TcpCounters {
    pub(crate) fn refused(&self, why: Refusal) {
        self.refused[why as usize].up();
    }

    /// What they are at present.
    pub(crate) fn report(&self, name: &str) -> TcpListener {
        let refused = Refusal::ALL
            .into_iter()
            .map(|why| RefusedCount { why: why.word().to_owned(), count: self.refused[why as usize].read() });
        TcpListener {
            name: name.to_owned(),
            connections: self.connections.read(),
            connections_open: self.open.read(),
            refused: refused.collect(),
            connects_failed: self.connects_failed.read(),
            timed_out: self.timed_out.read(),
            received_bytes: self.received_bytes.read(),
            sent_bytes: self.sent_bytes.read(),
        }
    }
}

/// Each listener once, with the sum of what the workers have counted.
pub(super) fn merged(of_workers: impl Iterator<Item = Vec<TcpListener>>) -> Vec<TcpListener> {
    let mut all: Vec<TcpListener> = Vec::new();
    for it in of_workers.flatten() {
        let Some(sum) = all.iter_mut().find(|known| known.name == it.name) else {
            all.push(it);
            continue;
        };
        sum.connections += it.connections;
        sum.connections_open += it.connections_open;
        sum.connects_failed += it.connects_failed;
        sum.timed_out += it.timed_out;
        sum.received_bytes += it.received_bytes;
        sum.sent_bytes += it.sent_bytes;
        for (sum, more) in sum.refused.iter_mut().zip(it.refused) {
            sum.count += more.count;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_counts_come_together() {
        let (one, two) = (TcpCounters::default(), TcpCounters::default());
        one.connections.up();
        two.connections.up();
        two.refused(Refusal::NoServer);
        two.sent_bytes.add(7);
        let of_workers = [vec![one.report("a")], vec![two.report("a"), two.report("b")]];
        let merged = merged(of_workers.into_iter());
        let counts = |it: &TcpListener| (it.connections, it.sent_bytes, it.refused[6].count);
        assert_eq!(merged.iter().map(counts).collect::<Vec<_>>(), [(2, 7, 1), (1, 7, 1)]);
        assert!(Refusal::ALL.into_iter().enumerate().all(|(place, why)| why as usize == place));
    }
}
