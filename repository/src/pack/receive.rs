//! Taking in a pack: every object is unpacked, hashed and checked before anything of it is kept.

use super::entry::{EntryHeader, EntryKind, HEADER_MAX};
use super::index::Indexed;
use super::resolve::Resolver;
use super::stored::PackFile;
use super::stream::PackStream;
use super::{Content, MAGIC, MEMORY_BYTES, PackError, TRAILER_BYTES};
use crate::objects::{self, Hasher, check, entries, is_attributes};
use crate::{Kind, Limits, ObjectId};
use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use tempfile::NamedTempFile;

/// A pack in a temporary file, whole and verified.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) file: NamedTempFile,
    /// By id.
    pub(crate) objects: Vec<Indexed>,
    pub(crate) checksum: ObjectId,
    /// Of the file.
    pub(crate) bytes: u64,
}

/// Where bases of a thin pack's deltas come from.
pub(crate) type Bases<'a> = &'a dyn Fn(&ObjectId) -> Option<(Kind, Content)>;

/// What was learned of an entry.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) offset: u64,
    pub(super) header: EntryHeader,
    pub(super) crc: u32,
    /// `None` for a delta that is not resolved yet.
    pub(super) id: Option<ObjectId>,
}

/// Checks objects as they become known.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// Blobs that some tree has as its `.gitattributes`.
    pub(super) attributes: BTreeSet<ObjectId>,
}

impl Checks {
    /// Checks a commit, a tree or a tag.
    pub(super) fn structure(&mut self, kind: Kind, id: ObjectId, content: &[u8]) -> Result<(), PackError> {
        check(kind, content).map_err(|cause| PackError::Object { id, cause })?;
        if kind == Kind::Tree {
            let found = entries(content).flatten().filter(|it| is_attributes(it.mode, it.name));
            self.attributes.extend(found.map(|it| it.id));
        }
        Ok(())
    }
}

/// Reads a pack to its end into a temporary file in `folder`.
pub(crate) fn receive(
    input: impl Read,
    folder: &Path,
    limits: &Limits,
    bases: Bases<'_>,
) -> Result<Received, PackError> {
    let file =
        crate::files::temporary(folder, 0o444).map_err(|it| PackError::Disk(std::io::Error::other(it)))?;
    let mut checks = Checks::default();
    let mut stream = PackStream::new(input, file.as_file(), limits.pack_bytes);
    let count = read_header(&mut stream, limits)?;
    let mut arrived = Vec::new();
    let mut unpacked = 0u64;
    for _ in 0..count {
        let entry = read_entry(&mut stream, limits, &mut checks)?;
        unpacked = unpacked.saturating_add(entry.header.size);
        if unpacked > limits.unpacked_bytes {
            return Err(PackError::Limit {
                what: "bytes unpacked",
                found: unpacked,
                limit: limits.unpacked_bytes,
            });
        }
        arrived.push(entry);
    }
    let end = stream.offset();
    let checksum = stream.finish()?;
    let mut resolver = Resolver::new(file.as_file(), folder, limits, arrived, checks, end, unpacked);
    resolver.resolve(bases)?;
    let attributes = resolver.checks.attributes.clone();
    let (objects, checksum, end) = resolver.finish(checksum)?;
    check_attributes(&attributes, &objects, &PackFile::of(file.as_file(), end)?, folder)?;
    Ok(Received { file, objects, checksum, bytes: end + TRAILER_BYTES })
}

/// Checks those blobs of the pack that some tree has as its `.gitattributes`.
fn check_attributes(
    blobs: &BTreeSet<ObjectId>,
    objects: &[Indexed],
    pack: &PackFile,
    folder: &Path,
) -> Result<(), PackError> {
    let find = |id: &ObjectId| objects.binary_search_by_key(id, |it| it.id).ok().map(|it| objects[it].offset);
    for id in blobs {
        let Some(offset) = find(id) else { continue };
        let (_, content) = pack.content(offset, &find, folder).map_err(PackError::Disk)?;
        let Content::Memory(bytes) = content else {
            let (found, limit) = (content.len(), MEMORY_BYTES);
            return Err(PackError::Limit { what: "bytes in a .gitattributes", found, limit });
        };
        objects::check_attributes(&bytes).map_err(|cause| PackError::Object { id: *id, cause })?;
    }
    Ok(())
}

fn read_header<R: Read>(stream: &mut PackStream<'_, R>, limits: &Limits) -> Result<u64, PackError> {
    let bytes = stream.peek(12)?;
    let Some((magic, count)) = bytes.get(..12).and_then(|it| it.split_first_chunk::<8>()) else {
        return Err(if MAGIC.starts_with(bytes) {
            PackError::Truncated(bytes.len() as u64)
        } else {
            not_a_pack(bytes)
        });
    };
    if *magic != MAGIC {
        return Err(not_a_pack(magic));
    }
    let count = count.try_into().map_or(0, u32::from_be_bytes).into();
    stream.consume(12)?;
    if count > limits.objects {
        return Err(PackError::Limit { what: "objects", found: count, limit: limits.objects });
    }
    Ok(count)
}

fn not_a_pack(bytes: &[u8]) -> PackError {
    PackError::NotAPack(bytes.iter().copied().take(8).collect())
}

fn read_entry<R: Read>(
    stream: &mut PackStream<'_, R>,
    limits: &Limits,
    checks: &mut Checks,
) -> Result<Arrived, PackError> {
    let offset = stream.offset();
    let bytes = stream.peek(HEADER_MAX)?;
    if bytes.is_empty() {
        return Err(PackError::Truncated(offset));
    }
    let header =
        EntryHeader::parse(bytes).ok_or(PackError::Entry { offset, why: "has no header that Git knows" })?;
    stream.begin_crc();
    stream.consume(header.len)?;
    let id = match header.kind {
        EntryKind::Whole(Kind::Blob) => Some(read_blob(stream, header.size)?),
        EntryKind::Whole(kind) => Some(read_structure(stream, kind, header.size, limits, checks)?),
        EntryKind::OffsetDelta(_) | EntryKind::ReferenceDelta(_) => {
            stream.inflate(header.size, |_| {})?;
            None
        }
    };
    Ok(Arrived { offset, header, crc: stream.crc(), id })
}

fn read_blob<R: Read>(stream: &mut PackStream<'_, R>, size: u64) -> Result<ObjectId, PackError> {
    let offset = stream.offset();
    let mut hasher = Hasher::of_object(Kind::Blob, size);
    stream.inflate(size, |bytes| hasher.update(bytes))?;
    hasher.finish().map_err(|_| collision(offset))
}

fn read_structure<R: Read>(
    stream: &mut PackStream<'_, R>,
    kind: Kind,
    size: u64,
    limits: &Limits,
    checks: &mut Checks,
) -> Result<ObjectId, PackError> {
    let offset = stream.offset();
    if size > limits.structure_bytes {
        return Err(PackError::Limit {
            what: "bytes in one structure",
            found: size,
            limit: limits.structure_bytes,
        });
    }
    let mut content = Vec::new();
    stream.inflate(size, |bytes| content.extend_from_slice(bytes))?;
    let id = objects::id_of(kind, &content).map_err(|_| collision(offset))?;
    checks.structure(kind, id, &content)?;
    Ok(id)
}

pub(super) fn collision(offset: u64) -> PackError {
    PackError::Entry { offset, why: "was made to collide with another object's SHA-1" }
}
