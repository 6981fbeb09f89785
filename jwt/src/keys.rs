//! The keys that tokens may be signed with: public ones, and secrets that are shared with the issuer.

mod jwks;
mod key;
mod pem;

pub(crate) use key::Key;
pub use key::SECRET_MIN;

/// The most keys of a set: a token without `kid` has them all tried.
pub const KEYS_MAX: usize = 64;

/// The largest set that is read, in bytes.
pub const SIZE_MAX: usize = 256 << 10;

/// Keys to verify signatures with: those that were read, at most [`KEYS_MAX`]. By default there is none, and nothing is believed.
#[derive(Default, Debug, Clone)]
pub struct Keys {
    keys: Vec<Key>,
    passed_over: Vec<String>,
}

/// Why no keys could be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// More than [`SIZE_MAX`] bytes.
    #[error("the keys have {0} bytes: expected at most {SIZE_MAX}")]
    TooLarge(usize),
    /// More than [`KEYS_MAX`] keys.
    #[error("there are {0} keys: expected at most {KEYS_MAX}")]
    TooMany(usize),
    /// Neither JSON nor PEM.
    #[error(
        "no keys: expected a JSON Web Key Set ({{\"keys\": [...]}}) or PEM text with public keys or certificates \
         (-----BEGIN PUBLIC KEY-----)"
    )]
    Unknown,
    /// An object that is no JSON Web Key Set; why.
    #[error("not a JSON Web Key Set: {0}: expected {{\"keys\": [...]}}")]
    Set(String),
    /// PEM text that can't be read, or has a section that is no key; why.
    #[error("not PEM text with public keys or certificates: {0}")]
    Pem(String),
    /// A private key, which belongs to the issuer alone.
    #[error("there is a private key: expected public keys alone (openssl pkey -in FILE -pubout)")]
    Private,
    /// A key of PEM text that can't be used; its number from 1.
    #[error("key {number} can't be used: {why}")]
    Unusable {
        /// Which one, from 1.
        number: usize,
        /// Why.
        why: String,
    },
    /// A set none of whose keys can be used; why the first of them can't.
    #[error(
        "none of the keys can be used ({0}): expected kty RSA with 2048 to 8192 bits, EC on P-256 or P-384, OKP on Ed25519, \
         or oct with at least {SECRET_MIN} bytes"
    )]
    NoneUsable(String),
    /// A secret with fewer than [`SECRET_MIN`] bytes.
    #[error("the secret has {0} bytes: expected at least {SECRET_MIN}")]
    Secret(usize),
}

impl Keys {
    /// Reads a JSON Web Key Set (RFC 7517 §5) or PEM text with public keys (RFC 7468 §13) or certificates (§5). Of a certificate the key
    /// alone counts, not its names, its time or who signed it.
    ///
    /// Keys of a set that can't be used, or that are for something else, are passed over ([`Keys::passed_over`]). In PEM text, which an
    /// operator has written, each one must be usable.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeysError> {
        if bytes.len() > SIZE_MAX {
            return Err(KeysError::TooLarge(bytes.len()));
        }
        let text = bytes.trim_ascii_start();
        if text.starts_with(b"{") {
            jwks::parse(text)
        } else if text.windows(11).any(|it| it == b"-----BEGIN ") {
            pem::parse(text)
        } else {
            Err(KeysError::Unknown)
        }
    }

    /// A secret that is shared with the issuer: for HS256 from 32 bytes on, HS384 from 48, HS512 from 64 (RFC 7518 §3.2).
    ///
    /// # Errors
    /// Fewer than [`SECRET_MIN`] bytes.
    pub fn secret(bytes: &[u8]) -> Result<Self, KeysError> {
        let key = Key::secret(bytes).map_err(|_| KeysError::Secret(bytes.len()))?;
        Ok(Self { keys: vec![key], passed_over: Vec::new() })
    }

    /// What was passed over of a set, and why; one text a key.
    pub fn passed_over(&self) -> &[String] {
        &self.passed_over
    }

    /// Those of this id and those without one; all of them if no id is asked for.
    pub(crate) fn of_id(&self, id: Option<&str>) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| id.is_none() || key.id().is_none() || key.id() == id)
    }
}
