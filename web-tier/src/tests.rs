//! End to end within one process: raw clients, the web tier on real sockets, and servers behind real cluster ports.

pub(crate) mod backend;
pub(crate) mod client;
pub(crate) mod cluster;

mod access_log;
mod bodies;
mod disabled;
mod gone;
mod headers;
mod http2;
mod limits;
mod load;
mod passes;
mod retries;
mod spared;
mod sticky;
mod stop;
mod upgrades;
