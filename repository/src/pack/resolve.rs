//! Making objects of a pack's deltas, in memory that doesn't depend on the pack.

use super::content::Content;
use super::delta;
use super::entry::{EntryHeader, EntryKind};
use super::index::Indexed;
use super::receive::{Arrived, Bases, Checks, collision};
use super::writer::Deflater;
use super::{MEMORY_BYTES, PackError, Section};
use crate::objects::Hasher;
use crate::{Kind, Limits, ObjectId};
use flate2::bufread::ZlibDecoder;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Unpacked bases that are kept for the deltas upon them.
const KEPT_BYTES: u64 = 2 * MEMORY_BYTES;

/// A pack whose whole objects are known, and whose deltas are not.
#[derive(Debug)]
pub(super) struct Resolver<'a> {
    file: &'a File,
    folder: &'a Path,
    limits: &'a Limits,
    entries: Vec<Arrived>,
    /// Deltas by where their base begins, and by its id.
    by_offset: Vec<(u64, usize)>,
    by_id: Vec<(ObjectId, usize)>,
    pub(super) checks: Checks,
    /// Where the entries end.
    end: u64,
    received: usize,
    unpacked: u64,
}

/// A base that is being resolved, with the deltas upon it that are left. Each frame's delta is upon the frame below.
#[derive(Debug)]
struct Frame {
    entry: usize,
    content: Option<Content>,
    deltas: Vec<usize>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(
        file: &'a File,
        folder: &'a Path,
        limits: &'a Limits,
        entries: Vec<Arrived>,
        checks: Checks,
        end: u64,
        unpacked: u64,
    ) -> Self {
        let (mut by_offset, mut by_id) = (Vec::new(), Vec::new());
        for (place, entry) in entries.iter().enumerate() {
            match entry.header.kind {
                EntryKind::Whole(_) => {}
                // A distance beyond the pack's begin stands for no entry.
                EntryKind::OffsetDelta(distance) => {
                    by_offset.push((entry.offset.wrapping_sub(distance), place));
                }
                EntryKind::ReferenceDelta(base) => by_id.push((base, place)),
            }
        }
        by_offset.sort_unstable();
        by_id.sort_unstable();
        let received = entries.len();
        Self { file, folder, limits, entries, by_offset, by_id, checks, end, received, unpacked }
    }

    /// Resolves all deltas; bases that a thin pack lacks are added to it.
    pub(super) fn resolve(&mut self, bases: Bases<'_>) -> Result<(), PackError> {
        for place in 0..self.received {
            if let EntryKind::Whole(kind) = self.entries[place].header.kind {
                self.resolve_upon(place, kind)?;
            }
        }
        for place in 0..self.received {
            let entry = &self.entries[place];
            if let (None, EntryKind::ReferenceDelta(base)) = (entry.id, entry.header.kind) {
                let (kind, content) = bases(&base).ok_or(PackError::NoBase(base))?;
                let added = self.append(base, kind, content)?;
                self.resolve_upon(added, kind)?;
            }
        }
        let left = self.entries.iter().find(|it| it.id.is_none());
        left.map_or(Ok(()), |it| Err(PackError::Entry { offset: it.offset, why: "is a delta upon nothing" }))
    }

    /// Resolves what is upon a whole object, and what is upon that.
    fn resolve_upon(&mut self, root: usize, kind: Kind) -> Result<(), PackError> {
        let mut stack = vec![Frame { entry: root, content: None, deltas: self.deltas_upon(root) }];
        while let Some(top) = stack.last_mut() {
            let Some(delta) = top.deltas.pop() else {
                stack.pop();
                continue;
            };
            if self.entries[delta].id.is_some() {
                continue;
            }
            self.load(&mut stack)?;
            let base = stack.last().and_then(|it| it.content.as_ref());
            let content = self.apply(base, delta)?;
            self.identify(delta, kind, &content)?;
            let deltas = self.deltas_upon(delta);
            if !deltas.is_empty() {
                stack.push(Frame { entry: delta, content: Some(content), deltas });
                forget(&mut stack);
            }
            if stack.len() > self.limits.delta_depth {
                let (found, limit) = (stack.len() as u64, self.limits.delta_depth as u64);
                return Err(PackError::Limit { what: "deltas upon deltas", found, limit });
            }
        }
        Ok(())
    }

    fn deltas_upon(&self, place: usize) -> Vec<usize> {
        let entry = &self.entries[place];
        let mut deltas = equal(&self.by_offset, &entry.offset);
        if let Some(id) = entry.id {
            deltas.extend(equal(&self.by_id, &id));
        }
        deltas
    }

    /// Unpacks the top frame's object, upwards from the nearest one that is there.
    fn load(&mut self, stack: &mut [Frame]) -> Result<(), PackError> {
        let from = stack.iter().rposition(|it| it.content.is_some()).unwrap_or(0);
        if stack[from].content.is_none() {
            stack[from].content = Some(self.whole(stack[from].entry)?);
        }
        for place in from + 1..stack.len() {
            let content = self.apply(stack[place - 1].content.as_ref(), stack[place].entry)?;
            stack[place].content = Some(content);
            forget(&mut stack[..=place]);
        }
        Ok(())
    }

    fn count(&mut self, bytes: u64) -> Result<(), PackError> {
        self.unpacked = self.unpacked.saturating_add(bytes);
        let (found, limit) = (self.unpacked, self.limits.unpacked_bytes);
        if found > limit { Err(PackError::Limit { what: "bytes unpacked", found, limit }) } else { Ok(()) }
    }

    fn inflate(&self, place: usize) -> impl Read + use<'a> {
        let entry = &self.entries[place];
        let begin = entry.offset + entry.header.len as u64;
        ZlibDecoder::new(Section::new(self.file, begin, self.end).buffered(entry.header.size))
    }

    fn whole(&mut self, place: usize) -> Result<Content, PackError> {
        let size = self.entries[place].header.size;
        self.count(size)?;
        Content::unpack(&mut self.inflate(place), size, self.folder).map_err(PackError::Disk)
    }

    fn apply(&mut self, base: Option<&Content>, delta: usize) -> Result<Content, PackError> {
        let offset = self.entries[delta].offset;
        let base = base.ok_or(PackError::Entry { offset, why: "is a delta upon nothing" })?;
        let left = self.limits.unpacked_bytes - self.unpacked;
        let content = delta::apply(base, self.inflate(delta), left, self.folder).map_err(|error| {
            let malformed = matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof);
            let why =
                "is a delta that doesn't fit its base or its sizes, or makes more than the limit allows";
            if malformed { PackError::Entry { offset, why } } else { PackError::Disk(error) }
        })?;
        self.count(content.len())?;
        Ok(content)
    }

    /// Hashes and checks an object that a delta made.
    fn identify(&mut self, place: usize, kind: Kind, content: &Content) -> Result<(), PackError> {
        let offset = self.entries[place].offset;
        let mut hasher = Hasher::of_object(kind, content.len());
        match content {
            Content::Memory(bytes) => hasher.update(bytes),
            Content::File(file, size) => {
                let mut reader = Section::new(file, 0, *size).buffered(*size);
                io::copy(&mut reader, &mut hasher).map_err(PackError::Disk)?;
            }
        }
        let id = hasher.finish().map_err(|_| collision(offset))?;
        match content {
            _ if kind == Kind::Blob => {}
            Content::Memory(bytes) if content.len() <= self.limits.structure_bytes => {
                self.checks.structure(kind, id, bytes)?;
            }
            _ => {
                let (found, limit) = (content.len(), self.limits.structure_bytes.min(MEMORY_BYTES));
                return Err(PackError::Limit { what: "bytes in one structure", found, limit });
            }
        }
        self.entries[place].id = Some(id);
        Ok(())
    }

    /// Adds a whole object after the entries.
    fn append(&mut self, id: ObjectId, kind: Kind, content: Content) -> Result<usize, PackError> {
        let size = content.len();
        self.count(size)?;
        let mut out = Appending { file: self.file, offset: self.end, crc: crc32fast::Hasher::new() };
        let mut content = content.into_reader();
        Deflater::new().entry(kind, size, &mut content, &mut out).map_err(PackError::Disk)?;
        let Appending { offset: end, crc, .. } = out;
        let len = EntryHeader::whole(kind, size).len();
        let header = EntryHeader { kind: EntryKind::Whole(kind), size, len };
        self.entries.push(Arrived { offset: self.end, header, crc: crc.finalize(), id: Some(id) });
        self.end = end;
        Ok(self.entries.len() - 1)
    }

    /// Sorts the objects, and mends the file's header and checksum when bases were added.
    pub(super) fn finish(self, checksum: ObjectId) -> Result<(Vec<Indexed>, ObjectId, u64), PackError> {
        let added = self.entries.len() > self.received;
        let mut objects: Vec<_> = self
            .entries
            .iter()
            .filter_map(|it| Some(Indexed { id: it.id?, offset: it.offset, crc: it.crc }))
            .collect();
        objects.sort_unstable();
        if let Some(pair) = objects.windows(2).find(|it| it[0].id == it[1].id) {
            return Err(PackError::Twice(pair[0].id));
        }
        if !added {
            return Ok((objects, checksum, self.end));
        }
        let checksum = rewrite(self.file, objects.len(), self.end).map_err(PackError::Disk)?;
        Ok((objects, checksum, self.end))
    }
}

/// Drops the lowest objects while too much is kept; never the top one.
fn forget(stack: &mut [Frame]) {
    let mut kept: u64 = stack.iter().filter_map(|it| it.content.as_ref()).map(Content::len).sum();
    let below = stack.len() - 1;
    for frame in &mut stack[..below] {
        if kept <= KEPT_BYTES {
            break;
        }
        kept -= frame.content.take().map_or(0, |it| it.len());
    }
}

/// Writes after the entries, over the checksum that no longer holds.
#[derive(Debug)]
struct Appending<'a> {
    file: &'a File,
    offset: u64,
    crc: crc32fast::Hasher,
}

impl Write for Appending<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all_at(bytes, self.offset)?;
        self.crc.update(bytes);
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the number of objects and the checksum anew.
fn rewrite(file: &File, count: usize, end: u64) -> io::Result<ObjectId> {
    let count = u32::try_from(count).map_err(io::Error::other)?;
    file.write_all_at(&count.to_be_bytes(), 8)?;
    let mut hasher = Hasher::new();
    io::copy(&mut Section::new(file, 0, end).buffered(end), &mut hasher)?;
    let checksum = hasher.finish()?;
    file.set_len(end)?;
    file.write_all_at(checksum.as_bytes(), end)?;
    Ok(checksum)
}

fn equal<K: Ord>(sorted: &[(K, usize)], key: &K) -> Vec<usize> {
    let begin = sorted.partition_point(|(it, _)| it < key);
    sorted[begin..].iter().take_while(|(it, _)| it == key).map(|(_, place)| *place).collect()
}
