//! Interim answers of apps (RFC 9110 §15.2), `103 Early Hints` above all, on their way to the web-tier. hyper's server says no interim
//! head but `100 Continue`; so theirs are written beside it, where nothing of the final answer can have been written yet.

use crate::proxy::end_to_end;
use futures_util::task::AtomicWaker;
use http::{HeaderMap, StatusCode};
use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Interim answers to one request. A web-tier takes more than 16 for a fault, and `100 Continue` may be one of them.
const COUNT_MAX: usize = 15;

/// What may wait to be written, in bytes.
const WAITING_MAX: usize = 64 * 1024;

/// The interim answers of one connection. It belongs to the request that is being answered on it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interims(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// The connection.
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct State {
    /// How many more there may be. None, while no request waits for its answer.
    left: usize,
    waiting: Vec<u8>,
}

/// While it lives, an answer can have interim ones.
#[derive(Debug)]
pub(crate) struct Open(Interims);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.state().left = 0;
    }
}

impl Interims {
    /// A request waits for its answer.
    pub(crate) fn open(&self) -> Open {
        self.state().left = COUNT_MAX;
        Open(self.clone())
    }

    /// Has an app's interim answer written. Those that are too many, too long, or too late are left out: a client can do without.
    pub(crate) fn put(&self, status: StatusCode, headers: &HeaderMap) {
        let mut headers = headers.clone();
        end_to_end(&mut headers);
        let mut head =
            format!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or(""))
                .into_bytes();
        for (name, value) in &headers {
            head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        head.extend_from_slice(b"\r\n");
        let mut state = self.state();
        if state.left > 0 && state.waiting.len() + head.len() <= WAITING_MAX {
            state.left -= 1;
            state.waiting.append(&mut head);
            drop(state);
            self.0.waker.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's stream, with the interim answers between what is written to it.
pub(crate) struct WithInterims<S> {
    stream: S,
    interims: Interims,
    /// Being written, from this place on.
    writing: (Vec<u8>, usize),
    /// The last write was cut short: what follows belongs to it.
    cut: bool,
}

impl<S: AsyncWrite + Unpin> WithInterims<S> {
    pub(crate) fn new(stream: S, interims: Interims) -> Self {
        Self { stream, interims, writing: (Vec::new(), 0), cut: false }
    }

    /// Writes what waits.
    fn poll_interims(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.cut {
            return Poll::Ready(Ok(()));
        }
        self.interims.0.waker.register(cx.waker());
        loop {
            let (bytes, written) = &mut self.writing;
            if *written == bytes.len() {
                let waiting = std::mem::take(&mut self.interims.state().waiting);
                if waiting.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                (*bytes, *written) = (waiting, 0);
            }
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &bytes[*written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => *written += count,
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WithInterims<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WithInterims<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_interims(cx))?;
        let count = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.cut = count < buf.len();
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interims(cx))?;
        let count = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs))?;
        self.cut = count < bufs.iter().map(|buf| buf.len()).sum();
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_interims(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S> fmt::Debug for WithInterims<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithInterims").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    fn hints(interims: &Interims) {
        let mut headers = HeaderMap::new();
        headers.insert("link", "</a.css>".parse().unwrap());
        headers.insert("connection", "x-own".parse().unwrap());
        headers.insert("x-own", "1".parse().unwrap());
        interims.put(StatusCode::EARLY_HINTS, &headers);
    }

    const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n";

    #[tokio::test]
    async fn they_stand_before_the_answer_and_never_within_one() {
        let (near, mut far) = duplex(20);
        let interims = Interims::default();
        let mut stream = WithInterims::new(near, interims.clone());
        hints(&interims);
        let open = interims.open();
        // Cut by the room of 20 bytes, in the middle of which one comes.
        assert_eq!(stream.write(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap(), 20);
        hints(&interims);
        let reading = async {
            let mut text = vec![0; 25 + HINTS.len() + 2];
            far.read_exact(&mut text).await.unwrap();
            String::from_utf8(text).unwrap()
        };
        let writing = async {
            stream.write_all(b"e\r\n\r\n").await.unwrap();
            stream.flush().await.unwrap();
            drop(open);
            hints(&interims);
            stream.write_all(b"ok").await.unwrap();
        };
        let (text, ()) = tokio::join!(reading, writing);
        assert_eq!(
            text,
            format!("HTTP/1.1 100 Continue\r\n\r\n{HINTS}ok"),
            "one before, one after: left out"
        );
    }

    #[tokio::test]
    async fn they_are_bounded_and_wake_the_connection() {
        let (near, mut far) = duplex(1 << 20);
        let interims = Interims::default();
        let mut stream = WithInterims::new(near, interims.clone());
        stream.flush().await.unwrap();
        let _open = interims.open();
        for _ in 0..1000 {
            hints(&interims);
        }
        stream.flush().now_or_never().unwrap().unwrap();
        drop(stream);
        let mut text = String::new();
        far.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, HINTS.repeat(COUNT_MAX));
    }
}
