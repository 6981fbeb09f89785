//! A public listener, as a connection that came through it sees it: whether TLS, a PROXY header or HTTP/2 without TLS are spoken, or
//! nothing that is read here.

use crate::transport::{
    quic::QuicKeys,
    tls::{TlsContext, TlsError, TlsListener},
};
use common::config::{Http3, HttpListener, ListenerTls, PublicListener};
use http::HeaderValue;
use std::{cell::Cell, path::Path, sync::Arc};

/// What is spoken at one of the server's listeners. The workers share what is in it.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) tls: Option<TlsListener>,
    /// Each connection begins with a PROXY header.
    pub(crate) proxy_protocol: bool,
    /// HTTP/2 is spoken without TLS too.
    pub(crate) h2c: bool,
    /// HTTP/3 is spoken too: what answers by other protocols say of that (`Alt-Svc`, RFC 7838).
    pub(crate) alt_svc: Option<HeaderValue>,
    /// The name of a `tcp-proxy` listener.
    pub(crate) tcp: Option<Arc<str>>,
}

impl Terms {
    /// Reads what the configuration names.
    ///
    /// # Errors
    /// What is wrong with the certificates.
    pub(crate) fn load(config: &PublicListener, keys: &ListenerKeys) -> Result<Self, TlsError> {
        match config {
            PublicListener::Http(config) => Self::load_http(config, keys),
            PublicListener::Tcp(config) => Ok(Self {
                tls: None,
                proxy_protocol: config.proxy_protocol,
                h2c: false,
                alt_svc: None,
                tcp: Some(config.name().into()),
            }),
        }
    }

    fn load_http(config: &HttpListener, keys: &ListenerKeys) -> Result<Self, TlsError> {
        let quic = config.http3.as_ref().map(|_| &keys.quic);
        let load = |tls| TlsListener::load(tls, &keys.tls, true, quic);
        let tls = config.tls.as_ref().map(load).transpose()?;
        let alt_svc = config.http3.as_ref().and_then(alt_svc);
        Ok(Self { tls, proxy_protocol: config.proxy_protocol, h2c: config.h2c, alt_svc, tcp: None })
    }

    /// Whether HTTP/3 is spoken.
    pub(crate) fn http3(&self) -> bool {
        self.alt_svc.is_some()
    }
}

/// The keys of a process that its listeners share.
#[derive(Debug, Clone)]
pub(crate) struct ListenerKeys {
    pub(crate) tls: TlsContext,
    pub(crate) quic: QuicKeys,
}

fn alt_svc(http3: &Http3) -> Option<HeaderValue> {
    let (port, age) = (http3.alt_svc_port, http3.alt_svc_age.as_secs());
    HeaderValue::try_from(format!("h3=\":{port}\"; ma={age}")).ok()
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
    pub(crate) fn between(old: &PublicListener, new: &PublicListener) -> Self {
        let (old, new) = match (old, new) {
            (PublicListener::Http(old), PublicListener::Http(new)) => (old, new),
            // Where its connections go is the routes' matter.
            (PublicListener::Tcp(old), PublicListener::Tcp(new)) => {
                let same = (old.name(), old.proxy_protocol) == (new.name(), new.proxy_protocol);
                return if same { Self::None } else { Self::Terms };
            }
            (PublicListener::Http(_), PublicListener::Tcp(_))
            | (PublicListener::Tcp(_), PublicListener::Http(_)) => {
                return Self::Terms;
            }
        };
        let tls = match (&old.tls, &new.tls) {
            (None, None) => Self::None,
            (Some(old), Some(new)) => Self::between_tls(old, new),
            (None, Some(_)) | (Some(_), None) => Self::Terms,
        };
        let terms = |it: &HttpListener| (it.proxy_protocol, it.h2c, it.http3.clone());
        let same = terms(old) == terms(new);
        if same { tls } else { Self::Terms }
    }

    fn between_tls(old: &ListenerTls, new: &ListenerTls) -> Self {
        let terms = |it: &ListenerTls| {
            (
                it.client_ca.as_ref().map(|file| file.path.clone()),
                it.client_auth,
                it.min_version,
                it.choices.clone(),
                it.ocsp_stapling,
            )
        };
        if terms(old) != terms(new) {
            return Self::Terms;
        }
        if files(old).eq(files(new)) && old.acme == new.acme { Self::None } else { Self::Certificates }
    }
}

fn files(tls: &ListenerTls) -> impl Iterator<Item = (&Path, &Path)> {
    tls.certificates.iter().map(|it| (it.cert.path.as_path(), it.key.path.as_path()))
}
