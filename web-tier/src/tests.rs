//! End to end within one process: raw clients, the web tier on real sockets, and servers behind real cluster ports.

pub(crate) mod backend;
pub(crate) mod client;
pub(crate) mod cluster;

mod access_log;
mod bodies;
mod desync;
mod disabled;
mod event_streams;
mod foreign;
mod full;
mod gone;
mod grpc;
mod h2c;
mod half_closed;
mod headers;
mod hostile;
mod http2;
mod limits;
mod load;
mod parsing;
mod passes;
mod queues;
mod reload;
mod reload_listeners;
mod reload_logs;
mod reload_upstreams;
mod retries;
mod rules;
mod short;
mod slow;
mod spared;
mod sticky;
mod stop;
mod upgrades;
mod wire;
mod wire_server;
