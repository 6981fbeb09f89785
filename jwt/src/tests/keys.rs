//! Sets and PEM text: what is read, what is passed over, what is refused with which words.

use super::{ISSUER, NOW, claims, parse, pem, url};
use crate::{KEYS_MAX, Keys, Rules, SIZE_MAX, verify};
use aws_lc_rs::{
    rsa::KeySize,
    signature::{KeyPair, RsaKeyPair},
};
use rcgen::{CertificateParams, PKCS_ECDSA_P384_SHA384};
use serde_json::{Value, json};

fn error(bytes: &[u8]) -> String {
    Keys::parse(bytes).unwrap_err().to_string()
}

fn believes(keys: &Keys, algorithm: &str) -> bool {
    let token = ISSUER.token(&json!({"alg": algorithm}), &claims());
    verify(token.as_bytes(), keys, &Rules::default(), NOW).is_ok()
}

#[test]
fn pem_may_have_several_public_keys() {
    for (name, algorithm) in [("rsa", "PS512"), ("p256", "ES256"), ("p384", "ES384"), ("ed25519", "EdDSA")] {
        let keys = Keys::parse(ISSUER.pem(name).as_bytes()).unwrap();
        assert!(believes(&keys, algorithm), "{name}");
        assert!(!believes(&keys, if name == "rsa" { "ES256" } else { "RS256" }), "{name}");
    }
    let all: String =
        ISSUER.public().iter().map(|(name, _)| format!("the key {name}:\n{}", ISSUER.pem(name))).collect();
    let keys = Keys::parse(all.replace('\n', "\r\n").as_bytes()).unwrap();
    for algorithm in ["RS256", "ES256", "ES384", "EdDSA"] {
        assert!(believes(&keys, algorithm), "{algorithm}");
    }
}

#[test]
fn pem_may_have_certificates() {
    let pair = rcgen::KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let certificate =
        CertificateParams::new(vec!["issuer.test".to_owned()]).unwrap().self_signed(&pair).unwrap();
    let keys = Keys::parse(format!("{}{}", certificate.pem(), ISSUER.pem("rsa")).as_bytes()).unwrap();
    assert!(believes(&keys, "RS256"));
    let mut broken = certificate.der().to_vec();
    broken.truncate(40);
    let found = error(pem("CERTIFICATE", &broken).as_bytes());
    assert!(found.starts_with("key 1 can't be used: the certificate can't be read: "), "{found}");
}

#[test]
fn private_keys_are_refused() {
    let der = ISSUER.p256.to_pkcs8v1().unwrap();
    let expected = "there is a private key: expected public keys alone (openssl pkey -in FILE -pubout)";
    for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"] {
        assert_eq!(error(pem(label, der.as_ref()).as_bytes()), expected);
        assert_eq!(error((ISSUER.pem("rsa") + &pem(label, der.as_ref())).as_bytes()), expected);
    }
    let mut set = ISSUER.set();
    set["keys"][1]["d"] = url(&[1; 32]).into();
    assert_eq!(error(set.to_string().as_bytes()), expected);
}

#[test]
fn what_is_no_pem_of_keys_is_refused() {
    for (text, expected) in [
        (
            String::new(),
            "no keys: expected a JSON Web Key Set ({\"keys\": [...]}) or PEM text with public keys or certificates \
             (-----BEGIN PUBLIC KEY-----)",
        ),
        (
            pem("RSA PUBLIC KEY", b"x"),
            "not PEM text with public keys or certificates: expected -----BEGIN PUBLIC KEY----- or -----BEGIN CERTIFICATE-----",
        ),
        (
            pem("PUBLIC KEY", b"x"),
            "key 1 can't be used: its type is not known: expected RSA, EC on P-256 or P-384, or Ed25519",
        ),
        (
            ISSUER.pem("rsa") + &pem("X509 CRL", b"x"),
            "key 2 can't be used: expected PUBLIC KEY or CERTIFICATE",
        ),
    ] {
        assert_eq!(error(text.as_bytes()), expected);
    }
    let cut = ISSUER.pem("rsa").replace("-----END PUBLIC KEY-----", "");
    assert!(error(cut.as_bytes()).starts_with("not PEM text with public keys or certificates: missing"));
    let many = ISSUER.pem("ed25519").repeat(KEYS_MAX + 1);
    assert_eq!(error(many.as_bytes()), "there are 65 keys: expected at most 64");
    assert!(Keys::parse(ISSUER.pem("ed25519").repeat(KEYS_MAX).as_bytes()).is_ok());
    assert_eq!(error(&vec![b' '; SIZE_MAX + 1]), "the keys have 262145 bytes: expected at most 262144");
}

#[test]
fn keys_of_a_set_that_are_for_something_else_are_passed_over() {
    let good = ISSUER.set()["keys"][1].clone();
    let with = |name: &str, value: Value| {
        let mut key = good.clone();
        key[name] = value;
        key
    };
    let set = json!({"keys": [
        good,
        with("kty", json!("AKP")),
        with("kty", Value::Null),
        with("crv", json!("P-521")),
        with("use", json!("enc")),
        with("key_ops", json!(["sign"])),
        with("alg", json!("ECDH-ES")),
        with("alg", json!("HS256")),
        with("x", json!("AA")),
        with("x", json!("A+/=")),
        with("y", json!(url(&[1; 32]))),
        with("y", Value::Null),
        {"kty": "OKP", "crv": "X25519", "x": "AA"},
        {"kty": "OKP", "crv": "Ed25519", "x": "AA"},
        {"kty": "oct", "k": url(&[1; 31])},
        {"kty": "RSA", "n": "", "e": ""},
        7,
    ], "more": true});
    let keys = parse(&set);
    assert!(believes(&keys, "ES256"));
    assert_eq!(
        keys.passed_over(),
        [
            "key 2: its kty is not RSA, EC, OKP or oct",
            "key 3: invalid type: null, expected a string",
            "key 4: its crv is not P-256 or P-384",
            "key 5: its use is not sig",
            "key 6: its key_ops have no verify",
            "key 7: its alg is none to verify with",
            "key 8: alg HS256 doesn't fit the key",
            "key 9: x and y have 1 and 32 bytes: expected 32",
            "key 10: x is not base64url without padding",
            "key 11: the point is not on the curve",
            "key 12: y is missing",
            "key 13: its crv is not Ed25519",
            "key 14: x has 1 bytes: expected 32",
            "key 15: the secret has 31 bytes: expected at least 32",
            "key 16: the modulus or the exponent is not valid",
            "key 17: invalid type: integer `7`, expected struct Jwk",
        ]
    );
}

#[test]
fn a_set_must_have_a_key_that_can_be_used() {
    let of = |text: &str| error(text.as_bytes());
    let expected = "expected kty RSA with 2048 to 8192 bits, EC on P-256 or P-384, OKP on Ed25519, or oct with at least 32 bytes";
    assert_eq!(
        of(r#"{"keys": []}"#),
        format!("none of the keys can be used (the list is empty): {expected}")
    );
    assert_eq!(
        of(r#"{"keys": [{"kty": "DSA"}]}"#),
        format!("none of the keys can be used (key 1: its kty is not RSA, EC, OKP or oct): {expected}")
    );
    let small = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let n = &small.public_key().modulus().big_endian_without_leading_zero()[128..];
    let small = json!({"keys": [{"kty": "RSA", "n": url(&[&[0x80], &n[1..]].concat()), "e": "AQAB"}]});
    assert_eq!(
        of(&small.to_string()),
        format!(
            "none of the keys can be used (key 1: an RSA key of 1024 bits: expected 2048 to 8192): {expected}"
        )
    );
    assert_eq!(
        of("{}"),
        "not a JSON Web Key Set: missing field `keys` at line 1 column 2: expected {\"keys\": [...]}"
    );
    assert!(of(r#"{"keys": ["#).starts_with("not a JSON Web Key Set: EOF"));
    let many = json!({"keys": vec![ISSUER.set()["keys"][3].clone(); KEYS_MAX + 1]});
    assert_eq!(of(&many.to_string()), "there are 65 keys: expected at most 64");
}

#[test]
fn the_alg_of_a_key_is_its_only_one() {
    let mut set = json!({"keys": [ISSUER.set()["keys"][0]]});
    set["keys"][0]["alg"] = "PS256".into();
    let keys = parse(&set);
    assert!(believes(&keys, "PS256"));
    assert!(!believes(&keys, "RS256"));
    let mut set = json!({"keys": [ISSUER.set()["keys"][3]]});
    set["keys"][0]["alg"] = "Ed25519".into();
    assert!(believes(&parse(&set), "EdDSA"));
}

#[test]
fn a_secret_is_as_long_as_its_digest() {
    let of = |bytes: usize| {
        let secret = &super::SECRET[..bytes];
        let keys = Keys::secret(secret).map_err(|it| it.to_string())?;
        let believed = ["HS256", "HS384", "HS512"].into_iter().filter(|algorithm| {
            let message = format!(
                "{}.{}",
                url(json!({"alg": algorithm}).to_string().as_bytes()),
                url(claims().to_string().as_bytes())
            );
            let signature = super::sign_with_secret(algorithm, secret, message.as_bytes());
            verify(format!("{message}.{}", url(&signature)).as_bytes(), &keys, &Rules::default(), NOW).is_ok()
        });
        Ok::<_, String>(believed.collect::<Vec<_>>())
    };
    assert_eq!(of(0), Err("the secret has 0 bytes: expected at least 32".to_owned()));
    assert_eq!(of(31), Err("the secret has 31 bytes: expected at least 32".to_owned()));
    assert_eq!(of(32), Ok(vec!["HS256"]));
    assert_eq!(of(48), Ok(vec!["HS256", "HS384"]));
    assert_eq!(of(64), Ok(vec!["HS256", "HS384", "HS512"]));
}

#[test]
fn secrets_do_not_show() {
    let shown = format!("{:?}", Keys::secret(&super::SECRET).unwrap());
    assert!(
        shown.contains("redacted") && !shown.contains(&format!("{:?}", &super::SECRET[..4])[1..10]),
        "{shown}"
    );
}
