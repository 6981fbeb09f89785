//! The thread that writes the lines of all workers to one destination, and opens a file anew when it was rotated.

use super::{losses::Losses, syslog};
use common::config::Syslog;
use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// Batches that may wait for the disk: 2 MiB of lines.
const QUEUE: usize = 64;

/// How long the file may take to open: a pipe that nobody reads never does.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Lines hold addresses of people: not for everyone's eyes.
const MODE: u32 = 0o640;

/// Of folders that are made for it.
const FOLDER_MODE: u32 = 0o750;

/// Whole lines of one worker. An empty one only wakes the writer.
#[derive(Debug, Default)]
pub(super) struct Batch(pub(super) Vec<u8>);

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    /// A file of this name, which is appended to.
    File(PathBuf),
    Syslog(Syslog),
}

impl Destination {
    /// The file's name.
    pub(super) fn path(&self) -> Option<&Path> {
        if let Self::File(path) = self { Some(path) } else { None }
    }

    /// What is the matter when lines come faster than they leave.
    fn behind(&self) -> &'static str {
        match self {
            Self::File(_) => "the disk is too slow",
            Self::Syslog(_) => "the syslog server is away or too slow",
        }
    }
}

/// A worker's way to the writer.
#[derive(Debug, Clone)]
pub(crate) struct LogPipe {
    batches: SyncSender<Batch>,
    losses: Arc<Losses>,
    /// Why lines are lost when the queue is full.
    behind: &'static str,
}

impl LogPipe {
    /// Passes lines on. When the writer is behind by its whole queue they are lost, and counted: waiting for the disk would be
    /// worse.
    pub(super) fn pass(&self, bytes: Vec<u8>, lines: u64) {
        if self.batches.try_send(Batch(bytes)).is_err() {
            self.losses.add(lines, self.behind, Instant::now());
        }
    }
}

/// The handle of a running writer. It ends, and closes the file, when this and every [`LogPipe`] of it are dropped.
#[derive(Debug)]
pub(crate) struct LogWriter {
    pipe: LogPipe,
    reopen: Arc<AtomicBool>,
    ended: oneshot::Receiver<()>,
    closing: Closing,
}

/// Tells the thread that nobody waits any longer for a server that is away.
#[derive(Debug)]
struct Closing(Arc<AtomicBool>, Thread);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
        self.1.unpark();
    }
}

impl LogWriter {
    /// Opens the file, to append to it, and starts the thread. A syslog server may come later.
    ///
    /// # Errors
    /// The file or its folder can't be made or opened, or this takes too long.
    pub(crate) fn start(destination: Destination) -> io::Result<Self> {
        let (batches, received) = sync_channel(QUEUE);
        let (losses, reopen) = (Arc::new(Losses::default()), Arc::new(AtomicBool::new(false)));
        let (end, ended) = oneshot::channel();
        let (opened, is_open) = sync_channel(1);
        let closing = Arc::new(AtomicBool::new(false));
        let behind = destination.behind();
        let (thread_losses, thread_reopen, thread_closing) =
            (losses.clone(), reopen.clone(), closing.clone());
        let thread = thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            match destination {
                Destination::Syslog(config) => {
                    let _ = opened.send(Ok(()));
                    syslog::run(config, &received, &thread_closing, &thread_losses);
                }
                Destination::File(path) => match open(&path) {
                    Ok(file) => {
                        let _ = opened.send(Ok(()));
                        run(Sink::new(file, thread_losses), &received, &thread_reopen, &path);
                    }
                    Err(cause) => drop(opened.send(Err(cause))),
                },
            }
            let _ = end.send(());
        })?;
        is_open.recv_timeout(OPEN_TIMEOUT).unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        let closing = Closing(closing, thread.thread().clone());
        Ok(Self { pipe: LogPipe { batches, losses, behind }, reopen, ended, closing })
    }

    /// The way of one more worker.
    pub(crate) fn pipe(&self) -> LogPipe {
        self.pipe.clone()
    }

    /// Lets go of the file, which was renamed, and writes on in a new one of its old name. Returns at once.
    pub(crate) fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
        // A full queue means that it is awake.
        let _ = self.pipe.batches.try_send(Batch::default());
    }

    /// How many lines were lost.
    pub(crate) fn lost(&self) -> u64 {
        self.pipe.losses.lines()
    }

    /// What counts them, beyond its end.
    pub(crate) fn losses(&self) -> Arc<Losses> {
        self.pipe.losses.clone()
    }

    /// Waits until all lines are written and the file is closed. The workers must have let go of it.
    pub(crate) async fn finish(self) {
        drop(self.pipe);
        drop(self.closing);
        let _ = self.ended.await;
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
    }
    OpenOptions::new().create(true).append(true).mode(MODE).open(path)
}

fn run(mut sink: Sink<File>, batches: &Receiver<Batch>, reopen: &AtomicBool, path: &Path) {
    while let Ok(batch) = batches.recv() {
        if reopen.swap(false, Ordering::Acquire) {
            match open(path) {
                Ok(file) => sink.replace(file),
                // Better in the old file than nowhere.
                Err(cause) => {
                    let path = path.display();
                    tracing::warn!(%path, %cause, "the access log can't be opened anew: writing on in the old file");
                }
            }
        }
        sink.write(&batch, Instant::now());
    }
}

/// A file that may be full.
#[derive(Debug)]
struct Sink<W> {
    file: W,
    losses: Arc<Losses>,
    /// The last write ended within a line.
    torn: bool,
}

impl<W: Write> Sink<W> {
    fn new(file: W, losses: Arc<Losses>) -> Self {
        Self { file, losses, torn: false }
    }

    fn replace(&mut self, file: W) {
        self.file = file;
        self.torn = false;
    }

    /// Writes lines. Those that can't be written are lost: a full disk is tried again with the next batch.
    fn write(&mut self, batch: &Batch, now: Instant) {
        let mut written = 0;
        if let Err(cause) = self.try_write(&batch.0, &mut written) {
            let rest = &batch.0[written..];
            let lines = memchr::memchr_iter(b'\n', rest).count() as u64;
            self.losses.add(lines, &cause.to_string(), now);
        }
    }

    fn try_write(&mut self, bytes: &[u8], written: &mut usize) -> io::Result<()> {
        if self.torn && !bytes.is_empty() {
            self.file.write_all(b"\n")?;
            self.torn = false;
        }
        while *written < bytes.len() {
            match self.file.write(&bytes[*written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    *written += count;
                    self.torn = bytes[*written - 1] != b'\n';
                }
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(cause),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
