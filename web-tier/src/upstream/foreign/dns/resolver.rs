//! Asks name servers, one after the other: over TCP, where an answer is neither cut off nor easily forged (RFC 7766), and over UDP if a
//! server takes no TCP.

use super::{
    DnsError,
    message::{Answer, Kind, parse, question},
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    task::spawn_blocking,
    time::timeout,
};

/// For one try at one server.
const TRY: Duration = Duration::from_secs(2);

/// How many name servers of the system are asked, as the C library does.
const SERVERS_MAX: usize = 3;

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Resolver {
    /// None: those of `/etc/resolv.conf`.
    servers: Vec<SocketAddr>,
}

impl Resolver {
    pub(in super::super) fn new(servers: &[SocketAddr]) -> Self {
        Self { servers: servers.to_vec() }
    }

    /// Asks until one server has an answer.
    ///
    /// # Errors
    /// What the first has said that answered, or why the last did not.
    pub(in super::super) async fn ask(&self, name: &str, kind: Kind) -> Result<Answer, DnsError> {
        let servers = if self.servers.is_empty() { system().await? } else { self.servers.clone() };
        let mut last = DnsError::NoServer;
        for server in servers {
            match ask_one(server, name, kind).await {
                Ok(answer) => return Ok(answer),
                // Its word, and the others' too.
                Err(cause @ (DnsError::NoSuchName | DnsError::Empty)) => return Err(cause),
                Err(cause) => last = cause,
            }
        }
        Err(last)
    }

    /// The addresses of a host, and how long they are valid: of IPv6 and IPv4, whichever there are.
    ///
    /// # Errors
    /// As [`Self::ask`], if there are none of either.
    pub(in super::super) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        let (four, six) = tokio::join!(self.ask(host, Kind::A), self.ask(host, Kind::Aaaa));
        let mut addresses = Vec::new();
        for answer in [&four, &six].into_iter().flatten() {
            for record in &answer.records {
                if let super::Data::Address(address) = record {
                    addresses.push(*address);
                }
            }
        }
        if addresses.is_empty() {
            Err(four.err().or(six.err()).unwrap_or(DnsError::Empty))
        } else {
            Ok(addresses)
        }
    }
}

async fn ask_one(server: SocketAddr, name: &str, kind: Kind) -> Result<Answer, DnsError> {
    // It can't be guessed by who does not see the question.
    let id = rand::random();
    let asked = question(id, name, kind).ok_or(DnsError::NoSuchName)?;
    let over_tcp = timeout(TRY, over_tcp(server, &asked)).await.unwrap_or(Err(DnsError::Late(TRY)));
    if let Ok(bytes) = over_tcp {
        return parse(&bytes, id, name, kind)?.ok_or(DnsError::Malformed("cut off"));
    }
    let over_udp = timeout(TRY, over_udp(server, &asked, (id, name, kind))).await;
    over_udp.unwrap_or(Err(DnsError::Late(TRY)))
}

async fn over_tcp(server: SocketAddr, asked: &[u8]) -> Result<Vec<u8>, DnsError> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(asked.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), asked].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

async fn over_udp(
    server: SocketAddr,
    asked: &[u8],
    (id, name, kind): (u16, &str, Kind),
) -> Result<Answer, DnsError> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // The kernel keeps datagrams of others away.
    socket.connect(server).await?;
    socket.send(asked).await?;
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match parse(&buffer[..length], id, name, kind) {
            Err(DnsError::Other | DnsError::Malformed(_)) => {}
            Ok(None) => return Err(DnsError::Malformed("cut off, and the server takes no TCP")),
            Ok(Some(answer)) => return Ok(answer),
            Err(cause) => return Err(cause),
        }
    }
}

/// The system's name servers.
async fn system() -> Result<Vec<SocketAddr>, DnsError> {
    let read = spawn_blocking(|| std::fs::read_to_string("/etc/resolv.conf")).await;
    let text = read.map_err(io::Error::other)??;
    let servers = name_servers(&text);
    if servers.is_empty() { Err(DnsError::NoServer) } else { Ok(servers) }
}

/// Those that a `resolv.conf` names.
pub(super) fn name_servers(text: &str) -> Vec<SocketAddr> {
    let words = text.lines().map(str::split_ascii_whitespace);
    let servers = words.filter_map(|mut words| match (words.next()?, words.next()?) {
        // An address of a link has no place where it is used.
        ("nameserver", address) => address.parse::<IpAddr>().ok(),
        _ => None,
    });
    servers.take(SERVERS_MAX).map(|ip| SocketAddr::new(ip, 53)).collect()
}
