//! The cluster port: one TCP port a server for forwarded HTTP/1.1 requests and gRPC, in TLS 1.3 unless the file says otherwise, behind
//! a handshake that proves, both ways, knowledge of the cluster key. docs/cluster-port.md says who can and can't do what.

mod accept;
mod credentials;
mod handshake;
mod key;
mod roster;
mod stream;
mod tls;
mod watch;

#[cfg(test)]
mod tests;

pub use accept::{Acceptor, Authenticated, Port};
pub use credentials::{Credentials, Reread};
use handshake::Hello;
pub use handshake::{HandshakeError, Peer, Protocol, VERSION};
pub use key::ClusterKey;
pub use roster::{Rights, Roster};
pub use stream::Stream;
pub use watch::watch;

use common::{config::Encryption, id::ServerId, shortage::is_shortage};
use std::{io, time::Duration};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

/// Connects to `address` (`host:port`, as the file has it: it decides whether the connection is encrypted) and shakes hands, within
/// `timeout` for all together.
///
/// # Errors
/// The connect's or the handshake's, as an [`io::Error`] that names the address and the server; [`io::ErrorKind::TimedOut`]
/// past the time-out, [`io::ErrorKind::ConnectionRefused`] when nobody listens, [`io::ErrorKind::PermissionDenied`] when the
/// other side is not who was expected or has another key.
pub async fn dial(
    address: &str,
    credentials: &Credentials,
    from: &ServerId,
    to: &ServerId,
    protocol: Protocol,
    timeout: Duration,
) -> io::Result<Stream> {
    let hello = Hello { from: from.clone(), to: to.clone(), protocol };
    let dialled = async {
        match credentials.encryption(address) {
            Encryption::Plain => connect(address, credentials, &hello, false).await,
            Encryption::Encrypted => connect(address, credentials, &hello, true).await,
            Encryption::Either => match connect(address, credentials, &hello, true).await {
                // It may be one whose file says `false`, or that has other certificates yet. A wrong proof is no reason.
                Err(HandshakeError::Tls(_) | HandshakeError::NoTls) => {
                    connect(address, credentials, &hello, false).await
                }
                done => done,
            },
        }
    };
    let place = |cause: io::Error| match is_shortage(&cause) {
        // Of this machine: the place says nothing, and the number would be lost.
        true => cause,
        false => io::Error::new(cause.kind(), format!("{to} at {address}: {cause}")),
    };
    match tokio::time::timeout(timeout, dialled).await {
        Ok(done) => done.map_err(|cause| place(cause.into())),
        Err(_) => {
            Err(place(io::Error::new(io::ErrorKind::TimedOut, format!("no handshake within {timeout:?}"))))
        }
    }
}

/// As [`dial`], by a task of its own that goes on while nobody polls this, and ends when this is dropped. For a gRPC channel, which
/// leaves a connection where it is when the call that wanted it is given up, until there is another call: the other side would
/// wait for a handshake in vain, and refuse it.
///
/// # Errors
/// As [`dial`]'s.
pub async fn dial_in_task(
    address: String,
    credentials: Credentials,
    from: ServerId,
    to: ServerId,
    protocol: Protocol,
    timeout: Duration,
) -> io::Result<Stream> {
    let dialled = async move { dial(&address, &credentials, &from, &to, protocol, timeout).await };
    AbortOnDropHandle::new(tokio::spawn(dialled)).await?
}

async fn connect(
    address: &str,
    credentials: &Credentials,
    hello: &Hello,
    encrypted: bool,
) -> Result<Stream, HandshakeError> {
    let socket = TcpStream::connect(address).await.map_err(HandshakeError::Io)?;
    socket.set_nodelay(true).map_err(HandshakeError::Io)?;
    credentials.connect(socket, hello, encrypted).await
}
