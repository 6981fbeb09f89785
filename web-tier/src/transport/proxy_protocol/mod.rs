//! The PROXY protocol, versions 1 and 2: a balancer that passes TCP on says first, on each connection, whose connection it was
//! (HAProxy's `proxy-protocol.txt`). [`write`](fn@write) says it to servers.
//!
//! As a receiver, [`parse`] decides on bytes alone; [`read_header`] takes them off a socket, the header and not one byte more. Whoever may
//! speak to the listener could claim any address, so a header is taken from trusted proxies alone.

mod read;
mod v1;
mod v2;
mod write;

#[cfg(test)]
mod tests;

pub(crate) use read::{ReadError, read_header};
pub(crate) use write::{Endpoints, write};

use std::net::SocketAddr;

/// The most bytes of a header: a version 2 header of this size has some 4,000 bytes of attributes, which we have no use for.
/// (The specification lets senders rely on 536; cloud balancers add a few hundred.)
pub(crate) const HEADER_MAX: usize = 4096;

/// How far a header has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// It may become a header. All the bytes given belong to it.
    More,
    /// It is one, and ends after `length` bytes: what follows is the client's.
    Header {
        /// Bytes of the header.
        length: usize,
        /// Whose connection it is.
        source: Source,
    },
}

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A client's: `from` its address, `to` the address that it connected to.
    Client {
        /// The client.
        from: SocketAddr,
        /// Where it connected to.
        to: SocketAddr,
    },
    /// The proxy's own (`LOCAL`, a health check), or one of which it can't tell (`UNKNOWN`, Unix sockets): the socket's
    /// addresses count.
    Proxy,
}

/// Why bytes are no header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProxyProtocolError {
    /// Neither version begins like this.
    #[error("no PROXY header: the connection began with {0:?}")]
    NotProxy(String),
    /// A version 1 line of more than 107 bytes, or without CR before LF.
    #[error("a PROXY line of more than 107 bytes, or one that does not end in CRLF")]
    Line,
    /// A version 1 line whose fields are wrong.
    #[error(
        "bad PROXY line {0:?}: expected `PROXY TCP4|TCP6 source destination port port`, or `PROXY UNKNOWN`"
    )]
    Fields(String),
    /// A version 2 header of another version, or with a command that is none.
    #[error("PROXY version 2: version and command are 0x{0:02x}, expected 0x20 (LOCAL) or 0x21 (PROXY)")]
    Command(u8),
    /// A version 2 header of another family or transport; of those, only stream sockets can arrive here.
    #[error(
        "PROXY version 2: family and transport are 0x{0:02x}, expected 0x00, 0x11 (TCP4), 0x21 (TCP6) or 0x31 (Unix)"
    )]
    Family(u8),
    /// A version 2 header that is too long, or too short for its addresses.
    #[error("PROXY version 2: {length} bytes of addresses and attributes, expected {min} to {max}")]
    Length {
        /// What the header says.
        length: usize,
        /// What its family needs.
        min: usize,
        /// What is taken.
        max: usize,
    },
    /// Attributes (TLV) that do not fill the header exactly.
    #[error("PROXY version 2: an attribute of {length} bytes, and {left} are left")]
    Attribute {
        /// What the attribute says.
        length: usize,
        /// What there is.
        left: usize,
    },
}

/// Reads the header at the beginning of `bytes`. Bytes that can't become one are refused at the first that is wrong.
///
/// # Errors
/// See [`ProxyProtocolError`].
pub(crate) fn parse(bytes: &[u8]) -> Result<Step, ProxyProtocolError> {
    if begins(bytes, v1::PREFIX) {
        v1::parse(bytes)
    } else if begins(bytes, v2::SIGNATURE) {
        v2::parse(bytes)
    } else {
        Err(ProxyProtocolError::NotProxy(shown(bytes)))
    }
}

/// Whether `bytes` begin with `prefix`, as far as there are any.
fn begins(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes.iter().zip(prefix).all(|(byte, expected)| byte == expected)
}

/// The first of some bytes, as a log may show them.
fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(32)]).into_owned()
}
