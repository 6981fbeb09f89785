//! The certificates of a listener, chosen by the host name that the client asks for (SNI, RFC 6066 §3).

use super::{
    certificate::Certificate,
    names::{Names, parent},
};
use acme::Live;
use rustls::{
    SignatureScheme,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{borrow::Cow, collections::HashMap, sync::Arc};

/// What the authority of ACME speaks, and nobody else (RFC 8737 §4).
pub(super) const ACME_TLS: &[u8] = b"acme-tls/1";

/// The certificates. There are none while ACME has not brought the first.
#[derive(Debug)]
pub(super) struct Certificates {
    all: Vec<Choice>,
    /// Places in `all`, in the order of the file, for each name.
    exact: HashMap<Box<str>, Vec<usize>>,
    /// The same for what stands after `*.`.
    wildcards: HashMap<Box<str>, Vec<usize>>,
    /// The first, and those with the same names (one with an RSA key, say, and one with an ECDSA key).
    default: Vec<usize>,
    /// What is shown to the authority of ACME.
    acme: Option<Live>,
}

#[derive(Debug)]
struct Choice {
    key: Arc<CertifiedKey>,
    names: Names,
}

impl Certificates {
    /// With `acme` the authority's questions are answered.
    pub(super) fn new(certificates: Vec<Certificate>, acme: Option<Live>) -> Self {
        let (mut exact, mut wildcards) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for (at, certificate) in certificates.iter().enumerate() {
            certificate.names.exact().for_each(|name| exact.entry(name.into()).or_default().push(at));
            certificate.names.wildcards().for_each(|name| wildcards.entry(name.into()).or_default().push(at));
        }
        let first = certificates.first().map(|it| it.names.clone()).unwrap_or_default();
        let default = (0..certificates.len()).filter(|at| certificates[*at].names == first).collect();
        let all = certificates.into_iter().map(|it| Choice { key: it.key, names: it.names }).collect();
        Self { all, exact, wildcards, default, acme }
    }

    /// The places of the certificates for a name: those that bear it, else those with a wildcard that covers it, else the
    /// default.
    fn candidates(&self, name: Option<&str>) -> &[usize] {
        let Some(name) = name else { return &self.default };
        let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(name.to_ascii_lowercase())
        } else {
            Cow::Borrowed(name)
        };
        let wildcard = || parent(&name).and_then(|parent| self.wildcards.get(parent));
        self.exact.get(&*name).or_else(wildcard).unwrap_or(&self.default)
    }

    /// The certificate for a name whose key can sign by one of the client's schemes; the first when none can, and the
    /// handshake ends with the error that says so.
    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<&Arc<CertifiedKey>> {
        let candidates = self.candidates(name);
        let signs = |at: &&usize| self.all[**at].key.key.choose_scheme(schemes).is_some();
        let at = candidates.iter().find(signs).or_else(|| candidates.first())?;
        Some(&self.all[*at].key)
    }

    /// Whether each certificate that a client may have been shown for `name` covers `host`.
    pub(super) fn cover(&self, name: Option<&str>, host: &str) -> bool {
        self.candidates(name).iter().all(|at| self.all[*at].names.cover(host))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(acme) = &self.acme
            && hello.alpn().is_some_and(|mut it| it.next() == Some(ACME_TLS) && it.next().is_none())
        {
            return acme.tls_answer(hello.server_name()?);
        }
        self.choose(hello.server_name(), hello.signature_schemes()).cloned()
    }
}
