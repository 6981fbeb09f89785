//! A public listener, as a connection that came through it sees it: whether TLS, a PROXY header or HTTP/2 without TLS are spoken.

use crate::tls::{TicketKeys, TlsError, TlsListener};
use common::config::HttpListener;
use std::sync::Arc;

/// One of the server's `http` listeners.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    pub(crate) tls: Option<TlsListener>,
    /// Each connection begins with a PROXY header.
    pub(crate) proxy_protocol: bool,
    /// HTTP/2 is spoken without TLS too.
    pub(crate) h2c: bool,
    /// Where it listens, as rules see it.
    pub(crate) port: u16,
}

impl Listener {
    /// Reads what the configuration names.
    ///
    /// # Errors
    /// What is wrong with the certificates.
    pub(crate) fn load(config: &HttpListener, keys: &Arc<TicketKeys>) -> Result<Self, TlsError> {
        let tls = config.tls.as_ref().map(|tls| TlsListener::load(tls, keys, true)).transpose()?;
        Ok(Self { tls, proxy_protocol: config.proxy_protocol, h2c: config.h2c, port: config.port })
    }
}
