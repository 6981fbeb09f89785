//! End to end within one process: raw clients, the web tier on real sockets, and servers behind real cluster ports.

mod backend;
mod client;
mod cluster;

mod bodies;
mod headers;
mod limits;
mod passes;
mod retries;
mod sticky;
mod stop;
