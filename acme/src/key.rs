//! Private keys of certificates, and the requests that they sign.

use common::config::AcmeKeyType;
use rcgen::{
    CertificateParams, DistinguishedName, Error, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_RSA_SHA256, RsaKeySize,
};

/// A new key. An RSA key takes a second or more of CPU.
pub(crate) fn generate(kind: AcmeKeyType) -> Result<KeyPair, Error> {
    match kind {
        AcmeKeyType::Ec256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
        AcmeKeyType::Ec384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
        AcmeKeyType::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
        AcmeKeyType::Rsa4096 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096),
    }
}

/// A request (PKCS #10, RFC 2986) in DER for a certificate with these names.
pub(crate) fn request(names: &[String], key: &KeyPair) -> Result<Vec<u8>, Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key)?.der().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_key_signs_a_request() {
        for kind in [AcmeKeyType::Ec256, AcmeKeyType::Ec384, AcmeKeyType::Rsa2048] {
            let key = generate(kind).unwrap();
            let request = request(&["example.com".to_owned()], &key).unwrap();
            assert!(request.windows(11).any(|it| it == b"example.com"), "{kind:?}");
        }
    }
}
