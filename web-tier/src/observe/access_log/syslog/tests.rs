//! What a syslog server receives, and what becomes of lines while there is none.

use super::{
    super::writer::{Destination, LogWriter},
    *,
};
use std::{
    io::Read,
    net::{TcpListener, TcpStream, UdpSocket},
};

const PATIENCE: Duration = Duration::from_secs(20);

fn config(address: SyslogAddress) -> Syslog {
    Syslog { address, facility: 16, app_name: "web-a".to_owned() }
}

fn started(address: SyslogAddress) -> LogWriter {
    LogWriter::start(Destination::Syslog(config(address))).unwrap()
}

/// A message's parts before its line, and the line.
fn parts(message: &str) -> (Vec<&str>, &str) {
    let mut parts: Vec<_> = message.splitn(8, ' ').collect();
    let line = parts.pop().unwrap();
    (parts, line)
}

fn check(message: &str, line: &str) {
    let process = process::id().to_string();
    let (parts, found) = parts(message);
    assert_eq!((parts[0], found), ("<134>1", line), "{message}");
    assert!(parts[1].ends_with('Z') && parts[1].len() == 24, "{message}");
    assert_eq!(parts[3..], ["web-a", process.as_str(), "access", "-"], "{message}");
}

/// Reads a message with its length before it.
fn framed(stream: &mut TcpStream) -> String {
    let mut length = String::new();
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte).unwrap();
        match byte[0] {
            b' ' => break,
            digit => length.push(digit.into()),
        }
    }
    let mut message = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut message).unwrap();
    String::from_utf8(message).unwrap()
}

fn accepted(listener: &TcpListener) -> TcpStream {
    let stream = listener.accept().unwrap().0;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[tokio::test]
async fn a_datagram_a_line() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let writer = started(SyslogAddress::Udp("127.0.0.1".to_owned(), server.local_addr().unwrap().port()));
    let long = "x".repeat(10_000);
    writer.pipe().pass(format!("one\ntwo words\n{long}\n").into_bytes(), 3);
    let mut buffer = [0; 65536];
    let mut receive = || {
        let length = server.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    check(&receive(), "one");
    check(&receive(), "two words");
    assert_eq!(receive().len(), DATAGRAM_MAX, "what is too long is cut");
    assert_eq!(writer.lost(), 0);
    writer.finish().await;
}

#[tokio::test]
async fn a_socket_of_this_machine_that_comes_later() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let writer = started(SyslogAddress::Unix(path.clone()));
    writer.pipe().pass(b"waits\n".to_vec(), 1);
    let server = UnixDatagram::bind(&path).unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 1024];
    let length = server.recv(&mut buffer).unwrap();
    check(str::from_utf8(&buffer[..length]).unwrap(), "waits");
    assert_eq!(writer.lost(), 0);
    writer.finish().await;
}

#[tokio::test]
async fn tcp_counts_octets_and_connects_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let writer = started(SyslogAddress::Tcp("127.0.0.1".to_owned(), listener.local_addr().unwrap().port()));
    let pipe = writer.pipe();
    pipe.pass(b"one\ntwo\n".to_vec(), 2);
    let mut stream = accepted(&listener);
    check(&framed(&mut stream), "one");
    check(&framed(&mut stream), "two");
    // The server starts again.
    drop(stream);
    pipe.pass(b"three\n".to_vec(), 1);
    let mut stream = accepted(&listener);
    check(&framed(&mut stream), "three");
    assert_eq!(writer.lost(), 0);
    drop(pipe);
    writer.finish().await;
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "it is closed at the end");
}

#[tokio::test]
async fn nobody_waits_for_a_server_that_is_away_at_the_end() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = gone.local_addr().unwrap().port();
    drop(gone);
    let writer = started(SyslogAddress::Tcp("127.0.0.1".to_owned(), port));
    writer.pipe().pass(b"one\ntwo\n".to_vec(), 2);
    let losses = writer.losses();
    tokio::time::timeout(PATIENCE, writer.finish()).await.unwrap();
    assert_eq!(losses.lines(), 2);
}

/// Takes so many bytes, then breaks.
struct Breaks(usize, Vec<u8>);

impl Write for Breaks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.0);
        if count == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.0 -= count;
        self.1.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_has_gone_is_not_sent_again() {
    // Each message is `4 h 12`, six bytes.
    for (room, gone) in [(0, 0), (5, 0), (6, 3), (11, 3), (12, 6), (18, 9)] {
        let (mut stream, mut sent) = (Breaks(room, Vec::new()), 0);
        let result = stream_lines(&mut stream, "h ", b"12\n34\n56\n", &mut Vec::new(), &mut sent);
        assert_eq!((sent, result.is_ok()), (gone, room == 18), "{room}");
    }
}
