//! The library's state machine over [`State`]: in memory, with snapshots on disk; what the log has committed is applied again
//! at the start.

use super::{
    Entry, LogId, Replies, SnapshotMeta, StoredMembership, Types,
    snapshots::{SnapshotFile, Snapshots},
};
use crate::{command, feed::Feed, state::State};
use futures_util::{Stream, TryStreamExt};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder,
    storage::{EntryResponder, RaftStateMachine, Snapshot},
};
use std::{
    io,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
};

/// The state and how far the log is in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Applied {
    pub(crate) state: State,
    pub(crate) last: Option<LogId>,
    membership: StoredMembership,
}

/// The state as the services read it. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    applied: Arc<RwLock<Applied>>,
    /// Bytes of entries applied since the last snapshot.
    unsaved_bytes: Arc<AtomicU64>,
    /// Entries applied since the last snapshot.
    unsaved_entries: Arc<AtomicU64>,
}

impl View {
    /// The state as of now. Held only for a look: whoever applies waits for it.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Applied> {
        // A batch is applied whole or the process's Raft ends with the panic.
        self.applied.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes and entries applied since the last snapshot was begun or installed.
    pub(crate) fn unsaved(&self) -> (u64, u64) {
        (self.unsaved_bytes.load(Ordering::Relaxed), self.unsaved_entries.load(Ordering::Relaxed))
    }

    fn replace(&self, applied: Applied) {
        *self.applied.write().unwrap_or_else(PoisonError::into_inner) = applied;
        self.saved();
    }

    fn saved(&self) {
        self.unsaved_bytes.store(0, Ordering::Relaxed);
        self.unsaved_entries.store(0, Ordering::Relaxed);
    }
}

/// The state machine.
#[derive(Debug)]
pub(crate) struct Machine {
    view: View,
    feed: Arc<Feed>,
    snapshots: Snapshots,
}

impl Machine {
    /// A machine whose state is empty until the library has installed the newest snapshot and applied the log.
    pub(crate) fn new(view: View, feed: Arc<Feed>, snapshots: Snapshots) -> Self {
        Self { view, feed, snapshots }
    }

    fn apply_one(&self, entry: Entry) -> io::Result<Replies> {
        let index = entry.log_id.index;
        // Decoded before the lock is taken: readers wait only for the state's change itself.
        let (batch, membership, bytes) = match entry.payload {
            EntryPayload::Blank => (None, None, 0),
            EntryPayload::Membership(it) => (None, Some(it), 0),
            EntryPayload::Normal(data) => {
                let bytes = data.0.len() as u64;
                let refused =
                    |cause| io::Error::new(io::ErrorKind::InvalidData, format!("log entry {index}: {cause}"));
                (Some(command::decode(data.0).map_err(refused)?), None, bytes)
            }
        };
        let (replies, changes) = {
            let mut applied = self.view.applied.write().unwrap_or_else(PoisonError::into_inner);
            applied.last = Some(entry.log_id);
            if let Some(membership) = membership {
                applied.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
            batch.map(|batch| applied.state.apply(batch)).unwrap_or_default()
        };
        self.view.unsaved_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.view.unsaved_entries.fetch_add(1, Ordering::Relaxed);
        self.feed.publish(index, changes);
        Ok(Replies(replies))
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let applied = self.view.read();
        Ok((applied.last, applied.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let replies = self.apply_one(entry).inspect_err(|cause| {
                tracing::error!(%cause, "the hub can't apply its log: this server stops");
            })?;
            if let Some(responder) = responder {
                responder.send(replies);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        // Persistent maps: the clone costs nothing and stays as it is.
        let applied = self.view.read().clone();
        self.view.saved();
        Builder { applied, snapshots: self.snapshots.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotFile) -> io::Result<()> {
        let (snapshots, mut snapshot, expected) = (self.snapshots.clone(), snapshot, meta.clone());
        let install = move || {
            let (meta, state) = snapshot.read().map_err(io::Error::other)?;
            if meta.last_log_id != expected.last_log_id {
                let text = format!(
                    "a snapshot at {:?} where one at {:?} was meant",
                    meta.last_log_id, expected.last_log_id
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            snapshots.keep(&meta, snapshot)?;
            Ok((meta, state))
        };
        let (meta, state) = tokio::task::spawn_blocking(install).await.map_err(io::Error::other)??;
        let index = meta.last_log_id.map_or(0, |it| it.index);
        self.view.replace(Applied { state, last: meta.last_log_id, membership: meta.last_membership });
        self.feed.restart(index);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf>> {
        Ok(self.snapshots.current().map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

type SnapshotOf = openraft::type_config::alias::SnapshotOf<Types, SnapshotFile>;

/// Writes a snapshot of the state as it was.
#[derive(Debug)]
pub(crate) struct Builder {
    applied: Applied,
    snapshots: Snapshots,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf> {
        let (applied, snapshots) = (self.applied.clone(), self.snapshots.clone());
        let meta = SnapshotMeta { last_log_id: applied.last, last_membership: applied.membership };
        let write = move || snapshots.write(&meta, &applied.state).map(|file| (file, meta));
        let (snapshot, meta) = tokio::task::spawn_blocking(write).await.map_err(io::Error::other)??;
        Ok(Snapshot { meta, snapshot })
    }
}
