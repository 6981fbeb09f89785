//! The command line for administration: raw arguments (`cli`) → where and as whom (`target`) → a verb (`apps`, `deploy`, `servers`, `triad`, `audit`, `tokens`, `password`, `manual`),
//! over HTTP (`client`). Data goes to standard output, everything else to standard error.

mod app_caches;
mod apps;
mod audit;
mod ca;
mod cache;
mod cli;
mod client;
mod daemons;
mod deploy;
mod jobs;
mod logs;
mod manual;
mod password;
mod pipelines;
mod progress;
mod queues;
mod rollout;
mod servers;
mod status;
mod table;
mod target;
#[cfg(test)]
mod tests;
mod tokens;
mod triad;

use apps::How;
use clap::{Parser, error::ErrorKind};
use cli::{AppArgument, CacheCommand, Cli, DaemonCommand, ServerCommand, TokenCommand, TriadCommand, Verb};
use servers::SetAdmin;
use std::{
    io::{self, Write},
    process::ExitCode,
};
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
    match &cli.verb {
        Verb::PasswordGenerate(arguments) => {
            return ended(password::generate(&cli.connection, arguments, cli.json));
        }
        Verb::Completions { shell } => return ended(manual::completions(*shell)),
        Verb::Man { folder } => return ended(manual::man(folder.as_deref())),
        _ => {}
    }
    let target = match Target::of(&cli.connection) {
        Ok(target) => target,
        Err(error) => {
            complain(&error);
            return USAGE.into();
        }
    };
    // Packs are compressed beside the sending.
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => ended(runtime.block_on(run(&cli.verb, &target, cli.json))),
        Err(error) => ended(Err(error.into())),
    }
}

async fn run(verb: &Verb, target: &Target, json: bool) -> anyhow::Result<bool> {
    let tag = |it: &AppArgument| apps::tag(&it.app);
    match verb {
        Verb::Status { watch: true } => status::watch(target, json).await,
        Verb::Status { watch: false } => servers::status(target, json).await,
        Verb::Logs(arguments) => logs::logs(target, arguments, json).await,
        Verb::Triad(TriadCommand::Status) => triad::status(target, json).await,
        Verb::Triad(TriadCommand::Lead { id }) => triad::lead(target, id, json).await,
        Verb::Cache(CacheCommand::Status) => cache::status(target, json).await,
        Verb::Cache(CacheCommand::Purge(arguments)) => cache::purge(target, arguments, json).await,
        Verb::AppCache(command) => app_caches::run(target, command, json).await,
        Verb::Daemon(DaemonCommand::List) => daemons::list(target, json).await,
        Verb::Job(command) => jobs::run(target, command, json).await,
        Verb::Pipeline(command) => pipelines::run(target, command, json).await,
        Verb::Queue(command) => queues::run(target, command, json).await,
        Verb::Audit { limit, kind } => audit::list(target, *limit, kind.as_deref(), json).await,
        Verb::Server(ServerCommand::Enable(it)) => servers::set(target, SetAdmin::Enable, it, json).await,
        Verb::Server(ServerCommand::Disable(it)) => servers::set(target, SetAdmin::Disable, it, json).await,
        Verb::Server(ServerCommand::DisableSoft(it)) => {
            servers::set(target, SetAdmin::DisableSoft, it, json).await
        }
        Verb::Deploy(arguments) => deploy::deploy(target, arguments, json).await,
        Verb::Undeploy(app) => apps::undeploy(target, &tag(app)?, json).await,
        Verb::List { regexp } => apps::list(target, regexp.as_deref(), json).await,
        Verb::Log(app) => apps::log(target, &tag(app)?, json).await,
        Verb::Diff { app, from, to } => apps::diff(target, &tag(app)?, from, to, json).await,
        Verb::Rollback { app, to, rollout } => {
            let how = How { to: to.clone(), ..How::of(rollout) };
            apps::begin(target, &tag(app)?, "rollback", how, json).await
        }
        Verb::Copy { app, to, rollout } => {
            let how = How { to: Some(apps::tag(to)?.to_string()), ..How::of(rollout) };
            apps::begin(target, &tag(app)?, "copy", how, json).await
        }
        // Server by server, whatever is said.
        Verb::Restart { app, rollout } => {
            let how = How { rolling: None, ..How::of(rollout) };
            apps::begin(target, &tag(app)?, "restart", how, json).await
        }
        Verb::Stop(app) => apps::set_stopped(target, &tag(app)?, true, json).await,
        Verb::Start(app) => apps::set_stopped(target, &tag(app)?, false, json).await,
        Verb::Ls { app, path } => apps::ls(target, &tag(app)?, path, json).await,
        Verb::Cat { app, path } => apps::cat(target, &tag(app)?, path, json).await,
        Verb::Token(TokenCommand::Create(arguments)) => tokens::create(target, arguments, json).await,
        Verb::Token(TokenCommand::List) => tokens::list(target, json).await,
        Verb::Token(TokenCommand::Revoke { token }) => tokens::revoke(target, token, json).await,
        Verb::PasswordGenerate(_) | Verb::Completions { .. } | Verb::Man { .. } => {
            unreachable!("these ask nobody: `main` has done them")
        }
    }
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

/// A line of data. Who reads no further, as `head` does, ends the program.
#[expect(clippy::exit, reason = "there is nobody left to answer")]
pub(crate) fn say(line: &str) {
    if writeln!(io::stdout(), "{}", harmless(line)).is_err() {
        std::process::exit(i32::from(FAILED));
    }
}

/// A line that is no data.
pub(crate) fn tell(line: &str) {
    // Nobody is there to be told.
    let _gone = writeln!(io::stderr(), "{}", harmless(line));
}

/// Whatever stands in it is read, and not obeyed by a terminal.
fn harmless(line: &str) -> String {
    line.chars().filter(|it| !it.is_control() || matches!(it, '\n' | '\t')).collect()
}

/// A name of somebody else's, without what a terminal would obey.
pub(crate) fn clean(text: &str) -> String {
    text.chars().filter(|it| !it.is_control()).collect()
}

/// What could not be done, with its causes.
pub(crate) fn complain(error: &anyhow::Error) {
    tell(&format!("error: {error:#}"));
}
