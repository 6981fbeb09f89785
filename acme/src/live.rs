//! What the workers of a web-tier see: the certificates that there are, and what is to be answered to the authority. Written seldom, by the
//! [`Manager`](crate::Manager); read without a lock.

use arc_swap::ArcSwap;
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::CertifiedKey,
};
use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::watch;

/// Where the authority asks for `http-01` (RFC 8555 §8.3).
const WELL_KNOWN: &str = "/.well-known/acme-challenge/";

/// The present state. Its clones are the same.
#[derive(Debug, Clone)]
pub struct Live(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Whether there are answers: looked at by every request.
    asked: AtomicBool,
    answers: ArcSwap<Answers>,
    certificates: watch::Sender<Arc<Vec<Arc<Issued>>>>,
    report: ArcSwap<Vec<OrderReport>>,
}

/// What is to be answered.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// By token.
    pub(crate) http: HashMap<String, Arc<str>>,
    /// By host name, in lower case.
    pub(crate) tls: HashMap<String, TlsChallenge>,
}

/// The certificate that answers `tls-alpn-01` (RFC 8737 §3).
#[derive(Debug, Clone)]
pub struct TlsChallenge(pub Arc<CertifiedKey>);

/// A certificate that was brought.
pub struct Issued {
    /// By which it is known: the first name that was asked for.
    pub name: String,
    /// Its own and its chain.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
    /// The last second of its validity, since the Unix epoch.
    pub not_after: i64,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("name", &self.name)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// How it is with one certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrderReport {
    /// Its first name.
    pub name: String,
    /// The last second of its validity, since the Unix epoch; `None` while there is none.
    pub not_after: Option<i64>,
    /// When it is ordered next, in milliseconds since 1970.
    pub next_ms: u64,
    /// Orders that failed since the last one that did not.
    pub failures: u32,
    /// Why the last of them did.
    pub last_error: String,
}

impl Default for Live {
    fn default() -> Self {
        Self(Arc::new(Inner {
            asked: AtomicBool::new(false),
            answers: ArcSwap::default(),
            certificates: watch::channel(Arc::default()).0,
            report: ArcSwap::default(),
        }))
    }
}

impl Live {
    /// What is to be answered to a request for this path, if it is one of the authority's.
    pub fn answer(&self, path: &str) -> Option<Arc<str>> {
        if !self.0.asked.load(Ordering::Relaxed) {
            return None;
        }
        self.0.answers.load().http.get(path.strip_prefix(WELL_KNOWN)?).cloned()
    }

    /// What is to be shown to one who asks for `name` by `acme-tls/1`.
    pub fn tls_answer(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let answers = self.0.answers.load();
        answers.tls.get(&name.to_ascii_lowercase()).map(|it| it.0.clone())
    }

    /// The certificates that there are, in the order of the file.
    pub fn certificates(&self) -> Arc<Vec<Arc<Issued>>> {
        self.0.certificates.borrow().clone()
    }

    /// Tells when there are others.
    pub fn changes(&self) -> watch::Receiver<Arc<Vec<Arc<Issued>>>> {
        self.0.certificates.subscribe()
    }

    /// How it is with each of them, those included that are not there yet.
    pub fn report(&self) -> Arc<Vec<OrderReport>> {
        self.0.report.load_full()
    }

    /// There is none any more.
    pub fn clear(&self) {
        self.set_answers(Answers::default());
        self.set_certificates(Vec::new());
        self.set_report(Vec::new());
    }

    pub(crate) fn set_answers(&self, answers: Answers) {
        let asked = !answers.http.is_empty();
        self.0.answers.store(Arc::new(answers));
        self.0.asked.store(asked, Ordering::Relaxed);
    }

    /// Nobody is told when they are the same ones.
    pub(crate) fn set_certificates(&self, certificates: Vec<Arc<Issued>>) {
        self.0.certificates.send_if_modified(|present| {
            let is_same = present.len() == certificates.len()
                && present.iter().zip(&certificates).all(|(one, other)| Arc::ptr_eq(one, other));
            if !is_same {
                *present = Arc::new(certificates);
            }
            !is_same
        });
    }

    pub(crate) fn set_report(&self, report: Vec<OrderReport>) {
        self.0.report.store(Arc::new(report));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tokens_that_are_known_are_answered() {
        let live = Live::default();
        assert_eq!(live.answer("/.well-known/acme-challenge/abc"), None);
        let http = HashMap::from([("abc".to_owned(), Arc::from("abc.thumb"))]);
        live.set_answers(Answers { http, tls: HashMap::new() });
        assert_eq!(live.answer("/.well-known/acme-challenge/abc").as_deref(), Some("abc.thumb"));
        for other in ["/.well-known/acme-challenge/abcd", "/.well-known/acme-challenge/", "/abc", ""] {
            assert_eq!(live.answer(other), None, "{other}");
        }
        live.set_answers(Answers::default());
        assert_eq!(live.answer("/.well-known/acme-challenge/abc"), None);
    }
}
