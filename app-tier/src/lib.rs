//! The application server: static files and app processes behind the cluster port, their sessions, and what they call (`local_api`): leases
//! (docs/leases.md), by which it runs daemons, too (docs/daemons.md), caches, and queues, with whose messages it calls apps (docs/queues.md).
//!
//! A request's way: [`AppTier::serve`] → virtual host and web-app (`hosts`) → static files or the app's process (`app`,
//! `process`, `proxy`), with its session (`session`, docs/sessions.md) saved before the answer leaves.

mod app;
mod body;
mod cache;
mod content;
mod daemon;
mod deploy;
mod duties;
mod error;
mod health;
mod hosts;
mod in_process;
mod interim;
mod io;
mod lease;
mod linger;
mod loader;
mod local_api;
mod own_paths;
mod process;
mod process_app;
mod proxy;
mod queue;
mod registry;
mod report;
mod serve;
mod session;
mod spec;
mod static_files;
mod tier;
mod topic;
mod upgrade;
mod upload;
mod versions;

pub use body::{Body, BodyError};
pub use daemon::guard_daemons;
pub use deploy::{Apps, DeployConfig, Deployments};
pub use error::{AppTierError, NOT_PROCESSED, NotReady};
pub use in_process::InProcessService;
pub use lease::ServicesConfig;
pub use process::{APP_FOLDERS, AccountError, Launcher, RightsError};
pub use session::SessionStats;
pub use tier::{AppTier, AppTierConfig};

#[cfg(test)]
mod tests;
