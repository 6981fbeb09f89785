//! Connects to a backend: to whichever of its addresses answers, or to its Unix socket, within one time, and with TLS if it is to have
//! that.

use super::addresses::Addresses;
use crate::transport::{
    proxy_protocol::{self, Endpoints},
    tls::TlsConnector,
};
use cluster_port::Stream;
use common::{
    config::{BackendAddress, ProxyProtocolVersion},
    shortage::is_shortage,
};
use std::{io, net::SocketAddr, path::Path, time::Duration};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpStream, UnixStream},
    time::{Instant, sleep, timeout_at},
};

/// How long a server whose queue is full is given until it is tried again, at first and at most.
const QUEUE_PAUSE: Duration = Duration::from_millis(1);
const QUEUE_PAUSE_MAX: Duration = Duration::from_millis(32);

/// How a backend is reached.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) place: Place,
    pub(super) tls: Option<TlsConnector>,
    /// It is told first whose connection it is.
    pub(super) proxy_protocol: Option<ProxyProtocolVersion>,
}

/// Where a backend is.
#[derive(Debug)]
pub(super) enum Place {
    /// At the addresses of a name.
    Network(Addresses),
    /// Behind a Unix socket.
    Socket(Box<Path>),
}

impl Place {
    /// `name_servers`: who is asked for a name, if not the system's resolver.
    pub(super) fn new(at: &BackendAddress, name_servers: &[SocketAddr]) -> Self {
        match at {
            BackendAddress::Host { host, port } => {
                Self::Network(Addresses::new(host, *port).by(name_servers))
            }
            BackendAddress::Socket(path) => Self::Socket(path.as_path().into()),
            // It stands for its servers, and is none itself.
            BackendAddress::Service(name) => Self::Network(Addresses::new(name, 0).by(name_servers)),
        }
    }

    /// Its addresses, if it has some.
    pub(super) fn addresses(&self) -> Option<&Addresses> {
        match self {
            Self::Network(addresses) => Some(addresses),
            Self::Socket(_) => None,
        }
    }
}

impl Way {
    /// Connects within `within`, all addresses and TLS together; for the client `whose` it is, if a backend is to hear that.
    ///
    /// # Errors
    /// Why the socket could not be reached, with its path; why the last address could not be reached, with its name; `TimedOut` when the name was not looked up in time; what is wrong
    /// with the backend's certificate.
    pub(super) async fn connect(&self, whose: Option<Endpoints>, within: Duration) -> io::Result<Stream> {
        self.connect_to(None, whose, within).await
    }

    /// The same, to another port than the backend's own.
    pub(super) async fn connect_to(
        &self,
        port: Option<u16>,
        whose: Option<Endpoints>,
        within: Duration,
    ) -> io::Result<Stream> {
        let deadline = Instant::now() + within;
        let mut stream = match &self.place {
            Place::Network(addresses) => Stream::Plain(connect((addresses, port), within, deadline).await?),
            Place::Socket(path) => Stream::Local(connect_local(path, within, deadline).await?),
        };
        if let Some(version) = self.proxy_protocol {
            let mut header = Vec::new();
            proxy_protocol::write(version, whose, &mut header);
            let written = timeout_at(deadline, stream.write_all(&header)).await;
            written.unwrap_or_else(|_| Err(late("the PROXY header was not taken", within)))?;
        }
        match (&self.tls, stream) {
            (Some(tls), Stream::Plain(stream)) => {
                let shaken = timeout_at(deadline, tls.connect(stream)).await;
                shaken.unwrap_or_else(|_| Err(late("no TLS handshake", within)))
            }
            (_, stream) => Ok(stream),
        }
    }
}

/// Connects to one of the addresses until `deadline`, which is `within` from now.
async fn connect(
    (addresses, port): (&Addresses, Option<u16>),
    within: Duration,
    deadline: Instant,
) -> io::Result<TcpStream> {
    let found = timeout_at(deadline, addresses.get()).await;
    let found = found.unwrap_or_else(|_| Err(late("the name was not looked up", within)))?;
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for (tried, address) in found.iter().enumerate() {
        // An address that says nothing leaves the others their share of the time.
        let now = Instant::now();
        let left = u32::try_from(found.len() - tried).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(now) / left;
        let to = SocketAddr::new(address.ip(), port.unwrap_or(address.port()));
        match timeout_at(now + share, try_one(to)).await {
            Ok(Ok(stream)) => {
                // Only where there is a choice: it is written by every worker.
                if found.len() > 1 && tried > 0 {
                    addresses.worked(*address);
                }
                return Ok(stream);
            }
            // Of this machine: the address is not the worse for it, and the next one would not be better off.
            Ok(Err(cause)) if is_shortage(&cause) => return Err(cause),
            Ok(Err(cause)) => last = io::Error::new(cause.kind(), format!("{to}: {cause}")),
            Err(_) => last = late(&format!("{to}: no connection"), share),
        }
        addresses.failed();
    }
    Err(last)
}

/// Connects to a Unix socket until `deadline`. Where TCP waits while the queue of the server is full, the kernel says so here at once.
async fn connect_local(path: &Path, within: Duration, deadline: Instant) -> io::Result<UnixStream> {
    let mut pause = QUEUE_PAUSE;
    loop {
        match UnixStream::connect(path).await {
            Ok(stream) => return Ok(stream),
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {}
            // Of this machine, and known by its number.
            Err(cause) if is_shortage(&cause) => return Err(cause),
            Err(cause) => {
                return Err(io::Error::new(cause.kind(), format!("unix:{}: {cause}", path.display())));
            }
        }
        if Instant::now() + pause >= deadline {
            return Err(late(&format!("unix:{}: no place in its queue", path.display()), within));
        }
        sleep(pause).await;
        pause = (pause * 2).min(QUEUE_PAUSE_MAX);
    }
}

async fn try_one(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // To a port of this machine where nobody listens, the kernel may connect a socket to itself.
    if stream.local_addr()? == address {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn late(what: &str, within: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} within {within:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, UnixListener};

    const PATIENCE: Duration = Duration::from_secs(20);

    async fn connect(addresses: &Addresses, within: Duration) -> io::Result<TcpStream> {
        super::connect((addresses, None), within, Instant::now() + within).await
    }

    async fn dead() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn all_addresses_of_a_name_are_tried_and_the_good_one_is_remembered() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (alive, dead) = (listener.local_addr().unwrap(), dead().await);
        let addresses = Addresses::new("site.test", 80);
        addresses.take(Ok(vec![dead, alive]));
        let stream = connect(&addresses, PATIENCE).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), alive);
        assert_eq!(addresses.get().await.unwrap(), [alive, dead]);
        drop(listener);
        let cause = connect(&addresses, PATIENCE).await.unwrap_err();
        assert!(cause.to_string().starts_with(&format!("{dead}: ")), "{cause}");
    }

    #[tokio::test]
    async fn one_that_is_silent_takes_half_of_the_time_of_two() {
        // A queue of one, which is full: the kernel lets further connects wait.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = socket.listen(0).unwrap();
        let silent = full.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(Ok(stream)) =
            tokio::time::timeout(Duration::from_millis(50), TcpStream::connect(silent)).await
        {
            waiting.push(stream);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = Addresses::new("site.test", 80);
        addresses.take(Ok(vec![silent, listener.local_addr().unwrap()]));
        let stream = connect(&addresses, Duration::from_millis(400)).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
    }

    #[tokio::test]
    async fn a_socket_that_can_not_be_reached_says_which_and_why() {
        let folder = tempfile::tempdir().unwrap();
        let to = |name: &str| Way {
            place: Place::new(&BackendAddress::Socket(folder.path().join(name)), &[]),
            tls: None,
            proxy_protocol: None,
        };
        let listener = UnixListener::bind(folder.path().join("app.sock")).unwrap();
        assert!(matches!(to("app.sock").connect(None, PATIENCE).await, Ok(Stream::Local(_))));
        drop(listener);
        for (name, why) in [("app.sock", "Connection refused"), ("other.sock", "No such file or directory")] {
            let cause = to(name).connect(None, PATIENCE).await.unwrap_err().to_string();
            let path = folder.path().join(name);
            assert!(cause.starts_with(&format!("unix:{}: {why}", path.display())), "{cause}");
        }
    }

    #[tokio::test]
    async fn a_socket_whose_queue_is_full_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        socket.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(0).unwrap();
        let way = Way { place: Place::Socket(path.clone().into()), tls: None, proxy_protocol: None };
        let first = way.connect(None, PATIENCE).await.unwrap();
        let cause = way.connect(None, Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(cause.kind(), io::ErrorKind::TimedOut);
        let text = format!("unix:{}: no place in its queue within 20ms", path.display());
        assert_eq!(cause.to_string(), text);
        let second = tokio::join!(way.connect(None, PATIENCE), async { socket.accept().unwrap() }).0;
        assert!(second.is_ok(), "{second:?}");
        drop(first);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_nobody_answers_for_is_waited_for_no_longer_than_a_connect() {
        let start = Instant::now();
        let cause = connect(&Addresses::new("site.test", 80), Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(cause.kind(), io::ErrorKind::TimedOut);
        assert_eq!(cause.to_string(), "the name was not looked up within 5s");
        assert_eq!(start.elapsed(), Duration::from_secs(5));
    }
}
