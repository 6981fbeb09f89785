//! A connection to a server: a socket, with TLS on it or without. One branch an operation is what the plain one pays.

use socket2::SockRef;
use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsStream;

/// A connection between two servers. On an encrypted one a write may be kept back in part until it is flushed.
#[derive(Debug)]
pub enum Stream {
    /// The socket as it is.
    Plain(TcpStream),
    /// The same to a process of this machine, by a Unix socket: for servers that are not ours.
    Local(UnixStream),
    /// With TLS 1.3 on it.
    Encrypted(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Whether there is TLS on it.
    pub fn is_encrypted(&self) -> bool {
        matches!(self, Self::Encrypted(_))
    }

    /// Whether an idle connection is as it was: the other side has neither closed it nor said anything that nobody asked for. As
    /// long as the runtime knows of nothing to read, this is no system call.
    pub fn is_quiet(&self) -> bool {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Local(socket) => {
                let peek = || SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]);
                let looked = socket.try_io(Interest::READABLE, peek);
                return looked.is_err_and(|cause| cause.kind() == io::ErrorKind::WouldBlock);
            }
            Self::Encrypted(tls) => {
                let (socket, session) = tls.get_ref();
                // What was said is decrypted already, or the end has been announced.
                if !session.wants_read() {
                    return false;
                }
                socket
            }
        };
        let peek = || SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]);
        let looked = socket.try_io(Interest::READABLE, peek);
        looked.is_err_and(|cause| cause.kind() == io::ErrorKind::WouldBlock)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buffer),
            Self::Local(socket) => Pin::new(socket).poll_read(cx, buffer),
            Self::Encrypted(tls) => Pin::new(tls).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Local(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Encrypted(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Self::Local(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Self::Encrypted(tls) => Pin::new(tls).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Local(socket) => Pin::new(socket).poll_flush(cx),
            Self::Encrypted(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Local(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Encrypted(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
