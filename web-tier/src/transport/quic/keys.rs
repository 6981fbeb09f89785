//! Keys of a server's QUIC that all its workers have, and the process after this one: with them a packet of a connection that is not
//! known any more is answered so that its client believes it (RFC 9000 §10.3), and a token of ours is known as such (§8.1).

use aws_lc_rs::{
    hkdf::{HKDF_SHA256, KeyType, Prk, Salt},
    hmac, rand,
};
use common::{config::Secret, id::ServerId};
use std::{fmt, net::SocketAddr, sync::Arc};

/// So that other uses of the cluster key have nothing in common with these.
const ROOT: &[u8] = b"copal quic 1";

const KEY: usize = 32;

/// The keys; its clones are the same.
#[derive(Clone)]
pub(crate) struct QuicKeys {
    resets: Arc<Prk>,
    tokens: Arc<Prk>,
}

impl QuicKeys {
    /// Of server `me`; of this process alone when `cluster_key` is empty.
    pub(crate) fn new(cluster_key: &Secret, me: &ServerId) -> Self {
        let key = cluster_key.bytes();
        let root = if key.is_empty() {
            let mut random = [0; KEY];
            rand::fill(&mut random).expect("the system has random numbers");
            Prk::new_less_safe(HKDF_SHA256, &random)
        } else {
            Salt::new(HKDF_SHA256, ROOT).extract(key)
        };
        Self {
            resets: Arc::new(Prk::new_less_safe(
                HKDF_SHA256,
                &derive(&root, &[b"resets", me.as_str().as_bytes()]),
            )),
            tokens: Arc::new(Prk::new_less_safe(
                HKDF_SHA256,
                &derive(&root, &[b"tokens", me.as_str().as_bytes()]),
            )),
        }
    }

    /// That of the listener at `address`. No two listeners have the same, of one server or of several: by what one says to a packet nobody
    /// learns what ends connections of another one (RFC 9000 §21.11).
    pub(super) fn resets(&self, address: SocketAddr) -> Arc<hmac::Key> {
        let key = derive(&self.resets, &[address.to_string().as_bytes()]);
        Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &key))
    }

    pub(super) fn tokens(&self) -> Arc<Prk> {
        self.tokens.clone()
    }
}

fn derive(root: &Prk, purpose: &[&[u8]]) -> [u8; KEY] {
    struct Length;
    impl KeyType for Length {
        fn len(&self) -> usize {
            KEY
        }
    }
    let mut made = [0; KEY];
    let filled = root.expand(purpose, Length).and_then(|it| it.fill(&mut made));
    filled.expect("a key is shorter than HKDF can make it");
    made
}

impl fmt::Debug for QuicKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QuicKeys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_listener_of_each_server_has_resets_of_its_own_which_outlive_a_process() {
        let sign = |key: &str, me: &str, at: &str| {
            let keys = QuicKeys::new(&Secret::from(key.as_bytes()), &me.into());
            hmac::sign(&keys.resets(at.parse().unwrap()), b"an id").as_ref().to_vec()
        };
        let first = sign("key", "web-a", "10.0.0.1:443");
        assert_eq!(first, sign("key", "web-a", "10.0.0.1:443"));
        for (key, me, at) in [
            ("key", "web-a", "10.0.0.1:8443"),
            ("key", "web-a", "10.0.0.2:443"),
            ("key", "web-b", "10.0.0.1:443"),
            ("other", "web-a", "10.0.0.1:443"),
            ("", "web-a", "10.0.0.1:443"),
        ] {
            assert_ne!(first, sign(key, me, at), "{key} {me} {at}");
        }
    }
}
