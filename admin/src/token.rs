//! A token's text: whoever made it sees it once, and Copal has its hash from then on.

use crate::refusal::Refusal;
use bytes::Bytes;
use http::{HeaderMap, header};
use password_gate::Credentials;
use sha2::{Digest, Sha256};

/// What each begins with, so that people and scanners of secrets know what it is.
const PREFIX: &str = "copal_";

/// What follows: 43 of 62 characters are 256 bits.
const LENGTH: usize = 43;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A token as it is written.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct TokenText(String);

/// It is for nobody's log.
impl std::fmt::Debug for TokenText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenText")
    }
}

impl TokenText {
    /// A new one.
    pub(crate) fn random() -> Self {
        let character = |_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())]);
        Self(PREFIX.chars().chain((0..LENGTH).map(character)).collect())
    }

    /// Reads one; `None`: it has not the form of one.
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        let rest = text.strip_prefix(PREFIX.as_bytes())?;
        let good = rest.len() == LENGTH && rest.iter().all(|it| ALPHABET.contains(it));
        let text = str::from_utf8(text).ok().filter(|_| good)?;
        Some(Self(text.to_owned()))
    }

    /// The one that a request signs in with: `Authorization: Bearer TOKEN` (RFC 6750), or in place of the password where a program
    /// knows HTTP Basic alone, with whatever user. `None`: the request brings none.
    ///
    /// # Errors
    /// What is called a bearer token is none of Copal.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
        match value.as_bytes().split_at_checked(7) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => {
                let read = Self::read(token.trim_ascii());
                read.map(Some)
                    .ok_or(Refusal::SignIn("the bearer token is none of Copal: those begin with copal_"))
            }
            _ => Ok(Credentials::read(value.as_bytes()).ok().and_then(|it| Self::read(&it.password))),
        }
    }

    /// What is kept of it.
    pub(crate) fn hash(&self) -> Bytes {
        Bytes::copy_from_slice(&Sha256::digest(self.0.as_bytes()))
    }

    /// For the one who made it.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

/// Whether two hashes are the same; the time does not tell where they differ.
pub(crate) fn same(one: &[u8], other: &[u8]) -> bool {
    let differ = one.iter().zip(other).fold(0, |differ, (a, b)| differ | (a ^ b));
    one.len() == other.len() && std::hint::black_box(differ) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64ct::{Base64, Encoding};
    use proptest::prelude::*;

    fn of(value: &str) -> Result<Option<TokenText>, Refusal> {
        TokenText::of(&HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]))
    }

    #[test]
    fn a_token_is_made_written_and_read() {
        let (token, other) = (TokenText::random(), TokenText::random());
        assert_eq!(token.text().len(), 49);
        assert_eq!(TokenText::read(token.text().as_bytes()), Some(token.clone()));
        assert_ne!(token.hash(), other.hash());
        assert!(
            same(&token.hash(), &token.hash()) && !same(&token.hash(), &other.hash()) && !same(b"a", b"ab")
        );
        assert!(!format!("{token:?}").contains("copal_"));
        let text = token.text();
        assert_eq!(of(&format!("Bearer {text}")).unwrap(), Some(token.clone()));
        assert_eq!(of(&format!("bearer  {text}")).unwrap(), Some(token.clone()));
        let basic = Base64::encode_string(format!("whoever:{text}").as_bytes());
        assert_eq!(of(&format!("Basic {basic}")).unwrap(), Some(token.clone()));
        assert_eq!(of("Basic b3BzOnBhc3N3b3Jk").unwrap(), None);
        for bad in [
            "Bearer ",
            "Bearer copal_",
            "Bearer x",
            &format!("Bearer {text}0"),
            &format!("Bearer {}", &text[1..]),
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
        assert_eq!(TokenText::of(&HeaderMap::new()).unwrap(), None);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_one_or_none(text in any::<Vec<u8>>()) {
            let _ = TokenText::read(&text);
            let _ = TokenText::read(&[PREFIX.as_bytes(), &text].concat());
        }
    }
}
