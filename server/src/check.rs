//! `copal check`: every error of the file with its place, on standard error; exit status 0 or 2.

use crate::cli::{CheckArguments, FileArguments};
use common::config::{Config, LoadOptions, load};
use std::process::ExitCode;

/// Exit status for bad usage or configuration.
pub(crate) const BAD_CONFIGURATION: u8 = 2;

pub(crate) fn run(arguments: &CheckArguments) -> ExitCode {
    match read(&arguments.file) {
        Ok(config) => {
            let servers = config.servers().count();
            let hub = config.triad.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            say(&format!(
                "{} is valid: {} clusters, {servers} servers, hub on {hub}",
                arguments.file.conf.display(),
                config.clusters.len()
            ));
            ExitCode::SUCCESS
        }
        Err(status) => status,
    }
}

/// Loads the file; its errors and warnings go to standard error.
#[expect(clippy::print_stderr, reason = "the command line's own answer")]
pub(crate) fn read(arguments: &FileArguments) -> Result<Config, ExitCode> {
    let options = LoadOptions {
        data_dir: arguments.data_dir.clone(),
        port_offset: arguments.port_offset,
        ..LoadOptions::from_environment()
    };
    match load(&arguments.conf, &options) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                eprintln!("{warning}");
            }
            Ok(loaded.config)
        }
        Err(errors) => {
            eprintln!("{errors}");
            Err(BAD_CONFIGURATION.into())
        }
    }
}

#[expect(clippy::print_stdout, reason = "the command line's own answer")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// What could not be done, on standard error, with its causes.
#[expect(clippy::print_stderr, reason = "the command line's own answer")]
pub(crate) fn complain(error: &anyhow::Error) {
    // In one piece: several servers may share the terminal.
    let line = format!("error: {error:#}\n");
    eprint!("{line}");
}
