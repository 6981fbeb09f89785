//! The cluster port: one TCP port a server for forwarded HTTP/1.1 requests and gRPC, behind a handshake that proves, both
//! ways, knowledge of the cluster key.

mod accept;
mod handshake;

pub use accept::{Acceptor, Authenticated};
pub use handshake::{ClusterKey, HandshakeError, Hello, Peer, Protocol, VERSION, accept, connect};

use crate::{id::ServerId, shortage::is_shortage};
use std::{io, time::Duration};
use tokio::net::TcpStream;

/// Connects to `address` (`host:port`) and shakes hands, within `timeout` for both together.
///
/// # Errors
/// The connect's or the handshake's, as an [`io::Error`] that names the address and the server; [`io::ErrorKind::TimedOut`]
/// past the time-out, [`io::ErrorKind::ConnectionRefused`] when nobody listens, [`io::ErrorKind::PermissionDenied`] when the
/// other side is not who was expected or has another key.
pub async fn dial(
    address: &str,
    key: &ClusterKey,
    from: &ServerId,
    to: &ServerId,
    protocol: Protocol,
    timeout: Duration,
) -> io::Result<TcpStream> {
    let dialled = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        connect(&mut stream, key, &Hello { from: from.clone(), to: to.clone(), protocol }).await?;
        Ok(stream)
    };
    let place = |cause: io::Error| match is_shortage(&cause) {
        // Of this machine: the place says nothing, and the number would be lost.
        true => cause,
        false => io::Error::new(cause.kind(), format!("{to} at {address}: {cause}")),
    };
    match tokio::time::timeout(timeout, dialled).await {
        Ok(done) => done.map_err(place),
        Err(_) => {
            Err(place(io::Error::new(io::ErrorKind::TimedOut, format!("no handshake within {timeout:?}"))))
        }
    }
}
