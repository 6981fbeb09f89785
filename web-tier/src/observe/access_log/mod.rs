//! The access log: one line a request. A request fills a [`Record`], its worker formats it into lines of its own, and one thread
//! writes the lines of all workers: no request ever waits for a disk. docs/access-log.md is for those who read the lines.

mod chosen;
mod escape;
mod format;
mod logs;
mod losses;
mod own_format;
mod record;
mod stamp;
mod syslog;
mod writer;

pub(crate) use logs::{LogPipes, Logs, NextLogs, OpenError};
pub(crate) use record::{End, Record, put_masked};
pub(crate) use writer::LogWriter;

use crate::memory::shelf::{Shelf, Shelved};
use chosen::{ErrorRate, is_chosen};
use common::config::AccessLogFormat;
use format::Line;
use stamp::Stamp;
use std::{
    cell::{Cell, RefCell},
    fmt, mem,
    rc::Rc,
    time::{Instant, SystemTime},
};

/// Lines go to the writer when there are this many bytes of them, or a tick has passed.
const BATCH: usize = 32 * 1024;

/// A worker's side of the log.
#[derive(Debug)]
pub(crate) struct AccessLog {
    pipes: LogPipes,
    stamp: RefCell<Stamp>,
    requests: Lines,
    errors: Lines,
    error_rate: ErrorRate,
    /// Headers that the format has.
    headers: Box<[Rc<str>]>,
}

/// Lines that gather until they are passed on.
#[derive(Debug, Default)]
struct Lines {
    bytes: RefCell<Vec<u8>>,
    count: Cell<u64>,
}

impl Lines {
    /// Adds a line; whether it is time to pass them on.
    fn add(&self, put: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut bytes = self.bytes.borrow_mut();
        if bytes.capacity() == 0 {
            bytes.reserve(BATCH + BATCH / 4);
        }
        put(&mut bytes);
        self.count.set(self.count.get() + 1);
        bytes.len() >= BATCH
    }

    /// All of them, and how many they are.
    fn take(&self) -> Option<(Vec<u8>, u64)> {
        let count = self.count.take();
        (count > 0).then(|| (mem::take(&mut *self.bytes.borrow_mut()), count))
    }
}

impl AccessLog {
    /// The side of a new worker.
    pub(crate) fn new(pipes: LogPipes) -> Self {
        let headers = match &pipes.settings.format {
            AccessLogFormat::Own(format) => format.headers.iter().map(|it| it.as_str().into()).collect(),
            _ => Box::default(),
        };
        Self {
            pipes,
            stamp: RefCell::new(Stamp::new(SystemTime::now())),
            requests: Lines::default(),
            errors: Lines::default(),
            error_rate: ErrorRate::new(),
            headers,
        }
    }

    /// The headers of requests that its lines have.
    pub(crate) fn headers(&self) -> &[Rc<str>] {
        &self.headers
    }

    /// Sets the time that lines bear, and passes on what has gathered since the last tick.
    pub(crate) fn tick(&self, now: SystemTime) {
        *self.stamp.borrow_mut() = Stamp::new(now);
        self.error_rate.tick();
        self.flush();
    }

    /// Writes a request down.
    fn write(&self, client: &str, record: &Record) {
        let (now, settings) = (Instant::now(), &*self.pipes.settings);
        let stamp = self.stamp.borrow();
        let line = Line::new(&stamp, client, record, now);
        let random = || rand::random_range(0..1_000_000);
        let mut full = false;
        if self.pipes.has_requests() && is_chosen(settings, record, now, random) {
            full |= self.requests.add(|out| format::put(out, &settings.format, &line));
        }
        if self.pipes.errors.is_some()
            && record.has_failed()
            && let Some(left_out) = self.error_rate.take()
        {
            full |= self.errors.add(|out| format::put_error(out, &line, left_out));
        }
        if full {
            self.flush();
        }
    }

    /// Passes the lines to the writers.
    fn flush(&self) {
        let LogPipes { file, syslog, errors, .. } = &self.pipes;
        if let Some((bytes, lines)) = self.requests.take() {
            match (file, syslog) {
                (Some(file), Some(syslog)) => {
                    file.pass(bytes.clone(), lines);
                    syslog.pass(bytes, lines);
                }
                (one, other) => {
                    if let Some(pipe) = one.as_ref().or(other.as_ref()) {
                        pipe.pass(bytes, lines);
                    }
                }
            }
        }
        if let (Some(pipe), Some((bytes, lines))) = (errors, self.errors.take()) {
            pipe.pass(bytes, lines);
        }
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
