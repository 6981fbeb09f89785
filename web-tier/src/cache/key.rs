//! What makes a request the same as another one: host, path and query, as its server sees them; by which way it goes there; and what the
//! answer depends on besides. Nothing else of a request chooses an answer.

use crate::http1::Fields;
use common::config::Encoding;
use http_cache::vary::Vary;
use std::{
    hash::{BuildHasher, RandomState},
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

/// The longest key without what answers depend on, in bytes; requests with a longer one are not answered from the cache.
pub(crate) const LENGTH_MAX: usize = 4096;

/// A key that stands on its own; clones are the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    bytes: Arc<[u8]>,
    /// Where the URL ends.
    url: u32,
}

/// A request, as far as it is the key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) host: &'a str,
    /// Path and query.
    pub(crate) target: &'a str,
    pub(crate) secure: bool,
    /// The cluster, or the backends.
    pub(crate) upstream: &'a str,
}

impl Asked<'_> {
    /// Writes the key; `edits` are headers that rules set on the request. Returns where the URL ends; `None`: it is too long.
    pub(crate) fn put<'b>(
        &self,
        key: &mut Vec<u8>,
        edits: impl Iterator<Item = (&'b str, &'b str)>,
    ) -> Option<usize> {
        key.clear();
        put_url(key, self.host, self.target);
        let url = key.len();
        key.push(PART);
        key.push(if self.secure { b's' } else { b'p' });
        key.extend_from_slice(self.upstream.as_bytes());
        for (name, value) in edits {
            for part in [name, value] {
                key.push(PART);
                key.extend_from_slice(part.as_bytes());
            }
        }
        (key.len() <= LENGTH_MAX).then_some(url)
    }
}

/// The part of a key that is the URL without its scheme.
pub(crate) fn put_url(key: &mut Vec<u8>, host: &str, target: &str) {
    key.extend(host.bytes().map(|it| it.to_ascii_lowercase()));
    key.push(PART);
    key.extend_from_slice(target.as_bytes());
}

/// Appends what an answer depends on; false: a value is too long.
pub(crate) fn vary(key: &mut Vec<u8>, vary: &Vary, request: &Fields) -> bool {
    key.push(VARIES);
    vary.put_values(request, key)
}

/// By a key that nobody knows: who could make two URLs collide could keep one of them from being forgotten.
pub(crate) fn hash_of_url(url: &[u8]) -> u64 {
    static HASHER: OnceLock<RandomState> = OnceLock::new();
    HASHER.get_or_init(RandomState::new).hash_one(url)
}

impl Key {
    /// Of bytes in which the URL ends at `url`.
    pub(crate) fn new(bytes: &[u8], url: usize) -> Self {
        Self { bytes: bytes.into(), url: u32::try_from(url).unwrap_or(u32::MAX) }
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
        Self { bytes: bytes.into(), url: self.url }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The part that is the URL.
    pub(crate) fn url(&self) -> &[u8] {
        &self.bytes[..self.url as usize]
    }

    pub(crate) fn url_hash(&self) -> u64 {
        hash_of_url(self.url())
    }

    /// Host, and path with query.
    pub(crate) fn host_and_target(&self) -> (&str, &str) {
        let text = str::from_utf8(self.url()).unwrap_or_default();
        text.split_once('\0').unwrap_or((text, ""))
    }
}
