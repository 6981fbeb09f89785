//! Where a process listens, and new connections to it.

use crate::body::Body;
use common::shortage::is_shortage;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use std::{fmt, io, net::SocketAddr, path::PathBuf, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

/// A process on this machine accepts at once, or its queue is full.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// An app's answer may have as many fields, and a head of as many bytes, as a web-tier takes of any server.
const FIELDS_MAX: usize = 250;
const HEAD_MAX: usize = 64 * 1024;

/// Where a process listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A loopback port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl Target {
    /// A new HTTP/1.1 connection.
    ///
    /// # Errors
    /// Nobody listens, or not within two seconds.
    pub(crate) async fn connect(&self) -> io::Result<SendRequest<Body>> {
        let connected = async {
            match self {
                Self::Tcp(address) => {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    speak(stream).await
                }
                Self::Unix(path) => speak(UnixStream::connect(path).await?).await,
            }
        };
        within(connected).await
    }

    /// Whether somebody listens.
    ///
    /// # Errors
    /// As [`Target::connect`].
    pub(crate) async fn probe(&self) -> io::Result<()> {
        let connected = async {
            match self {
                Self::Tcp(address) => TcpStream::connect(address).await.map(drop),
                Self::Unix(path) => UnixStream::connect(path).await.map(drop),
            }
        };
        within(connected).await
    }

    /// Whether no connection was made for want of something here: nothing was learned of the process then. It listens on this
    /// machine, so that an address that is not available means that the ports are used up.
    pub(crate) fn is_short(&self, cause: &io::Error) -> bool {
        is_shortage(cause)
            || (matches!(self, Self::Tcp(_)) && cause.kind() == io::ErrorKind::AddrNotAvailable)
    }
}

async fn within<T>(connected: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(CONNECT_TIMEOUT, connected).await.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {CONNECT_TIMEOUT:?}")))
    })
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> io::Result<SendRequest<Body>> {
    let shaken =
        Builder::new().max_buf_size(HEAD_MAX).max_headers(FIELDS_MAX).handshake(TokioIo::new(stream)).await;
    let (sender, connection) = shaken.map_err(io::Error::other)?;
    tokio::spawn(async move {
        if let Err(cause) = connection.with_upgrades().await {
            tracing::debug!(%cause, "connection to an app ended");
        }
    });
    Ok(sender)
}
