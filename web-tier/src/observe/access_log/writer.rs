//! The thread that writes the lines of all workers, and opens the file anew when it was rotated.

use super::losses::Losses;
use common::config::AccessLogFormat;
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
    thread,
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
struct Batch(Vec<u8>);

/// A worker's way to the writer.
#[derive(Debug, Clone)]
pub(crate) struct LogPipe {
    pub(super) format: AccessLogFormat,
    batches: SyncSender<Batch>,
    losses: Arc<Losses>,
}

impl LogPipe {
    /// Passes lines on. When the writer is behind by its whole queue they are lost, and counted: waiting for the disk would be
    /// worse.
    pub(super) fn pass(&self, bytes: Vec<u8>, lines: u64) {
        if self.batches.try_send(Batch(bytes)).is_err() {
            self.losses.add(lines, "the disk is too slow", Instant::now());
        }
    }
}

/// The handle of a running writer. It ends, and closes the file, when this and every [`LogPipe`] of it are dropped.
#[derive(Debug)]
pub(crate) struct LogWriter {
    path: PathBuf,
    pipe: LogPipe,
    reopen: Arc<AtomicBool>,
    ended: oneshot::Receiver<()>,
}

impl LogWriter {
    /// Opens the file, to append to it, and starts the thread.
    ///
    /// # Errors
    /// The file or its folder can't be made or opened, or this takes too long.
    pub(crate) fn start(path: PathBuf, format: AccessLogFormat) -> io::Result<Self> {
        let (batches, received) = sync_channel(QUEUE);
        let (losses, reopen) = (Arc::new(Losses::default()), Arc::new(AtomicBool::new(false)));
        let (end, ended) = oneshot::channel();
        let (opened, is_open) = sync_channel(1);
        let (thread_losses, thread_reopen, thread_path) = (losses.clone(), reopen.clone(), path.clone());
        thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            match open(&thread_path) {
                Ok(file) => {
                    let _ = opened.send(Ok(()));
                    let sink = Sink::new(file, thread_losses);
                    run(sink, &received, &thread_reopen, &thread_path);
                }
                Err(cause) => drop(opened.send(Err(cause))),
            }
            let _ = end.send(());
        })?;
        is_open.recv_timeout(OPEN_TIMEOUT).unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        Ok(Self { path, pipe: LogPipe { format, batches, losses }, reopen, ended })
    }

    /// The file's name.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How the lines of workers to come look.
    pub(crate) fn format(&self) -> AccessLogFormat {
        self.pipe.format
    }

    /// Changes that.
    pub(crate) fn set_format(&mut self, format: AccessLogFormat) {
        self.pipe.format = format;
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

    /// Waits until all lines are written and the file is closed. The workers must have let go of it.
    pub(crate) async fn finish(self) {
        drop(self.pipe);
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
