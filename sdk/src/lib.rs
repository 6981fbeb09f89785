//! What a Rust app links to run under Copal: the user's session as an axum extractor, and a server that does what Copal expects
//! of an app's process.
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use sdk::{Session, SessionError};
//!
//! async fn count(session: Session) -> Result<String, SessionError> {
//!     let count = session.get::<u64>("count").await?.unwrap_or(0) + 1;
//!     session.set("count", &count).await?;
//!     Ok(format!("count {count}\n"))
//! }
//!
//! # async fn run() -> Result<(), sdk::ServeError> {
//! sdk::serve(Router::new().route("/count", get(count))).await
//! # }
//! ```
//!
//! The session is loaded when a handler first asks for it; its changes are sent together when the handler has returned, and Copal
//! has them safe before the answer leaves (docs/sessions.md).
//!
//! Beside its sessions an app has [caches](Copal::cache), which are the whole cluster's (docs/caches.md), [daemons](daemon()), which run on
//! one server at a time (docs/daemons.md), [queues](Copal::queue), whose messages it is [called with](consume) (docs/queues.md),
//! [pipelines](pipeline()) of such steps (docs/pipelines.md), and [jobs](job()), which run at times (docs/jobs.md).
//!
//! All of that stands in the app's `app.yaml`, or an [`App`] declares it when it is served.
//!
//! With the feature `tower-sessions`, `CopalStore` keeps the sessions of the crate of that name: for apps that have them already.

mod app;
mod daemon;
mod dev;
mod entry;
mod environment;
mod error;
mod job;
mod layer;
mod memory;
mod pipeline;
mod queue;
mod remote;
mod serve;
mod services;
mod session;
#[cfg(feature = "tower-sessions")]
mod tower_sessions;

pub use app::{App, Declared};
pub use daemon::{Fence, Lease, Lost, daemon};
pub use entry::{Entry, Found, Version};
pub use environment::{Environment, Listen};
pub use error::{ServeError, SessionError};
pub use job::{Due, job};
pub use layer::{SessionLayer, SessionService};
pub use pipeline::{Pipeline, PipelineSteps, RunEnd, pipeline};
pub use queue::{Message, Outcome, Publish, Queue, consume};
pub use serve::{serve, serve_in};
pub use services::{Cache, Copal, ServiceError};
pub use session::Session;
#[cfg(feature = "tower-sessions")]
pub use tower_sessions::CopalStore;

/// The program of docs/sessions.md is one that compiles.
#[cfg(all(doctest, feature = "tower-sessions"))]
#[doc = include_str!("../../docs/sessions.md")]
struct Documentation;
