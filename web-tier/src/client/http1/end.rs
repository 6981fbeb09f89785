//! How a connection ends: at once, with a word, or when the client has stopped sending.

use super::{After, Http1};
use crate::transport::stream::ClientStream;
use socket2::SockRef;
use std::{future::poll_fn, time::Duration};
use tokio::{io::AsyncWriteExt, time::timeout};

/// Sent before a connection is closed whose request never got complete.
const LATE: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// How long, and for how many bytes, a client is listened to after an answer that came before its request's end.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 4 * 1024 * 1024;

impl Http1 {
    /// Ends the connection as `after` says.
    pub(crate) async fn end(&mut self, after: After) {
        match after {
            After::Next | After::Cut | After::Http2 => {}
            After::Close => self.farewell().await,
            After::Reset => {
                let _ = SockRef::from(self.stream.tcp()).set_linger(Some(Duration::ZERO));
            }
            After::Linger => {
                let _ = timeout(LINGER, self.linger()).await;
            }
        }
    }

    /// TLS says when it is over (RFC 8446 §6.1); a socket says so by closing.
    async fn farewell(&mut self) {
        if let ClientStream::Tls(tls) = &mut self.stream {
            let _ = timeout(LINGER, tls.shutdown()).await;
        }
    }

    /// Reads what a client still sends after its last answer, within bounds (nginx's `lingering_close`).
    async fn linger(&mut self) {
        let buffers = &self.client.worker.buffers;
        let mut left = LINGER_BYTES;
        self.input.consume(self.input.len());
        if self.stream.shutdown().await.is_err() {
            return;
        }
        while left > 0 {
            let read = poll_fn(|cx| self.input.poll_fill(cx, &mut self.stream, buffers)).await;
            match read {
                Ok(count) if count > 0 => {
                    left = left.saturating_sub(count);
                    self.input.consume(count);
                }
                _ => return,
            }
        }
    }

    /// Says that the request is late, to a client that listens.
    pub(crate) async fn last_word(&mut self) {
        let said = async {
            self.stream.write_all(LATE).await?;
            self.stream.flush().await
        };
        if let Ok(Ok(())) = timeout(LINGER, said).await {
            let _ = timeout(LINGER, self.linger()).await;
        }
    }
}
