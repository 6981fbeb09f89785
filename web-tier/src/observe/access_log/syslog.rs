//! Lines to a syslog server: RFC 5424 messages, in datagrams (RFC 5426, or a socket of this machine) or over TCP with their length
//! before them (RFC 6587 §3.4.1). While the server is away the lines wait, as many as the queue has room for.

use super::{losses::Losses, stamp::Stamp, writer::Batch};
use common::{
    backoff::Backoff,
    config::{Syslog, SyslogAddress},
};
use memchr::memchr;
use std::{
    fs,
    io::{self, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket},
    os::unix::net::UnixDatagram,
    process,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

/// How long a connect, and a write that makes no progress, may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Between two tries to reach the server, the first and the longest.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// The longest message in a datagram; what is longer is cut (RFC 5424 §6.1 asks receivers for 2048).
const DATAGRAM_MAX: usize = 8192;

/// Informational (RFC 5424 §6.2.1).
const SEVERITY: u8 = 6;

/// Sends what workers pass, until all of them have gone. `closing`: nobody waits any longer for a server that is away.
pub(super) fn run(config: Syslog, batches: &Receiver<Batch>, closing: &AtomicBool, losses: &Losses) {
    let mut sender = Sender::new(config);
    while let Ok(batch) = batches.recv() {
        sender.send(&batch.0, closing, losses);
    }
}

struct Sender {
    config: Syslog,
    /// What stands between the time and the line.
    source: String,
    link: Option<Link>,
    backoff: Backoff,
    /// The server can't be reached, which was told.
    away: bool,
    /// A message, or several, as they are sent.
    buffer: Vec<u8>,
}

/// A way to the server.
enum Link {
    Udp(UdpSocket),
    Unix(UnixDatagram),
    Tcp(TcpStream),
}

impl Sender {
    fn new(config: Syslog) -> Self {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = host.trim();
        let is_valid = (1..=255).contains(&host.len()) && host.bytes().all(|it| it.is_ascii_graphic());
        let host = if is_valid { host } else { "-" };
        let source = format!(" {host} {} {} access - ", config.app_name, process::id());
        let backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
        Self { config, source, link: None, backoff, away: false, buffer: Vec::new() }
    }

    /// Sends lines, each of which has its end.
    fn send(&mut self, mut lines: &[u8], closing: &AtomicBool, losses: &Losses) {
        let mut last_try = false;
        while !lines.is_empty() {
            last_try |= closing.load(Ordering::Acquire);
            let mut sent = 0;
            let result = self.try_send(lines, &mut sent);
            lines = &lines[sent..];
            match result {
                Ok(()) => self.is_there(),
                Err(cause) => {
                    self.link = None;
                    self.is_away(&cause);
                    if last_try {
                        let count = memchr::memchr_iter(b'\n', lines).count() as u64;
                        losses.add(count, &cause.to_string(), Instant::now());
                        return;
                    }
                    self.wait(closing);
                }
            }
        }
    }

    /// Sends as much as can be; `sent` are the bytes of the lines that have gone.
    fn try_send(&mut self, lines: &[u8], sent: &mut usize) -> io::Result<()> {
        if self.link.as_ref().is_some_and(Link::has_ended) {
            self.link = None;
        }
        let mut link = match self.link.take() {
            Some(link) => link,
            None => Link::open(&self.config.address)?,
        };
        let head = format!(
            "<{}>1 {}{}",
            self.config.facility * 8 + SEVERITY,
            Stamp::new(SystemTime::now()).iso,
            self.source
        );
        let buffer = &mut self.buffer;
        buffer.clear();
        match &mut link {
            Link::Tcp(stream) => stream_lines(stream, &head, lines, buffer, sent)?,
            Link::Udp(socket) => datagrams(&head, lines, buffer, sent, |it| socket.send(it))?,
            Link::Unix(socket) => datagrams(&head, lines, buffer, sent, |it| socket.send(it))?,
        }
        self.link = Some(link);
        Ok(())
    }

    fn is_there(&mut self) {
        self.backoff.reset();
        if std::mem::take(&mut self.away) {
            tracing::info!(address = %self.config.address, "the syslog server can be reached again");
        }
    }

    fn is_away(&mut self, cause: &io::Error) {
        if !std::mem::replace(&mut self.away, true) {
            tracing::warn!(address = %self.config.address, %cause, "the syslog server can't be reached: lines wait");
        }
    }

    /// Waits for the next try, unless it is the last.
    fn wait(&mut self, closing: &AtomicBool) {
        let until = Instant::now() + self.backoff.wait(rand::random());
        while !closing.load(Ordering::Acquire)
            && let Some(left) = until.checked_duration_since(Instant::now())
        {
            thread::park_timeout(left);
        }
    }
}

/// The lines, each with its length in `bytes`.
fn each(lines: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
    let mut rest = lines;
    std::iter::from_fn(move || {
        let end = memchr(b'\n', rest)?;
        let line = &rest[..end];
        rest = &rest[end + 1..];
        Some((line, end + 1))
    })
}

fn datagrams(
    head: &str,
    lines: &[u8],
    buffer: &mut Vec<u8>,
    sent: &mut usize,
    send: impl Fn(&[u8]) -> io::Result<usize>,
) -> io::Result<()> {
    for (line, length) in each(lines) {
        buffer.clear();
        buffer.extend_from_slice(head.as_bytes());
        buffer.extend_from_slice(line);
        buffer.truncate(DATAGRAM_MAX);
        send(buffer)?;
        *sent += length;
    }
    Ok(())
}

/// A message of which the system has taken a part is sent again on the next connection: its receiver has no use for the part.
fn stream_lines(
    stream: &mut impl Write,
    head: &str,
    lines: &[u8],
    buffer: &mut Vec<u8>,
    sent: &mut usize,
) -> io::Result<()> {
    let mut ends = Vec::new();
    for (line, length) in each(lines) {
        write!(buffer, "{} {head}", head.len() + line.len())?;
        buffer.extend_from_slice(line);
        ends.push((buffer.len(), length));
    }
    let (mut written, mut result) = (0, Ok(()));
    while written < buffer.len() {
        match stream.write(&buffer[written..]) {
            Ok(0) => result = Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => result = Err(cause),
        }
        if result.is_err() {
            break;
        }
    }
    *sent += ends.iter().take_while(|(end, _)| *end <= written).map(|(_, length)| length).sum::<usize>();
    result
}

impl Link {
    fn open(address: &SyslogAddress) -> io::Result<Self> {
        match address {
            SyslogAddress::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                socket.set_write_timeout(Some(TIMEOUT))?;
                Ok(Self::Unix(socket))
            }
            SyslogAddress::Udp(host, port) => first(host, *port, |address| {
                let any = if address.is_ipv4() {
                    SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
                } else {
                    SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
                };
                let socket = UdpSocket::bind(any)?;
                socket.connect(address)?;
                socket.set_write_timeout(Some(TIMEOUT))?;
                Ok(Self::Udp(socket))
            }),
            SyslogAddress::Tcp(host, port) => first(host, *port, |address| {
                let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                Ok(Self::Tcp(stream))
            }),
        }
    }

    /// Whether the server has closed it: what is written then would be lost without a sign. Nothing else is expected from it.
    fn has_ended(&self) -> bool {
        let Self::Tcp(stream) = self else { return false };
        let peeked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
        let blocks = matches!(&peeked, Err(cause) if cause.kind() == io::ErrorKind::WouldBlock);
        let goes_on = blocks || matches!(peeked, Ok(count) if count > 0);
        stream.set_nonblocking(false).is_err() || !goes_on
    }
}

/// The first of a host's addresses that works.
fn first(host: &str, port: u16, open: impl Fn(SocketAddr) -> io::Result<Link>) -> io::Result<Link> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    for address in (host, port).to_socket_addrs()? {
        match open(address) {
            Ok(link) => return Ok(link),
            Err(cause) => last = cause,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests;
