//! A zip's central directory, with zip64's wider numbers.

use super::{ENCRYPTED, damaged};
use crate::{error::Problem, limits::Limits};
use std::{
    fs::File,
    io::{self, BufReader, Read},
    os::unix::fs::FileExt,
};

/// The record at the end, without its comment of at most 65,535 bytes.
const END: usize = 22;
/// zip64's pointer to its own end record, and that record.
const LOCATOR: u64 = 20;
const END_64: usize = 56;
/// A directory's entry, without name, extra fields and comment.
const ENTRY: usize = 46;

/// What the archive holds.
pub(super) struct Directory {
    pub(super) entries: Vec<Entry>,
    /// Where entries begin, and where the directory does; sorted.
    starts: Vec<u64>,
}

/// One entry.
pub(super) struct Entry {
    pub(super) name: Box<[u8]>,
    /// The name in its own header, where the one in Unicode is another.
    other_name: Option<Box<[u8]>>,
    pub(super) method: u16,
    pub(super) checksum: u32,
    pub(super) compressed: u64,
    pub(super) size: u64,
    /// Of its own header, from the file's start.
    pub(super) offset: u64,
    /// Type and permissions as Unix has them; 0 from other systems.
    mode: u32,
    flags: u16,
}

/// What an entry is.
pub(super) enum Kind {
    Folder,
    File { executable: bool },
    Link,
}

impl Directory {
    /// Where the next entry, or the directory itself, begins.
    pub(super) fn next_after(&self, offset: u64) -> u64 {
        let next = self.starts.partition_point(|start| *start <= offset);
        self.starts.get(next).copied().unwrap_or(offset)
    }
}

impl Entry {
    pub(super) fn kind(&self) -> Result<Kind, Problem> {
        if self.flags & (ENCRYPTED | 1 << 6 | 1 << 13) != 0 {
            return Err(encrypted());
        }
        let is_folder = self.name.ends_with(b"/");
        match self.mode & 0o170_000 {
            0 | 0o040_000 if is_folder => Ok(Kind::Folder),
            0 | 0o100_000 => Ok(Kind::File { executable: self.mode & 0o100 != 0 }),
            0o120_000 => Ok(Kind::Link),
            0o040_000 => Err(damaged("a folder whose name does not end with `/`")),
            other => Err(Problem::Unsupported {
                found: format!("a device, FIFO or socket (Unix type {other:06o})"),
                expected: "files, folders and symbolic links alone",
            }),
        }
    }

    /// As its own header has it.
    pub(super) fn own_name(&self) -> &[u8] {
        self.other_name.as_deref().unwrap_or(&self.name)
    }
}

pub(super) fn encrypted() -> Problem {
    Problem::Unsupported { found: "encrypted".to_owned(), expected: "an archive without a password" }
}

/// Reads the whole directory; its names are bounded by [`Limits::names`].
pub(super) fn read(file: &File, limits: &Limits) -> Result<Directory, Problem> {
    let (start, end, count) = find(file)?;
    if count > limits.entries {
        return Err(Problem::entries(limits));
    }
    let mut section = BufReader::new(Section { file, at: start, end });
    let mut entries = Vec::new();
    let mut names = 0;
    for _ in 0..count {
        let entry = entry(&mut section)?;
        names += (entry.name.len() + entry.other_name.as_ref().map_or(0, |name| name.len())) as u64;
        if names > limits.names {
            return Err(Problem::names(limits));
        }
        entries.push(entry);
    }
    if section.read(&mut [0])? != 0 {
        return Err(damaged("the directory has more in it than the entries it counts"));
    }
    let mut starts: Vec<u64> = entries.iter().map(|entry| entry.offset).collect();
    starts.sort_unstable();
    if starts.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(damaged("two entries share their data"));
    }
    starts.push(start);
    Ok(Directory { entries, starts })
}

/// Where the directory begins and ends, and how many entries it counts.
fn find(file: &File) -> Result<(u64, u64, u64), Problem> {
    let length = file.metadata()?.len();
    let tail_length = length.min((END + usize::from(u16::MAX)) as u64);
    let tail_start = length - tail_length;
    let mut tail = Vec::new();
    Section { file, at: tail_start, end: length }.read_to_end(&mut tail)?;
    // The end record is the one whose comment ends with the file.
    let is_end = |record: &[u8]| {
        record.starts_with(b"PK\x05\x06") && END + usize::from(u16_at(record, 20)) == record.len()
    };
    let at = (0..(tail.len() + 1).saturating_sub(END)).rev().find(|at| is_end(&tail[*at..]));
    let at = at.ok_or_else(|| damaged("no end record: it is cut off, or something was appended"))?;
    let record = &tail[at..];
    let one_disk =
        u16_at(record, 4) == 0 && u16_at(record, 6) == 0 && u16_at(record, 8) == u16_at(record, 10);
    let (count, size, start) = (u16_at(record, 10), u32_at(record, 12), u32_at(record, 16));
    let end = tail_start + at as u64;
    let wide = count == u16::MAX || size == u32::MAX || start == u32::MAX;
    if wide && let Some(found) = find_64(file, end)? {
        return Ok(found);
    }
    if !one_disk {
        return Err(several_files());
    }
    checked(start.into(), size.into(), end, count.into())
}

/// The same from zip64's end record, if there is one before the plain one at `end`.
fn find_64(file: &File, end: u64) -> Result<Option<(u64, u64, u64)>, Problem> {
    let Some(at) = end.checked_sub(LOCATOR) else { return Ok(None) };
    let mut locator = [0; LOCATOR as usize];
    Section { file, at, end }.read_exact(&mut locator)?;
    if !locator.starts_with(b"PK\x06\x07") {
        return Ok(None);
    }
    let record_at = u64_at(&locator, 8);
    let mut record = [0; END_64];
    Section { file, at: record_at, end: at }.read_exact(&mut record)?;
    if !record.starts_with(b"PK\x06\x06") {
        return Err(damaged("zip64's end record is not where it is said to be"));
    }
    if u32_at(&record, 16) != 0 || u32_at(&record, 20) != 0 || u64_at(&record, 24) != u64_at(&record, 32) {
        return Err(several_files());
    }
    checked(u64_at(&record, 48), u64_at(&record, 40), record_at, u64_at(&record, 32)).map(Some)
}

fn checked(start: u64, size: u64, end: u64, count: u64) -> Result<(u64, u64, u64), Problem> {
    if start.checked_add(size) != Some(end) {
        return Err(damaged("the directory does not end where the end record begins"));
    }
    if count > size / ENTRY as u64 {
        return Err(damaged("the directory counts more entries than it has room for"));
    }
    Ok((start, end, count))
}

fn several_files() -> Problem {
    Problem::Unsupported { found: "an archive in several files".to_owned(), expected: "one file" }
}

fn entry(section: &mut impl Read) -> Result<Entry, Problem> {
    let mut fixed = [0; ENTRY];
    section.read_exact(&mut fixed)?;
    if !fixed.starts_with(b"PK\x01\x02") {
        return Err(damaged("the directory has something else where an entry has to begin"));
    }
    let mut part = |at: usize| -> Result<Vec<u8>, Problem> {
        let mut bytes = vec![0; usize::from(u16_at(&fixed, at))];
        section.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    let (name, extra, _comment) = (part(28)?, part(30)?, part(32)?);
    // Systems with Unix's modes: Unix and macOS.
    let has_mode = matches!(fixed[5], 3 | 19);
    let mut entry = Entry {
        name: name.into(),
        other_name: None,
        method: u16_at(&fixed, 10),
        checksum: u32_at(&fixed, 16),
        compressed: u32_at(&fixed, 20).into(),
        size: u32_at(&fixed, 24).into(),
        offset: u32_at(&fixed, 42).into(),
        mode: if has_mode { u32_at(&fixed, 38) >> 16 } else { 0 },
        flags: u16_at(&fixed, 8),
    };
    if u16_at(&fixed, 34) != 0 {
        return Err(several_files());
    }
    entry.read_extra(&extra)?;
    Ok(entry)
}

impl Entry {
    /// Extra fields: zip64's numbers (0x0001, §4.5.3) and the name in Unicode (0x7075, §4.6.9); others are skipped.
    fn read_extra(&mut self, mut extra: &[u8]) -> Result<(), Problem> {
        while extra.len() >= 4 {
            let length = usize::from(u16_at(extra, 2));
            let Some((field, rest)) = extra[4..].split_at_checked(length) else {
                return Err(damaged("an extra field is longer than its place"));
            };
            match u16_at(extra, 0) {
                0x0001 => self.widen(field)?,
                0x7075 => self.rename(field),
                _ => {}
            }
            extra = rest;
        }
        Ok(())
    }

    /// The field has those numbers, in this order, that had no room.
    fn widen(&mut self, mut field: &[u8]) -> Result<(), Problem> {
        for number in [&mut self.size, &mut self.compressed, &mut self.offset] {
            if *number == u32::MAX.into() {
                let (wide, rest) =
                    field.split_first_chunk().ok_or_else(|| damaged("zip64's field is too short"))?;
                *number = u64::from_le_bytes(*wide);
                field = rest;
            }
        }
        Ok(())
    }

    /// Counts if it was made for this very name.
    fn rename(&mut self, field: &[u8]) {
        if field.len() > 5 && field[0] == 1 && u32_at(field, 1) == crc32fast::hash(&self.name) {
            let own = std::mem::replace(&mut self.name, field[5..].into());
            self.other_name.get_or_insert(own);
        }
    }
}

/// A part of the file, read without moving anything of it.
pub(super) struct Section<'f> {
    pub(super) file: &'f File,
    pub(super) at: u64,
    pub(super) end: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let room = left.min(into.len());
        let read = self.file.read_at(&mut into[..room], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Little-endian; the caller has seen that there is room.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
