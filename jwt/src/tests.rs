//! Tokens that are believed and tokens that are not; keys are made here, by the issuer's side of the library.

mod attacks;
mod claims;
mod keys;
mod properties;
mod rfc;
mod rules;

use crate::{Claims, Keys, Refused, Rules, verify};
use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
        KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
        RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
    },
};
use base64ct::{Base64, Base64UrlUnpadded, Encoding};
use serde_json::{Value, json};
use std::sync::LazyLock;

/// The time of the tests.
const NOW: u64 = 1_800_000_000;

/// One key of each kind, made once.
struct Issuer {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

const SECRET: [u8; 64] = *b"sixty-four bytes that the issuer and the balancer share, no more";

static ISSUER: LazyLock<Issuer> = LazyLock::new(|| Issuer {
    rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
    p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
    p384: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
    ed25519: Ed25519KeyPair::generate().unwrap(),
});

impl Issuer {
    /// The public keys, each with its name.
    fn public(&self) -> [(&'static str, Vec<u8>); 4] {
        let rsa: PublicKeyX509Der<'_> = self.rsa.public_key().as_der().unwrap();
        let p256: PublicKeyX509Der<'_> = self.p256.public_key().as_der().unwrap();
        let p384: PublicKeyX509Der<'_> = self.p384.public_key().as_der().unwrap();
        let ed25519: PublicKeyX509Der<'_> = self.ed25519.public_key().as_der().unwrap();
        [
            ("rsa", rsa.as_ref()),
            ("p256", p256.as_ref()),
            ("p384", p384.as_ref()),
            ("ed25519", ed25519.as_ref()),
        ]
        .map(|(name, der)| (name, der.to_vec()))
    }

    /// PEM text of one of them.
    fn pem(&self, name: &str) -> String {
        let (_, der) = self.public().into_iter().find(|(it, _)| *it == name).unwrap();
        pem("PUBLIC KEY", &der)
    }

    /// A set with all of them, `kid` after their names, and the secret.
    fn set(&self) -> Value {
        let point = |bytes: &[u8], size: usize| (url(&bytes[1..=size]), url(&bytes[size + 1..]));
        let rsa = self.rsa.public_key();
        let (x256, y256) = point(self.p256.public_key().as_ref(), 32);
        let (x384, y384) = point(self.p384.public_key().as_ref(), 48);
        json!({"keys": [
            {"kty": "RSA", "kid": "rsa", "use": "sig",
                "n": url(rsa.modulus().big_endian_without_leading_zero()),
                "e": url(rsa.exponent().big_endian_without_leading_zero())},
            {"kty": "EC", "kid": "p256", "crv": "P-256", "x": x256, "y": y256},
            {"kty": "EC", "kid": "p384", "crv": "P-384", "x": x384, "y": y384, "key_ops": ["verify"]},
            {"kty": "OKP", "kid": "ed25519", "crv": "Ed25519", "x": url(self.ed25519.public_key().as_ref())},
            {"kty": "oct", "kid": "oct", "k": url(&SECRET)},
        ]})
    }

    fn keys(&self) -> Keys {
        parse(&self.set())
    }

    /// The signature that `algorithm` has over the message.
    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let ec = |pair: &EcdsaKeyPair| pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec();
        match algorithm {
            "RS256" => self.sign_rsa(&RSA_PKCS1_SHA256, message),
            "RS384" => self.sign_rsa(&RSA_PKCS1_SHA384, message),
            "RS512" => self.sign_rsa(&RSA_PKCS1_SHA512, message),
            "PS256" => self.sign_rsa(&RSA_PSS_SHA256, message),
            "PS384" => self.sign_rsa(&RSA_PSS_SHA384, message),
            "PS512" => self.sign_rsa(&RSA_PSS_SHA512, message),
            "ES256" => ec(&self.p256),
            "ES384" => ec(&self.p384),
            "EdDSA" | "Ed25519" => self.ed25519.sign(message).as_ref().to_vec(),
            _ => sign_with_secret(algorithm, &SECRET, message),
        }
    }

    fn sign_rsa(&self, encoding: &'static dyn RsaEncoding, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        self.rsa.sign(encoding, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    }

    /// A token with this header and these claims, signed as the header's `alg` says.
    fn token(&self, header: &Value, claims: &Value) -> String {
        self.token_of(header["alg"].as_str().unwrap(), &header.to_string(), &claims.to_string())
    }

    /// A token with this text as header and claims.
    fn token_of(&self, algorithm: &str, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", url(header.as_bytes()), url(claims.as_bytes()));
        let signature = self.sign(algorithm, message.as_bytes());
        format!("{message}.{}", url(&signature))
    }
}

fn sign_with_secret(algorithm: &str, secret: &[u8], message: &[u8]) -> Vec<u8> {
    let digest = match algorithm {
        "HS256" => hmac::HMAC_SHA256,
        "HS384" => hmac::HMAC_SHA384,
        "HS512" => hmac::HMAC_SHA512,
        _ => panic!("no such algorithm: {algorithm}"),
    };
    hmac::sign(&hmac::Key::new(digest, secret), message).as_ref().to_vec()
}

fn url(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = Base64::encode_string(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|it| str::from_utf8(it).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn parse(set: &Value) -> Keys {
    Keys::parse(set.to_string().as_bytes()).unwrap()
}

/// What the issuer's keys and no rules say of a token.
fn check(token: &str) -> Result<Claims, Refused> {
    verify(token.as_bytes(), &ISSUER.keys(), &Rules::default(), NOW)
}

/// Claims that are good for an hour.
fn claims() -> Value {
    json!({"sub": "ada", "exp": NOW + 3600})
}

const ALGORITHMS: [(&str, &str); 12] = [
    ("RS256", "rsa"),
    ("RS384", "rsa"),
    ("RS512", "rsa"),
    ("PS256", "rsa"),
    ("PS384", "rsa"),
    ("PS512", "rsa"),
    ("ES256", "p256"),
    ("ES384", "p384"),
    ("EdDSA", "ed25519"),
    ("HS256", "oct"),
    ("HS384", "oct"),
    ("HS512", "oct"),
];

#[test]
fn each_algorithm_is_believed_with_its_key_named_or_not() {
    for (algorithm, id) in ALGORITHMS.into_iter().chain([("Ed25519", "ed25519")]) {
        for header in [json!({"alg": algorithm, "kid": id}), json!({"alg": algorithm})] {
            let claims =
                check(&ISSUER.token(&header, &claims())).unwrap_or_else(|it| panic!("{header}: {it}"));
            assert_eq!(claims.text("sub").as_deref(), Some("ada"));
        }
    }
}
