//! What an authority's responder says of a certificate (OCSP, RFC 6960): the question, and whether an answer is one to show.

use crate::{
    der::{Der, tag},
    time,
};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use rustls_pki_types::SignatureVerificationAlgorithm;

/// `id-pe-authorityInfoAccess`, `id-ad-ocsp`, `id-pkix-ocsp-basic`, `id-ce-extKeyUsage`, `id-kp-OCSPSigning`, and SHA-1.
const AUTHORITY_INFO_ACCESS: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 1];
const OCSP: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1];
const OCSP_BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const OCSP_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 9];
const SHA1: &[u8] = &[0x2b, 0x0e, 3, 2, 0x1a];

/// How far a responder's clock may be ahead, in seconds.
const AHEAD: i64 = 300;

/// The longest URL of a responder.
const URL_MAX: usize = 1024;

/// What a responder is asked of a certificate.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Question {
    /// Where: a URL, of any scheme.
    pub url: String,
    /// The request, in DER.
    pub request: Vec<u8>,
    /// The certificate's `CertID`.
    id: Vec<u8>,
}

/// An answer that can be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staple {
    /// The whole answer, in DER.
    pub response: Vec<u8>,
    /// From when on it holds, and until when, in seconds since 1970.
    pub this_update: i64,
    /// See `this_update`.
    pub next_update: i64,
}

/// Why an answer can't be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The bytes are no answer.
    #[error("it is no OCSP response")]
    Malformed,
    /// The responder does not answer.
    #[error("the responder refuses to answer (status {0})")]
    Refused(u8),
    /// It speaks of another certificate.
    #[error("it says nothing of this certificate")]
    Other,
    /// The certificate has been revoked.
    #[error("the certificate has been REVOKED by its authority")]
    Revoked,
    /// The responder does not know the certificate.
    #[error("the responder does not know the certificate")]
    Unknown,
    /// It is over, does not hold yet, or does not say until when it holds.
    #[error("it does not hold now")]
    NotNow,
    /// Who has signed it may not, or the signature is wrong.
    #[error("its signature is not the authority's, nor of whom it has allowed to sign")]
    Signature,
}

/// What of a certificate matters here.
struct Certificate<'a> {
    signed: Signed<'a>,
    serial: &'a [u8],
    subject: &'a [u8],
    validity: (i64, i64),
    key: Key<'a>,
    responder: Option<&'a str>,
    signs_ocsp: bool,
}

/// What was signed, and how.
struct Signed<'a> {
    message: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

#[derive(Clone, Copy)]
struct Key<'a> {
    algorithm: &'a [u8],
    bits: &'a [u8],
}

type Algorithms<'a> = &'a [&'a dyn SignatureVerificationAlgorithm];

impl Signed<'_> {
    fn is_by(&self, key: Key<'_>, algorithms: Algorithms<'_>) -> bool {
        algorithms.iter().any(|it| {
            it.signature_alg_id().as_ref() == self.algorithm
                && it.public_key_alg_id().as_ref() == key.algorithm
                && it.verify_signature(key.bits, self.message, self.signature).is_ok()
        })
    }
}

/// The bits of a BIT STRING of whole bytes.
fn bits<'a>(der: &mut Der<'a>) -> Option<&'a [u8]> {
    der.take(tag::BIT_STRING)?.strip_prefix(&[0])
}

fn certificate(der: &[u8]) -> Option<Certificate<'_>> {
    let mut whole = Der::new(Der::new(der).take(tag::SEQUENCE)?);
    let message = whole.whole(tag::SEQUENCE)?;
    let signed = Signed { message, algorithm: whole.take(tag::SEQUENCE)?, signature: bits(&mut whole)? };
    let mut fields = Der::new(Der::new(message).take(tag::SEQUENCE)?);
    fields.skip_if(tag::VERSION)?;
    let serial = fields.take(tag::INTEGER)?;
    fields.take(tag::SEQUENCE)?;
    fields.take(tag::SEQUENCE)?;
    let mut validity = Der::new(fields.take(tag::SEQUENCE)?);
    let validity = (time::read(&validity.any()?)?, time::read(&validity.any()?)?);
    let subject = fields.whole(tag::SEQUENCE)?;
    let mut key = Der::new(fields.take(tag::SEQUENCE)?);
    let key = Key { algorithm: key.take(tag::SEQUENCE)?, bits: bits(&mut key)? };
    let mut found =
        Certificate { signed, serial, subject, validity, key, responder: None, signs_ocsp: false };
    while let Some(element) = fields.next()? {
        if element.tag == tag::EXTENSIONS {
            extensions(Der::new(Der::new(element.content).take(tag::SEQUENCE)?), &mut found)?;
        }
    }
    Some(found)
}

fn extensions<'a>(mut extensions: Der<'a>, found: &mut Certificate<'a>) -> Option<()> {
    while let Some(extension) = extensions.next()? {
        let mut fields = Der::new(extension.content);
        let id = fields.take(tag::OBJECT_IDENTIFIER)?;
        fields.skip_if(tag::BOOLEAN)?;
        let value = fields.take(tag::OCTET_STRING)?;
        if id == AUTHORITY_INFO_ACCESS {
            let mut accesses = Der::new(Der::new(value).take(tag::SEQUENCE)?);
            while let Some(access) = accesses.next()? {
                let mut access = Der::new(access.content);
                let method = access.take(tag::OBJECT_IDENTIFIER)?;
                let place = access.any()?;
                if method == OCSP && place.tag == tag::URI && found.responder.is_none() {
                    found.responder = std::str::from_utf8(place.content).ok();
                }
            }
        } else if id == EXTENDED_KEY_USAGE {
            let mut usages = Der::new(Der::new(value).take(tag::SEQUENCE)?);
            while let Some(usage) = usages.next()? {
                found.signs_ocsp |= usage.content == OCSP_SIGNING;
            }
        }
    }
    Some(())
}

/// What to ask of a certificate, where it names a responder.
pub fn question(leaf: &[u8], issuer: &[u8]) -> Option<Question> {
    let leaf = certificate(leaf)?;
    let url = leaf.responder.filter(|it| it.len() <= URL_MAX)?.to_owned();
    let issuer = certificate(issuer)?;
    let hash =
        |bytes: &[u8]| element(tag::OCTET_STRING, &[digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref()]);
    let algorithm = element(tag::SEQUENCE, &[&element(tag::OBJECT_IDENTIFIER, &[SHA1]), &[5, 0]]);
    let (name, key) = (hash(issuer.subject), hash(issuer.key.bits));
    let id = element(tag::SEQUENCE, &[&algorithm, &name, &key, &element(tag::INTEGER, &[leaf.serial])]);
    let list = element(tag::SEQUENCE, &[&element(tag::SEQUENCE, &[&id])]);
    let request = element(tag::SEQUENCE, &[&element(tag::SEQUENCE, &[&list])]);
    Some(Question { url, request, id })
}

fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut made = vec![tag];
    match u16::try_from(content.len()) {
        Ok(length @ 0..=0x7f) => made.push(length.to_le_bytes()[0]),
        Ok(length @ 0x80..=0xff) => made.extend([0x81, length.to_le_bytes()[0]]),
        length => {
            made.push(0x82);
            made.extend(length.unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    made.extend(content);
    made
}

impl Question {
    /// Whether `response` answers it, at `now` (seconds since 1970), and well: the certificate is good, and the authority, or whom it has allowed to, has
    /// signed that.
    ///
    /// # Errors
    /// See [`Unusable`].
    pub fn answered(
        &self,
        response: &[u8],
        issuer: &[u8],
        now: i64,
        algorithms: Algorithms<'_>,
    ) -> Result<Staple, Unusable> {
        let answer = basic(response)?;
        let issuer = certificate(issuer).ok_or(Unusable::Malformed)?;
        let may_sign = |der: &&[u8]| {
            let Some(it) = certificate(der) else { return false };
            let is_now = (it.validity.0..=it.validity.1).contains(&now);
            it.signs_ocsp
                && is_now
                && it.signed.is_by(issuer.key, algorithms)
                && answer.signed.is_by(it.key, algorithms)
        };
        if !answer.signed.is_by(issuer.key, algorithms) && !answer.certificates.iter().any(may_sign) {
            return Err(Unusable::Signature);
        }
        let single = self.single(answer.signed.message).ok_or(Unusable::Malformed)?.ok_or(Unusable::Other)?;
        match single.status {
            0x80 => {}
            0xa1 => return Err(Unusable::Revoked),
            _ => return Err(Unusable::Unknown),
        }
        let (this_update, next_update) = (single.this_update, single.next_update.ok_or(Unusable::NotNow)?);
        if this_update > now.saturating_add(AHEAD) || next_update <= now || next_update <= this_update {
            return Err(Unusable::NotNow);
        }
        Ok(Staple { response: response.to_vec(), this_update, next_update })
    }

    /// What is said of the certificate, if anything; `None` when it is malformed.
    #[expect(clippy::option_option, reason = "malformed, nothing, or an answer")]
    fn single(&self, data: &[u8]) -> Option<Option<Single>> {
        let mut data = Der::new(Der::new(data).take(tag::SEQUENCE)?);
        data.skip_if(tag::VERSION)?;
        // Who says so, and when.
        data.any()?;
        data.any()?;
        let mut singles = Der::new(data.take(tag::SEQUENCE)?);
        while let Some(single) = singles.next()? {
            let mut fields = Der::new(single.content);
            let id = fields.whole(tag::SEQUENCE)?;
            let status = fields.any()?.tag;
            let this_update = time::read(&fields.any()?)?;
            let next = fields.next()?.filter(|it| it.tag == tag::VERSION);
            let next_update = match next {
                Some(it) => Some(time::read(&Der::new(it.content).any()?)?),
                None => None,
            };
            if self.is_id(id) {
                return Some(Some(Single { status, this_update, next_update }));
            }
        }
        Some(None)
    }

    /// Whether it is the certificate's. The parameters of SHA-1 may be missing.
    fn is_id(&self, id: &[u8]) -> bool {
        let parts = |id| {
            let mut fields = Der::new(Der::new(id).take(tag::SEQUENCE)?);
            let algorithm = Der::new(fields.take(tag::SEQUENCE)?).take(tag::OBJECT_IDENTIFIER)?;
            let hashes = (fields.take(tag::OCTET_STRING)?, fields.take(tag::OCTET_STRING)?);
            Some((algorithm, hashes, fields.take(tag::INTEGER)?))
        };
        parts(&self.id).is_some_and(|own| parts(id) == Some(own))
    }
}

/// What is said of one certificate.
struct Single {
    /// The tag of its status.
    status: u8,
    this_update: i64,
    next_update: Option<i64>,
}

/// A basic response: what was signed, and the certificates that come with it.
struct Basic<'a> {
    signed: Signed<'a>,
    certificates: Vec<&'a [u8]>,
}

fn basic(response: &[u8]) -> Result<Basic<'_>, Unusable> {
    let mut outer = Der::new(Der::new(response).take(tag::SEQUENCE).ok_or(Unusable::Malformed)?);
    match outer.take(tag::ENUMERATED) {
        Some([0]) => {}
        Some([status]) => return Err(Unusable::Refused(*status)),
        _ => return Err(Unusable::Malformed),
    }
    let mut read = || {
        let mut bytes = Der::new(Der::new(outer.take(tag::VERSION)?).take(tag::SEQUENCE)?);
        let kind = bytes.take(tag::OBJECT_IDENTIFIER)?;
        let basic = bytes.take(tag::OCTET_STRING).filter(|_| kind == OCSP_BASIC)?;
        let mut fields = Der::new(Der::new(basic).take(tag::SEQUENCE)?);
        let message = fields.whole(tag::SEQUENCE)?;
        let signed =
            Signed { message, algorithm: fields.take(tag::SEQUENCE)?, signature: bits(&mut fields)? };
        let mut certificates = Vec::new();
        if let Some(more) = fields.next()?.filter(|it| it.tag == tag::VERSION) {
            let mut list = Der::new(Der::new(more.content).take(tag::SEQUENCE)?);
            while let Some(it) = list.next()? {
                certificates.push(it.whole);
            }
        }
        Some(Basic { signed, certificates })
    };
    read().ok_or(Unusable::Malformed)
}

#[cfg(test)]
mod tests;
