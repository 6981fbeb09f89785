//! TLS of a public listener: certificates by SNI, ALPN, session tickets that the whole cluster resumes, certificates read again
//! when their files change, client certificates. docs/tls.md is for those who run it.
//!
//! A [`TlsListener`] is made once a listener and shared by the workers; each connection takes what is [current](TlsListener::current)
//! and [`accept`]s with it. Nothing of it is written by a connection.

mod accept;
mod backend;
mod certificate;
mod certificates;
mod check;
mod client;
mod listener;
mod names;
mod staples;
mod tickets;
mod watch;
mod watched;

#[cfg(test)]
mod tests;

pub use certificate::certificate_end;
pub use check::check_tls;
pub use common::tls_files::TlsError;

pub(crate) use accept::{Failure, HandshakeError, TlsConnection, accept};
pub(crate) use backend::{BackendTls, TlsConnector};
pub(crate) use client::is_client_certificate_field;
pub(crate) use listener::TlsListener;
pub(crate) use staples::Staples;
pub(crate) use tickets::TicketKeys;
pub(crate) use watch::{INTERVAL, watch};
pub(crate) use watched::Changed;

use acme::Live;
use std::sync::Arc;

/// What the listeners of a process have in common.
#[derive(Debug, Clone)]
pub(crate) struct TlsContext {
    /// The keys of session tickets.
    pub(crate) tickets: Arc<TicketKeys>,
    /// The certificates that ACME brings.
    pub(crate) acme: Live,
    /// What responders have said of certificates.
    pub(crate) staples: Staples,
}
