//! Signals: SIGTERM or SIGINT asks for a graceful stop, a second one stops at once. SIGHUP says that log files were renamed,
//! certificates replaced, or the file changed; SIGUSR2, that the program was replaced.

use std::{fs::File, io::Read};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What the operator wants, by signals.
#[derive(Debug)]
pub(crate) struct Stops {
    terminate: Signal,
    interrupt: Signal,
}

impl Stops {
    /// Listens from now on.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next wish to stop.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// A signal that asks for something again and again, and ends a process that does not listen.
#[derive(Debug)]
pub(crate) struct Wishes(Signal);

impl Wishes {
    /// SIGHUP, from now on.
    pub(crate) fn to_reload() -> std::io::Result<Self> {
        Ok(Self(signal(SignalKind::hangup())?))
    }

    /// SIGUSR2, from now on.
    pub(crate) fn to_hand_over() -> std::io::Result<Self> {
        Ok(Self(signal(SignalKind::user_defined2())?))
    }

    /// The next one.
    pub(crate) async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// Cancels `token` when `input` ends. A thread of its own, which no stop waits for.
pub(crate) fn stop_with(mut input: File, token: CancellationToken) {
    std::thread::spawn(move || {
        let mut ignored = [0; 64];
        while let Ok(1..) = input.read(&mut ignored) {}
        token.cancel();
    });
}
