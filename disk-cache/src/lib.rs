//! Things that are kept on disk for as long as there is room.
//!
//! They are written one after another into files ([`segment`](crate)), the oldest of which goes when there is no room for another. Where each is stands in
//! memory alone; it is read from the files at the start, while nobody waits for it. What is damaged, half written or gone is not there: nothing that is kept
//! here is kept nowhere else. What was forgotten does not come back: not after a `kill -9`, as forgetting is written down; and after a loss of power all
//! of it is gone, as what was written last may be gone too.
//!
//! Things have keys, and groups, which are forgotten at once. A user can write notes among them, which it gets back at the next start, with their
//! places: whether something is older than a note its place tells.

mod index;
mod load;
mod record;
mod segment;
mod shared;
mod writer;

pub use index::Position;
pub use load::Note;
pub use record::Record;
pub use shared::{Found, Totals};

use index::Index;
use shared::Shared;
use std::{
    fmt, fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed, mpsc},
    thread::JoinHandle,
    time::Duration,
};
use writer::Op;

/// Where, and how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// A folder of its own; it is made if it is not there.
    pub folder: PathBuf,
    /// Bytes of files.
    pub capacity: u64,
    /// Bytes of memory for what waits to be written.
    pub waiting: u64,
}

/// How long whoever writes a note waits for the disk.
const NOTE_WAIT: Duration = Duration::from_secs(5);

/// The store. Dropped, it writes what is still to be written.
pub struct DiskCache {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl fmt::Debug for DiskCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiskCache({} entries)", self.shared.index.entries())
    }
}

impl DiskCache {
    /// Opens a folder. What was kept there before is found when it has been read, in the background; `notes` gets the notes, the oldest first, before
    /// anything is found.
    ///
    /// # Errors
    /// The folder can't be made or written, or another process has it.
    pub fn open(settings: &Settings, notes: impl FnOnce(Vec<Note>) + Send + 'static) -> io::Result<Self> {
        fs::create_dir_all(&settings.folder)?;
        let opened = load::open(&settings.folder)?;
        let shared = Arc::new(Shared::new(settings, opened.secret, opened.lock, Index::default()));
        let next = opened.segments.last().map_or(1, |it| it.number + 1);
        let first = writer::Writing::begin(&shared, next)?;
        shared.put_former(&opened.segments);
        shared.look_at_the_disk();
        let (of_writer, of_loader) = (shared.clone(), shared.clone());
        let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let writer = named("cache-writer").spawn(move || writer::run(&of_writer, first))?;
        let loader = named("cache-loader").spawn(move || load::run(&of_loader, &opened.segments, notes))?;
        Ok(Self { shared, threads: Mutex::new(vec![writer, loader]) })
    }

    /// How many bytes there may be from now on.
    pub fn set_capacity(&self, capacity: u64) {
        self.shared.set_capacity(capacity);
    }

    /// What there is.
    pub fn totals(&self) -> Totals {
        self.shared.totals()
    }

    /// Whether what was kept before is found.
    pub fn is_loaded(&self) -> bool {
        self.shared.index.is_loaded()
    }

    /// Keeps something, if the disk keeps up.
    pub fn put(&self, group: &[u8], record: Record) {
        let (group, key_hash) = (self.shared.hash(group), self.shared.hash(&record.key));
        let index = &self.shared.index;
        // Whatever becomes of this one, the former is out of date.
        if !self.shared.queue.put((group, key_hash), record, || index.replaced(group, key_hash)) {
            self.shared.counters.dropped.fetch_add(1, Relaxed);
            self.shared.queue.forget(group, || {
                index.forget_group(group);
                true
            });
        }
    }

    /// Where something is, if it is there. No look at the disk.
    pub fn find(&self, group: &[u8], key: &[u8], now_s: u64) -> Option<Found> {
        self.shared.find(group, key, now_s)
    }

    /// Reads it; `None`: it is not there any more, or was damaged. Waits for the disk.
    pub fn read(&self, found: &Found, key: &[u8]) -> Option<Record> {
        self.shared.read(found, key)
    }

    /// Forgets a group: what is kept of it, and what is about to be written.
    pub fn forget(&self, group: &[u8]) {
        self.forget_hash(self.shared.hash(group));
    }

    fn forget_hash(&self, group: u64) {
        self.shared.queue.forget(group, || {
            // In this order: what is found again after the first look is in the index before the second one.
            let may_come = !self.is_loaded();
            self.shared.index.forget_group(group) || may_come
        });
    }

    /// Forgets all: nothing of what was put before is found from now on. Waits for the disk, for a while; whether it is so at the next start too.
    pub fn forget_all(&self) -> bool {
        let (done, is_done) = mpsc::sync_channel(1);
        self.shared.forgetting.fetch_add(1, Relaxed);
        self.shared.queue.push(Op::ForgetAll(done));
        is_done.recv_timeout(NOTE_WAIT).is_ok()
    }

    /// Writes notes, and waits until they are on disk; the place of the last, behind all that was put before.
    ///
    /// # Errors
    /// The disk does not take them, or not in time: all that is kept is forgotten then.
    pub fn note(&self, notes: Vec<Vec<u8>>) -> io::Result<Position> {
        let (done, is_done) = mpsc::sync_channel(1);
        self.shared.queue.push(Op::Note(notes, done));
        let noted = is_done.recv_timeout(NOTE_WAIT).map_err(|_| io::Error::from(io::ErrorKind::TimedOut));
        let noted = noted.and_then(|it| it);
        if noted.is_err() {
            let (done, _) = mpsc::sync_channel(1);
            self.shared.forgetting.fetch_add(1, Relaxed);
            self.shared.queue.push(Op::ForgetAll(done));
        }
        noted
    }

    /// A small file beside what is kept, for what has to outlive it: what stands in it.
    pub fn state(&self, name: &str) -> Option<Vec<u8>> {
        load::read_state(&self.shared.folder, name)
    }

    /// The same, written.
    ///
    /// # Errors
    /// The disk does not take it, or the store is closed.
    pub fn set_state(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if self.shared.is_closing() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        load::write_state(&self.shared.folder, name, bytes)
    }

    /// Waits until all that was put is written, for tests.
    pub fn flush(&self) {
        let (done, is_done) = mpsc::sync_channel(1);
        self.shared.queue.push(Op::Flush(done));
        let _ = is_done.recv_timeout(NOTE_WAIT);
    }
}

impl Drop for DiskCache {
    fn drop(&mut self) {
        self.close();
    }
}

impl DiskCache {
    /// Writes what is still to be written; nothing is written any more then. Waits for the disk.
    pub fn close(&self) {
        self.shared.close();
        self.shared.queue.push(Op::Close);
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = thread.join();
        }
        self.shared.unlock();
    }
}

#[cfg(test)]
mod tests;
