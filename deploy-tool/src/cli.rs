//! The command line of `deploy-tool`: raw arguments, nothing decided yet.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Administrates a cluster of Copal, through any of its servers that has a web-app with `admin: true`.
#[derive(Debug, Parser)]
#[command(name = "deploy-tool", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) connection: ConnectionArguments,
    /// Prints the server's JSON instead of text for people
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Where to and as whom. There is no option for the password itself: whoever lists the processes would see it.
#[derive(Debug, Default, Args)]
pub(crate) struct ConnectionArguments {
    /// Where the administration is, such as https://www.example.com/admin; without a path it is /admin [or: COPAL_URL]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// A user of `admin` in the configuration file [or: COPAL_USER]
    #[arg(long, global = true, value_name = "U")]
    pub(crate) user: Option<String>,
    /// A file whose first line is the user's password [or: the password itself in COPAL_PASSWORD]
    #[arg(long, global = true, value_name = "F")]
    pub(crate) password_file: Option<PathBuf>,
    /// A PEM file with the authorities to believe for https, instead of this machine's [or: COPAL_CA_FILE]
    #[arg(long, global = true, value_name = "F")]
    pub(crate) ca_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists the servers: whether they are up, and whether they take requests
    Status,
    /// Takes servers out of the balancing of every web-tier, or puts them back
    #[command(subcommand)]
    Server(ServerCommand),
    /// Makes a line for `users` in the configuration file, with a new password
    PasswordGenerate(PasswordArguments),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServerCommand {
    /// Puts servers back: they warm up, and take all requests again
    Enable(ServerArguments),
    /// No new request is sent to the servers, sessions move; requests in flight end
    Disable(ServerArguments),
    /// The servers keep the sessions that they have and get no new ones
    DisableSoft(ServerArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ServerArguments {
    /// The servers, by their ids
    #[arg(required = true, value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// Even if it is the last server of its cluster that takes requests
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PasswordArguments {
    /// Reads the password from the first line of standard input instead of making one
    #[arg(long)]
    pub(crate) stdin: bool,
    /// What the user may do; can be repeated
    #[arg(long = "role", value_name = "ROLE", default_value = "operate")]
    pub(crate) roles: Vec<RoleName>,
}

/// As the configuration file has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleName {
    View,
    Deploy,
    Operate,
}

impl RoleName {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Deploy => "deploy",
            Self::Operate => "operate",
        }
    }
}
