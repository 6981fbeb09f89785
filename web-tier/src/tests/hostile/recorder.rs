//! A server that remembers every byte it got, and the requests that it could make of them.

use crate::tests::backend::OnConnection;
use cluster_port::Stream;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What a server has seen, but for the sentinels of the tests.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<Log>>);

#[derive(Debug, Default)]
struct Log {
    /// Head and body of each request, the head in lower case.
    requests: Vec<String>,
    /// Bytes that have not become a request, those that were cut off included.
    partial: usize,
}

impl Recorder {
    /// A recorder, and the server that it listens to.
    pub(crate) fn start() -> (Self, OnConnection) {
        let recorder = Self::default();
        let log = recorder.clone();
        let on_connection: OnConnection = Arc::new(move |stream| {
            let log = log.clone();
            Box::pin(async move { log.serve(stream).await })
        });
        (recorder, on_connection)
    }

    /// Forgets everything.
    pub(crate) fn forget(&self) {
        self.with(|log| *log = Log::default());
    }

    /// The requests, each its head in lower case and its body.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.with(|log| log.requests.clone())
    }

    /// Whether not a byte came.
    pub(crate) fn untouched(&self) -> Result<(), String> {
        self.no_request()?;
        self.with(|log| match log.partial {
            0 => Ok(()),
            bytes => Err(format!("{bytes} bytes of it reached the server")),
        })
    }

    /// Whether no request came.
    pub(crate) fn no_request(&self) -> Result<(), String> {
        self.with(|log| match log.requests.first() {
            None => Ok(()),
            Some(request) => Err(format!("the server saw {request:?}")),
        })
    }

    /// Bytes that have not become a request.
    pub(crate) fn partial(&self) -> usize {
        self.with(|log| log.partial)
    }

    fn with<T>(&self, look: impl FnOnce(&mut Log) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn serve(&self, mut stream: Stream) {
        let mut bytes = Vec::new();
        let mut chunk = vec![0; 16 * 1024];
        loop {
            match stream.read(&mut chunk).await {
                Ok(read) if read > 0 => {
                    bytes.extend_from_slice(&chunk[..read]);
                    self.with(|log| log.partial += read);
                }
                _ => return,
            }
            while let Some(length) = request(&bytes) {
                let request: Vec<u8> = bytes.drain(..length).collect();
                let target = self.note(&request);
                let length = target.len();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{target}");
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Remembers a request; its target is returned.
    fn note(&self, request: &[u8]) -> String {
        let text = String::from_utf8_lossy(request).to_ascii_lowercase().replace("\r\n", "\n");
        let target = text.split(' ').nth(1).unwrap_or_default().to_owned();
        self.with(|log| {
            log.partial -= request.len();
            if target != "/sentinel" {
                log.requests.push(text);
            }
        });
        // An answer to HEAD must have no body; the tests look at those in another way.
        if request.starts_with(b"HEAD") { String::new() } else { target }
    }
}

/// The length of the request that `bytes` begin with, if it is complete.
fn request(bytes: &[u8]) -> Option<usize> {
    let head = find(bytes, b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let value = |name: &str| text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()));
    if value("transfer-encoding:").is_some() {
        return Some(head + chunked(&bytes[head..])?);
    }
    let length = value("content-length:").map_or(0, |it| it.parse().expect("a proxy sends valid lengths"));
    (bytes.len() >= head + length).then_some(head + length)
}

/// The length of a chunked body, if it is complete.
fn chunked(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = find(&bytes[at..], b"\r\n")?;
        let text = std::str::from_utf8(&bytes[at..at + line]).expect("a proxy sends plain chunk sizes");
        let size = usize::from_str_radix(text, 16).expect("a proxy sends plain chunk sizes");
        at += line + 2;
        if size == 0 {
            let end = if bytes[at..].starts_with(b"\r\n") { 2 } else { find(&bytes[at..], b"\r\n\r\n")? + 4 };
            return (bytes.len() >= at + end).then_some(at + end);
        }
        if bytes.len() < at + size + 2 {
            return None;
        }
        at += size + 2;
    }
}

/// Where `words` first stands in `bytes`.
pub(crate) fn find(bytes: &[u8], words: &[u8]) -> Option<usize> {
    bytes.windows(words.len()).position(|it| it == words)
}

#[test]
fn a_request_is_known_when_it_is_complete() {
    let requests: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nT: 1\r\n\r\n",
    ];
    for whole in requests {
        for end in 0..whole.len() {
            assert_eq!(request(&whole[..end]), None);
        }
        assert_eq!(request(whole), Some(whole.len()));
        assert_eq!(request(&[whole, b"GET".as_slice()].concat()), Some(whole.len()));
    }
}
