//! The log's only writer: a thread that writes everything that waits with one write and one sync, then says so.

use super::{
    super::{Entry, LogId, Types, Vote, codec, frame},
    index::{Index, Place},
    mark::{Mark, Synced},
};
use crate::disk::{Disk, DiskFile};
use bytes::BytesMut;
use openraft::storage::IOFlushed;
use proto::hub::v1::{LogSegmentHead, LogTruncated};
use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{mpsc, oneshot, watch};

/// The format of segments.
pub(super) const FORMAT: u32 = 1;

/// A group of writes is synced when it has grown to this.
const GROUP_BYTES: usize = 16 << 20;

/// Kinds of records.
pub(super) mod kind {
    /// Begins a segment.
    pub(crate) const SEGMENT: u8 = 1;
    /// Begins a group: everything before it was synced. Its payload is [`super::group_mark`].
    pub(crate) const GROUP: u8 = 2;
    pub(crate) const ENTRY: u8 = 3;
    pub(crate) const VOTE: u8 = 4;
    pub(crate) const COMMITTED: u8 = 5;
    pub(crate) const TRUNCATED: u8 = 6;
    pub(crate) const PURGED: u8 = 7;
}

/// What makes a group findable behind damage: eight odd bytes and its own offset.
pub(super) const GROUP_MAGIC: [u8; 8] = [0xc0, 0x9a, 0x17, 0x6c, 0x0f, 0xee, 0xd5, 0x3b];

pub(super) fn group_mark(offset: u64) -> [u8; 16] {
    let mut mark = [0; 16];
    mark[..8].copy_from_slice(&GROUP_MAGIC);
    mark[8..].copy_from_slice(&offset.to_le_bytes());
    mark
}

pub(super) fn file_name(number: u64) -> String {
    format!("{number:016x}.log")
}

type Done = oneshot::Sender<io::Result<()>>;

/// What the writer is asked for.
pub(super) enum Write {
    Append(Vec<Entry>, IOFlushed<Types>),
    Vote(Vote, Done),
    Truncate(Option<LogId>, Done),
    Purge(LogId, Done),
    Barrier(Done),
    Stop(Done),
}

/// A segment's file.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) length: u64,
    /// The greatest index of any entry that was ever written to it.
    pub(super) greatest: Option<u64>,
}

impl Segment {
    /// Makes a segment, durably.
    pub(super) fn create(disk: &dyn Disk, head: &LogSegmentHead) -> io::Result<Self> {
        let file = disk.create(&file_name(head.number))?;
        let mut bytes = BytesMut::new();
        frame::put(&mut bytes, kind::SEGMENT, head);
        file.write_at(0, &bytes)?;
        file.sync()?;
        disk.sync()?;
        Ok(Self { number: head.number, file, length: bytes.len() as u64, greatest: None })
    }
}

/// The writer.
pub(super) struct Writer {
    disk: Arc<dyn Disk>,
    /// A segment that has grown beyond this is followed by a new one.
    segment_bytes: u64,
    index: Arc<Mutex<Index>>,
    segments: Vec<Segment>,
    failure: watch::Sender<Option<String>>,
    mark: Mark,
    /// As written, for the next segment's head.
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    last: Option<LogId>,
    buffer: BytesMut,
    places: Vec<(LogId, Place)>,
}

impl Writer {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        segment_bytes: u64,
        index: Arc<Mutex<Index>>,
        segments: Vec<Segment>,
        failure: watch::Sender<Option<String>>,
    ) -> Self {
        let (vote, committed, purged, last) = {
            let index = index.lock().unwrap_or_else(PoisonError::into_inner);
            (index.vote, index.committed, index.purged, index.last())
        };
        let (mark, buffer, places) = (Mark::open(&*disk), BytesMut::new(), Vec::new());
        Self {
            disk,
            segment_bytes,
            index,
            segments,
            failure,
            mark,
            vote,
            committed,
            purged,
            last,
            buffer,
            places,
        }
    }

    /// Runs until told to stop, until nobody can ask any more, or until a write fails: after that nothing is written, for
    /// what a failed sync left on disk is unknown.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Write>) {
        let mut group = Vec::new();
        while let Some(first) = queue.blocking_recv() {
            let mut bytes = weight(&first);
            let mut stop = matches!(first, Write::Stop(_));
            group.push(first);
            while bytes < GROUP_BYTES
                && !stop
                && let Ok(next) = queue.try_recv()
            {
                bytes += weight(&next);
                stop = matches!(next, Write::Stop(_));
                group.push(next);
            }
            let written = self.write_group(&group);
            if let Err(cause) = &written {
                tracing::error!(%cause, "the hub's log can't be written: this server stops to acknowledge");
                self.failure.send_replace(Some(cause.to_string()));
            }
            for write in group.drain(..) {
                complete(write, &written);
            }
            if stop || written.is_err() {
                return;
            }
        }
    }

    fn write_group(&mut self, group: &[Write]) -> io::Result<()> {
        self.roll_if_full()?;
        let (number, start) = (self.active().number, self.active().length);
        self.buffer.clear();
        frame::put_raw(&mut self.buffer, kind::GROUP, &group_mark(start));
        for write in group {
            self.put(write, number, start);
        }
        self.put_committed();
        let greatest = self.places.iter().map(|(id, _)| id.index).max();
        let end = start + self.buffer.len() as u64;
        let active = self.active();
        active.file.write_at(start, &self.buffer)?;
        active.file.sync()?;
        let active = self.segments.last_mut().expect("there is always an active segment");
        active.length = end;
        active.greatest = active.greatest.max(greatest);
        self.mark.note(Synced { segment: number, length: end });
        self.note_written();
        if group.iter().any(|it| matches!(it, Write::Purge(..))) {
            self.drop_purged()?;
        }
        Ok(())
    }

    /// Adds a write's records to the buffer, which goes to `start` of segment `number`.
    fn put(&mut self, write: &Write, number: u64, start: u64) {
        match write {
            Write::Append(entries, _) => {
                for entry in entries {
                    let offset = self.buffer.len();
                    frame::put(&mut self.buffer, kind::ENTRY, &codec::put_entry(entry));
                    let length = self.buffer.len() - offset - frame::HEAD;
                    let place = Place { segment: number, offset: start + offset as u64, length };
                    self.places.push((entry.log_id, place));
                    self.last = Some(entry.log_id);
                }
            }
            Write::Vote(vote, _) => {
                frame::put(&mut self.buffer, kind::VOTE, &codec::put_vote(vote));
                self.vote = Some(*vote);
            }
            Write::Truncate(last, _) => {
                let kept = LogTruncated { last: last.as_ref().map(codec::put_log_id) };
                frame::put(&mut self.buffer, kind::TRUNCATED, &kept);
                self.last = *last;
            }
            Write::Purge(upto, _) => {
                frame::put(&mut self.buffer, kind::PURGED, &codec::put_log_id(upto));
                self.purged = self.purged.max(Some(*upto));
                self.last = self.last.max(Some(*upto));
            }
            Write::Barrier(_) | Write::Stop(_) => {}
        }
    }

    /// Adds how far the log is committed behind the entries that are meant: what a crash leaves of the group never says
    /// more than it has.
    fn put_committed(&mut self) {
        let committed = self.lock().committed_on_disk(self.last);
        if let Some(known) = committed.filter(|_| committed > self.committed) {
            frame::put(&mut self.buffer, kind::COMMITTED, &codec::put_log_id(&known));
            self.committed = committed;
        }
    }

    fn note_written(&mut self) {
        let mut places = std::mem::take(&mut self.places);
        let mut index = self.lock();
        for (id, place) in places.drain(..) {
            index.written(id, place);
        }
        index.evict();
        drop(index);
        self.places = places;
    }

    fn active(&self) -> &Segment {
        self.segments.last().expect("there is always an active segment")
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn roll_if_full(&mut self) -> io::Result<()> {
        if self.active().length < self.segment_bytes {
            return Ok(());
        }
        let head = LogSegmentHead {
            format: FORMAT,
            number: self.active().number + 1,
            vote: self.vote.as_ref().map(codec::put_vote),
            committed: self.committed.as_ref().map(codec::put_log_id),
            purged: self.purged.as_ref().map(codec::put_log_id),
            last: self.last.as_ref().map(codec::put_log_id),
        };
        let segment = Segment::create(&*self.disk, &head)?;
        self.lock().files.insert(segment.number, segment.file.clone());
        self.segments.push(segment);
        Ok(())
    }

    /// Removes the oldest segments as long as all their entries were purged.
    fn drop_purged(&mut self) -> io::Result<()> {
        let purged = self.purged.map(|it| it.index);
        let mut dropped = 0;
        for segment in &self.segments[..self.segments.len() - 1] {
            if segment.greatest > purged {
                break;
            }
            self.disk.remove(&file_name(segment.number))?;
            self.lock().files.remove(&segment.number);
            dropped += 1;
        }
        self.segments.drain(..dropped);
        if dropped > 0 { self.disk.sync() } else { Ok(()) }
    }
}

fn weight(write: &Write) -> usize {
    match write {
        Write::Append(entries, _) => entries.iter().map(super::index::size).sum(),
        _ => 64,
    }
}

fn complete(write: Write, written: &io::Result<()>) {
    let result = match written {
        Ok(()) => Ok(()),
        Err(cause) => Err(io::Error::new(cause.kind(), cause.to_string())),
    };
    match write {
        Write::Append(_, callback) => callback.io_completed(result),
        Write::Vote(_, done)
        | Write::Truncate(_, done)
        | Write::Purge(_, done)
        | Write::Barrier(done)
        | Write::Stop(done) => {
            let _nobody_waits = done.send(result);
        }
    }
}
