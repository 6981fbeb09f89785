//! Whether a token is signed by a known key, in time, and what the rules ask for.

use crate::{Algorithm, Claims, Keys, Refused, json, keys::Key};
use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::{Map, Value};

/// The longest token that is looked at, in bytes.
pub const TOKEN_MAX: usize = 8192;

/// What is asked of a token. An empty list asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// `iss` must be one of them (RFC 7519 §4.1.1).
    pub issuer: Vec<String>,
    /// `aud` must have one of them (RFC 7519 §4.1.3).
    pub audience: Vec<String>,
    /// How far the issuer's clock may be from ours, in seconds.
    pub leeway_s: u64,
    /// `alg` must be one of them. It must fit the key whatever stands here: an empty list allows what the keys allow.
    pub algorithms: Vec<Algorithm>,
    /// Claims that must be there and not be `null`; names and paths as in [`Claims::text`].
    pub required_claims: Vec<String>,
}

/// What a token in the compact form says (RFC 7515 §7.1), if it is signed with one of `keys`, in time at `now_s` (seconds since 1970),
/// and what `rules` ask for. `exp` must be there. Nothing of the claims is read, or told, before the signature has been found valid.
///
/// A `kid` chooses the keys of that id, and those without any; without one, each key that fits the algorithm is tried.
///
/// # Errors
/// Why it is not believed, in words for the client.
pub fn verify(token: &[u8], keys: &Keys, rules: &Rules, now_s: u64) -> Result<Claims, Refused> {
    if token.len() > TOKEN_MAX {
        return Err(Refused::TooLong);
    }
    let token = str::from_utf8(token).map_err(|_| Refused::Malformed)?;
    let (message, signature) = token.rsplit_once('.').ok_or(Refused::Malformed)?;
    let (header, payload) = message.split_once('.').ok_or(Refused::Malformed)?;
    verify_signature(&object(header)?, message, signature, keys, rules)?;
    let claims = Claims::new(object(payload)?);
    check_times(&claims, rules.leeway_s, now_s)?;
    check_rules(&claims, rules)?;
    Ok(claims)
}

fn object(part: &str) -> Result<Map<String, Value>, Refused> {
    let json = Base64UrlUnpadded::decode_vec(part).map_err(|_| Refused::Malformed)?;
    json::object(&json).ok_or(Refused::Malformed)
}

fn verify_signature(
    header: &Map<String, Value>,
    message: &str,
    signature: &str,
    keys: &Keys,
    rules: &Rules,
) -> Result<(), Refused> {
    if header.contains_key("crit") {
        return Err(Refused::Critical);
    }
    let algorithm = algorithm(header)?;
    if !rules.algorithms.is_empty() && !rules.algorithms.contains(&algorithm) {
        return Err(Refused::Algorithm);
    }
    let id = header.get("kid").map(|it| it.as_str().ok_or(Refused::Malformed)).transpose()?;
    let mut chosen = keys.of_id(id).peekable();
    chosen.peek().ok_or(Refused::UnknownKey)?;
    let mut fitting = chosen.filter(|key| key.fits(algorithm)).peekable();
    fitting.peek().ok_or(Refused::Algorithm)?;
    let signed = |key: &Key| key.verify(algorithm, message, signature);
    if fitting.any(signed) { Ok(()) } else { Err(Refused::Signature) }
}

/// `alg` (RFC 7515 §4.1.1), letter by letter. `Ed25519` is the name that RFC 9864 has for what RFC 8037 calls `EdDSA`.
fn algorithm(header: &Map<String, Value>) -> Result<Algorithm, Refused> {
    match header.get("alg").and_then(Value::as_str).ok_or(Refused::Malformed)? {
        "Ed25519" => Ok(Algorithm::EdDSA),
        name => name.parse().map_err(|_| Refused::Algorithm),
    }
}

/// `exp`, `nbf` and `iat` (RFC 7519 §4.1.4 to §4.1.6).
fn check_times(claims: &Claims, leeway_s: u64, now_s: u64) -> Result<(), Refused> {
    let (now, leeway) = (now_s as f64, leeway_s as f64);
    let expires = date(claims, "exp")?.ok_or(Refused::NoExpiry)?;
    if now >= expires + leeway {
        return Err(Refused::Expired);
    }
    for name in ["nbf", "iat"] {
        if date(claims, name)?.is_some_and(|from| now + leeway < from) {
            return Err(Refused::Early);
        }
    }
    Ok(())
}

/// A `NumericDate`: seconds since 1970, with fractions perhaps (RFC 7519 §2).
fn date(claims: &Claims, name: &str) -> Result<Option<f64>, Refused> {
    let number = |value: &Value| value.as_f64().filter(|it| it.is_finite()).ok_or(Refused::Malformed);
    claims.get(name).map(number).transpose()
}

fn check_rules(claims: &Claims, rules: &Rules) -> Result<(), Refused> {
    let is_in = |allowed: &[String], value: &Value| {
        value.as_str().is_some_and(|value| allowed.iter().any(|it| it == value))
    };
    let issuer = claims.get("iss").is_some_and(|it| is_in(&rules.issuer, it));
    if !rules.issuer.is_empty() && !issuer {
        return Err(Refused::Issuer);
    }
    let audience = claims.get("aud").is_some_and(|it| match it {
        Value::Array(members) => members.iter().any(|it| is_in(&rules.audience, it)),
        one => is_in(&rules.audience, one),
    });
    if !rules.audience.is_empty() && !audience {
        return Err(Refused::Audience);
    }
    let missing = |name: &String| claims.get(name).is_none_or(Value::is_null);
    if rules.required_claims.iter().any(missing) {
        return Err(Refused::MissingClaim);
    }
    Ok(())
}
