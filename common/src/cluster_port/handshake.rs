//! The handshake itself. One round trip more than TCP:
//!
//! ```text
//! → "COPAL" version protocol len from len to nonce(32)             the dialler's hello
//! ← nonce(32) HMAC(key, "server" ‖ hello ‖ nonce)                  the acceptor proves the key and that it is `to`
//! → HMAC(key, "client" ‖ hello ‖ nonce)  then the protocol itself  the dialler proves the key
//! ```
//!
//! Both nonces are fresh, so a recorded handshake proves nothing a second time; both proofs cover the whole hello, so
//! neither the names nor the protocol can be changed on the way; the labels keep one side's proof from being played back as
//! the other's.

use crate::{config::Secret, id::ServerId};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The handshake's version; an acceptor closes the connection on any other.
pub const VERSION: u8 = 1;

const MAGIC: &[u8; 5] = b"COPAL";
const NONCE: usize = 32;
const PROOF: usize = 32;

/// The cluster key, ready to prove with. Without a `cluster-key` (all addresses loopback) it is the empty key, which still
/// turns browsers and port scanners away.
#[derive(Clone)]
pub struct ClusterKey(Hmac<Sha256>);

impl ClusterKey {
    /// The key of a configuration.
    pub fn new(secret: &Secret) -> Self {
        Self(Hmac::new_from_slice(secret.bytes()).expect("HMAC-SHA-256 takes a key of any length"))
    }

    /// A code over `parts` that only servers with the same key can make: HMAC-SHA-256, for `purpose` alone. No code for one
    /// purpose, nor a handshake's proof, is one for another.
    pub fn code(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        mac.update(b"copal code: ");
        for part in std::iter::once(purpose.as_bytes()).chain(parts.iter().copied()) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    fn proof(&self, side: Side, hello: &[u8], nonce: &[u8; NONCE]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(side.label());
        mac.update(hello);
        mac.update(nonce);
        mac
    }
}

impl std::fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterKey(***)")
    }
}

/// Whose proof it is.
#[derive(Clone, Copy)]
enum Side {
    Server,
    Client,
}

impl Side {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Server => b"copal cluster port: server",
            Self::Client => b"copal cluster port: client",
        }
    }
}

/// What follows the handshake on the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 requests that a web-tier forwards.
    Http1,
    /// gRPC over HTTP/2.
    Grpc,
}

impl Protocol {
    fn byte(self) -> u8 {
        match self {
            Self::Http1 => 1,
            Self::Grpc => 2,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Http1, Self::Grpc].into_iter().find(|it| it.byte() == byte)
    }
}

/// What a dialler says of itself and of whom it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The dialling server.
    pub from: ServerId,
    /// The server that it means to reach: an address that was given to another server since is found out.
    pub to: ServerId,
    /// What it will speak.
    pub protocol: Protocol,
}

/// An authenticated dialler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its server id.
    pub id: ServerId,
    /// What it will speak.
    pub protocol: Protocol,
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// Not Copal at all: a browser, a port scanner.
    #[error("not a Copal server: the first bytes were {0:?}")]
    Stranger(String),
    /// Another version of the handshake.
    #[error("handshake version {0}, expected {VERSION}")]
    Version(u8),
    /// A protocol that this version does not know.
    #[error("unknown protocol {0} in the handshake, expected 1 (HTTP/1.1) or 2 (gRPC)")]
    Protocol(u8),
    /// A server's name that is empty or not UTF-8.
    #[error("a server's name in the handshake is empty or not UTF-8")]
    Name,
    /// The dialler wanted someone else.
    #[error("the dialler {from} wants server {to}, this is {me}: do the files agree on addresses and ports?")]
    WrongServer {
        /// The dialler.
        from: ServerId,
        /// Whom it wanted.
        to: ServerId,
        /// Who was reached.
        me: ServerId,
    },
    /// The proof does not fit: another `cluster-key`, or a replayed handshake.
    #[error("the proof of the cluster key is wrong: do both sides have the same cluster-key?")]
    WrongKey,
    /// The other side closed the connection in the middle: what an acceptor does with a wrong hello or proof.
    #[error(
        "the other side closed the connection during the handshake: do both sides have the same cluster-key and file?"
    )]
    Closed,
    /// The socket failed.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for HandshakeError {
    fn from(cause: io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                Self::Closed
            }
            _ => Self::Io(cause),
        }
    }
}

impl From<HandshakeError> for io::Error {
    fn from(cause: HandshakeError) -> Self {
        match cause {
            HandshakeError::Io(cause) => cause,
            HandshakeError::Closed => Self::new(io::ErrorKind::ConnectionAborted, cause),
            other => Self::new(io::ErrorKind::PermissionDenied, other),
        }
    }
}

/// The dialler's side. When it returns, the protocol can start at once: the last proof has been written, not awaited.
///
/// # Errors
/// See [`HandshakeError`]. The caller bounds the time.
pub async fn connect<S>(stream: &mut S, key: &ClusterKey, hello: &Hello) -> Result<(), HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let hello = encode(hello)?;
    stream.write_all(&hello).await?;
    let mut answer = [0; NONCE + PROOF];
    stream.read_exact(&mut answer).await?;
    let (nonce, proof) = answer.split_first_chunk::<NONCE>().ok_or(HandshakeError::Closed)?;
    key.proof(Side::Server, &hello, nonce).verify_slice(proof).map_err(|_| HandshakeError::WrongKey)?;
    stream.write_all(&key.proof(Side::Client, &hello, nonce).finalize().into_bytes()).await?;
    Ok(())
}

/// The acceptor's side, as server `me`.
///
/// # Errors
/// See [`HandshakeError`]. The caller bounds the time and closes the connection without a word.
pub async fn accept<S>(stream: &mut S, key: &ClusterKey, me: &ServerId) -> Result<Peer, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (raw, hello) = read_hello(stream).await?;
    if hello.to != *me {
        return Err(HandshakeError::WrongServer { from: hello.from, to: hello.to, me: me.clone() });
    }
    let mut nonce = [0; NONCE];
    rand::fill(&mut nonce);
    let mut answer = nonce.to_vec();
    answer.extend_from_slice(&key.proof(Side::Server, &raw, &nonce).finalize().into_bytes());
    stream.write_all(&answer).await?;
    let mut proof = [0; PROOF];
    stream.read_exact(&mut proof).await?;
    key.proof(Side::Client, &raw, &nonce).verify_slice(&proof).map_err(|_| HandshakeError::WrongKey)?;
    Ok(Peer { id: hello.from, protocol: hello.protocol })
}

fn encode(hello: &Hello) -> Result<Vec<u8>, HandshakeError> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend([VERSION, hello.protocol.byte()]);
    for name in [&hello.from, &hello.to] {
        bytes.push(u8::try_from(name.as_str().len()).map_err(|_| HandshakeError::Name)?);
        bytes.extend_from_slice(name.as_str().as_bytes());
    }
    let mut nonce = [0; NONCE];
    rand::fill(&mut nonce);
    bytes.extend_from_slice(&nonce);
    Ok(bytes)
}

/// Reads a hello, and says at its first wrong byte that it is none.
async fn read_hello<S: AsyncRead + Unpin>(stream: &mut S) -> Result<(Vec<u8>, Hello), HandshakeError> {
    let mut raw = vec![0; MAGIC.len() + 2];
    stream.read_exact(&mut raw).await?;
    let Some((magic, &[version, protocol])) = raw.split_first_chunk::<5>() else {
        return Err(HandshakeError::Closed);
    };
    if magic != MAGIC {
        return Err(HandshakeError::Stranger(String::from_utf8_lossy(&raw).into_owned()));
    }
    if version != VERSION {
        return Err(HandshakeError::Version(version));
    }
    let protocol = Protocol::from_byte(protocol).ok_or(HandshakeError::Protocol(protocol))?;
    let from = read_name(stream, &mut raw).await?;
    let to = read_name(stream, &mut raw).await?;
    let mut nonce = [0; NONCE];
    stream.read_exact(&mut nonce).await?;
    raw.extend_from_slice(&nonce);
    Ok((raw, Hello { from, to, protocol }))
}

async fn read_name<S: AsyncRead + Unpin>(
    stream: &mut S,
    raw: &mut Vec<u8>,
) -> Result<ServerId, HandshakeError> {
    let length = stream.read_u8().await?;
    let mut name = vec![0; usize::from(length)];
    stream.read_exact(&mut name).await?;
    raw.push(length);
    raw.extend_from_slice(&name);
    match String::from_utf8(name) {
        Ok(name) if !name.is_empty() => Ok(name.into()),
        _ => Err(HandshakeError::Name),
    }
}

#[cfg(test)]
mod tests;
