//! A connection that ends while a body still comes that nobody reads: what comes is taken and forgotten for a moment (nginx's
//! `lingering_close`). Closed at once, the system would answer with a reset, which breaks off who is still sending and can overtake the
//! answer that says why.

use std::{
    fmt, io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// A web-tier that has the answer closes the connection before this is over.
const WAIT: Duration = Duration::from_secs(2);

/// So many bytes are taken at most.
const BYTES_MAX: usize = 16 << 20;

/// Whether there is a body on a connection that was not read to its end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unread(Arc<AtomicBool>);

impl Unread {
    /// A request begins, or one's body is given up.
    pub(crate) fn set(&self, unread: bool) {
        self.0.store(unread, Ordering::Relaxed);
    }
}

/// A stream whose shutdown waits for the other side's if there is such a body.
pub(crate) struct Lingering<S> {
    stream: S,
    unread: Unread,
    left: usize,
    /// Until when; none before the shutdown.
    until: Option<Pin<Box<Sleep>>>,
}

impl<S> Lingering<S> {
    pub(crate) fn new(stream: S, unread: Unread) -> Self {
        Self { stream, unread, left: BYTES_MAX, until: None }
    }
}

impl<S: AsyncRead + Unpin> Lingering<S> {
    /// Ready when nothing more comes, or is taken.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut space = [0; 8 << 10];
        while self.left > 0 {
            if self.until.as_mut().is_none_or(|it| it.as_mut().poll(cx).is_ready()) {
                return Poll::Ready(());
            }
            let mut buffer = ReadBuf::new(&mut space);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(());
            }
            self.left = self.left.saturating_sub(buffer.filled().len());
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.until.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            if !self.unread.0.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
            self.until = Some(Box::pin(tokio::time::sleep(WAIT)));
        }
        self.poll_linger(cx).map(Ok)
    }
}

impl<S> fmt::Debug for Lingering<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lingering").field("unread", &self.unread).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn what_still_comes_is_taken_within_bounds() {
        for (unread, sent, whole) in [(true, 1 << 20, true), (true, 32 << 20, false), (false, 1 << 20, false)]
        {
            let (mut sender, stream) = tokio::io::duplex(64 << 10);
            let flag = Unread::default();
            flag.set(unread);
            let mut stream = Lingering::new(stream, flag);
            let closing = async move { stream.shutdown().await };
            let sending = async move {
                let sent = sender.write_all(&vec![0; sent]).await.is_ok();
                // The end of ours has come at once.
                let mut rest = Vec::new();
                (sent, sender.read_to_end(&mut rest).await.is_ok())
            };
            let ((sent, ended), closed) = tokio::join!(sending, closing);
            closed.unwrap();
            assert_eq!((sent, ended), (whole, true), "{unread}");
        }
        // Whoever sends nothing more and does not close is not waited for long.
        let (_silent, stream) = tokio::io::duplex(64);
        let flag = Unread::default();
        flag.set(true);
        let began = tokio::time::Instant::now();
        Lingering::new(stream, flag).shutdown().await.unwrap();
        assert_eq!(began.elapsed(), WAIT);
    }
}
