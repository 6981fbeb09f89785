//! The web tier: takes browsers' requests and forwards each to a server of an app tier, over the cluster port.
//!
//! The wings follow the life of a request, and each knows only those that stand after it here:
//!
//! | wing | what lives there |
//! |---|---|
//! | `tier` | the web tier of a server: starts workers, reloads, stops |
//! | `listen` | binds, accepts |
//! | `tcp` | connections that are passed on as they are (`tcp-proxy`) |
//! | `client` | a client's connection: HTTP/1.1, HTTP/2, time-outs |
//! | `proxy` | a request's way from its head to its answer's, one function a phase |
//! | `worker` | what the requests of one thread share |
//! | `observe` | access log, counters, what is told of requests |
//! | `route` | normalise or refuse; which rule, and so which servers |
//! | `error` | why a request gets an answer of the proxy's own |
//! | `access` | whose request it is, by password or token |
//! | `limit` | who asks too often, or for too much at a time |
//! | `cache` | answers that are kept for all clients |
//! | `upstream` | servers: choose one, take a socket, send, receive |
//! | `compress` | bodies that are compressed on their way |
//! | `transport` | what clients' bytes come through: TLS, the PROXY protocol |
//! | `http1` | the protocol, pure |
//! | `memory` | buffers and other things that serve many requests |
//!
//! A test of the workspace holds the order (`tests/it/layers.rs`). Each worker is an OS thread with a runtime, listeners, pools and counters
//! of its own: nothing that is written per request is shared between threads. docs/life-of-a-request.md tells the story.

mod access;
mod cache;
mod client;
mod compress;
mod error;
mod http1;
mod limit;
mod listen;
mod memory;
mod observe;
mod proxy;
mod route;
mod tcp;
mod tier;
mod transport;
mod upstream;
mod worker;

pub use access::check_access;
pub use compress::CompressionTotals;
pub use limit::LimitReport;
pub use listen::{
    bind::{BindError, Bound, bind},
    inherited::{Inherited, ListenerSockets},
};
pub use observe::{
    cache_counters::CacheTotals,
    counters::{Totals, handshake_failures},
    histogram::Times,
    status::WebTierView,
};
pub use route::pages::{PageError, check_pages};
pub use tier::{WebTier, WebTierConfig, WebTierError, changes::Changes, service::balancer};
pub use transport::tls::{TlsError, certificate_end, check_tls};
pub use upstream::foreign::{BackendHealth, LastCheck};
pub use worker::picture::Picture;

#[cfg(any(test, fuzzing))]
pub mod properties;
#[cfg(test)]
mod tests;
