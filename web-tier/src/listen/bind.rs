//! Binds the public listeners, before anything is served, and those that a reload adds: one socket a worker and address, with
//! `SO_REUSEPORT`, so that the kernel spreads connections over the workers. What was bound before this process began is taken as it is.

use super::inherited::Inherited;
use common::{
    config::{Config, PublicListener},
    id::ServerId,
};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::{SocketAddr, TcpListener, ToSocketAddrs, UdpSocket},
    thread::available_parallelism,
};

/// Connections that wait in the kernel for a worker; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// What the kernel may hold of datagrams before a worker comes to it, and of those that leave.
const DATAGRAMS_BUFFER: usize = 2 * 1024 * 1024;

/// How often a port is looked for that is free in TCP and in UDP.
const PORT_TRIES: u32 = 16;

/// The bound listeners of one server.
#[derive(Debug)]
pub struct Bound {
    /// Those of `http` in the order of the file, then those of `tcp-proxy`.
    pub(crate) listeners: Vec<BoundListener>,
    pub(crate) workers: usize,
    addresses: Vec<SocketAddr>,
}

/// A bound listener.
#[derive(Debug)]
pub(crate) struct BoundListener {
    /// What the file says, its name resolved: of port 0 too.
    pub(crate) asked: SocketAddr,
    /// With the port that the system chose for port 0.
    pub(crate) at: SocketAddr,
    /// One for each worker, or more.
    pub(crate) sockets: Vec<TcpListener>,
    /// Of one that speaks HTTP/3: one for each worker.
    pub(crate) datagrams: Vec<UdpSocket>,
}

impl Bound {
    /// The addresses, of the file's `http` listeners in their order, then of those of `tcp-proxy`, with the ports that the system chose for port 0.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

/// Why a listener could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The configuration has no such server.
    #[error("server {0} is not in the configuration file")]
    UnknownServer(ServerId),
    /// The address is no IP address, and no name that resolves to one.
    #[error("listener {address}: can't resolve the address: {cause}")]
    Resolve {
        /// As the file has it.
        address: String,
        /// The resolver's answer.
        cause: io::Error,
    },
    /// Another process listens there.
    #[error("listener {0}: the address is in use by another process")]
    InUse(SocketAddr),
    /// The same of the port of UDP that HTTP/3 would have.
    #[error("listener {0}: its port of UDP (`http3`) is in use by another process")]
    DatagramsInUse(SocketAddr),
    /// Another listener of this server, which stays.
    #[error("listener {address}: the address is in use by this server's own listener {by}")]
    InUseHere {
        /// The new address.
        address: SocketAddr,
        /// The listener that is there.
        by: SocketAddr,
    },
    /// The system refused, for example a port below 1024 without the right to it.
    #[error("listener {address}: {cause}")]
    Refused {
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        cause: io::Error,
    },
}

/// Binds all public listeners of server `me`, once for each of its workers, but for those that are among `inherited` and are taken
/// from there.
///
/// # Errors
/// See [`BindError`]; what was bound until then is closed again.
pub fn bind(config: &Config, me: &ServerId, inherited: &mut Inherited) -> Result<Bound, BindError> {
    let (cluster, server) = config.server(me).ok_or_else(|| BindError::UnknownServer(me.clone()))?;
    let workers = cluster.workers.map_or_else(|| available_parallelism().map_or(1, usize::from), usize::from);
    let mut take_or_bind = |it: &PublicListener| {
        let asked = resolve(it)?;
        let refused = |cause| BindError::Refused { address: asked, cause };
        match inherited.take(asked, workers).map_err(refused)? {
            Some(mut taken) => {
                if it.http3() && taken.datagrams.is_empty() {
                    taken.datagrams = match bind_datagrams(taken.at, workers, false) {
                        // The process that this one takes over from has connections there: later, then.
                        Err(BindError::DatagramsInUse(_)) => Vec::new(),
                        bound => bound?,
                    };
                }
                Ok(taken)
            }
            None => bind_listener(asked, workers, false, it.http3()),
        }
    };
    let listeners = server.listeners().iter().map(&mut take_or_bind).collect::<Result<Vec<_>, _>>()?;
    let addresses = listeners.iter().map(|it| it.at).collect();
    Ok(Bound { listeners, workers, addresses })
}

/// Where a listener is to be; asks the system's resolver if it has a name.
pub(crate) fn resolve(listener: &PublicListener) -> Result<SocketAddr, BindError> {
    let (address, port) = listener.at();
    let failed = |cause| BindError::Resolve { address: format!("{address}:{port}"), cause };
    let mut found = (address.trim_matches(['[', ']']), port).to_socket_addrs().map_err(failed)?;
    found.next().ok_or_else(|| failed(io::Error::new(io::ErrorKind::NotFound, "the name has no address")))
}

/// Binds one listener; `beside` one of this process at an address that includes this one, or the other way round.
pub(crate) fn bind_listener(
    asked: SocketAddr,
    workers: usize,
    beside: bool,
    http3: bool,
) -> Result<BoundListener, BindError> {
    let mut tries = 0;
    loop {
        let sockets = bind_group(asked, workers, beside).map_err(|cause| refused(asked, cause))?;
        let at = sockets[0].local_addr().map_err(|cause| refused(asked, cause))?;
        tries += 1;
        let datagrams = if http3 { bind_datagrams(at, workers, beside) } else { Ok(Vec::new()) };
        match datagrams {
            Ok(datagrams) => return Ok(BoundListener { asked, at, sockets, datagrams }),
            // The port that the system chose for TCP may be somebody's of UDP.
            Err(BindError::DatagramsInUse(_)) if asked.port() == 0 && tries < PORT_TRIES => {}
            Err(cause) => return Err(cause),
        }
    }
}

fn refused(address: SocketAddr, cause: io::Error) -> BindError {
    match cause.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse(address),
        _ => BindError::Refused { address, cause },
    }
}

/// `workers` sockets of UDP on one address, for HTTP/3. As with those of TCP the first one is bound without `SO_REUSEPORT`, which fails
/// when anyone is there, unless it may be one of this process, `beside` which it is.
pub(crate) fn bind_datagrams(
    at: SocketAddr,
    workers: usize,
    beside: bool,
) -> Result<Vec<UdpSocket>, BindError> {
    let bind = |joins: bool| {
        let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if at.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if joins {
            socket.set_reuse_port(true)?;
        }
        socket.bind(&at.into())?;
        socket.set_reuse_port(true)?;
        // The system bounds both (`net.core.rmem_max`, `wmem_max`).
        let _ = socket.set_recv_buffer_size(DATAGRAMS_BUFFER);
        let _ = socket.set_send_buffer_size(DATAGRAMS_BUFFER);
        Ok(UdpSocket::from(socket))
    };
    let refused = |cause: io::Error| match refused(at, cause) {
        BindError::InUse(at) => BindError::DatagramsInUse(at),
        cause => cause,
    };
    (0..workers).map(|number| bind(beside || number > 0).map_err(refused)).collect()
}

/// `workers` listening sockets on one address.
///
/// `SO_REUSEPORT` would let a second Copal process join the port without a word and take half of its connections. So the first
/// socket binds and listens *without* it, which fails when anyone at all is there; only then does it get the option, and the
/// others join it. Every Copal process begins this way, so no two can ever share a port. The order bind, listen, option matters:
/// between two sockets that are bound but don't listen yet, `SO_REUSEADDR` alone would see no conflict.
///
/// `beside`: a reload that replaces `0.0.0.0:80` by `10.0.0.1:80` finds the port in use by ourselves. Nobody else can be there
/// then who did not join us on purpose, so the first socket joins too. The kernel prefers the listener of the one address.
fn bind_group(address: SocketAddr, workers: usize, beside: bool) -> io::Result<Vec<TcpListener>> {
    let first = socket(address)?;
    if beside {
        first.set_reuse_port(true)?;
    }
    first.bind(&address.into())?;
    first.listen(BACKLOG)?;
    first.set_reuse_port(true)?;
    let first = TcpListener::from(first);
    let real = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        let next = socket(real)?;
        next.set_reuse_port(true)?;
        next.bind(&real.into())?;
        next.listen(BACKLOG)?;
        sockets.push(next.into());
    }
    Ok(sockets)
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the connections of the former process to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // As in nginx: `[::]:80` is not `0.0.0.0:80` too, so that a file can list both.
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests;
