//! The state as a sequence of records, and back.

use super::State;
use bytes::Bytes;
use prost::Message;
use proto::hub::v1::{SnapshotItem, snapshot_item::Item};

/// Why a snapshot's content can't be restored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    /// The bytes are no items.
    #[error("an item of the snapshot can't be read: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// Written by a newer version.
    #[error("an item of the snapshot is of a kind that this server does not know: upgrade it")]
    Unknown,
}

impl State {
    /// The time that the state has seen.
    pub(crate) fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// How much of it sessions did not age by.
    pub(crate) fn away_ms(&self) -> u64 {
        self.away_ms
    }

    /// Hands out the whole state as length-delimited items in chunks of about `chunk` bytes.
    pub(crate) fn export<E>(
        &self,
        chunk: usize,
        mut put: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let sessions = self.sessions.export().map(Item::Session);
        let tombstones = self.sessions.tombstones().map(Item::Tombstone);
        let members = self.members.iter().cloned().map(Item::Member);
        let apps = self.apps.iter().cloned().map(Item::App);
        let tokens = self.tokens.iter().cloned().map(Item::Token);
        let audit = self.audit.iter().cloned().map(Item::Audit);
        let purges = self.purges.iter().cloned().map(Item::Purge);
        let secrets = self.secrets.iter().cloned().map(Item::Secret);
        let last_secret = self.secrets.last();
        let secrets = secrets.chain((last_secret > 0).then_some(Item::LastSecret(last_secret)));
        let leases = self.leases.iter().map(|it| Item::Lease(it.clone()));
        let last_token = self.leases.last_token();
        let leases = leases.chain((last_token > 0).then_some(Item::LastToken(last_token)));
        let caches = self.caches.export_names().map(Item::Cache);
        let cached = self.caches.export().map(Item::Cached);
        let writers = self.caches.export_writers().map(Item::Writer);
        let last_version = self.caches.last();
        let caches = caches.chain(cached).chain(writers);
        let caches = caches.chain((last_version > 0).then_some(Item::LastVersion(last_version)));
        let jobs = self.jobs.iter().map(|it| Item::Job(it.clone()));
        let last_job = self.jobs.last();
        let jobs = jobs.chain(self.jobs.export_declared().map(Item::JobsDeclared));
        let jobs = jobs.chain((last_job > 0).then_some(Item::LastJob(last_job)));
        let mut pending = Vec::with_capacity(chunk);
        let small = members.chain(apps).chain(tokens).chain(audit).chain(purges).chain(secrets).chain(leases);
        for item in
            small.chain(caches).chain(self.queues.export()).chain(jobs).chain(tombstones).chain(sessions)
        {
            SnapshotItem { item: Some(item) }
                .encode_length_delimited(&mut pending)
                .expect("a Vec grows as needed");
            if pending.len() >= chunk {
                put(&pending)?;
                pending.clear();
            }
        }
        if pending.is_empty() { Ok(()) } else { put(&pending) }
    }
}

/// A state that is being put together from a snapshot's chunks.
#[derive(Debug)]
pub(crate) struct Restore(State);

impl Restore {
    /// An empty state at `time_ms` that has seen commands up to the version `commands`; sessions do not age by `away_ms` of it.
    pub(crate) fn new(time_ms: u64, commands: u32, away_ms: u64) -> Self {
        Self(State { time_ms, commands, away_ms, ..State::default() })
    }

    /// Adds a chunk's items.
    pub(crate) fn add(&mut self, mut chunk: Bytes) -> Result<(), RestoreError> {
        while !chunk.is_empty() {
            match SnapshotItem::decode_length_delimited(&mut chunk)?.item {
                Some(Item::Session(session)) => self.0.sessions.restore(session),
                Some(Item::Tombstone(tombstone)) => self.0.sessions.restore_tombstone(tombstone),
                Some(Item::Member(member)) => self.0.members.restore(member),
                Some(Item::App(app)) => self.0.apps.restore(app),
                Some(Item::Token(token)) => self.0.tokens.restore(token),
                Some(Item::Audit(entry)) => self.0.audit.restore(entry),
                Some(Item::Purge(purge)) => self.0.purges.restore(purge),
                Some(Item::Secret(secret)) => self.0.secrets.restore(secret),
                Some(Item::LastSecret(version)) => self.0.secrets.restore_last(version),
                Some(Item::Lease(lease)) => self.0.leases.restore(lease),
                Some(Item::LastToken(token)) => self.0.leases.restore_last_token(token),
                Some(Item::Cache(cache)) => self.0.caches.restore_name(cache),
                Some(Item::Cached(cached)) => self.0.caches.restore(cached),
                Some(Item::Writer(writer)) => self.0.caches.restore_writer(writer),
                Some(Item::LastVersion(version)) => self.0.caches.restore_last(version),
                Some(Item::Job(job)) => self.0.jobs.restore(job),
                Some(Item::JobsDeclared(saved)) => self.0.jobs.restore_declared(saved),
                Some(Item::LastJob(last)) => self.0.jobs.restore_last(last),
                Some(item) => self.0.queues.restore(item),
                None => return Err(RestoreError::Unknown),
            }
        }
        Ok(())
    }

    /// The finished state.
    pub(crate) fn finish(self) -> State {
        self.0
    }
}
