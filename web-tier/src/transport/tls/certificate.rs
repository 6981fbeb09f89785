//! A certificate with its chain and private key, from its files.

use super::{
    names::Names,
    staples::{Asked, Staples},
};
use acme::Issued;
use aws_lc_rs::digest::{Context, SHA256};
use common::{
    config::{CertificateFiles, FilePath},
    tls_files::{FileFault, chain, private_key},
};
use rustls::{
    Error, InconsistentKeys, crypto::CryptoProvider, pki_types::CertificateDer, sign::CertifiedKey,
};
use std::sync::Arc;
use x509::{X509, date};

/// So many seconds before its end a certificate is warned of: renewal should have come.
const EXPIRES_SOON: i64 = 7 * 86_400;

/// A SHA-256.
pub(super) type Hash = [u8; 32];

/// The hash of some parts; each one's length goes first, so that they don't run into each other.
pub(super) fn hash(parts: &[&[u8]]) -> Hash {
    let mut hash = Context::new(&SHA256);
    for part in parts {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut found = Hash::default();
    found.copy_from_slice(hash.finish().as_ref());
    found
}

/// The last second of the validity of a file's first certificate, since the Unix epoch; `None` when there is none that can be read.
/// Blocks on the file system.
pub fn certificate_end(file: &FilePath) -> Option<i64> {
    let (chain, _) = chain(file).ok()?;
    X509::parse(chain.first()?).map(|it| it.not_after)
}

/// A certificate that a listener may show.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) names: Names,
    /// The last second of its validity, since the Unix epoch.
    pub(super) not_after: i64,
    /// What is dubious about it.
    pub(super) warnings: Vec<FileFault>,
    /// The hash of what its files hold: equal content needs no exchange.
    pub(super) content: Hash,
    /// Of what is stapled.
    pub(super) asked: Option<Asked>,
}

impl Certificate {
    /// Reads the files; `now` (seconds since the Unix epoch) is for the warnings.
    ///
    /// # Errors
    /// A file that can't be read or holds something else, a key that is not the certificate's.
    pub(super) fn load(
        files: &CertificateFiles,
        provider: &CryptoProvider,
        now: i64,
    ) -> Result<Self, Vec<FileFault>> {
        // Both, so that faults of both are told.
        let (chain, key) = (chain(&files.cert), private_key(&files.key));
        let ((chain, cert_bytes), (key, key_bytes)) = match (chain, key) {
            (Ok(chain), Ok(key)) => (chain, key),
            (chain, key) => return Err([chain.err(), key.err()].into_iter().flatten().collect()),
        };
        let x509 = X509::parse(&chain[0]).ok_or_else(|| {
            vec![FileFault::new(&files.cert, "its first certificate is not an X.509 certificate")]
        })?;
        let names = Names::new(&x509);
        let not_after = x509.not_after;
        let warnings = warnings(&files.cert, &chain, &x509, &names, now);
        let key = CertifiedKey::from_der(chain, key, provider).map_err(|cause| {
            vec![match cause {
                Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    let cert = files.cert.path.display();
                    FileFault::new(
                        &files.key,
                        format!("it is not the private key of the certificate in {cert}"),
                    )
                }
                Error::InvalidCertificate(cause) => {
                    FileFault::new(&files.cert, format!("its first certificate is not valid: {cause:?}"))
                }
                other => FileFault::new(&files.key, format!("this private key can't be used: {other}")),
            }]
        })?;
        let content = hash(&[&cert_bytes, &key_bytes]);
        Ok(Self { key: Arc::new(key), names, not_after, warnings, content, asked: None })
    }
}

impl Certificate {
    /// One that ACME has brought; `None` when it is of no use, which was looked at when it came.
    pub(super) fn issued(issued: &Issued, provider: &CryptoProvider) -> Option<Self> {
        let names = Names::new(&X509::parse(issued.chain.first()?)?);
        let parts: Vec<&[u8]> =
            issued.chain.iter().map(AsRef::as_ref).chain([issued.key.secret_der()]).collect();
        let content = hash(&parts);
        let key = CertifiedKey::from_der(issued.chain.clone(), issued.key.clone_key(), provider).ok()?;
        Some(Self {
            key: Arc::new(key),
            names,
            not_after: issued.not_after,
            warnings: Vec::new(),
            content,
            asked: None,
        })
    }
}

impl Certificate {
    /// Staples what its responder has said, if it has one and has said something.
    pub(super) fn stapled(mut self, staples: &Staples) -> Self {
        self.asked = Asked::of(&self.key.cert);
        if let Some(response) = self.asked.as_ref().and_then(|it| staples.staple(it)) {
            self.content = hash(&[&self.content, &response]);
            self.key = Arc::new(CertifiedKey { ocsp: Some(response), ..CertifiedKey::clone(&self.key) });
        }
        self
    }
}

/// What is said of a certificate that has ended, or will within a week.
pub(super) fn end(not_after: i64, now: i64) -> Option<String> {
    let end = if not_after < now {
        "expired"
    } else if not_after < now + EXPIRES_SOON {
        "expires"
    } else {
        return None;
    };
    Some(format!("the certificate {end} on {}", date(not_after)))
}

/// What a client may stumble over, though the server can run with it.
fn warnings(
    file: &FilePath,
    chain: &[CertificateDer<'_>],
    leaf: &X509<'_>,
    names: &Names,
    now: i64,
) -> Vec<FileFault> {
    let mut found = Vec::new();
    let mut warn = |message: String| found.push(FileFault::new(file, message));
    end(leaf.not_after, now).into_iter().for_each(&mut warn);
    if leaf.not_before > now {
        warn(format!("the certificate is not valid before {}", date(leaf.not_before)));
    }
    if names.is_empty() {
        warn("the certificate has no subjectAltName: browsers refuse it".to_owned());
    }
    let chain: Vec<_> = chain.iter().map(|der| X509::parse(der)).collect();
    for (at, pair) in chain.windows(2).enumerate() {
        let fits = matches!(pair, [Some(one), Some(next)] if one.issuer == next.subject);
        if !fits {
            warn(format!("certificate {} of the chain is not the issuer of the one before it", at + 2));
            break;
        }
    }
    found
}
