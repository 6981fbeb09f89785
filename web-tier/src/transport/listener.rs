//! A public listener, as a connection that came through it sees it: whether TLS, a PROXY header or HTTP/2 without TLS are spoken.

use crate::transport::tls::{TicketKeys, TlsError, TlsListener};
use common::config::{HttpListener, ListenerTls};
use std::{cell::Cell, path::Path, sync::Arc};

/// What is spoken at one of the server's `http` listeners. The workers share what is in it.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) tls: Option<TlsListener>,
    /// Each connection begins with a PROXY header.
    pub(crate) proxy_protocol: bool,
    /// HTTP/2 is spoken without TLS too.
    pub(crate) h2c: bool,
}

impl Terms {
    /// Reads what the configuration names.
    ///
    /// # Errors
    /// What is wrong with the certificates.
    pub(crate) fn load(config: &HttpListener, keys: &Arc<TicketKeys>) -> Result<Self, TlsError> {
        let tls = config.tls.as_ref().map(|tls| TlsListener::load(tls, keys, true)).transpose()?;
        Ok(Self { tls, proxy_protocol: config.proxy_protocol, h2c: config.h2c })
    }
}

/// A listener of one worker, on its present terms.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) terms: Terms,
    /// Where it listens, as rules see it.
    pub(crate) port: u16,
    retired: Cell<bool>,
}

impl Listener {
    pub(crate) fn new(terms: Terms, port: u16) -> Self {
        Self { terms, port, retired: Cell::new(false) }
    }

    /// The configuration does not have it any more, or only on other terms: connections that came by it end with the request
    /// that they have, or with their next one.
    pub(crate) fn retire(&self) {
        self.retired.set(true);
    }

    /// Whether it has been retired.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.get()
    }
}

/// How a listener of the file differs from the one that was at the same address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Difference {
    None,
    /// Other certificates: connections that are open keep theirs.
    Certificates,
    /// Who may come in, and how.
    Terms,
}

impl Difference {
    /// Between two listeners at one address. Where a file is named does not matter, nor what is in it.
    pub(crate) fn between(old: &HttpListener, new: &HttpListener) -> Self {
        let tls = match (&old.tls, &new.tls) {
            (None, None) => Self::None,
            (Some(old), Some(new)) => Self::between_tls(old, new),
            (None, Some(_)) | (Some(_), None) => Self::Terms,
        };
        let same = (old.proxy_protocol, old.h2c) == (new.proxy_protocol, new.h2c);
        if same { tls } else { Self::Terms }
    }

    fn between_tls(old: &ListenerTls, new: &ListenerTls) -> Self {
        let terms = |it: &ListenerTls| {
            (it.client_ca.as_ref().map(|file| file.path.clone()), it.client_auth, it.min_version)
        };
        if terms(old) != terms(new) {
            return Self::Terms;
        }
        if files(old).eq(files(new)) { Self::None } else { Self::Certificates }
    }
}

fn files(tls: &ListenerTls) -> impl Iterator<Item = (&Path, &Path)> {
    tls.certificates.iter().map(|it| (it.cert.path.as_path(), it.key.path.as_path()))
}
