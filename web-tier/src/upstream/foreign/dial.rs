//! Connects to a backend: to whichever of its addresses answers, within one time, and with TLS if it is to have that.

use super::addresses::Addresses;
use crate::transport::tls::TlsConnector;
use cluster_port::Stream;
use common::shortage::is_shortage;
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

/// How a backend is reached.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) addresses: Addresses,
    pub(super) tls: Option<TlsConnector>,
}

impl Way {
    /// Connects within `within`, all addresses and TLS together.
    ///
    /// # Errors
    /// Why the last address could not be reached, with its name; `TimedOut` when the name was not looked up in time; what is wrong
    /// with the backend's certificate.
    pub(super) async fn connect(&self, within: Duration) -> io::Result<Stream> {
        self.connect_to(None, within).await
    }

    /// The same, to another port than the backend's own.
    pub(super) async fn connect_to(&self, port: Option<u16>, within: Duration) -> io::Result<Stream> {
        let deadline = Instant::now() + within;
        let stream = connect((&self.addresses, port), within, deadline).await?;
        let Some(tls) = &self.tls else { return Ok(Stream::Plain(stream)) };
        let shaken = timeout_at(deadline, tls.connect(stream)).await;
        shaken.unwrap_or_else(|_| Err(late("no TLS handshake", within)))
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
    use tokio::net::TcpListener;

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

    #[tokio::test(start_paused = true)]
    async fn a_name_that_nobody_answers_for_is_waited_for_no_longer_than_a_connect() {
        let start = Instant::now();
        let cause = connect(&Addresses::new("site.test", 80), Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(cause.kind(), io::ErrorKind::TimedOut);
        assert_eq!(cause.to_string(), "the name was not looked up within 5s");
        assert_eq!(start.elapsed(), Duration::from_secs(5));
    }
}
