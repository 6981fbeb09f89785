//! What is kept on the hub and on disk is sealed by the cluster's key (AES-256-GCM): who has a disk or a backup without the key reads nothing of
//! it, and who can't seal can't put anything in its place.
//!
//! A sealed value is `kind ‖ salt ‖ AES-256-GCM(value)`; its key comes by HKDF-SHA-256 (RFC 5869) from the cluster's key and the 32 random bytes
//! of its salt, so no key seals twice. The name is authenticated with it: a value can't be put in another's place. Without a cluster key, where
//! every address is this machine's own, nothing is sealed.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Prk, Salt},
    rand,
};
use common::config::Secret;
use std::fmt;

/// The root's first input, so that other uses of the cluster key have nothing in common with it.
const ROOT: &[u8] = b"copal acme 1";

const PLAIN: u8 = 0;
const SEALED: u8 = 1;

const SALT: usize = 32;
const KEY: usize = 32;

/// Seals and opens.
#[derive(Clone)]
pub(crate) struct Sealer {
    key: Option<Prk>,
    /// Of `cluster-key-also`: what it has sealed is opened too.
    also: Option<Prk>,
}

/// What was sealed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) value: Vec<u8>,
    /// By the present key: others, which may have no other, can open it too.
    pub(crate) is_current: bool,
}

impl Sealer {
    pub(crate) fn new(key: &Secret, also: &Secret) -> Self {
        let root = |key: &Secret| {
            let key = key.bytes();
            (!key.is_empty()).then(|| Salt::new(HKDF_SHA256, ROOT).extract(key))
        };
        Self { key: root(key), also: root(also) }
    }

    /// `None` where the system has no random numbers.
    pub(crate) fn seal(&self, name: &str, value: &[u8]) -> Option<Vec<u8>> {
        let Some(root) = &self.key else { return Some([&[PLAIN], value].concat()) };
        let mut salt = [0; SALT];
        rand::fill(&mut salt).ok()?;
        let mut sealed = value.to_vec();
        let (key, nonce) = derive(root, &salt)?;
        key.seal_in_place_append_tag(nonce, Aad::from(name.as_bytes()), &mut sealed).ok()?;
        Some([&[SEALED], &salt[..], &sealed].concat())
    }

    /// `None`: it was sealed by another key, for another name, or is something else.
    pub(crate) fn open(&self, name: &str, sealed: &[u8]) -> Option<Opened> {
        let (kind, rest) = sealed.split_first()?;
        match *kind {
            // Where there is a key, what it has not sealed is nobody's word.
            PLAIN if self.key.is_none() => Some(Opened { value: rest.to_vec(), is_current: true }),
            SEALED => {
                let (salt, sealed) = rest.split_first_chunk::<SALT>()?;
                let by = |root: &Prk| {
                    let (key, nonce) = derive(root, salt)?;
                    let mut value = sealed.to_vec();
                    let length = key.open_in_place(nonce, Aad::from(name.as_bytes()), &mut value).ok()?.len();
                    value.truncate(length);
                    Some(value)
                };
                let opened = |root: &Option<Prk>, is_current| {
                    root.as_ref().and_then(by).map(|value| Opened { value, is_current })
                };
                opened(&self.key, true).or_else(|| opened(&self.also, false))
            }
            _ => None,
        }
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.key.is_some() { "Sealer(***)" } else { "Sealer(none)" })
    }
}

/// The key and nonce of one value.
fn derive(root: &Prk, salt: &[u8; SALT]) -> Option<(LessSafeKey, Nonce)> {
    struct Length;
    impl KeyType for Length {
        fn len(&self) -> usize {
            KEY + NONCE_LEN
        }
    }
    let mut made = [0; KEY + NONCE_LEN];
    root.expand(&[salt.as_slice()], Length).ok()?.fill(&mut made).ok()?;
    let (key, nonce) = made.split_at(KEY);
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?);
    Some((key, Nonce::try_assume_unique_for_key(nonce).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(key: &str, also: &str) -> Sealer {
        Sealer::new(&Secret::from(key.as_bytes()), &Secret::from(also.as_bytes()))
    }

    #[test]
    fn what_is_sealed_opens_by_its_key_and_under_its_name_alone() {
        let sealer_one = sealer("one", "");
        let sealed = sealer_one.seal("a", b"a private key").unwrap();
        assert!(!sealed.windows(7).any(|it| it == b"private"));
        assert_ne!(sealed, sealer_one.seal("a", b"a private key").unwrap(), "no key seals twice");
        let value = b"a private key".to_vec();
        assert_eq!(sealer_one.open("a", &sealed), Some(Opened { value: value.clone(), is_current: true }));
        assert_eq!(sealer("two", "one").open("a", &sealed), Some(Opened { value, is_current: false }));
        assert_eq!(sealer_one.open("b", &sealed), None);
        for other in [sealer("two", ""), sealer("", ""), sealer("", "two")] {
            assert_eq!(other.open("a", &sealed), None, "{other:?}");
        }
        for at in 0..sealed.len() {
            let mut broken = sealed.clone();
            broken[at] ^= 1;
            assert_eq!(sealer_one.open("a", &broken), None, "byte {at}");
            assert_eq!(sealer_one.open("a", &sealed[..at]), None, "{at} bytes");
        }
    }

    #[test]
    fn without_a_key_nothing_is_sealed_and_with_one_nothing_else_is_believed() {
        let plain = sealer("", "").seal("a", b"x").unwrap();
        assert_eq!(plain, [0, b'x']);
        assert_eq!(sealer("", "").open("a", &plain).unwrap().value, b"x");
        assert_eq!(sealer("one", "").open("a", &plain), None);
    }
}
