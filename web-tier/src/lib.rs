//! The web tier: takes browsers' requests and forwards each to a server of an app tier, over the cluster port.
//!
//! The files follow the life of a request: [`bind`](bind()) → `doors` and `accept` → `connection` → `normalise` → `host` and `rules` →
//! `balance` and `sticky` → `pool` → `forward` → `counters` and `access_log`. `proxy` calls them, one function a phase; a phase's module knows
//! nothing of the next. Each worker is an OS thread with a runtime, listeners, pools and counters of its own: nothing that is
//! written per request is shared between threads. docs/life-of-a-request.md tells the story.

mod accept;
mod access_log;
mod balance;
mod bind;
mod breaks;
mod buffer;
mod changes;
mod connection;
mod counters;
mod deadline;
mod doors;
mod error;
mod exchange;
mod foreign;
mod forward;
mod h2c;
mod histogram;
mod host;
mod http1;
mod listener;
mod listeners;
mod local;
mod normalise;
mod notable;
mod picture;
mod pool;
mod proxy;
mod proxy_protocol;
mod recent;
mod request_id;
mod routes;
mod rules;
mod seldom;
mod service;
mod session_url;
mod shelf;
mod stalled;
mod status;
mod sticky;
mod stream;
mod tier;
mod tls;
mod trace_context;
mod trusted;
mod tunnel;
mod upstream;
mod worker;

pub use bind::{BindError, Bound, bind};
pub use changes::Changes;
pub use counters::{Totals, handshake_failures};
pub use foreign::{BackendHealth, LastCheck};
pub use histogram::Times;
pub use picture::Picture;
pub use service::balancer;
pub use status::WebTierView;
pub use tier::{WebTier, WebTierConfig, WebTierError};
pub use tls::{TlsError, certificate_end, check_tls};

#[cfg(any(test, fuzzing))]
pub mod properties;
#[cfg(test)]
mod tests;
