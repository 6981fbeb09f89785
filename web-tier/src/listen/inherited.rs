//! Listening sockets that this process did not bind: it got them from the process that it takes over from, or from the service manager.

use super::bind::BoundListener;
use socket2::Socket;
use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
};

/// Sockets that wait for the listener of the file that they belong to.
#[derive(Debug, Default)]
pub struct Inherited(Vec<InheritedSocket>);

#[derive(Debug)]
struct InheritedSocket {
    /// The listener of the file that they were bound for, where whoever bound them has said so: of port 0 too.
    asked: Option<SocketAddr>,
    at: SocketAddr,
    socket: TcpListener,
}

/// The sockets of one listener, to be handed to another process.
#[derive(Debug)]
pub struct ListenerSockets {
    /// What the file says, its name resolved.
    pub asked: SocketAddr,
    /// Copies of all of them, one for each worker at least.
    pub sockets: Vec<OwnedFd>,
}

impl Inherited {
    /// Takes a socket that listens. `asked`: the address in the file, where it is known.
    ///
    /// # Errors
    /// It is no TCP socket that listens, or there are too many open files.
    pub fn add(&mut self, socket: &OwnedFd, asked: Option<SocketAddr>) -> io::Result<()> {
        // The copy is closed in the programs that this process starts.
        let socket = Socket::from(socket.try_clone()?);
        let at = socket.local_addr()?.as_socket();
        let Some(at) = at.filter(|_| socket.is_listener().unwrap_or(false)) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "expected a TCP socket that listens"));
        };
        socket.set_nonblocking(true)?;
        self.0.push(InheritedSocket { asked, at, socket: socket.into() });
        Ok(())
    }

    /// The addresses of those that no listener has taken.
    pub fn left(&self) -> Vec<SocketAddr> {
        let mut left: Vec<_> = self.0.iter().map(|it| it.at).collect();
        left.sort_unstable();
        left.dedup();
        left
    }

    /// Those of the listener that is to be at `asked`. With fewer sockets than workers some accept at the same one.
    pub(crate) fn take(&mut self, asked: SocketAddr, workers: usize) -> io::Result<Option<BoundListener>> {
        let is_it = |it: &mut InheritedSocket| it.asked.unwrap_or(it.at) == asked;
        let taken: Vec<_> = self.0.extract_if(.., is_it).collect();
        let Some(at) = taken.first().map(|it| it.at) else { return Ok(None) };
        let mut sockets: Vec<_> = taken.into_iter().map(|it| it.socket).collect();
        for next in 0..workers.saturating_sub(sockets.len()) {
            sockets.push(sockets[next].try_clone()?);
        }
        Ok(Some(BoundListener { asked, at, sockets, datagrams: Vec::new() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpStream, UdpSocket};

    fn listening() -> (OwnedFd, SocketAddr) {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = socket.local_addr().unwrap();
        (socket.into(), at)
    }

    #[test]
    fn a_socket_goes_to_the_listener_at_its_address_and_the_others_are_left() {
        let ((one, at), (other, other_at)) = (listening(), listening());
        let mut inherited = Inherited::default();
        inherited.add(&one, None).unwrap();
        inherited.add(&other, Some("127.0.0.1:0".parse().unwrap())).unwrap();
        let unknown = "127.0.0.1:1".parse().unwrap();
        assert!(inherited.take(unknown, 2).unwrap().is_none());
        let taken = inherited.take(at, 3).unwrap().unwrap();
        assert_eq!((taken.asked, taken.at, taken.sockets.len()), (at, at, 3), "workers share it");
        assert_eq!(inherited.left(), [other_at]);
        let port_0 = inherited.take("127.0.0.1:0".parse().unwrap(), 1).unwrap().unwrap();
        assert_eq!((port_0.at, port_0.sockets.len()), (other_at, 1));
        // They are the sockets that listened all along, and nobody waits for long on an empty one.
        drop(one);
        let _client = TcpStream::connect(at).unwrap();
        assert!(taken.sockets[2].accept().is_ok());
        assert_eq!(taken.sockets[0].accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn what_does_not_listen_is_refused() {
        let (socket, at) = listening();
        let (client, datagrams) = (TcpStream::connect(at).unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let unix = std::os::unix::net::UnixListener::bind_addr(
            &<std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(
                format!("copal-inherited-{}", std::process::id()),
            )
            .unwrap(),
        )
        .unwrap();
        for wrong in [client.into(), datagrams.into(), unix.into()] {
            let refused = Inherited::default().add(&wrong, None).unwrap_err();
            assert_eq!(refused.to_string(), "expected a TCP socket that listens");
        }
        Inherited::default().add(&socket, None).unwrap();
    }
}
