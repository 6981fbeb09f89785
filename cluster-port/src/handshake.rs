//! The handshake itself, inside TLS or, where the file wants none, on the bare socket. The dialler proves first: whoever connects
//! learns nothing that a key could be guessed by.
//!
//! ```text
//! → "COPAL" version protocol len from len to nonce(32)   the dialler's hello
//! ← challenge(32)                                        on a bare socket alone
//! → HMAC(key, dialler's label ‖ hello ‖ binding)         the dialler proves the key
//! ← HMAC(key, acceptor's label ‖ hello ‖ binding)        the acceptor proves the key and that it is `to`
//! ```
//!
//! Inside TLS the binding is the channel's `tls-exporter` (RFC 9266): both sides of one TLS connection have the same, and no two
//! connections do. Whoever stands between and ends TLS on both sides has two of them, and a proof for the one is none for the other.
//! On a bare socket it is the challenge. Both are fresh, and so is the hello's nonce, so a recorded handshake proves nothing a second
//! time; both proofs cover the whole hello, so neither the names nor the protocol can be changed on the way; the labels keep a proof
//! of one side, or of a bare socket, from being one of the other, or inside TLS.

use crate::{
    key::ClusterKey,
    roster::{Rights, Roster},
};
use common::id::{ID_MAX, ServerId, is_id};
use hmac::Mac;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The handshake's version; an acceptor closes the connection on any other.
pub const VERSION: u8 = 2;

pub(crate) const MAGIC: &[u8; 5] = b"COPAL";
const NONCE: usize = 32;
const PROOF: usize = 32;

/// What makes a connection different from all others.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Binding {
    /// There is nothing: the acceptor sends a challenge.
    Challenge,
    /// The exporter of the TLS connection below (RFC 9266).
    Exporter([u8; NONCE]),
}

impl Binding {
    fn labels(self) -> Labels {
        match self {
            Self::Challenge => Labels {
                dialler: "copal cluster port 2, plain: dialler",
                acceptor: "copal cluster port 2, plain: acceptor",
            },
            Self::Exporter(_) => Labels {
                dialler: "copal cluster port 2, in TLS: dialler",
                acceptor: "copal cluster port 2, in TLS: acceptor",
            },
        }
    }
}

/// Whose proof it is. None of them begins with another, or with that of a [code](ClusterKey::code).
struct Labels {
    dialler: &'static str,
    acceptor: &'static str,
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
pub(crate) struct Hello {
    /// The dialling server.
    pub(crate) from: ServerId,
    /// The server that it means to reach: an address that was given to another server since is found out.
    pub(crate) to: ServerId,
    /// What it will speak.
    pub(crate) protocol: Protocol,
}

/// An authenticated dialler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its server id.
    pub id: ServerId,
    /// What it will speak.
    pub protocol: Protocol,
    /// What it may do.
    pub rights: Rights,
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// Not Copal at all: a browser, a port scanner.
    #[error("not a Copal server: the first bytes were {0:?}")]
    Stranger(String),
    /// Another version of the handshake.
    #[error(
        "handshake version {0}, expected {VERSION}: all servers of a cluster have to run the same version"
    )]
    Version(u8),
    /// A protocol that this version does not know.
    #[error("unknown protocol {0} in the handshake, expected 1 (HTTP/1.1) or 2 (gRPC)")]
    Protocol(u8),
    /// What can't be a server's id.
    #[error(
        "a server's name in the handshake is {0:?}: expected 1 to {ID_MAX} characters of A-Z a-z 0-9 . _ -"
    )]
    Name(String),
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
    /// The dialler has the key, and is none of the file's servers.
    #[error(
        "the dialler calls itself {0}, and this server's file has no such server: give it the same file, and reload"
    )]
    Unknown(ServerId),
    /// The dialler is of the file, and has no listeners there.
    #[error("the dialler {0} wants to forward requests, and has no `http` listener in this server's file")]
    NoListener(ServerId),
    /// The dialler's certificate is another server's.
    #[error("the dialler calls itself {0}, and its certificate does not bear that name")]
    WrongCertificate(ServerId),
    /// The proof does not fit: another `cluster-key`, a replayed handshake, or somebody in between.
    #[error(
        "the proof of the cluster key is wrong: do both sides have the same cluster-key? If so, somebody sits in between"
    )]
    WrongKey,
    /// The dialler does not encrypt.
    #[error(
        "a server dials without encryption, and this server's file wants it: do the files agree on `cluster-encryption` and addresses? \
         `optional` takes both while it is changed"
    )]
    NotEncrypted,
    /// The dialler encrypts.
    #[error(
        "a server dials with encryption, and this server's file wants none here: do the files agree on `cluster-encryption` and \
         addresses? `optional` takes both while it is changed"
    )]
    Encrypted,
    /// TLS does not come about: with `cluster-tls`, mostly a certificate.
    #[error("TLS: {0}")]
    Tls(rustls::Error),
    /// Nothing came at all: a server of ours, or a monitor, looks whether anybody listens.
    #[error("the other side closed the connection without a word")]
    Silent,
    /// The other side closed the connection at the sight of TLS.
    #[error(
        "the other side closed the connection before TLS had begun: its log says why; does its file have the same cluster-encryption?"
    )]
    NoTls,
    /// The other side closed the connection in the middle: what an acceptor does with a wrong hello or proof.
    #[error(
        "the other side closed the connection during the handshake: its log says why; do both sides have the same cluster-key, \
         cluster-encryption and file?"
    )]
    Closed,
    /// The socket failed.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for HandshakeError {
    fn from(cause: io::Error) -> Self {
        if let Some(tls) = cause.get_ref().and_then(|it| it.downcast_ref()) {
            return Self::Tls(rustls::Error::clone(tls));
        }
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
            HandshakeError::Closed | HandshakeError::NoTls => {
                Self::new(io::ErrorKind::ConnectionAborted, cause)
            }
            other => Self::new(io::ErrorKind::PermissionDenied, other),
        }
    }
}

/// The dialler's side. When it returns, the other side has proved the key, and the protocol can start.
///
/// # Errors
/// See [`HandshakeError`]. The caller bounds the time.
pub(crate) async fn connect<S>(
    stream: &mut S,
    key: &ClusterKey,
    binding: Binding,
    hello: &Hello,
) -> Result<(), HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let hello = encode(hello)?;
    let (labels, mut bound) = (binding.labels(), [0; NONCE]);
    let mut first = hello.clone();
    match binding {
        Binding::Challenge => {
            stream.write_all(&first).await?;
            first.clear();
            stream.read_exact(&mut bound).await?;
        }
        Binding::Exporter(exported) => bound = exported,
    }
    first.extend_from_slice(&key.proof(labels.dialler, [&hello, &bound]).finalize().into_bytes());
    stream.write_all(&first).await?;
    stream.flush().await?;
    let mut proof = [0; PROOF];
    stream.read_exact(&mut proof).await?;
    let expected = key.proof(labels.acceptor, [&hello, &bound]);
    expected.verify_slice(&proof).map_err(|_| HandshakeError::WrongKey)
}

/// The acceptor's side, as server `me` among those of `roster`; it proves that of `keys` which the dialler has proved. `bears` says whether the dialler has a certificate with a name, where
/// it needs one. Nothing is said of the names before the key is proved.
///
/// # Errors
/// See [`HandshakeError`]. The caller bounds the time and closes the connection without a word.
pub(crate) async fn accept<S>(
    stream: &mut S,
    keys: &[ClusterKey],
    binding: Binding,
    me: &ServerId,
    roster: &Roster,
    bears: impl Fn(&ServerId) -> bool,
) -> Result<Peer, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (raw, hello) = read_hello(stream).await?;
    let (labels, mut bound) = (binding.labels(), [0; NONCE]);
    match binding {
        Binding::Challenge => {
            rand::fill(&mut bound);
            stream.write_all(&bound).await?;
        }
        Binding::Exporter(exported) => bound = exported,
    }
    let mut proof = [0; PROOF];
    stream.read_exact(&mut proof).await?;
    let proves = |key: &&ClusterKey| key.proof(labels.dialler, [&raw, &bound]).verify_slice(&proof).is_ok();
    let key = keys.iter().find(proves).ok_or(HandshakeError::WrongKey)?;
    let peer = admit(hello, me, roster, bears)?;
    stream.write_all(&key.proof(labels.acceptor, [&raw, &bound]).finalize().into_bytes()).await?;
    stream.flush().await?;
    Ok(peer)
}

/// Whether one that has the key may come in as whom it says it is.
fn admit(
    hello: Hello,
    me: &ServerId,
    roster: &Roster,
    bears: impl Fn(&ServerId) -> bool,
) -> Result<Peer, HandshakeError> {
    let Hello { from, to, protocol } = hello;
    if !bears(&from) {
        return Err(HandshakeError::WrongCertificate(from));
    }
    if to != *me {
        return Err(HandshakeError::WrongServer { from, to, me: me.clone() });
    }
    match roster.rights(&from) {
        None => Err(HandshakeError::Unknown(from)),
        Some(rights) if !rights.may_speak(protocol) => Err(HandshakeError::NoListener(from)),
        Some(rights) => Ok(Peer { id: from, protocol, rights }),
    }
}

fn encode(hello: &Hello) -> Result<Vec<u8>, HandshakeError> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend([VERSION, hello.protocol.byte()]);
    for name in [&hello.from, &hello.to] {
        let length = u8::try_from(name.as_str().len()).ok().filter(|_| is_id(name.as_str()));
        bytes.push(length.ok_or_else(|| HandshakeError::Name(name.to_string()))?);
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

/// A name by the rule of the file, so that whoever logs it need not fear what is in it.
async fn read_name<S: AsyncRead + Unpin>(
    stream: &mut S,
    raw: &mut Vec<u8>,
) -> Result<ServerId, HandshakeError> {
    let length = stream.read_u8().await?;
    let mut name = vec![0; usize::from(length)];
    stream.read_exact(&mut name).await?;
    raw.push(length);
    raw.extend_from_slice(&name);
    match str::from_utf8(&name) {
        Ok(name) if is_id(name) => Ok(name.into()),
        _ => Err(HandshakeError::Name(String::from_utf8_lossy(&name).into_owned())),
    }
}

#[cfg(test)]
mod tests;
