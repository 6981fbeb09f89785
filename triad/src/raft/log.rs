//! The Raft log on disk: segments of one stream of records, an index of it in memory, recent entries cached. One thread
//! writes; whatever waits shares one sync. docs/decisions/0003-hub-storage.md says why it is our own.

mod index;
mod mark;
mod recover;
#[cfg(test)]
mod tests;
mod writer;

use super::{Entry, LogId, Types, Vote, codec, frame};
use crate::disk::Disk;
use bytes::Bytes;
use index::{Index, Place};
use openraft::{
    LogState, OptionalSend, RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
};
use prost::Message;
use proto::hub::v1::RaftEntry;
use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{mpsc, oneshot, watch};
use writer::{Write, Writer};

pub(crate) use recover::LogError;

/// Writes that wait for the writer; the library bounds what is in flight far below.
const QUEUE: usize = 1024;

/// A segment that has grown beyond this is followed by a new one.
pub(crate) const SEGMENT_BYTES: u64 = 64 << 20;

/// A reply to a request for many entries holds about so many bytes at most, so that it fits a message.
const READ_BYTES: usize = 8 << 20;

/// What the log's folder held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogAge {
    /// No log.
    New,
    /// A log that nothing was ever written to.
    Empty,
    /// A log.
    Used,
}

/// The log. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    index: Arc<Mutex<Index>>,
    writes: mpsc::Sender<Write>,
    failed: watch::Receiver<Option<String>>,
}

impl Log {
    /// Opens or makes the log in a folder and starts its writer, which begins a new segment after about `segment_bytes`.
    ///
    /// # Errors
    /// See [`LogError`]: damage is refused, an unfinished last write is cut.
    pub(crate) fn open(disk: Arc<dyn Disk>, segment_bytes: u64) -> Result<(Self, LogAge), LogError> {
        let recovered = recover::recover(&*disk)?;
        let age = match recovered.new {
            true => LogAge::New,
            false if recovered.index.is_pristine() => LogAge::Empty,
            false => LogAge::Used,
        };
        let (writes, queue) = mpsc::channel(QUEUE);
        let (failure, failed) = watch::channel(None);
        let index = Arc::new(Mutex::new(recovered.index));
        let writer = Writer::new(disk, segment_bytes, index.clone(), recovered.segments, failure);
        std::thread::Builder::new()
            .name("hub-log".to_owned())
            .spawn(move || writer.run(queue))
            .map_err(LogError::Io)?;
        Ok((Self { index, writes, failed }, age))
    }

    /// Resolves to what broke when the log can't be written any more.
    pub(crate) fn failed(&self) -> watch::Receiver<Option<String>> {
        self.failed.clone()
    }

    /// Waits until all that was handed in is on disk.
    ///
    /// # Errors
    /// What broke the log.
    pub(crate) async fn barrier(&self) -> io::Result<()> {
        self.write(Write::Barrier).await
    }

    /// Writes what is pending and ends the writer: later writes fail.
    ///
    /// # Errors
    /// What broke the log.
    pub(crate) async fn stop(&self) -> io::Result<()> {
        self.write(Write::Stop).await
    }

    /// The greatest index up to which entries can go so that at least `keep` bytes of entries at or before `upto` stay.
    pub(crate) fn purgeable(&self, upto: u64, keep: u64) -> Option<u64> {
        self.lock().purgeable(upto, keep)
    }

    /// Whether it has no entry, and never had one.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().last().is_none()
    }

    /// The vote that is on disk, and the last entry, which may be on its way there.
    pub(super) fn position(&self) -> (Option<Vote>, Option<LogId>) {
        let index = self.lock();
        (index.vote, index.last())
    }

    /// Whether it can't be written any more.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.borrow().is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        // The index is whole between its methods, so a panic elsewhere doesn't spoil it.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self, write: impl FnOnce(oneshot::Sender<io::Result<()>>) -> Write) -> io::Result<()> {
        let (done, wait) = oneshot::channel();
        self.send(write(done)).await?;
        wait.await.unwrap_or_else(|_| Err(self.gone()))
    }

    async fn send(&self, write: Write) -> io::Result<()> {
        self.writes.send(write).await.map_err(|_| self.gone())
    }

    fn gone(&self) -> io::Error {
        let why = self.failed.borrow().clone();
        io::Error::other(why.unwrap_or_else(|| "the hub's log is closed".to_owned()))
    }

    async fn read(&self, range: impl RangeBounds<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let found = self.lock().find(bounds(&range), bytes_max);
        if found.iter().all(|it| it.entry.is_some()) {
            return Ok(found.into_iter().filter_map(|it| it.entry).collect());
        }
        let index = self.index.clone();
        let read = move || {
            let from_disk = |it: index::Found| match (it.entry, it.place) {
                (Some(entry), _) => Ok(entry),
                (None, Some(place)) => read_entry(&index, place),
                (None, None) => Err(io::Error::other("an entry is neither in memory nor on disk")),
            };
            found.into_iter().map(from_disk).collect()
        };
        tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(&it) => it,
        Bound::Excluded(&it) => it.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&it) => it.saturating_add(1),
        Bound::Excluded(&it) => it,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

fn read_entry(index: &Mutex<Index>, place: Place) -> io::Result<Entry> {
    let file = index.lock().unwrap_or_else(PoisonError::into_inner).file(place.segment)?;
    let mut bytes = vec![0; frame::HEAD + place.length];
    file.read_at(place.offset, &mut bytes)?;
    let damaged = |cause: &dyn std::fmt::Display| {
        let text = format!("{} at offset {}: {cause}", writer::file_name(place.segment), place.offset);
        io::Error::new(io::ErrorKind::InvalidData, text)
    };
    let record = frame::read(&Bytes::from(bytes), 0).map_err(|cause| damaged(&cause))?;
    let record = record.ok_or_else(|| damaged(&frame::FrameError::Short))?;
    let entry = RaftEntry::decode(record.payload).map_err(|cause| damaged(&cause))?;
    codec::entry(entry).map_err(|cause| damaged(&cause))
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        self.read(range, usize::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start..end, READ_BYTES).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.lock().vote)
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let index = self.lock();
        Ok(LogState { last_purged_log_id: index.purged, last_log_id: index.last() })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let vote = *vote;
        self.write(|done| Write::Vote(vote, done)).await?;
        self.lock().vote = Some(vote);
        Ok(())
    }

    /// Goes to disk with the next write: after a crash an older one is found and the rest applied again.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.lock().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        self.lock().append(&entries)?;
        self.send(Write::Append(entries, callback)).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.lock().truncate_after(last);
        self.write(|done| Write::Truncate(last, done)).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.lock().purge(upto);
        self.write(|done| Write::Purge(upto, done)).await
    }
}
