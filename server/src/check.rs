//! `copal check`: every error of the file, and of the certificates that it names, with its place, on standard error; exit status
//! 0 or 2.

use crate::cli::{CheckArguments, FileArguments};
use cluster_port::Credentials;
use common::{
    config::{Config, ConfigErrors, LoadOptions, Loaded, Problem, load},
    id::ServerId,
};
use std::{io::Write, process::ExitCode};
use web_tier::{check_access, check_pages, check_tls};

/// Exit status for bad usage or configuration.
pub(crate) const BAD_CONFIGURATION: u8 = 2;

pub(crate) fn run(arguments: &CheckArguments) -> ExitCode {
    let certificates = |loaded: Loaded| read_certificates(loaded.config, arguments.server.as_deref());
    match read_as(&arguments.file, true).and_then(certificates) {
        Ok(config) if arguments.print => {
            say(&format!(
                "# {} as it is in force: imports, variables and defaults are merged in, secrets are hidden.\n{}",
                arguments.file.conf.display(),
                config.effective.trim_end()
            ));
            ExitCode::SUCCESS
        }
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

/// Loads the file, as a server does.
pub(crate) fn load_file(arguments: &FileArguments) -> Result<Loaded, ConfigErrors> {
    load_as(arguments, false)
}

/// `strict`: a cluster key that can be guessed is an error, and not only warned of.
fn load_as(arguments: &FileArguments, strict: bool) -> Result<Loaded, ConfigErrors> {
    let options = LoadOptions {
        data_dir: arguments.data_dir.clone(),
        port_offset: arguments.port_offset,
        stage: arguments.stage.clone(),
        refuse_guessable_key: strict,
        ..LoadOptions::from_environment()
    };
    load(&arguments.conf, &options)
}

/// Loads the file, as a server does; its errors and warnings go to standard error.
pub(crate) fn read(arguments: &FileArguments) -> Result<Loaded, ExitCode> {
    read_as(arguments, false)
}

fn read_as(arguments: &FileArguments, strict: bool) -> Result<Loaded, ExitCode> {
    let loaded = load_as(arguments, strict).map_err(|errors| tell_errors(&errors))?;
    tell_warnings(&loaded.warnings);
    Ok(loaded)
}

/// Reads the pages of hosts, what the `tls` of listeners and backends names, and the files of users and of tokens' keys, of all servers or of the one that is asked for; of that one also what `cluster-tls`
/// names, for each server has files of its own there.
fn read_certificates(config: Config, only: Option<&str>) -> Result<Config, ExitCode> {
    let only = only.map(ServerId::from);
    if let Some(id) = only.as_ref().filter(|id| config.server(id).is_none()) {
        complain(&anyhow::anyhow!("{} has no server `{id}`", config.file.display()));
        return Err(BAD_CONFIGURATION.into());
    }
    let warnings = check_tls(&config, only.as_ref()).map_err(|errors| tell_errors(&errors))?;
    tell_warnings(&warnings);
    check_access(&config, only.as_ref()).map_err(|errors| tell_errors(&errors))?;
    check_pages(&config, only.as_ref()).map_err(|errors| tell_errors(&errors))?;
    if let Some(Err(cause)) = only.map(|id| Credentials::load(&config, &id)) {
        ConfigErrors::part(cause.problems()).map_err(|errors| tell_errors(&errors))?;
    }
    Ok(config)
}

#[expect(clippy::print_stderr, reason = "the command line's own answer")]
fn tell_warnings(warnings: &[Problem]) {
    for warning in warnings {
        eprintln!("{warning}");
    }
}

#[expect(clippy::print_stderr, reason = "the command line's own answer")]
fn tell_errors(errors: &ConfigErrors) -> ExitCode {
    eprintln!("{errors}");
    BAD_CONFIGURATION.into()
}

/// Whoever does not listen any more misses it.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// What could not be done, on standard error, with its causes.
#[expect(clippy::print_stderr, reason = "the command line's own answer")]
pub(crate) fn complain(error: &anyhow::Error) {
    // In one piece: several servers may share the terminal.
    let line = format!("error: {error:#}\n");
    eprint!("{line}");
}
