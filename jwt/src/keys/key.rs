//! One key, and the algorithms that it may be used with.

use crate::Algorithm;
use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rsa,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RsaPublicKeyComponents,
        VerificationAlgorithm,
    },
};
use jsonwebtoken::{DecodingKey, crypto};
use rustls_pki_types::{AlgorithmIdentifier, alg_id};

/// The shortest secret, in bytes: as long as the shortest digest (RFC 7518 §3.2).
pub const SECRET_MIN: usize = 32;

/// The moduli of RSA that are accepted, in bytes: 2048 bits (RFC 7518 §3.3) to 8192.
const MODULUS: std::ops::RangeInclusive<usize> = 256..=1024;

/// A key that can be used.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    id: Option<String>,
    /// All that it may verify: what the key is decides it, never the token (RFC 8725 §3.1).
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// The curves that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
    Ed25519,
}

impl Curve {
    pub(super) const ALL: [Self; 3] = [Self::P256, Self::P384, Self::Ed25519];

    fn identifier(self) -> AlgorithmIdentifier {
        match self {
            Self::P256 => alg_id::ECDSA_P256,
            Self::P384 => alg_id::ECDSA_P384,
            Self::Ed25519 => alg_id::ED25519,
        }
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED,
            Self::P384 => &ECDSA_P384_SHA384_FIXED,
            Self::Ed25519 => &ED25519,
        }
    }
}

impl Key {
    /// A secret of at least [`SECRET_MIN`] bytes.
    pub(super) fn secret(bytes: &[u8]) -> Result<Self, String> {
        let too_short = || format!("the secret has {} bytes: expected at least {SECRET_MIN}", bytes.len());
        if bytes.len() < SECRET_MIN {
            return Err(too_short());
        }
        let by_length = [(32, Algorithm::HS256), (48, Algorithm::HS384), (64, Algorithm::HS512)];
        let fitting = by_length.into_iter().filter(|(least, _)| bytes.len() >= *least);
        let key = DecodingKey::from_secret(bytes).map_err(|_| too_short())?;
        Ok(Self { id: None, algorithms: fitting.map(|(_, it)| it).collect(), key })
    }

    /// An RSA key of its modulus and exponent, big-endian (RFC 7518 §6.3.1).
    pub(super) fn rsa(n: &[u8], e: &[u8]) -> Result<Self, String> {
        let components = RsaPublicKeyComponents { n, e };
        let der: PublicKeyX509Der<'_> =
            components.as_der().map_err(|_| "the modulus or the exponent is not valid")?;
        Self::rsa_der(der.as_ref())
    }

    fn rsa_der(der: &[u8]) -> Result<Self, String> {
        let parsed = rsa::PublicKey::from_der(der).map_err(|_| "not a public key of RSA")?;
        let size = parsed.modulus_len();
        if !MODULUS.contains(&size) {
            return Err(format!("an RSA key of {} bits: expected 2048 to 8192", size * 8));
        }
        let key = DecodingKey::from_rsa_der(der);
        Ok(Self { id: None, algorithms: key.family().algorithms().to_vec(), key })
    }

    /// A key on a curve: a point, uncompressed (SEC 1 §2.3.3), the 32 bytes of Ed25519, or a `SubjectPublicKeyInfo`.
    pub(super) fn on_curve(curve: Curve, bytes: &[u8]) -> Result<Self, String> {
        ParsedPublicKey::new(curve.verification(), bytes).map_err(|_| "the point is not on the curve")?;
        let (algorithm, key) = match curve {
            Curve::P256 => (Algorithm::ES256, DecodingKey::from_ec_der(bytes)),
            Curve::P384 => (Algorithm::ES384, DecodingKey::from_ec_der(bytes)),
            Curve::Ed25519 => (Algorithm::EdDSA, DecodingKey::from_ed_der(bytes)),
        };
        Ok(Self { id: None, algorithms: vec![algorithm], key })
    }

    /// A `SubjectPublicKeyInfo` (RFC 5280 §4.1.2.7) of a known type.
    pub(super) fn spki(der: &[u8]) -> Result<Self, String> {
        if has_type(der, alg_id::RSA_ENCRYPTION) {
            return Self::rsa_der(der);
        }
        match Curve::ALL.into_iter().find(|curve| has_type(der, curve.identifier())) {
            Some(curve) => Self::on_curve(curve, der),
            None => Err("its type is not known: expected RSA, EC on P-256 or P-384, or Ed25519".to_owned()),
        }
    }

    /// The same with an id.
    pub(super) fn with_id(self, id: Option<String>) -> Self {
        Self { id, ..self }
    }

    /// The same for this algorithm alone (RFC 7517 §4.4), which must be one of its own.
    pub(super) fn only_for(self, algorithm: Algorithm) -> Result<Self, String> {
        if self.fits(algorithm) {
            Ok(Self { algorithms: vec![algorithm], ..self })
        } else {
            Err(format!("alg {algorithm:?} doesn't fit the key"))
        }
    }

    /// What a header's `kid` calls it.
    pub(crate) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether it may be used with this algorithm.
    pub(crate) fn fits(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// Whether the signature, in base64url, is one of this key over the message; never with an algorithm that doesn't fit.
    pub(crate) fn verify(&self, algorithm: Algorithm, message: &str, signature: &str) -> bool {
        self.fits(algorithm)
            && crypto::verify(signature, message.as_bytes(), &self.key, algorithm).unwrap_or(false)
    }
}

/// Whether a `SubjectPublicKeyInfo` begins with this type: it stands behind the headers of two sequences, which have 2 to 4 bytes and 2.
fn has_type(der: &[u8], identifier: AlgorithmIdentifier) -> bool {
    (4..=6).any(|at| der.get(at..).is_some_and(|it| it.starts_with(identifier.as_ref())))
}
