//! The binary `copal`: reads the file, wires the roles, obeys signals; nothing else.

mod administration;
mod app_purge;
mod certificates;
mod check;
mod cli;
mod convert_file;
mod data_folder;
mod demo;
mod deployed;
mod guard_daemons;
mod handover;
mod history;
mod inquiry;
mod launch_app;
mod manual;
mod memory_guard;
mod metrics;
mod open_files;
mod port;
mod purges;
mod reload;
mod server;
mod service_manager;
mod signals;
mod spans;
mod start;
mod status;
mod upgrade;

use check::complain;
use clap::Parser;
use cli::{Cli, Command};
use common::config::{SchemaOf, json_schema};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = Cli::parse().command;
    // What becomes an app has no secret, and what it changes of itself in /proc would be closed to it too.
    if let Command::LaunchApp(arguments) = &command {
        return launch_app::run(arguments);
    }
    if let Command::GuardDaemons = command {
        return guard_daemons::run();
    }
    if let Err(cause) = memory_guard::close() {
        complain(&anyhow::anyhow!("this process's memory can't be kept from others: {cause}"));
        return ExitCode::FAILURE;
    }
    open_files::raise_limit();
    match command {
        Command::Start(arguments) => start::run(&arguments),
        Command::Man(arguments) => manual::run(&arguments),
        Command::Upgrade(arguments) => upgrade::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Schema(arguments) => {
            let file = if arguments.app { SchemaOf::App } else { SchemaOf::Cluster };
            check::say(json_schema(file).trim_end());
            ExitCode::SUCCESS
        }
        Command::Convert(arguments) => convert_file::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::DemoApp => demo::run_app(counter::run()),
        Command::ClusterDemoApp => demo::run_app(cluster_demo::run()),
        Command::LaunchApp(arguments) => launch_app::run(&arguments),
        Command::GuardDaemons => guard_daemons::run(),
    }
}
