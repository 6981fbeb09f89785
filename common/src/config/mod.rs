//! The configuration file: the only place that reads it and the environment.
//!
//! [`load`] goes from text to [`Config`] in three steps, each a module: a tree that knows its places (`yaml`), everything
//! imported merged in (`import`), and the decoder (`root`, `cluster`, `host`, `web_app`, `dispatch`, `session`), which takes defaults, variables
//! and checks in. All faults are gathered and told at once.

mod access;
mod access_log;
mod acme;
mod address;
mod admin;
mod app_rights;
mod app_yaml;
mod backend_tls;
mod bounds;
mod caches;
mod check;
mod cluster;
mod compression;
mod condition;
mod connection_limits;
mod cookie_config;
mod cron;
mod daemons;
mod declarations;
mod decode;
mod defaults;
mod deployment;
mod dispatch;
mod effective;
mod encryption;
mod endpoint;
mod error_pages;
mod file_path;
mod guess;
mod health_checks;
mod host;
mod import;
mod jobs;
mod keys;
mod layers;
mod limits;
mod listener;
mod load_options;
mod log_format;
mod model;
mod names;
mod network;
mod node;
mod outlier_detection;
mod pipelines;
mod placement;
mod problem;
mod proxy_cache;
mod public_listener;
mod queues;
mod quoted;
mod request_key;
mod rewrite;
mod root;
mod rule;
mod schema;
mod secrecy;
mod secret;
mod secret_variables;
mod servers_own;
mod session;
mod session_config;
mod session_memory;
mod session_overrides;
mod source;
mod tcp_proxy;
mod tls_choices;
mod topics;
mod topology;
mod traces;
mod units;
mod variables;
mod web_app;
mod yaml;

#[cfg(test)]
mod tests;

pub use access::{BasicAuth, JwtAuth, JwtKeys, SiteUser};
pub use access_log::{AccessLog, AccessLogFormat, Syslog, SyslogAddress};
pub use acme::{Acme, AcmeChallenge, AcmeKeyType, ExternalAccount};
pub use app_rights::{AppLimits, AppRights, Confine};
pub use app_yaml::{AppYaml, Health, Listen, app_names, fill_placeholders, load_app_yaml};
pub use backend_tls::{Authorities, BackendTls};
pub use caches::{CacheMode, DeclaredCache};
pub use compression::{Compression, Encoding, MediaRange};
pub use condition::{Condition, FileExists, Named, ServerName, Share, ShareBy};
pub use connection_limits::{limit_below_workers_text, limits_below_workers};
pub use cookie_config::{CookieConfig, CookieSecure, SameSite};
pub use cron::Cron;
pub use daemons::{Daemon, DaemonRun};
pub use declarations::{Declarations, read_declarations};
pub use deployment::{Deployments, Versioning};
pub use encryption::{ClusterEncryption, ClusterTls, Encryption};
pub use error_pages::{ErrorPages, Maintenance};
pub use file_path::{CertificateFiles, FilePath};
pub use guess::{Guessable, guessable};
pub use health_checks::{CHECKS, HealthChecks, LeastSeverity, Thresholds, Webhook, WebhookUrl};
pub use jobs::{DeclaredJob, MissedTimes};
pub use limits::{ConnectionLimit, RateLimit};
pub use load_options::LoadOptions;
pub use log_format::{LogFormat, LogPiece, LogStyle, LogVariable};
pub use model::*;
pub use network::{Network, NetworkError};
pub use outlier_detection::OutlierDetection;
pub use pipelines::{DeclaredPipeline, DeclaredStep};
pub use problem::{ConfigErrors, Location, Problem};
pub use proxy_cache::{CacheMapping, DiskTier, ProxyCache, QueryName};
pub use public_listener::PublicListener;
pub use queues::{DeclaredQueue, Retry};
pub use request_key::RequestKey;
pub use rewrite::{Origin, Piece, RewriteTarget, Variable};
pub use rule::*;
pub use schema::{SchemaOf, json_schema};
pub use secret::Secret;
pub use servers_own::ServersOwn;
pub use session_config::{OnHubLoss, SaveMode, SessionConfig};
pub use session_overrides::{CookieOverrides, SessionOverrides};
pub use tcp_proxy::{TcpListener, TcpRoute};
pub use tls_choices::TlsChoices;
pub use topics::DeclaredTopic;
pub use topology::topology_hash;
pub use units::{UnitError, format_duration, parse_duration, parse_size};

use decode::Context;
use import::Importer;
use node::Node;
use std::path::{Path, PathBuf};
use variables::Place;

/// A valid configuration and what is dubious about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Warnings, in order of place.
    pub warnings: Vec<Problem>,
    /// Every file that it was read from: the file itself, then those that it imports.
    pub files: Vec<PathBuf>,
}

/// Reads, merges and checks the file at `path`. Nothing is bound, created or written.
///
/// # Errors
/// Everything that is wrong with the file and those that it imports, all at once.
pub fn load(path: &Path, options: &LoadOptions) -> Result<Loaded, ConfigErrors> {
    let mut importer = Importer::new(&options.environment);
    let tree = importer.file(path, None);
    finish(importer, tree, path, options)
}

/// [`load`] for a text that is no file, as the demo's: errors name `path`, and relative paths start at its folder.
///
/// # Errors
/// As [`load`].
pub fn load_str(text: &str, path: &Path, options: &LoadOptions) -> Result<Loaded, ConfigErrors> {
    let mut importer = Importer::new(&options.environment);
    let tree = importer.text(path, text);
    finish(importer, tree, path, options)
}

fn finish(
    importer: Importer<'_>,
    tree: Option<Node>,
    path: &Path,
    options: &LoadOptions,
) -> Result<Loaded, ConfigErrors> {
    let Importer { sources, report, files, .. } = importer;
    let config = tree.and_then(|tree| {
        let mut context = Context::new(&report, &sources, &options.environment, Place::default());
        context.port_offset = options.port_offset;
        root::decode(context, &tree, path, options)
    });
    match report.finish(&sources, config) {
        Ok((mut config, warnings)) => {
            config.private_files.extend(files.iter().cloned());
            Ok(Loaded { config, warnings, files })
        }
        Err(errors) => Err(errors.of_files(files)),
    }
}
