//! HTTP/1.1 messages (RFC 9112), strict and without I/O: heads, bodies' framing, chunks. Where the RFC lets a recipient be
//! lenient this is not: two readers of one message that disagree are how requests are smuggled. Why it is our own, and not
//! hyper's: docs/decisions/0005.

mod chunked;
mod fields;
mod framing;
mod head;
mod hex;
mod name;
mod noted;
mod version;

pub(crate) use chunked::{ChunkError, Decoder, put_chunk, put_last_chunk, trailers_fit};
pub(crate) use fields::Fields;
pub(crate) use framing::Length;
pub(crate) use head::{HeadError, HeadLimits, METHOD_MAX, RequestHead, ResponseHead, Target};
pub(crate) use hex::hex;
pub(crate) use name::Name;
pub(crate) use version::Version;

#[cfg(test)]
mod tests;
