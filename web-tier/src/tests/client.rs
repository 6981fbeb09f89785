//! A client on a raw socket, so that a test sees every byte.

use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Nothing in a test takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client's connection.
pub(crate) struct Client(pub(crate) TcpStream);

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// Whether the head has this line, compared without case.
    pub(crate) fn has(&self, line: &str) -> bool {
        self.head.lines().any(|it| it.eq_ignore_ascii_case(line))
    }
}

impl Client {
    pub(crate) async fn connect(to: SocketAddr) -> Self {
        Self(TcpStream::connect(to).await.unwrap())
    }

    pub(crate) async fn send(&mut self, bytes: &str) {
        self.0.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// Goes away at once.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.0).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Sends a request with `Host` and reads its answer.
    pub(crate) async fn ask(&mut self, line: &str, headers: &str) -> Answer {
        self.send(&format!("{line} HTTP/1.1\r\nHost: shop.example\r\n{headers}\r\n")).await;
        self.answer().await
    }

    /// Reads an answer with a `Content-Length`, or none and no body.
    pub(crate) async fn answer(&mut self) -> Answer {
        timeout(PATIENCE, self.read_answer()).await.expect("an answer in time")
    }

    async fn read_answer(&mut self) -> Answer {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.expect("the head of an answer"));
        }
        let head = String::from_utf8(head).unwrap();
        let status = head[9..12].parse().unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        self.0.read_exact(&mut body).await.expect("a complete body");
        Answer { status, head, body: String::from_utf8(body).unwrap() }
    }

    /// Everything up to the end of the connection, however it ends.
    pub(crate) async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        let _ = timeout(PATIENCE, self.0.read_to_end(&mut bytes)).await.expect("an end in time");
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
