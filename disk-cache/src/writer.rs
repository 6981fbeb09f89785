//! One thread writes. Whoever has something to write does not wait for it, and what the disk is too slow for is not kept.

use crate::{
    index::{Location, Position},
    load,
    record::{self, Kind, Record},
    segment::{Listed, Segment},
    shared::{ENTRY_MIN, Shared},
};
use std::{
    collections::VecDeque,
    io,
    os::unix::fs::FileExt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed, mpsc::SyncSender},
    time::{Duration, Instant},
};

/// Things that wait to be written.
const QUEUE_MAX: usize = 4096;

/// Beyond so many that are to be forgotten all is: nobody may make it long.
const FORGET_MAX: usize = 100_000;

/// So often it is looked how much the file system has left.
const LOOK_EVERY: u64 = 256;

/// How long nothing is written when the disk has failed.
const FAILED_PAUSE: Duration = Duration::from_secs(10);

/// What is to be done.
pub(crate) enum Op {
    Put((u64, u64), Record),
    Forget(u64),
    ForgetAll(SyncSender<()>),
    Note(Vec<Vec<u8>>, SyncSender<io::Result<Position>>),
    Flush(SyncSender<()>),
    Close,
}

/// What waits for the writer.
pub(crate) struct Queue {
    bytes_max: u64,
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Default)]
struct Waiting {
    ops: VecDeque<Op>,
    puts: usize,
    bytes: u64,
    /// The writer has taken one, and is at it.
    busy: bool,
    /// Nothing is taken any more.
    closed: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Queue({})", self.waiting().ops.len())
    }
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that holds so many bytes of things at most.
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, waiting: Mutex::default(), more: Condvar::new() }
    }

    /// Whether it is taken.
    pub(crate) fn put(&self, hashes: (u64, u64), record: Record) -> bool {
        let bytes = size(&record);
        let mut waiting = self.waiting();
        if waiting.closed || waiting.puts >= QUEUE_MAX || waiting.bytes + bytes > self.bytes_max {
            return false;
        }
        waiting.puts += 1;
        waiting.bytes += bytes;
        waiting.ops.push_back(Op::Put(hashes, record));
        self.more.notify_one();
        true
    }

    /// What waits of a group is not written, and that it is to be forgotten is before all that waits.
    pub(crate) fn forget(&self, group: u64) {
        let mut waiting = self.waiting();
        let Waiting { ops, puts, bytes, .. } = &mut *waiting;
        if *puts > 0 {
            ops.retain(|op| match op {
                Op::Put((of, _), record) if *of == group => {
                    *puts -= 1;
                    *bytes -= size(record);
                    false
                }
                _ => true,
            });
        }
        if ops.len() > QUEUE_MAX + FORGET_MAX {
            let (done, _) = std::sync::mpsc::sync_channel(1);
            ops.retain(|it| !matches!(it, Op::Forget(_) | Op::Put(..)));
            (*puts, *bytes) = (0, 0);
            ops.push_front(Op::ForgetAll(done));
        } else if !waiting.closed {
            waiting.ops.push_front(Op::Forget(group));
        }
        self.more.notify_one();
    }

    pub(crate) fn push(&self, op: Op) {
        let mut waiting = self.waiting();
        if waiting.closed {
            return;
        }
        waiting.closed = matches!(op, Op::Close);
        waiting.ops.push_back(op);
        self.more.notify_one();
    }

    /// Whether something may be written that is not found yet.
    pub(crate) fn is_writing(&self) -> bool {
        let waiting = self.waiting();
        waiting.puts > 0 || waiting.busy
    }

    /// What is next.
    fn take(&self) -> Op {
        let mut waiting = self.waiting();
        loop {
            waiting.busy = false;
            if let Some(op) = waiting.ops.pop_front() {
                if let Op::Put(_, record) = &op {
                    waiting.puts -= 1;
                    waiting.bytes -= size(record);
                }
                waiting.busy = true;
                return op;
            }
            waiting = self.more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Bytes of memory.
fn size(record: &Record) -> u64 {
    (record.key.len() + record.meta.len() + record.body.len()) as u64
}

/// The segment that is being written.
pub(crate) struct Writing {
    segment: Arc<Segment>,
    offset: u64,
    list: Vec<Listed>,
    buffer: Vec<u8>,
    /// The disk has failed, until then.
    failed: Option<Instant>,
    /// What it has is not to be used at the next start.
    distrusted: bool,
    written: u64,
}

/// Does what is to be done until the end.
pub(crate) fn run(shared: &Shared, mut writing: Writing) {
    loop {
        match shared.queue.take() {
            Op::Put(hashes, record) => writing.put(shared, hashes, &record),
            Op::Forget(group) => writing.forget(shared, group),
            Op::ForgetAll(done) => {
                writing.forget_all(shared);
                // By whom nobody waits for it.
                let _ = shared.forgetting.fetch_update(Relaxed, Relaxed, |it| it.checked_sub(1));
                let _ = done.try_send(());
            }
            Op::Note(notes, done) => {
                let noted = writing.note(shared, notes);
                if noted.is_err() {
                    writing.forget_all(shared);
                    writing.distrust(shared);
                }
                let _ = done.try_send(noted);
            }
            Op::Flush(done) => {
                let _ = done.try_send(());
            }
            Op::Close => return writing.close(shared),
        }
    }
}

impl Writing {
    pub(crate) fn begin(shared: &Shared, number: u32) -> io::Result<Self> {
        let segment = Arc::new(Segment::create(&shared.folder, number)?);
        shared.put_segment(segment.clone());
        Ok(Self {
            segment,
            offset: 0,
            list: Vec::new(),
            buffer: Vec::new(),
            failed: None,
            distrusted: false,
            written: 0,
        })
    }

    fn put(&mut self, shared: &Shared, hashes: (u64, u64), record: &Record) {
        let (group, key_hash) = hashes;
        match self.try_put(shared, hashes, record) {
            Some(position) => {
                let Some((_, header)) = self.list.last() else { return };
                let length = u32::try_from(header.length()).unwrap_or(u32::MAX);
                shared.index.insert(group, Location { key_hash, position, length, expires: record.expires });
                shared.counters.written.fetch_add(1, Relaxed);
            }
            // What stands there of before is out of date.
            None => self.forget(shared, group),
        }
    }

    fn try_put(&mut self, shared: &Shared, hashes: (u64, u64), record: &Record) -> Option<Position> {
        if self.failed.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        self.failed = None;
        self.written += 1;
        // Others may need the disk.
        if self.written.is_multiple_of(LOOK_EVERY)
            && shared.is_reserve_touched()
            && let Some(oldest) = shared.oldest()
        {
            shared.drop_segment(&oldest);
        }
        let mut written = self.append(shared, Kind::Entry, hashes, record);
        // Others have filled the disk: what is oldest here makes room.
        if written.as_ref().is_err_and(|it| it.kind() == io::ErrorKind::StorageFull)
            && let Some(oldest) = shared.oldest()
        {
            shared.drop_segment(&oldest);
            written = self.append(shared, Kind::Entry, hashes, record);
        }
        match written {
            Ok(position) => Some(position),
            Err(cause) if cause.kind() == io::ErrorKind::FileTooLarge => None,
            Err(cause) => {
                shared.counters.failed.fetch_add(1, Relaxed);
                tracing::warn!(%cause, "the disk takes nothing more to be kept: tried again in {FAILED_PAUSE:?}");
                self.failed = Some(Instant::now() + FAILED_PAUSE);
                None
            }
        }
    }

    fn forget(&mut self, shared: &Shared, group: u64) {
        shared.index.forget_group(group);
        if self.append(shared, Kind::Forget, (group, 0), &Record::default()).is_err() {
            self.distrust(shared);
        }
    }

    /// The place of the last, when all are on disk.
    fn note(&mut self, shared: &Shared, notes: Vec<Vec<u8>>) -> io::Result<Position> {
        let mut at = Position::default();
        for note in notes {
            let record = Record { body: note.into(), ..Record::default() };
            at = self.append(shared, Kind::Note, (0, 0), &record)?;
        }
        self.segment.file.sync_data()?;
        Ok(at)
    }

    /// Writes a record behind the others.
    fn append(
        &mut self,
        shared: &Shared,
        kind: Kind,
        hashes: (u64, u64),
        record: &Record,
    ) -> io::Result<Position> {
        let too_large = || io::Error::from(io::ErrorKind::FileTooLarge);
        let mut buffer = std::mem::take(&mut self.buffer);
        let header = record::put(kind, hashes, record, &mut buffer);
        let written = header.ok_or_else(too_large).and_then(|header| {
            if header.length() > shared.segment_max() {
                return Err(too_large());
            }
            let is_full = self.offset + header.length() > shared.segment_max()
                || self.list.len() as u64 >= shared.segment_max() / ENTRY_MIN;
            if is_full {
                self.next(shared)?;
            }
            self.segment.file.write_all_at(&buffer, self.offset)?;
            let offset = u32::try_from(self.offset).map_err(|_| too_large())?;
            self.list.push((offset, header));
            self.offset += header.length();
            shared.counters.bytes.fetch_add(header.length(), Relaxed);
            Ok(Position::new(self.segment.number, offset))
        });
        // A long one does not stay for ever.
        if buffer.capacity() <= 1 << 20 {
            self.buffer = buffer;
        }
        written
    }

    /// The segment is full: another one, and room for it.
    fn next(&mut self, shared: &Shared) -> io::Result<()> {
        while shared.is_full() {
            let Some(oldest) = shared.oldest() else { break };
            shared.drop_segment(&oldest);
        }
        let next = Self::begin(shared, self.segment.number + 1)?;
        // Nothing is written into it any more.
        if let Err(cause) = self.segment.seal(&self.list) {
            tracing::debug!(%cause, "no list of a file of what is kept");
        }
        *self = Self { distrusted: self.distrusted, written: self.written, ..next };
        Ok(())
    }

    fn forget_all(&mut self, shared: &Shared) {
        shared.index.clear();
        let next = self.next(shared);
        while let Some(oldest) = shared.oldest() {
            shared.drop_segment(&oldest);
        }
        if next.is_err() {
            // There is no other: what is in this one must not be found at the next start.
            let _ = self.segment.file.set_len(0);
            (self.offset, self.list) = (0, Vec::new());
        }
        shared.index.clear();
    }

    fn distrust(&mut self, shared: &Shared) {
        self.distrusted = true;
        load::distrust(&shared.folder);
    }

    /// All is on disk, so that it can be used after the machine has been shut down.
    fn close(&mut self, shared: &Shared) {
        if self.segment.seal(&self.list).is_ok() && !self.distrusted {
            load::mark_clean(&shared.folder);
        }
    }
}
