//! The server's listeners: bound before anything is served, one socket a worker and address; accepted connections go to `client`.

mod accept;
mod accept_quic;
pub(crate) mod bind;
pub(crate) mod inherited;
pub(crate) mod listeners;
pub(crate) mod listening_sockets;
