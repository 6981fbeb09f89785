//! HTTP/3 from clients: what HTTP/2 does, over QUIC.

mod basics;
mod client;
mod site;
