//! The command line of `copal`: raw arguments, nothing decided yet.

use clap::{Args, Parser, Subcommand};
use common::app_tag::{AppTag, DEFAULT_HOST, ROOT};
use std::path::PathBuf;

/// A two-tier HTTP load balancer and application cluster with a triple-redundant hub.
#[derive(Debug, Parser)]
#[command(name = "copal", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs one server in the foreground
    Start(StartArguments),
    /// Lets the program on the disk take over from a running web-tier server, without a gap
    Upgrade(UpgradeArguments),
    /// Validates a configuration file and prints every error with its place
    Check(CheckArguments),
    /// Prints the JSON Schema of the configuration file, for editors
    Schema(SchemaArguments),
    /// Translates an nginx.conf or haproxy.cfg as far as it goes, and names each line that is left
    Convert(ConvertArguments),
    /// Runs a whole cluster on loopback: three app servers (the triad) and a web-tier
    Demo(DemoArguments),
    /// Prints the manual page, or writes all pages into a folder
    Man(ManArguments),
    /// The demo's app, as the demo's app servers start it
    #[command(hide = true)]
    DemoApp,
    /// The demo's second app: what a cluster has, all at once
    #[command(hide = true)]
    ClusterDemoApp,
    /// Gives up rights and becomes an app, as servers start confined apps
    #[command(hide = true)]
    LaunchApp(LaunchArguments),
    /// Ends daemons whose lease is over, as servers that run some start it
    #[command(hide = true)]
    GuardDaemons,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct FileArguments {
    /// The configuration file
    #[arg(long, value_name = "F")]
    pub(crate) conf: PathBuf,
    /// Keeps data here instead of in the file's data-dir
    #[arg(long, value_name = "D")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Is added to every port of the file
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) port_offset: u16,
    /// Runs the apps of this stage instead of the file's
    #[arg(long, value_name = "S", value_parser = stage)]
    pub(crate) stage: Option<String>,
}

fn stage(text: &str) -> Result<String, String> {
    let tag = AppTag::new(text, DEFAULT_HOST, ROOT, None);
    tag.map(|_| text.to_owned()).map_err(|cause| cause.to_string())
}

#[derive(Debug, Args)]
pub(crate) struct StartArguments {
    #[command(flatten)]
    pub(crate) file: FileArguments,
    /// Which server of the file this is
    #[arg(long, value_name = "ID")]
    pub(crate) server: String,
    /// Logs go to this file instead of standard error
    #[arg(long, value_name = "FILE")]
    pub(crate) log_file: Option<PathBuf>,
    /// Stops, as by SIGTERM, when standard input ends: a parent that dies takes its servers along
    #[arg(long, hide = true)]
    pub(crate) stop_with_stdin: bool,
    /// Takes over from the process whose socket standard input is, as that process starts it
    #[arg(long, hide = true)]
    pub(crate) take_over: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UpgradeArguments {
    #[command(flatten)]
    pub(crate) file: FileArguments,
    /// Which server of the file it is
    #[arg(long, value_name = "ID")]
    pub(crate) server: String,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    #[command(flatten)]
    pub(crate) file: FileArguments,
    /// Reads the certificates of this server alone: the others' need not be on this machine
    #[arg(long, value_name = "ID")]
    pub(crate) server: Option<String>,
    /// Prints the file as it is in force: imports, variables and defaults merged in, secrets hidden
    #[arg(long)]
    pub(crate) print: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SchemaArguments {
    /// The schema of an app's own app.yaml instead
    #[arg(long)]
    pub(crate) app: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ConvertArguments {
    /// The file to translate, or - for standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Whose file it is, where its content does not say
    #[arg(long, value_name = "PEER", value_parser = ["nginx", "haproxy"])]
    pub(crate) from: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ManArguments {
    /// Where a page for each verb, and copal.yaml(5), are written
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArguments {
    /// Starts each server as its own process, so that one can be killed
    #[arg(long)]
    pub(crate) processes: bool,
    /// With --processes: starts a server again when it has been killed
    #[arg(long, requires = "processes")]
    pub(crate) restart: bool,
    /// The demo's data
    #[arg(long, value_name = "D", default_value = "copal-demo")]
    pub(crate) data_dir: PathBuf,
    /// Is added to every port (8080, 8443 and 6800 to 6803)
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) port_offset: u16,
}

#[derive(Debug, Args)]
pub(crate) struct LaunchArguments {
    /// The app's user, by number
    #[arg(long, requires = "gid")]
    pub(crate) uid: Option<u32>,
    /// Its group
    #[arg(long, requires = "uid")]
    pub(crate) gid: Option<u32>,
    /// Bytes of private memory
    #[arg(long)]
    pub(crate) memory_max: Option<u64>,
    /// Processes and threads of the user
    #[arg(long)]
    pub(crate) processes_max: Option<u64>,
    /// Descriptors
    #[arg(long)]
    pub(crate) open_files_max: Option<u64>,
    /// Of files nothing but the following, where the kernel has Landlock
    #[arg(long)]
    pub(crate) landlock: bool,
    /// To read and execute, but for what is hidden
    #[arg(long)]
    pub(crate) system: Vec<PathBuf>,
    /// To read and execute, wherever it is
    #[arg(long)]
    pub(crate) read: Vec<PathBuf>,
    /// To read and write
    #[arg(long)]
    pub(crate) write: Vec<PathBuf>,
    /// A file to read and write, but not to change otherwise
    #[arg(long)]
    pub(crate) device: Vec<PathBuf>,
    /// Not to see
    #[arg(long)]
    pub(crate) hide: Vec<PathBuf>,
    /// What to become
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<std::ffi::OsString>,
}
