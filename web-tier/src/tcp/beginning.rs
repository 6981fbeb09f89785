//! Looks at how a client's connection begins, and takes nothing of it off the socket: whoever it goes to gets it as it came.

use super::client_hello::{BYTES_MAX, Beginning, ClientHello, ClientHelloError, parse};
use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};
use std::{io, time::Duration};
use tokio::{io::Interest, net::TcpStream, time::timeout};

/// Room for a ClientHello as browsers send it.
const ROOM: usize = 4096;

/// How it begins.
#[derive(Debug)]
pub(super) enum Begun {
    /// With a ClientHello.
    Hello(ClientHello),
    /// With something else; or the client waits for the server to speak first, or has ended already.
    Other,
}

/// Why it can't be told.
#[derive(Debug, thiserror::Error)]
pub(super) enum BeginningError {
    #[error("{0} bytes of a ClientHello within {1:?}")]
    Late(usize, Duration),
    #[error("the connection ended after {0} bytes of a ClientHello")]
    Ended(usize),
    #[error(transparent)]
    Hello(#[from] ClientHelloError),
    #[error("reading the ClientHello: {0}")]
    Io(#[from] io::Error),
}

/// Waits for a whole ClientHello, or for what shows that none comes, for as long as `within`.
///
/// # Errors
/// See [`BeginningError`].
pub(super) async fn look(stream: &TcpStream, within: Duration) -> Result<Begun, BeginningError> {
    let mut seen = 0;
    match timeout(within, watch(stream, &mut seen)).await {
        Ok(begun) => begun,
        // In many protocols the server speaks first.
        Err(_) if seen == 0 => Ok(Begun::Other),
        Err(_) => Err(BeginningError::Late(seen, within)),
    }
}

async fn watch(stream: &TcpStream, seen: &mut usize) -> Result<Begun, BeginningError> {
    let mut bytes = vec![0; ROOM];
    loop {
        let ready = stream.ready(Interest::READABLE).await?;
        // As long as there is nothing new it is as if there was nothing: then the runtime waits for the next segment.
        let count = stream.try_io(Interest::READABLE, || match peek(stream, &mut bytes)? {
            count if count == *seen && count > 0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        });
        match count {
            Ok(0) => return Ok(Begun::Other),
            Ok(count) => *seen = count,
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                if ready.is_read_closed() {
                    return Err(BeginningError::Ended(*seen));
                }
                continue;
            }
            Err(cause) => return Err(cause.into()),
        }
        match parse(&bytes[..*seen])? {
            Beginning::Hello(hello) => return Ok(Begun::Hello(hello)),
            Beginning::NotTls => return Ok(Begun::Other),
            Beginning::More if *seen == bytes.len() => bytes.resize(BYTES_MAX, 0),
            Beginning::More => {}
        }
    }
}

fn peek(stream: &TcpStream, bytes: &mut [u8]) -> io::Result<usize> {
    loop {
        match recv(stream, &mut *bytes, RecvFlags::PEEK) {
            Ok((count, _)) => return Ok(count.min(bytes.len())),
            Err(Errno::INTR) => {}
            Err(cause) => return Err(cause.into()),
        }
    }
}
