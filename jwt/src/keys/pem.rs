//! PEM text with public keys and certificates (RFC 7468).

use super::{KEYS_MAX, Keys, KeysError, key::Key};
use rustls_pki_types::{
    CertificateDer,
    pem::{PemObject, SectionKind},
};
use webpki::EndEntityCert;

pub(super) fn parse(text: &[u8]) -> Result<Keys, KeysError> {
    // Also those labels that the reader doesn't know, `ENCRYPTED PRIVATE KEY` and the like.
    if text.windows(16).any(|it| it == b"PRIVATE KEY-----") {
        return Err(KeysError::Private);
    }
    let sections: Vec<(SectionKind, Vec<u8>)> = <(SectionKind, Vec<u8>)>::pem_slice_iter(text)
        .take(KEYS_MAX + 1)
        .collect::<Result<_, _>>()
        .map_err(|it| KeysError::Pem(it.to_string()))?;
    if sections.len() > KEYS_MAX {
        return Err(KeysError::TooMany(sections.len()));
    }
    if sections.is_empty() {
        return Err(KeysError::Pem(
            "expected -----BEGIN PUBLIC KEY----- or -----BEGIN CERTIFICATE-----".to_owned(),
        ));
    }
    let keys = sections
        .into_iter()
        .enumerate()
        .map(|(at, (kind, der))| key(kind, &der).map_err(|why| KeysError::Unusable { number: at + 1, why }));
    Ok(Keys { keys: keys.collect::<Result<_, _>>()?, passed_over: Vec::new() })
}

fn key(kind: SectionKind, der: &[u8]) -> Result<Key, String> {
    match kind {
        SectionKind::PublicKey => Key::spki(der),
        SectionKind::Certificate => {
            let certificate = CertificateDer::from(der);
            let parsed = EndEntityCert::try_from(&certificate)
                .map_err(|why| format!("the certificate can't be read: {why}"))?;
            Key::spki(parsed.subject_public_key_info().as_ref())
        }
        _ => Err("expected PUBLIC KEY or CERTIFICATE".to_owned()),
    }
}
