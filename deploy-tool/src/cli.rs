//! The command line of `deploy-tool`: raw arguments, nothing decided yet.

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::{path::PathBuf, time::Duration};

/// Administrates a cluster of Copal, through any of its servers that has a web-app with `admin: true`.
#[derive(Debug, Parser)]
#[command(name = "deploy-tool", version)]
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
    /// A file whose first line is a token, in place of user and password [or: the token itself in COPAL_ADMIN_TOKEN]
    #[arg(long, global = true, value_name = "F", conflicts_with_all = ["user", "password_file"])]
    pub(crate) token_file: Option<PathBuf>,
    /// A PEM file with the authorities to believe for https, instead of this machine's [or: COPAL_CA_FILE]
    #[arg(long, global = true, value_name = "F")]
    pub(crate) ca_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists the servers: whether they are up, and whether they take requests
    Status {
        /// Shows the whole status page every two seconds: what is wrong, servers, hub, apps
        #[arg(long)]
        watch: bool,
    },
    /// Deploys an archive (tar, tar.gz, tar.zst, zip) or a folder: on all servers at once, or on none
    Deploy(DeployArguments),
    /// Takes an app away from all servers
    Undeploy(AppArgument),
    /// Lists the apps, and whether each server has the version that is in use
    List {
        /// Only apps whose tag matches this regular expression
        #[arg(value_name = "REGEXP")]
        regexp: Option<String>,
    },
    /// Lists the versions of an app, the newest first
    Log(AppArgument),
    /// Lists the files that differ between two versions of an app
    Diff {
        #[command(flatten)]
        app: AppArgument,
        /// A version's commit, or the beginning of it
        #[arg(value_name = "COMMIT")]
        from: String,
        /// Another one
        #[arg(value_name = "COMMIT")]
        to: String,
    },
    /// Puts an earlier version into use again
    Rollback {
        #[command(flatten)]
        app: AppArgument,
        /// Its commit, or the beginning of it; the one before unless given
        #[arg(value_name = "COMMIT")]
        to: Option<String>,
        #[command(flatten)]
        rollout: RolloutArguments,
    },
    /// Puts an app's version into use under another tag: from one stage to the next
    Copy {
        #[command(flatten)]
        app: AppArgument,
        /// The tag to copy to, such as production/webapp/default/shop
        #[arg(value_name = "TAG")]
        to: String,
        #[command(flatten)]
        rollout: RolloutArguments,
    },
    /// Starts an app's processes anew, server by server
    Restart {
        #[command(flatten)]
        app: AppArgument,
        #[command(flatten)]
        rollout: RolloutArguments,
    },
    /// Stops an app on all servers without taking it away
    Stop(AppArgument),
    /// Starts an app that was stopped
    Start(AppArgument),
    /// Lists a folder of the version of an app that is in use
    Ls {
        #[command(flatten)]
        app: AppArgument,
        /// The folder; the top unless given
        #[arg(value_name = "PATH", default_value = "")]
        path: String,
    },
    /// Prints a file of the version of an app that is in use
    Cat {
        #[command(flatten)]
        app: AppArgument,
        /// The file
        #[arg(value_name = "PATH")]
        path: String,
    },
    /// Takes servers out of the balancing of every web-tier, or puts them back
    #[command(subcommand)]
    Server(ServerCommand),
    /// Prints the servers' last log lines, what apps print among them
    Logs(LogsArguments),
    /// The hub: the servers that keep what all servers have to agree on
    #[command(subcommand)]
    Triad(TriadCommand),
    /// The proxy cache: what web-tiers keep of answers
    #[command(subcommand)]
    Cache(CacheCommand),
    /// The caches of apps: what the hub keeps of each, how near each server finds what its apps read, and clearing one
    #[command(subcommand)]
    AppCache(AppCacheCommand),
    /// The daemons of apps: where each runs, since when, and whether it keeps failing
    #[command(subcommand)]
    Daemon(DaemonCommand),
    /// The queues of apps: how they are, what is in them, pause, resume, purge and replay
    #[command(subcommand)]
    Queue(QueueCommand),
    /// The pipelines of apps: how many runs each has, the runs, and ending one
    #[command(subcommand)]
    Pipeline(PipelineCommand),
    /// The jobs of apps: when they are due, pause, resume and run
    #[command(subcommand)]
    Job(JobCommand),
    /// Lists who has changed what, the newest first
    Audit {
        /// How many entries, 1 to 1000
        #[arg(long, value_name = "COUNT", default_value_t = 30)]
        limit: u32,
        /// Only of this kind: action, sign-in or health
        #[arg(long, value_name = "KIND")]
        kind: Option<String>,
    },
    /// Tokens: what programs sign in with, with a part of your rights and an end
    #[command(subcommand)]
    Token(TokenCommand),
    /// Makes a line for `users` in the configuration file, with a new password
    PasswordGenerate(PasswordArguments),
    /// Prints what a shell needs to complete the words of deploy-tool
    Completions {
        /// The shell, whose own documentation says where to put it
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
    /// Prints the manual page, or writes those of all verbs into a folder
    Man {
        /// The folder, such as /usr/local/share/man/man1
        #[arg(value_name = "FOLDER")]
        folder: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct LogsArguments {
    /// Of one server [default: all]
    #[arg(long, value_name = "ID")]
    pub(crate) server: Option<String>,
    /// About one app, or printed by it: its name (shop), with its host (default/shop), or its whole tag
    #[arg(long, value_name = "APP")]
    pub(crate) app: Option<String>,
    /// Of this level or above it: debug, info, warn, error
    #[arg(long, value_name = "LEVEL")]
    pub(crate) level: Option<String>,
    /// With this text in them
    #[arg(long, value_name = "TEXT")]
    pub(crate) text: Option<String>,
    /// At most so many, the newest
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) lines: u32,
    /// Goes on with what comes
    #[arg(short, long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TriadCommand {
    /// Lists the hub's servers: who leads, how far each is, and the room on its disk
    Status,
    /// Has another hub server lead; writes pause for some milliseconds
    Lead {
        /// The server that is to lead
        #[arg(value_name = "ID")]
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// Lists how much each web-tier keeps, and how often that is of use
    Status,
    /// Has all web-tiers forget answers; fails if one of them does not say that it did
    Purge(PurgeArguments),
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// Lists the jobs: their times, the next one, the last one
    List,
    /// Runs a job now, besides its times; not if it runs already
    Run {
        /// The job
        #[arg(value_name = "JOB")]
        job: String,
    },
    /// Leaves out its times until it is resumed
    Pause {
        /// The job
        #[arg(value_name = "JOB")]
        job: String,
    },
    /// Goes by its times again; those while it was paused are left out
    Resume {
        /// The job
        #[arg(value_name = "JOB")]
        job: String,
    },
    /// Ends a job for good; one that an app.yaml declares comes again with its app
    Remove {
        /// The job
        #[arg(value_name = "JOB")]
        job: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// Lists the queues: messages that are ready, delayed, someone's, dead, and the age of the oldest
    List,
    /// Lists messages of a queue
    Messages {
        /// The queue
        #[arg(value_name = "QUEUE")]
        queue: String,
        /// Where they stand: ready, delayed, assigned, waiting or dead
        #[arg(long, value_name = "WHICH", default_value = "dead")]
        which: String,
        /// How many, 1 to 200
        #[arg(long, value_name = "COUNT", default_value_t = 50)]
        limit: u32,
        /// Those after this id
        #[arg(long, value_name = "ID", default_value_t = 0)]
        after: u64,
    },
    /// Hands out no message until the queue is resumed; what someone has goes on
    Pause {
        /// The queue
        #[arg(value_name = "QUEUE")]
        queue: String,
    },
    /// Hands out messages again
    Resume {
        /// The queue
        #[arg(value_name = "QUEUE")]
        queue: String,
    },
    /// Drops the messages that nobody has, for good
    Purge {
        /// The queue
        #[arg(value_name = "QUEUE")]
        queue: String,
        /// The dead ones instead
        #[arg(long)]
        dead: bool,
    },
    /// Makes dead messages ready again, behind the others; their attempts begin anew
    Replay {
        /// The queue
        #[arg(value_name = "QUEUE")]
        queue: String,
        /// These [default: all]
        #[arg(value_name = "ID")]
        ids: Vec<u64>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AppCacheCommand {
    /// Lists the caches, and what each server finds where
    List,
    /// Clears a cache, on the hub and on all servers; a local one is each server's own, and stays
    Clear {
        /// The cache
        #[arg(value_name = "CACHE")]
        cache: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DaemonCommand {
    /// Lists the daemons
    List,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PipelineCommand {
    /// Lists the pipelines: their runs, and the messages of their steps
    List,
    /// Lists runs of a pipeline, the oldest first
    Runs {
        /// The pipeline
        #[arg(value_name = "PIPELINE")]
        pipeline: String,
        /// What has come of them: all, going-on, done, halted or failed
        #[arg(long, value_name = "WHICH", default_value = "all")]
        which: String,
        /// How many, 1 to 200
        #[arg(long, value_name = "COUNT", default_value_t = 50)]
        limit: u32,
        /// Those after this number
        #[arg(long, value_name = "RUN", default_value_t = 0)]
        after: u64,
    },
    /// Ends a run: it halts with nothing, and what is left of it is dropped
    End {
        /// The pipeline
        #[arg(value_name = "PIPELINE")]
        pipeline: String,
        /// The run, by its number
        #[arg(value_name = "RUN")]
        run: u64,
    },
}

#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = false, args = ["what_url", "prefix", "pattern", "tag", "all"])]
pub(crate) struct PurgeArguments {
    /// A URL: http://host/path?query, or /path?query on any host
    #[arg(value_name = "URL")]
    pub(crate) what_url: Option<String>,
    /// All at or below a URL: http://host/path, or /path on any host
    #[arg(long, value_name = "URL")]
    pub(crate) prefix: Option<String>,
    /// All in whose host/path?query this regular expression is found
    #[arg(long, value_name = "REGEXP")]
    pub(crate) pattern: Option<String>,
    /// All with this Surrogate-Key or Cache-Tag
    #[arg(long, value_name = "KEY")]
    pub(crate) tag: Option<String>,
    /// All
    #[arg(long)]
    pub(crate) all: bool,
    /// Keep them, and ask their servers before they are used again
    #[arg(long)]
    pub(crate) soft: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Makes a token and prints it, this once
    Create(TokenArguments),
    /// Lists the tokens, those that have ended included, without the tokens themselves
    List,
    /// Ends a token: from then on no server lets anyone in with it
    Revoke {
        /// Its name, or its id as the list has it
        #[arg(value_name = "NAME|ID")]
        token: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TokenArguments {
    /// What the token may do, of what you may do yourself; can be repeated
    #[arg(long = "role", required = true, value_name = "ROLE")]
    pub(crate) roles: Vec<RoleName>,
    /// When it ends, from now
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = long_duration)]
    pub(crate) expires: Duration,
    /// What it is for, such as ci; to find it by
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AppArgument {
    /// The app: its name (shop, shop-1.2) or its whole tag (production/webapp/www.example.com/shop)
    #[arg(value_name = "APP")]
    pub(crate) app: String,
}

#[derive(Debug, Args)]
pub(crate) struct RolloutArguments {
    /// What is to be remembered of it
    #[arg(short, long, value_name = "MSG")]
    pub(crate) message: Option<String>,
    /// All servers are ready within this, or nothing changes
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// One server after the other
    #[arg(long)]
    pub(crate) rolling: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeployArguments {
    /// The archive or the folder
    #[arg(value_name = "SOURCE")]
    pub(crate) source: PathBuf,
    /// The app's name, ROOT for the root [or: `name` in its app.yaml, else the source's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Its version, to run beside others [or: `version` in its app.yaml, else none]
    #[arg(long, value_name = "V")]
    pub(crate) version: Option<String>,
    /// The host that serves it [default: the default host]
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// The stage of the servers that run it [default: production]
    #[arg(long, value_name = "STAGE")]
    pub(crate) stage: Option<String>,
    /// Even if this version has been deployed with other content
    #[arg(long)]
    pub(crate) replace: bool,
    #[command(flatten)]
    pub(crate) rollout: RolloutArguments,
}

/// With days and weeks in small letters, too: here nobody takes them for anything else.
fn long_duration(text: &str) -> Result<Duration, String> {
    match text.strip_suffix(['d', 'w']) {
        Some(digits) if text.ends_with('d') => duration(&format!("{digits}D")),
        Some(digits) => duration(&format!("{digits}W")),
        None => duration(text),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    common::config::parse_duration(text).map_err(|cause| cause.to_string())
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
