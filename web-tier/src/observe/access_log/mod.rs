//! The access log: one line a request. A request fills a [`Record`], its worker formats it into lines of its own, and one thread
//! writes the lines of all workers: no request ever waits for a disk. docs/access-log.md is for those who read the lines.

mod escape;
mod format;
mod losses;
mod record;
mod stamp;
mod writer;

pub(crate) use record::{End, Record, put_masked};
pub(crate) use writer::{LogPipe, LogWriter};

use crate::memory::shelf::{Shelf, Shelved};
use stamp::Stamp;
use std::{
    cell::{Cell, RefCell},
    fmt, mem,
    time::{Instant, SystemTime},
};

/// Lines go to the writer when there are this many bytes of them, or a tick has passed.
const BATCH: usize = 32 * 1024;

/// A worker's side of the log.
#[derive(Debug)]
pub(crate) struct AccessLog {
    pipe: LogPipe,
    stamp: RefCell<Stamp>,
    batch: RefCell<Vec<u8>>,
    lines: Cell<u64>,
}

impl AccessLog {
    /// The side of a new worker.
    pub(crate) fn new(pipe: LogPipe) -> Self {
        Self {
            pipe,
            stamp: RefCell::new(Stamp::new(SystemTime::now())),
            batch: RefCell::default(),
            lines: Cell::new(0),
        }
    }

    /// Sets the time that lines bear, and passes on what has gathered since the last tick.
    pub(crate) fn tick(&self, now: SystemTime) {
        *self.stamp.borrow_mut() = Stamp::new(now);
        self.flush();
    }

    /// Writes a request down.
    fn write(&self, client: &str, record: &Record) {
        let mut batch = self.batch.borrow_mut();
        if batch.capacity() == 0 {
            batch.reserve(BATCH + BATCH / 4);
        }
        format::put(&mut batch, self.pipe.format, &self.stamp.borrow(), client, record, Instant::now());
        self.lines.set(self.lines.get() + 1);
        if batch.len() >= BATCH {
            drop(batch);
            self.flush();
        }
    }

    /// Passes the lines to the writer.
    fn flush(&self) {
        if self.lines.get() == 0 {
            return;
        }
        let bytes = mem::take(&mut *self.batch.borrow_mut());
        let lines = self.lines.take();
        self.pipe.pass(bytes, lines);
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.flush();
    }
}

/// The records of a worker's requests, to be used over and over.
pub(crate) type Records = Shelf<Box<Record>>;

/// The record of the request that a connection, or a stream of one, is about. Without an access log, and without spans, nothing ever
/// happens here.
#[derive(Default)]
pub(crate) struct Recording(Cell<Option<Shelved<Box<Record>>>>);

impl Recording {
    /// A request was read.
    pub(crate) fn begin(&self, records: &Records) {
        let mut record = records.take(Box::default);
        record.begin(Instant::now());
        self.0.set(Some(record));
    }

    /// Adds to what is known of it.
    pub(crate) fn note(&self, add: impl FnOnce(&mut Record)) {
        if let Some(mut record) = self.0.take() {
            add(&mut record);
            self.0.set(Some(record));
        }
    }

    /// It has ended, one way or the other: it is written to the log that there is now, and its span has ended.
    pub(crate) fn finish(&self, log: Option<&AccessLog>, client: &str) {
        // Taken in any case: a log that was taken away leaves nothing behind.
        let Some(mut record) = self.0.take() else { return };
        record.end_span();
        if let Some(log) = log {
            log.write(client, &record);
        }
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
