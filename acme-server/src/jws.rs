//! Signed requests (RFC 7515, RFC 8555 §6.2), as far as clients make them: ES256, and HS256 for accounts that are bound to others.

use aws_lc_rs::{
    digest, hmac,
    signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey},
};
use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::Value;

/// A request whose signature is good.
#[derive(Debug)]
pub(crate) struct Signed {
    pub(crate) header: Value,
    /// Empty for a question alone.
    pub(crate) payload: Vec<u8>,
    /// The public key, as x and y.
    pub(crate) key: Vec<u8>,
}

pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    Base64UrlUnpadded::decode_vec(text).ok()
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str()
}

/// The public key of a JWK: x and y.
pub(crate) fn key_of(jwk: &Value) -> Option<Vec<u8>> {
    let is_p256 = text(jwk, "kty")? == "EC" && text(jwk, "crv")? == "P-256";
    let (x, y) = (decode(text(jwk, "x")?)?, decode(text(jwk, "y")?)?);
    (is_p256 && x.len() == 32 && y.len() == 32).then(|| [x, y].concat())
}

/// The thumbprint of a key (RFC 7638).
pub(crate) fn thumbprint(key: &[u8]) -> String {
    let (x, y) = key.split_at(32);
    let json = format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, encode(x), encode(y));
    encode(digest::digest(&digest::SHA256, json.as_bytes()).as_ref())
}

/// The account that a request names, whoever has signed it.
pub(crate) fn account(body: &[u8]) -> Option<String> {
    let jws: Value = serde_json::from_slice(body).ok()?;
    let header: Value = serde_json::from_slice(&decode(text(&jws, "protected")?)?).ok()?;
    text(&header, "kid").map(str::to_owned)
}

/// Reads a request and checks its signature; `known` finds the key of an account by its URL.
pub(crate) fn verify(body: &[u8], known: impl Fn(&str) -> Option<Vec<u8>>) -> Option<Signed> {
    let jws: Value = serde_json::from_slice(body).ok()?;
    let (protected, payload) = (text(&jws, "protected")?, text(&jws, "payload")?);
    let header: Value = serde_json::from_slice(&decode(protected)?).ok()?;
    let key = match (header.get("jwk"), text(&header, "kid")) {
        (Some(jwk), None) => key_of(jwk)?,
        (None, Some(account)) => known(account)?,
        _ => return None,
    };
    let signature = decode(text(&jws, "signature")?)?;
    let point = [&[4], &key[..]].concat();
    let signed = format!("{protected}.{payload}");
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    let is_good = text(&header, "alg")? == "ES256" && public.verify(signed.as_bytes(), &signature).is_ok();
    is_good.then_some(())?;
    Some(Signed { payload: decode(payload)?, header, key })
}

/// Whether an account is bound by this key to another one (RFC 8555 §7.3.4).
pub(crate) fn is_bound(bound: &Value, key_id: &str, secret: &[u8], account_key: &[u8]) -> bool {
    let checked = || {
        let (protected, payload) = (text(bound, "protected")?, text(bound, "payload")?);
        let header: Value = serde_json::from_slice(&decode(protected)?).ok()?;
        let jwk: Value = serde_json::from_slice(&decode(payload)?).ok()?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let signature = decode(text(bound, "signature")?)?;
        hmac::verify(&key, format!("{protected}.{payload}").as_bytes(), &signature).ok()?;
        Some(
            text(&header, "alg")? == "HS256"
                && text(&header, "kid")? == key_id
                && key_of(&jwk)? == account_key,
        )
    };
    checked().unwrap_or(false)
}
