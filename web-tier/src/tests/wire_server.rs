//! Servers of HTTP/2 in frames by hand.

use super::{
    backend::OnConnection,
    wire::{
        ACK, DATA, END_STREAM, Frame, HEADERS, PING, PREFACE, SETTINGS, WINDOW_UPDATE, block, frame, headers,
        read_frame,
    },
};
use cluster_port::Stream;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A server's side of a connection, in frames by hand.
pub(super) struct Wire(pub(super) Stream);

impl Wire {
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// An answer of two bytes.
    pub(super) async fn ok(&mut self, stream: u32) {
        let head = headers(stream, false, &block(&[(":status", "200"), ("content-length", "2")]));
        self.send(&[head, frame(DATA, END_STREAM, stream, b"ok")].concat()).await;
    }

    /// What is next said of a request; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        loop {
            let came = read_frame(&mut self.0).await?;
            match came.kind {
                SETTINGS if came.flags & ACK == 0 => self.send(&frame(SETTINGS, ACK, 0, b"")).await,
                PING if came.flags & ACK == 0 => self.send(&frame(PING, ACK, 0, &came.payload)).await,
                SETTINGS | PING | WINDOW_UPDATE => {}
                _ => return Some(came),
            }
        }
    }

    /// The next request's stream, its body read.
    pub(super) async fn request(&mut self) -> u32 {
        loop {
            let came = self.next().await.expect("a request");
            if matches!(came.kind, HEADERS | DATA) && came.flags & END_STREAM != 0 {
                return came.stream;
            }
        }
    }
}

/// A backend that says these settings first, and then what `then` does.
pub(super) fn wire<F, R>(settings: &'static [u8], then: F) -> OnConnection
where
    F: Fn(Wire) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let then = Arc::new(then);
    Arc::new(move |mut stream| {
        let then = then.clone();
        Box::pin(async move {
            let mut preface = [0; 24];
            stream.read_exact(&mut preface).await.unwrap();
            assert_eq!(preface, PREFACE);
            stream.write_all(&frame(SETTINGS, 0, 0, settings)).await.unwrap();
            then(Wire(stream)).await;
        })
    })
}

/// A backend whose connections do one after the other what is listed.
pub(super) fn scripts(scripts: impl IntoIterator<Item = OnConnection>) -> OnConnection {
    let scripts = Mutex::new(scripts.into_iter().collect::<VecDeque<_>>());
    Arc::new(move |stream| {
        let next = scripts.lock().unwrap().pop_front().expect("no more connections than were expected");
        next(stream)
    })
}

/// Serves requests until the connection ends.
pub(super) fn serves() -> OnConnection {
    wire(b"", |mut wire| async move {
        while let Some(came) = wire.next().await {
            if came.flags & END_STREAM != 0 && matches!(came.kind, HEADERS | DATA) {
                wire.ok(came.stream).await;
            }
        }
    })
}
