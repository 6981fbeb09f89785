//! The sockets of both sides. A client's leaves word of its progress, so that the connection's time-outs cost a store per read
//! and write. Both send small messages in one piece: `send` of what was copied costs the kernel less than `writev`.

use crate::connection::Client;
use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Up to this many bytes are copied to be sent in one piece: a head, with a small body.
const COPY_MAX: usize = 1024;

/// Writes `slices`: one, or a few small ones, as one piece.
fn poll_write_slices(
    mut stream: Pin<&mut TcpStream>,
    cx: &mut Context<'_>,
    slices: &[io::IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    if let [slice] = slices {
        return stream.poll_write(cx, slice);
    }
    let length: usize = slices.iter().map(|slice| slice.len()).sum();
    if length > COPY_MAX {
        return stream.poll_write_vectored(cx, slices);
    }
    let mut copy = [0; COPY_MAX];
    let mut end = 0;
    for slice in slices {
        copy[end..end + slice.len()].copy_from_slice(slice);
        end += slice.len();
    }
    stream.as_mut().poll_write(cx, &copy[..end])
}

/// The socket of a server.
#[derive(Debug)]
pub(crate) struct ServerIo(TcpStream);

impl ServerIo {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self(stream)
    }
}

impl AsyncRead for ServerIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for ServerIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        poll_write_slices(Pin::new(&mut self.0), cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// The socket of a client.
#[derive(Debug)]
pub(crate) struct ClientIo {
    stream: TcpStream,
    client: Rc<Client>,
}

impl ClientIo {
    pub(crate) fn new(stream: TcpStream, client: Rc<Client>) -> Self {
        Self { stream, client }
    }

    fn noted(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Pending => self.client.progress.write_waits(),
            Poll::Ready(_) => self.client.progress.wrote(self.client.worker.now()),
        }
        written
    }

    /// Writes what fits into the socket at once, for a last word before it is closed.
    pub(crate) fn try_last_word(&self, word: &[u8]) {
        let _ = self.stream.try_write(word);
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        match &read {
            Poll::Pending => self.client.progress.read_waits(),
            Poll::Ready(_) if buffer.filled().len() > before => {
                self.client.progress.read(self.client.worker.now());
            }
            Poll::Ready(_) => {}
        }
        read
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = poll_write_slices(Pin::new(&mut self.stream), cx, slices);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn slices_arrive_in_order_whatever_their_size() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut other, _) = listener.accept().await.unwrap();
        let mut io = ServerIo::new(stream);
        for sizes in [&[][..], &[5], &[0, 0], &[3, 4], &[1000, 24], &[1000, 25], &[10, 0, 5000]] {
            let parts: Vec<Vec<u8>> =
                sizes.iter().enumerate().map(|(part, size)| vec![part as u8 + 1; *size]).collect();
            let slices: Vec<_> = parts.iter().map(|part| io::IoSlice::new(part)).collect();
            let written = poll_fn(|cx| Pin::new(&mut io).poll_write_vectored(cx, &slices)).await.unwrap();
            assert_eq!(written, sizes.iter().sum::<usize>(), "it fits into the socket: {sizes:?}");
            let mut read = vec![0; written];
            other.read_exact(&mut read).await.unwrap();
            assert_eq!(read, parts.concat());
        }
    }
}
