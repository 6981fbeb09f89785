//! Packs: many objects in one file (gitformat-pack, version 2).

mod content;
mod delta;
mod entry;
mod error;
mod index;
mod receive;
mod resolve;
mod section;
mod stored;
mod stream;
mod writer;

pub use error::PackError;
pub use writer::PackWriter;

pub(crate) use content::{Content, ContentReader};
pub(crate) use index::{Index, Indexed};
pub(crate) use receive::{Received, receive};
pub(crate) use section::Section;
pub(crate) use stored::{Entry, GARBAGE, Inflate, Pack, stem_of};

/// `PACK` and the version, before the number of objects.
const MAGIC: [u8; 8] = *b"PACK\0\0\0\x02";
/// Bytes before the first entry.
const HEADER_BYTES: u64 = 12;
/// Bytes of the checksum at the end.
const TRAILER_BYTES: u64 = 20;
/// What is larger is unpacked to a temporary file where it must be addressed, never to memory.
const MEMORY_BYTES: u64 = 16 << 20;
