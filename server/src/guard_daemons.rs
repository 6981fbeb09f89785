//! The hidden `copal guard-daemons`: ends what runs past its lease, whatever becomes of the server that started it.

use crate::check::complain;
use nix::sys::signal::{SigSet, Signal};
use std::process::ExitCode;

/// Runs until the server is gone.
pub(crate) fn run() -> ExitCode {
    // A service manager may tell every process of the server to end: this one is the last, and ends with its input.
    let signals = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGPIPE];
    if let Err(cause) = signals.into_iter().collect::<SigSet>().thread_block() {
        complain(&anyhow::anyhow!("signals can't be blocked: {cause}"));
    }
    match app_tier::guard_daemons() {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            complain(&anyhow::anyhow!("the guard of daemons: {cause}"));
            ExitCode::FAILURE
        }
    }
}
