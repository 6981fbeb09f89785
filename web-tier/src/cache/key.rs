//! What makes a request the same as another one: host, path and query, as its server sees them; by which way it goes there; and what the
//! answer depends on besides. Nothing else of a request chooses an answer.

use crate::http1::Fields;
use common::config::Encoding;
use http_cache::vary::Vary;
use std::{
    hash::{BuildHasher, DefaultHasher, Hasher, RandomState},
    sync::{Arc, OnceLock},
};

/// Stands between the parts: no byte of a host, a path or a query.
const PART: u8 = 0;

/// Stands before what an answer depends on.
const VARIES: u8 = 1;

/// Stands before the encoding of a compressed body.
const PACKED: u8 = 2;

/// Stands behind the key of the whole in that of its parts.
const PARTS: u8 = 3;

/// What a key takes as a rule, in bytes.
const LENGTH: usize = 256;

/// The longest key without what answers depend on, in bytes; requests with a longer one are not answered from the cache.
const LENGTH_MAX: usize = 4096;

/// A key that stands on its own; clones are the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    bytes: Arc<[u8]>,
    /// Where the URL ends.
    url: u32,
    hash: u64,
    url_hash: u64,
}

/// The key of a request that is looked up: one buffer for many requests, hashed while it is written.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    bytes: Vec<u8>,
    /// Where the URL ends.
    url: usize,
    /// Where what the answer depends on begins.
    primary: usize,
    url_hash: u64,
    primary_hash: u64,
    hash: u64,
    /// Has seen all bytes.
    hasher: DefaultHasher,
}

/// A request, as far as it is the key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// In lower case.
    pub(crate) host: &'a [u8],
    /// Path and query.
    pub(crate) target: &'a str,
    pub(crate) secure: bool,
    /// The cluster, or the backends.
    pub(crate) upstream: &'a str,
}

impl Default for Wanted {
    fn default() -> Self {
        let (bytes, url, primary, hasher) = (Vec::with_capacity(LENGTH), 0, 0, hasher());
        Self { bytes, url, primary, url_hash: 0, primary_hash: 0, hash: 0, hasher }
    }
}

impl Wanted {
    /// That of a key.
    pub(crate) fn of(key: &Key) -> Self {
        let mut wanted = Self::default();
        wanted.bytes.extend_from_slice(&key.bytes);
        wanted.url = key.url as usize;
        wanted.hash_anew();
        wanted
    }

    /// Writes the key of a request; `edits` are headers that rules set on it. False: it is too long.
    pub(crate) fn write<'b>(
        &mut self,
        asked: &Asked<'_>,
        edits: impl Iterator<Item = (&'b str, &'b [u8])>,
    ) -> bool {
        let key = &mut self.bytes;
        key.clear();
        key.extend_from_slice(asked.host);
        key.push(PART);
        key.extend_from_slice(asked.target.as_bytes());
        self.url = key.len();
        key.extend_from_slice(&[PART, if asked.secure { b's' } else { b'p' }]);
        key.extend_from_slice(asked.upstream.as_bytes());
        for (name, value) in edits {
            for part in [name.as_bytes(), value] {
                key.push(PART);
                key.extend_from_slice(part);
            }
        }
        if key.len() > LENGTH_MAX {
            return false;
        }
        self.hash_anew();
        true
    }

    fn hash_anew(&mut self) {
        self.primary = self.bytes.len();
        self.hasher = hasher();
        self.hasher.write(&self.bytes[..self.url]);
        self.url_hash = self.hasher.finish();
        self.hasher.write(&self.bytes[self.url..]);
        self.primary_hash = self.hasher.finish();
        self.hash = self.primary_hash;
    }

    /// Appends what the answer depends on; false: a value is too long.
    pub(crate) fn vary(&mut self, on: &Vary, request: &Fields) -> bool {
        let from = self.bytes.len();
        let fits = vary(&mut self.bytes, on, request);
        self.hasher.write(&self.bytes[from..]);
        self.hash = self.hasher.finish();
        fits
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The part that is the URL.
    pub(crate) fn url(&self) -> &[u8] {
        &self.bytes[..self.url]
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn url_hash(&self) -> u64 {
        self.url_hash
    }

    /// As it stands on its own.
    pub(crate) fn key(&self) -> Key {
        self.up_to(self.bytes.len(), self.hash)
    }

    /// The same without what the answer depends on.
    pub(crate) fn primary(&self) -> Key {
        self.up_to(self.primary, self.primary_hash)
    }

    /// The same, where this key stands on its own already.
    pub(crate) fn primary_of(&self, key: &Key) -> Key {
        if self.primary == self.bytes.len() { key.clone() } else { self.primary() }
    }

    fn up_to(&self, end: usize, hash: u64) -> Key {
        let url = u32::try_from(self.url).unwrap_or(u32::MAX);
        Key { bytes: self.bytes[..end].into(), url, hash, url_hash: self.url_hash }
    }
}

/// The part of a key that is the URL without its scheme.
pub(crate) fn put_url(key: &mut Vec<u8>, host: &str, target: &str) {
    let from = key.len();
    key.extend_from_slice(host.as_bytes());
    key[from..].make_ascii_lowercase();
    key.push(PART);
    key.extend_from_slice(target.as_bytes());
}

/// Appends what an answer depends on; false: a value is too long.
pub(crate) fn vary(key: &mut Vec<u8>, vary: &Vary, request: &Fields) -> bool {
    key.push(VARIES);
    vary.put_values(request, key)
}

/// By a key that nobody knows: who could make two URLs collide could keep one of them from being forgotten.
fn hasher() -> DefaultHasher {
    static STATE: OnceLock<RandomState> = OnceLock::new();
    STATE.get_or_init(RandomState::new).build_hasher()
}

/// The hash of a key, or of its part that is the URL.
pub(crate) fn hash_of(bytes: &[u8]) -> u64 {
    let mut hasher = hasher();
    hasher.write(bytes);
    hasher.finish()
}

impl Key {
    /// Of bytes in which the URL ends at `url`.
    pub(crate) fn new(bytes: &[u8], url: usize) -> Self {
        let (hash, url_hash) = (hash_of(bytes), hash_of(&bytes[..url]));
        Self { bytes: bytes.into(), url: u32::try_from(url).unwrap_or(u32::MAX), hash, url_hash }
    }

    /// That of its answer's body, compressed.
    pub(crate) fn packed(&self, encoding: Encoding) -> Vec<u8> {
        [&*self.bytes, &[PACKED, encoding as u8]].concat()
    }

    /// That of the part that is kept of it while the whole is not.
    pub(crate) fn of_parts(&self) -> Self {
        self.with([&*self.bytes, &[PARTS]].concat())
    }

    /// Of the same URL.
    pub(crate) fn with(&self, bytes: Vec<u8>) -> Self {
        let hash = hash_of(&bytes);
        Self { bytes: bytes.into(), hash, ..*self }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The part that is the URL.
    pub(crate) fn url(&self) -> &[u8] {
        &self.bytes[..self.url as usize]
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn url_hash(&self) -> u64 {
        self.url_hash
    }

    /// Host, and path with query.
    pub(crate) fn host_and_target(&self) -> (&str, &str) {
        let text = str::from_utf8(self.url()).unwrap_or_default();
        text.split_once('\0').unwrap_or((text, ""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::Name;
    use proptest::prelude::*;

    proptest! {
        /// However a key has come about, the same bytes have the same hashes; and one buffer makes the keys of many requests.
        #[test]
        fn a_key_is_the_same_whichever_way_it_was_made(
            requests in proptest::collection::vec(("[a-z.]{0,12}", "/[a-z?=]{0,20}", any::<bool>(), "[a-z]{0,8}", any::<bool>()), 1..5)
        ) {
            let mut wanted = Wanted::default();
            for (host, target, secure, value, varies) in requests {
                let asked = Asked { host: host.as_bytes(), target: &target, secure, upstream: "cluster a" };
                prop_assert!(wanted.write(&asked, [("x-edit", value.as_bytes())].into_iter()));
                let primary = Key::new(wanted.bytes(), wanted.url().len());
                prop_assert_eq!(&wanted.key(), &primary);
                let mut url = Vec::new();
                put_url(&mut url, &host.to_ascii_uppercase(), &target);
                prop_assert_eq!((wanted.url(), wanted.url_hash()), (&url[..], hash_of(&url)));
                if varies {
                    let mut fields = Fields::default();
                    fields.push(Name::Other, b"x-language", value.as_bytes());
                    let on = Vary::of(&[("vary", "x-language")]).unwrap();
                    prop_assert!(wanted.vary(&on, &fields));
                    let mut bytes = primary.bytes().to_vec();
                    prop_assert!(vary(&mut bytes, &on, &fields));
                    prop_assert_eq!(&wanted.key(), &primary.with(bytes));
                }
                prop_assert_eq!(&wanted.primary(), &primary);
                prop_assert_eq!(&wanted.primary_of(&wanted.key()), &primary);
                prop_assert_eq!(Wanted::of(&primary).key(), primary);
            }
        }
    }

    #[test]
    fn a_long_key_is_none() {
        let mut wanted = Wanted::default();
        let mut fits = |length: usize| {
            let target = "x".repeat(length);
            wanted.write(
                &Asked { host: b"h", target: &target, secure: true, upstream: "u" },
                std::iter::empty(),
            )
        };
        // Two bytes stand between the parts, one says how secure it is.
        assert!(fits(LENGTH_MAX - 5) && !fits(LENGTH_MAX - 4) && fits(0));
    }
}
