//! etcd: no queue, but a peer that makes the same promise, on the disks of a majority before it answers. Each message is put at a key of its own;
//! nobody consumes.

use super::Broker;
use crate::{
    etcd::{self, Etcd},
    process::Process,
};
use bytes::Bytes;
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::mpsc;

pub(super) struct Log {
    etcd: Etcd,
    next: AtomicU64,
}

pub(super) async fn start(folder: &Path) -> anyhow::Result<(Arc<Log>, Vec<Process>)> {
    let (etcd, processes) = etcd::start(folder).await?;
    Ok((Arc::new(Log { etcd, next: AtomicU64::new(0) }), processes))
}

impl Broker for Log {
    const CONSUMED: bool = false;

    async fn publish(&self, _lane: usize, body: Bytes) -> anyhow::Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.etcd.put(format!("b/{number:010}").into(), body).await
    }

    async fn consume(self: &Arc<Self>, _handled: mpsc::UnboundedSender<Bytes>) -> anyhow::Result<()> {
        anyhow::bail!("etcd hands out no messages")
    }
}
