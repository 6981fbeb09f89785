//! Keys of a server's QUIC that all its workers have, and the process after this one: with them a packet of a connection that is not
//! known any more is answered so that its client believes it (RFC 9000 §10.3), and a token of ours is known as such (§8.1).

use aws_lc_rs::{
    hkdf::{HKDF_SHA256, KeyType, Prk, Salt},
    hmac, rand,
};
use common::{config::Secret, id::ServerId};
use std::{fmt, sync::Arc};

/// So that other uses of the cluster key have nothing in common with these.
const ROOT: &[u8] = b"copal quic 1";

const KEY: usize = 32;

/// The keys; its clones are the same.
#[derive(Clone)]
pub(crate) struct QuicKeys {
    resets: Arc<hmac::Key>,
    tokens: Arc<Prk>,
}

impl QuicKeys {
    /// Of server `me`; of this process alone when `cluster_key` is empty. No two servers have the same: by what one says to a packet
    /// nobody learns what ends connections of another one (RFC 9000 §21.11).
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
            resets: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &derive(&root, b"resets", me))),
            tokens: Arc::new(Prk::new_less_safe(HKDF_SHA256, &derive(&root, b"tokens", me))),
        }
    }

    pub(super) fn resets(&self) -> Arc<hmac::Key> {
        self.resets.clone()
    }

    pub(super) fn tokens(&self) -> Arc<Prk> {
        self.tokens.clone()
    }
}

fn derive(root: &Prk, purpose: &[u8], me: &ServerId) -> [u8; KEY] {
    struct Length;
    impl KeyType for Length {
        fn len(&self) -> usize {
            KEY
        }
    }
    let mut made = [0; KEY];
    let filled = root.expand(&[purpose, me.as_str().as_bytes()], Length).and_then(|it| it.fill(&mut made));
    filled.expect("a key is shorter than HKDF can make it");
    made
}

impl fmt::Debug for QuicKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QuicKeys")
    }
}
