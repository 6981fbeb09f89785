//! JSON Web Key Sets (RFC 7517, RFC 7518 §6, RFC 8037 §2).

use super::{
    KEYS_MAX, Keys, KeysError,
    key::{Curve, Key},
};
use crate::Algorithm;
use base64ct::{Base64UrlUnpadded, Encoding};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// The members of a key that count here (RFC 7517 §4).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

pub(super) fn parse(json: &[u8]) -> Result<Keys, KeysError> {
    let set: Set = serde_json::from_slice(json).map_err(|it| KeysError::Set(it.to_string()))?;
    if set.keys.len() > KEYS_MAX {
        return Err(KeysError::TooMany(set.keys.len()));
    }
    if set.keys.iter().any(|it| it.get("d").is_some()) {
        return Err(KeysError::Private);
    }
    let (mut keys, mut passed_over) = (Vec::new(), Vec::new());
    for (at, value) in set.keys.into_iter().enumerate() {
        let jwk = serde_json::from_value(value).map_err(|it| it.to_string());
        match jwk.and_then(|it: Jwk| key(&it)) {
            Ok(key) => keys.push(key),
            Err(why) => passed_over.push(format!("key {}: {why}", at + 1)),
        }
    }
    if keys.is_empty() {
        let first = passed_over.into_iter().next();
        return Err(KeysError::NoneUsable(first.unwrap_or_else(|| "the list is empty".to_owned())));
    }
    Ok(Keys { keys, passed_over })
}

fn key(jwk: &Jwk) -> Result<Key, String> {
    if jwk.usage.as_ref().is_some_and(|it| it != "sig") {
        return Err("its use is not sig".to_owned());
    }
    if jwk.key_ops.as_ref().is_some_and(|it| !it.iter().any(|it| it == "verify")) {
        return Err("its key_ops have no verify".to_owned());
    }
    let key = match jwk.kty.as_str() {
        "RSA" => Key::rsa(&member("n", jwk.n.as_ref())?, &member("e", jwk.e.as_ref())?),
        "EC" => ec(jwk),
        "OKP" if jwk.crv.as_deref() == Some("Ed25519") => ed25519(&member("x", jwk.x.as_ref())?),
        "OKP" => Err("its crv is not Ed25519".to_owned()),
        "oct" => Key::secret(&member("k", jwk.k.as_ref())?),
        _ => Err("its kty is not RSA, EC, OKP or oct".to_owned()),
    }?;
    let key = key.with_id(jwk.kid.clone());
    match jwk.alg.as_deref() {
        None => Ok(key),
        Some("Ed25519") => key.only_for(Algorithm::EdDSA),
        Some(name) => key.only_for(name.parse().map_err(|_| "its alg is none to verify with")?),
    }
}

fn ec(jwk: &Jwk) -> Result<Key, String> {
    let (curve, size) = match jwk.crv.as_deref() {
        Some("P-256") => (Curve::P256, 32),
        Some("P-384") => (Curve::P384, 48),
        _ => return Err("its crv is not P-256 or P-384".to_owned()),
    };
    let (x, y) = (member("x", jwk.x.as_ref())?, member("y", jwk.y.as_ref())?);
    if x.len() != size || y.len() != size {
        return Err(format!("x and y have {} and {} bytes: expected {size}", x.len(), y.len()));
    }
    Key::on_curve(curve, &[&[4], x.as_slice(), &y].concat())
}

fn ed25519(x: &[u8]) -> Result<Key, String> {
    if x.len() != 32 {
        return Err(format!("x has {} bytes: expected 32", x.len()));
    }
    Key::on_curve(Curve::Ed25519, x)
}

fn member(name: &str, value: Option<&String>) -> Result<Vec<u8>, String> {
    let text = value.ok_or_else(|| format!("{name} is missing"))?;
    Base64UrlUnpadded::decode_vec(text).map_err(|_| format!("{name} is not base64url without padding"))
}
