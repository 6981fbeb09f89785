//! One thread writes. Whoever has something to write does not wait for it, and what the disk is too slow for is not kept.

use crate::{
    index::{Location, Position},
    load,
    record::{self, Kind, Record},
    segment::{Listed, Segment},
    shared::{ENTRY_MIN, Shared},
};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    os::unix::fs::FileExt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed, mpsc::SyncSender},
    time::{Duration, Instant},
};

/// Things that wait to be written.
const QUEUE_MAX: usize = 4096;

/// So often it is looked how much the file system has left.
const LOOK_EVERY: u64 = 256;

/// How long nothing is written when the disk has failed.
const FAILED_PAUSE: Duration = Duration::from_secs(10);

/// A group and a key of it, by their hashes.
pub(crate) type Hashes = (u64, u64);

/// What is to be done, one after the other.
pub(crate) enum Op {
    Put(Hashes, Record),
    ForgetAll(SyncSender<()>),
    Note(Vec<Vec<u8>>, SyncSender<io::Result<Position>>),
    Flush(SyncSender<()>),
    Close,
}

/// What is next.
enum Next {
    /// Before all that waits: what waits of the group is none of it any more.
    Forget(u64),
    Op(Op),
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
    /// How many of them are things of a group.
    puts: HashMap<u64, usize>,
    count: usize,
    bytes: u64,
    forgets: HashSet<u64>,
    /// What the writer is writing, and whether it is out of date already.
    busy: Option<Hashes>,
    is_stale: bool,
    /// Nothing is taken any more.
    closed: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Queue({})", self.waiting().ops.len())
    }
}

impl Waiting {
    /// Takes out what waits and `is` out of date.
    fn drop_puts(&mut self, group: u64, is: impl Fn(u64) -> bool) {
        self.is_stale |= self.busy.is_some_and(|(of, key)| of == group && is(key));
        if !self.puts.contains_key(&group) {
            return;
        }
        let ops = std::mem::take(&mut self.ops);
        for op in ops {
            match &op {
                Op::Put((of, key), record) if *of == group && is(*key) => self.taken(group, record),
                _ => self.ops.push_back(op),
            }
        }
    }

    /// One thing of a group waits no more.
    fn taken(&mut self, group: u64, record: &Record) {
        self.count -= 1;
        self.bytes -= size(record);
        if let Some(puts) = self.puts.get_mut(&group) {
            *puts -= 1;
            if *puts == 0 {
                self.puts.remove(&group);
            }
        }
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

    /// A thing in the place of what waits with its key. Whether it is taken.
    /// `forget` takes what is found with its key away: meanwhile nothing is found that was not.
    pub(crate) fn put(&self, (group, key): Hashes, record: Record, forget: impl FnOnce()) -> bool {
        let bytes = size(&record);
        let mut waiting = self.waiting();
        waiting.drop_puts(group, |it| it == key);
        forget();
        if waiting.closed || waiting.count >= QUEUE_MAX || waiting.bytes + bytes > self.bytes_max {
            return false;
        }
        waiting.count += 1;
        waiting.bytes += bytes;
        *waiting.puts.entry(group).or_default() += 1;
        waiting.ops.push_back(Op::Put((group, key), record));
        self.more.notify_one();
        true
    }

    /// What waits of a group is not written, and that it is to be forgotten is before all that waits: if something of it may be on disk, as `forget` says,
    /// which takes away what is found of it, or something of it has waited or is just being written.
    pub(crate) fn forget(&self, group: u64, forget: impl FnOnce() -> bool) {
        let mut waiting = self.waiting();
        let may_be = forget();
        let waits = waiting.puts.contains_key(&group) || waiting.busy.is_some_and(|it| it.0 == group);
        waiting.drop_puts(group, |_| true);
        if (waits || may_be) && !waiting.closed {
            waiting.forgets.insert(group);
            self.more.notify_one();
        }
    }

    pub(crate) fn push(&self, op: Op) {
        let mut waiting = self.waiting();
        if waiting.closed {
            return;
        }
        waiting.closed = matches!(op, Op::Close);
        waiting.is_stale |= matches!(op, Op::ForgetAll(_));
        waiting.ops.push_back(op);
        self.more.notify_one();
    }

    /// What is next.
    fn take(&self) -> Next {
        let mut waiting = self.waiting();
        loop {
            (waiting.busy, waiting.is_stale) = (None, false);
            if let Some(group) = waiting.forgets.iter().next().copied() {
                waiting.forgets.remove(&group);
                return Next::Forget(group);
            }
            if let Some(op) = waiting.ops.pop_front() {
                if let Op::Put(hashes, record) = &op {
                    waiting.taken(hashes.0, record);
                    waiting.busy = Some(*hashes);
                }
                return Next::Op(op);
            }
            waiting = self.more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The thing that was just written can be found from now on, unless it is out of date meanwhile.
    fn publish(&self, insert: impl FnOnce()) {
        let mut waiting = self.waiting();
        if !waiting.is_stale {
            insert();
        }
        waiting.busy = None;
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
    /// Things among them.
    entries: u64,
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
        let op = match shared.queue.take() {
            Next::Forget(group) => {
                writing.forget(shared, group);
                continue;
            }
            Next::Op(op) => op,
        };
        match op {
            Op::Put(hashes, record) => writing.put(shared, hashes, &record),
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
            entries: 0,
            buffer: Vec::new(),
            failed: None,
            distrusted: false,
            written: 0,
        })
    }

    fn put(&mut self, shared: &Shared, hashes: Hashes, record: &Record) {
        let (group, key_hash) = hashes;
        match self.try_put(shared, hashes, record) {
            Some(position) => {
                let Some((_, header)) = self.list.last() else { return };
                let length = u32::try_from(header.length()).unwrap_or(u32::MAX);
                let location = Location { key_hash, position, length, expires: record.expires };
                shared.queue.publish(|| shared.index.insert(group, location));
                shared.counters.written.fetch_add(1, Relaxed);
            }
            // What stands there of before is out of date.
            None => self.forget(shared, group),
        }
    }

    fn try_put(&mut self, shared: &Shared, hashes: Hashes, record: &Record) -> Option<Position> {
        if self.failed.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        self.failed = None;
        self.written += 1;
        // Others may need the disk.
        if self.written.is_multiple_of(LOOK_EVERY) {
            shared.look_at_the_disk();
            if shared.is_reserve_touched() && !self.make_room(shared) {
                self.failed = Some(Instant::now() + FAILED_PAUSE);
                return None;
            }
        }
        let written = self.append(shared, Kind::Entry, hashes, record);
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
        // In the system's memory, which outlives this process; and what is lost with the power takes all with it.
        Ok(at)
    }

    /// The oldest goes, though it were the one that is being written. Whether something went.
    fn make_room(&mut self, shared: &Shared) -> bool {
        if shared.oldest().is_none() && (self.offset == 0 || self.next(shared).is_err()) {
            return false;
        }
        let oldest = shared.oldest();
        oldest.iter().for_each(|it| shared.drop_segment(it));
        oldest.is_some()
    }

    /// Writes a record behind the others; what is oldest makes room if others have filled the disk.
    fn append(
        &mut self,
        shared: &Shared,
        kind: Kind,
        hashes: Hashes,
        record: &Record,
    ) -> io::Result<Position> {
        match self.try_append(shared, kind, hashes, record) {
            Err(cause) if cause.kind() == io::ErrorKind::StorageFull && self.make_room(shared) => {
                self.try_append(shared, kind, hashes, record)
            }
            appended => appended,
        }
    }

    fn try_append(
        &mut self,
        shared: &Shared,
        kind: Kind,
        hashes: Hashes,
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
                || self.entries >= shared.segment_max() / ENTRY_MIN;
            if is_full {
                self.next(shared)?;
            }
            self.segment.file.write_all_at(&buffer, self.offset)?;
            let offset = u32::try_from(self.offset).map_err(|_| too_large())?;
            self.list.push((offset, header));
            self.entries += u64::from(kind == Kind::Entry);
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
            shared.unlink(&oldest);
            oldest.remove();
        }
        // If there is no other, what is in this one must not be found at the next start.
        if next.is_err() {
            if self.segment.file.set_len(0).is_err() {
                self.distrust(shared);
            }
            (self.offset, self.list, self.entries) = (0, Vec::new(), 0);
        }
        shared.index.clear();
    }

    fn distrust(&mut self, shared: &Shared) {
        self.distrusted = true;
        load::distrust(&shared.folder);
    }

    /// All is on disk, so that it can be used after the machine has been shut down.
    fn close(&mut self, shared: &Shared) {
        if self.list.is_empty() {
            shared.unlink(&self.segment);
            self.segment.remove();
        } else if self.segment.seal(&self.list).is_err() {
            return;
        }
        if shared.sync_all().is_ok() && !self.distrusted {
            load::mark_clean(&shared.folder);
        }
    }
}
