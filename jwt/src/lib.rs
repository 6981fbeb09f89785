//! Whether a JSON Web Token (RFC 7519) is one to believe: signed by a known key (RFC 7515, RFC 7518, RFC 8037), in time, and for us.
//! Pure: the keys and the time are arguments, nothing is fetched or kept. The advice is that of RFC 8725.
//!
//! | module | what it knows |
//! |---|---|
//! | [`Keys`] | keys of issuers: a JSON Web Key Set (RFC 7517), PEM text, or a shared secret |
//! | [`Rules`] | what is asked of a token |
//! | [`verify()`] | whether a token meets it |
//! | [`Claims`] | what a believed token says, as text for a header |
//! | [`Refused`] | why a token is not believed, in words for the client (RFC 6750) |
//!
//! Only signed tokens in the compact form are read (RFC 7515 §7.1): no encrypted ones, no JSON forms, never `none`. Keys come from the
//! operator alone: those in a token's header (`jwk`, `jku`, `x5c`, `x5u`) are not looked at.

mod claims;
mod json;
mod keys;
mod refused;
#[cfg(test)]
mod tests;
mod verify;

pub use claims::{Claims, TEXT_MAX};
/// A way to sign, by its name of RFC 7518 §3.1 (`"RS256".parse()`); `EdDSA` is Ed25519 alone (RFC 8037).
pub use jsonwebtoken::Algorithm;
pub use keys::{KEYS_MAX, Keys, KeysError, SECRET_MIN, SIZE_MAX};
pub use refused::Refused;
pub use verify::{Rules, TOKEN_MAX, verify};
