//! The cluster key, and what is made of it.

use common::config::Secret;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The cluster key, ready to prove with. Without a `cluster-key` (all addresses loopback) it is the empty key, which still
/// turns browsers and port scanners away.
#[derive(Clone)]
pub struct ClusterKey(Hmac<Sha256>);

impl ClusterKey {
    /// The key of a configuration.
    pub fn new(secret: &Secret) -> Self {
        Self(Hmac::new_from_slice(secret.bytes()).expect("HMAC-SHA-256 takes a key of any length"))
    }

    /// A code over `parts` that only servers with the same key can make: HMAC-SHA-256, for `purpose` alone. No code for one
    /// purpose, nor a handshake's proof, is one for another.
    pub fn code(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        mac.update(b"copal code: ");
        for part in std::iter::once(purpose.as_bytes()).chain(parts.iter().copied()) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// A code over `parts`, each of which has one length, after a `label` that no other use begins with.
    pub(crate) fn proof(&self, label: &str, parts: [&[u8]; 2]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(label.as_bytes());
        parts.into_iter().for_each(|part| mac.update(part));
        mac
    }
}

impl std::fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterKey(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_for_one_key_one_purpose_and_its_parts() {
        let key = |secret: &str| ClusterKey::new(&Secret::from(secret.as_bytes()));
        let code = key("a secret").code("cookies", &[b"ab", b"c"]);
        assert_eq!(code, key("a secret").code("cookies", &[b"ab", b"c"]));
        for other in [
            key("b secret").code("cookies", &[b"ab", b"c"]),
            key("a secret").code("tickets", &[b"ab", b"c"]),
            key("a secret").code("cookies", &[b"a", b"bc"]),
            key("a secret").code("cookies", &[b"abc"]),
        ] {
            assert_ne!(code, other);
        }
    }
}
