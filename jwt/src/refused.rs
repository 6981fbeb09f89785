//! Why a token is not believed.

use crate::verify::TOKEN_MAX;

/// Why a token is not believed. The texts hold nothing of the token, of the rules or of the keys, and only characters that an
/// `error_description` may have (RFC 6750 §3), so they can be told to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    /// It has more than [`TOKEN_MAX`] bytes.
    #[error("the token is longer than {TOKEN_MAX} bytes")]
    TooLong,
    /// It is not three parts of base64url, or header and claims are not objects, or a claim has not the type that RFC 7519 §4.1 says.
    #[error("the token is not a JSON Web Token")]
    Malformed,
    /// The header has `crit` (RFC 7515 §4.1.11): none of the extensions that it may name is known here.
    #[error("the token asks for an extension that is not known")]
    Critical,
    /// `alg` is `none`, unknown, not one of the rules, or doesn't fit the key.
    #[error("the token is not signed with an algorithm that is accepted")]
    Algorithm,
    /// No key has the id of the header's `kid`: perhaps the issuer has new keys.
    #[error("the token is signed with a key that is not known")]
    UnknownKey,
    /// No key that was tried made the signature.
    #[error("the signature is not valid")]
    Signature,
    /// There is no `exp`.
    #[error("the token has no time of expiry")]
    NoExpiry,
    /// `exp` has come.
    #[error("the token has expired")]
    Expired,
    /// `nbf` or `iat` is still to come.
    #[error("the token is not valid yet")]
    Early,
    /// `iss` is none of the rules' issuers.
    #[error("the token is not from an issuer that is accepted")]
    Issuer,
    /// `aud` has none of the rules' audiences.
    #[error("the token is not for this audience")]
    Audience,
    /// The token is good, but lacks a claim that the rules ask for.
    #[error("the token lacks a claim that is needed")]
    MissingClaim,
}

impl Refused {
    /// The error code of RFC 6750 §3.1. A good token that lacks a claim is `insufficient_scope`: a new one of the same kind would not help.
    pub fn code(self) -> &'static str {
        match self {
            Self::TooLong => "invalid_request",
            Self::MissingClaim => "insufficient_scope",
            _ => "invalid_token",
        }
    }

    /// The HTTP status that RFC 6750 §3.1 has for the code: 400, 401 or 403.
    pub fn status(self) -> u16 {
        match self.code() {
            "invalid_request" => 400,
            "insufficient_scope" => 403,
            _ => 401,
        }
    }
}
