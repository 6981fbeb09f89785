//! The command line for administration: raw arguments (`cli`) → where and as whom (`target`) → a verb (`servers`, `password`),
//! over HTTP (`client`). Data goes to standard output, everything else to standard error.

mod ca;
mod cli;
mod client;
mod password;
mod servers;
mod table;
mod target;
#[cfg(test)]
mod tests;

use clap::{Parser, error::ErrorKind};
use cli::{Cli, ServerCommand, Verb};
use servers::SetAdmin;
use std::process::ExitCode;
use target::Target;

/// Exit status when something was refused or has failed.
const FAILED: u8 = 1;

/// Exit status for bad usage.
const USAGE: u8 = 2;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { ExitCode::SUCCESS } else { USAGE.into() };
        }
    };
    let verb = match &cli.verb {
        Verb::PasswordGenerate(arguments) => return ended(password::generate(&cli.connection, arguments)),
        Verb::Status => None,
        Verb::Server(ServerCommand::Enable(it)) => Some((SetAdmin::Enable, it)),
        Verb::Server(ServerCommand::Disable(it)) => Some((SetAdmin::Disable, it)),
        Verb::Server(ServerCommand::DisableSoft(it)) => Some((SetAdmin::DisableSoft, it)),
    };
    let target = match Target::of(&cli.connection) {
        Ok(target) => target,
        Err(error) => {
            complain(&error);
            return USAGE.into();
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return ended(Err(error.into())),
    };
    ended(runtime.block_on(async {
        match verb {
            None => servers::status(&target, cli.json).await,
            Some((verb, arguments)) => servers::set(&target, verb, arguments, cli.json).await,
        }
    }))
}

/// The exit status; an error is told.
fn ended(outcome: anyhow::Result<bool>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => FAILED.into(),
        Err(error) => {
            complain(&error);
            FAILED.into()
        }
    }
}

/// A line of data.
#[expect(clippy::print_stdout, reason = "the command line's own answer")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// A line that is no data.
#[expect(clippy::print_stderr, reason = "the command line's own answer")]
pub(crate) fn tell(line: &str) {
    eprintln!("{line}");
}

/// What could not be done, with its causes.
pub(crate) fn complain(error: &anyhow::Error) {
    tell(&format!("error: {error:#}"));
}
