//! The application server: static files and app processes behind the cluster port, and their sessions.
//!
//! A request's way: [`AppTier::serve`] → virtual host and web-app (`hosts`) → static files or the app's process (`app`,
//! `process`, `proxy`), with its session (`session`, docs/sessions.md) saved before the answer leaves.

mod app;
mod app_api;
mod body;
mod deploy;
mod error;
mod health;
mod hosts;
mod in_process;
mod interim;
mod io;
mod linger;
mod loader;
mod process;
mod process_app;
mod proxy;
mod registry;
mod report;
mod serve;
mod session;
mod spec;
mod static_files;
mod tier;
mod upgrade;
mod upload;
mod versions;

pub use body::{Body, BodyError};
pub use deploy::{Apps, DeployConfig, Deployments};
pub use error::{AppTierError, NOT_PROCESSED, NotReady};
pub use in_process::InProcessService;
pub use process::{APP_FOLDERS, AccountError, Launcher, RightsError};
pub use session::SessionStats;
pub use tier::{AppTier, AppTierConfig};

#[cfg(test)]
mod tests;
