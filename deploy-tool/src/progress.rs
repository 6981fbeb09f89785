//! How much has been sent, on one line of a terminal; elsewhere nothing.

use std::{
    io::{IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Time between two lines.
const EACH: Duration = Duration::from_millis(100);

/// What has been sent of all that there is to send.
#[derive(Debug)]
pub(crate) struct Progress {
    counter: Counter,
}

/// Counts what is sent, and shows it now and then.
#[derive(Debug, Clone)]
pub(crate) struct Counter {
    sent: Arc<AtomicU64>,
    shown: Option<Instant>,
    total: u64,
    terminal: bool,
}

impl Progress {
    /// Of `total` bytes, before they are compressed.
    pub(crate) fn new(total: u64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { counter: Counter { sent: Arc::default(), shown: None, total, terminal } }
    }

    pub(crate) fn counter(&self) -> Counter {
        self.counter.clone()
    }

    pub(crate) fn show(&mut self) {
        self.counter.show();
    }

    /// Clears the line.
    pub(crate) fn end(&self) {
        if self.counter.terminal {
            let _unseen = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

impl Counter {
    pub(crate) fn add(&mut self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        if self.terminal && self.shown.is_none_or(|it| it.elapsed() >= EACH) {
            self.shown = Some(Instant::now());
            self.show();
        }
    }

    fn show(&self) {
        if self.terminal {
            let sent = self.sent.load(Ordering::Relaxed);
            let _unseen = write!(
                std::io::stderr(),
                "\rsending {} (of {} before compression)\x1b[K",
                size(sent),
                size(self.total)
            );
        }
    }
}

/// For people.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{}.{} kB", bytes / 1_000, bytes % 1_000 / 100),
        1_000_000..1_000_000_000 => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
        _ => format!("{}.{} GB", bytes / 1_000_000_000, bytes % 1_000_000_000 / 100_000_000),
    }
}
