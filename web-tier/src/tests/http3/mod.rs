//! HTTP/3 from clients: what HTTP/2 does, over QUIC.

mod basics;
mod bodies;
mod client;
mod client_certificates;
mod connections;
mod hostile;
mod raw;
mod site;
mod stalls;
