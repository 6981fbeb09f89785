//! Logs: one line an event on standard error or in a file, written by a thread of its own so that no request waits for a disk; the
//! last lines stay in memory.

use crate::recent_logs::{Keeper, recent_logs};
use std::{fs::OpenOptions, io, os::unix::fs::OpenOptionsExt, path::Path};
use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt};

/// Log lines name users' addresses: not for everyone's eyes.
const MODE: u32 = 0o640;

/// Keeps the log writer's thread alive; dropped at the very end, it writes out what is left.
#[derive(Debug)]
pub struct LogGuard(#[expect(dead_code, reason = "held for its Drop")] WorkerGuard);

/// Starts logging to `file`, or to standard error without one. `filter` has the syntax of `RUST_LOG`
/// (`info,triad=debug`).
///
/// # Errors
/// The file can't be opened for appending.
pub fn start(file: Option<&Path>, filter: &str) -> io::Result<LogGuard> {
    let (writer, guard): (NonBlocking, WorkerGuard) = match file {
        Some(path) => {
            let file = OpenOptions::new().create(true).append(true).mode(MODE).open(path)?;
            tracing_appender::non_blocking(file)
        }
        None => tracing_appender::non_blocking(io::stderr()),
    };
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let written = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(writer);
    let subscriber = written.finish().with(Keeper(recent_logs()));
    // A second call (several servers in one process) keeps the first subscriber.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(LogGuard(guard))
}
