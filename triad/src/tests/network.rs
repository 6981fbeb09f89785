//! What is between the servers of a test's hub, and between them and its clients: connections can be cut, held in one direction
//! or both, and slowed down.

use cluster_port::Stream;
use common::id::ServerId;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    sync::watch,
};

/// Who connects as this is no hub server.
pub(super) const CLIENT: &str = "client";

/// What is wrong with the network.
#[derive(Debug, Clone, Default)]
pub(super) struct Links {
    /// A server that no connection reaches, nor leaves.
    pub(super) cut: Option<ServerId>,
    /// What other hub servers send to this one waits.
    pub(super) deaf: Option<ServerId>,
    /// What this server sends to other hub servers waits.
    pub(super) mute: Option<ServerId>,
    /// What hub servers send to each other takes up to this much longer.
    pub(super) delay: Duration,
}

impl Links {
    fn cuts(&self, a: &ServerId, b: &ServerId) -> bool {
        self.cut.as_ref().is_some_and(|it| it == a || it == b)
    }

    fn holds(&self, from: &ServerId, to: &ServerId) -> bool {
        is_inner(from, to) && (self.deaf.as_ref() == Some(to) || self.mute.as_ref() == Some(from))
    }
}

/// Whether two hub servers talk to each other.
fn is_inner(a: &ServerId, b: &ServerId) -> bool {
    a.as_str() != CLIENT && b.as_str() != CLIENT
}

/// The network. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Network(Arc<watch::Sender<Links>>);

impl Network {
    pub(super) fn change(&self, change: impl FnOnce(&mut Links)) {
        self.0.send_modify(change);
    }

    /// Resolves when the connection of `a` and `b` is cut.
    pub(super) async fn cuts(&self, a: &ServerId, b: &ServerId) {
        let mut links = self.0.subscribe();
        let _never_ends = links.wait_for(|it| it.cuts(a, b)).await;
    }

    /// Carries the bytes of a connection that `from` has made to `to`, until either side ends it.
    pub(super) async fn relay(&self, stream: Stream, near: DuplexStream, from: &ServerId, to: &ServerId) {
        let (read, write) = tokio::io::split(stream);
        let (near_read, near_write) = tokio::io::split(near);
        tokio::select! {
            () = self.carry(read, near_write, from, to) => {}
            () = self.carry(near_read, write, to, from) => {}
        }
    }

    async fn carry(
        &self,
        mut read: impl AsyncRead + Unpin,
        mut write: impl AsyncWrite + Unpin,
        from: &ServerId,
        to: &ServerId,
    ) {
        let mut links = self.0.subscribe();
        let mut piece = vec![0; 64 << 10];
        while let Ok(length @ 1..) = read.read(&mut piece).await {
            let Ok(delay) = links.wait_for(|it| !it.holds(from, to)).await.map(|it| it.delay) else { return };
            if !delay.is_zero() && is_inner(from, to) {
                tokio::time::sleep(delay.mul_f64(rand::random())).await;
            }
            if write.write_all(&piece[..length]).await.is_err() {
                return;
            }
        }
    }
}
