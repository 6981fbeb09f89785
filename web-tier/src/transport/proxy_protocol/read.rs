//! Takes a PROXY header off a socket, and leaves the client's bytes in it.

use super::{HEADER_MAX, ProxyProtocolError, Source, Step, parse};
use common::cidr::CidrSet;
use std::{io, net::IpAddr, time::Duration};
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

/// Why a connection is closed before its first request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// Someone who is no trusted proxy: anyone could claim any address.
    #[error("{0} is not one of `trusted-proxies`, and this listener takes connections from them alone")]
    Untrusted(IpAddr),
    /// No header in time.
    #[error("no PROXY header within {0:?}")]
    Timeout(Duration),
    /// The peer went before its header was whole.
    #[error("the connection ended after {0} bytes of the PROXY header")]
    Ended(usize),
    /// What came is no header.
    #[error(transparent)]
    Header(#[from] ProxyProtocolError),
    /// The socket failed.
    #[error("reading the PROXY header: {0}")]
    Io(#[from] io::Error),
}

/// Reads the header of a connection that was accepted from `peer`, and nothing after it.
///
/// # Errors
/// See [`ReadError`]; the connection is then to be closed without an answer.
pub(crate) async fn read_header(
    stream: &mut TcpStream,
    peer: IpAddr,
    trusted: &CidrSet,
    limit: Duration,
) -> Result<Source, ReadError> {
    if !trusted.contains(peer) {
        return Err(ReadError::Untrusted(peer));
    }
    timeout(limit, read(stream)).await.unwrap_or(Err(ReadError::Timeout(limit)))
}

/// Looks before it takes: what was seen is read only as far as it belongs to the header, so what comes after it stays in the
/// socket; and whatever was seen of an unfinished header is taken, so the next look waits for new bytes.
async fn read(stream: &mut TcpStream) -> Result<Source, ReadError> {
    let mut buffer = Vec::with_capacity(256);
    let mut taken = 0;
    loop {
        let room = if taken < 128 { 256 } else { HEADER_MAX };
        buffer.resize(room.max(taken + 1), 0);
        let seen = taken + stream.peek(&mut buffer[taken..]).await?;
        if seen == taken {
            return Err(ReadError::Ended(taken));
        }
        let (upto, source) = match parse(&buffer[..seen])? {
            Step::Header { length, source } => (length, Some(source)),
            Step::More => (seen, None),
        };
        stream.read_exact(&mut buffer[taken..upto]).await?;
        taken = upto;
        if let Some(source) = source {
            return Ok(source);
        }
    }
}
