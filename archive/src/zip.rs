//! Zip (PKWARE's APPNOTE 6.3.10) by its central directory. Every entry's own header has to say the same, and no two may share a
//! byte, so that nobody sees another archive in the same file, and none unpacks to more than it holds.

mod directory;

use crate::{
    Sink,
    content::Content,
    error::{BadName, Failure, Problem},
    intake::Intake,
    limits::Limits,
    meter::{Meter, PIECE, Packed, Unpacked},
};
use directory::{Directory, Entry, Kind, Section, u16_at, u32_at};
use flate2::bufread::DeflateDecoder;
use std::{
    fs::File,
    io::{BufReader, Read},
};

/// Reads the entries in the order of the central directory.
pub(crate) fn read<S: Sink>(
    file: &File,
    limits: &Limits,
    intake: &mut Intake<'_, S>,
) -> Result<(), Failure<S::Error>> {
    let directory = directory::read(file, limits)?;
    let meter = Meter::new(limits);
    for entry in &directory.entries {
        let at = |problem: Problem| Failure::at(&entry.name, problem);
        let data = data(file, entry, &directory).map_err(at)?;
        match entry.kind().map_err(at)? {
            Kind::Folder if entry.size != 0 => {
                return Err(at(damaged("a folder with content, expected a size of 0")));
            }
            Kind::Folder => intake.folder(&entry.name)?,
            Kind::File { executable } => {
                let mut unpacked = meter.unpacked(Compressed::new(data, entry, &meter).map_err(at)?);
                let content = Content::new(&mut unpacked, entry.size, Some(entry.checksum));
                intake.file(&entry.name, executable, entry.size, content)?;
                is_used_up(&unpacked, entry).map_err(at)?;
            }
            Kind::Link => {
                let target = target(data, entry, &meter, limits).map_err(at)?;
                intake.link(&entry.name, &target)?;
            }
        }
    }
    Ok(())
}

/// Where the entry's data is, by its own header, which is compared with the central directory's.
fn data<'f>(file: &'f File, entry: &Entry, directory: &Directory) -> Result<Section<'f>, Problem> {
    let mut header = [0; 30];
    let mut section = Section { file, at: entry.offset, end: directory.next_after(entry.offset) };
    section.read_exact(&mut header)?;
    if !header.starts_with(b"PK\x03\x04") {
        return Err(damaged("the directory names a place where no entry begins"));
    }
    let name_length = usize::from(u16_at(&header, 26));
    let extra_length = u64::from(u16_at(&header, 28));
    let mut name = vec![0; name_length];
    section.read_exact(&mut name)?;
    if name != entry.own_name() || u16_at(&header, 8) != entry.method {
        return Err(damaged("its header differs from the archive's directory"));
    }
    if u16_at(&header, 6) & ENCRYPTED != 0 {
        return Err(directory::encrypted());
    }
    // With bit 3 the numbers follow the data; all ones stand for those in the zip64 field.
    let same = |at: usize, number: u64| {
        let found = u32_at(&header, at);
        u64::from(found) == number || found == u32::MAX
    };
    let has_numbers = u16_at(&header, 6) & 1 << 3 == 0;
    let numbers = same(14, entry.checksum.into()) && same(18, entry.compressed) && same(22, entry.size);
    if has_numbers && !numbers {
        return Err(damaged("its header has other sizes or another checksum than the archive's directory"));
    }
    let start = section.at.checked_add(extra_length);
    let end = start.and_then(|start| start.checked_add(entry.compressed));
    match (start, end) {
        (Some(start), Some(end)) if end <= section.end => Ok(Section { file, at: start, end }),
        _ => Err(damaged("its data overlaps what comes after it")),
    }
}

/// Bit 0 of an entry's flags.
const ENCRYPTED: u16 = 1;

/// A link's target is its content.
fn target(data: Section<'_>, entry: &Entry, meter: &Meter<'_>, limits: &Limits) -> Result<Vec<u8>, Problem> {
    if entry.size > limits.path as u64 {
        return Err(BadName::PathTooLong(limits.path).into());
    }
    let mut unpacked = meter.unpacked(Compressed::new(data, entry, meter)?);
    let mut content = Content::new(&mut unpacked, entry.size, Some(entry.checksum));
    let mut target = Vec::new();
    // `finish` has the error.
    let _ = content.read_to_end(&mut target);
    content.finish()?;
    is_used_up(&unpacked, entry)?;
    Ok(target)
}

fn is_used_up(unpacked: &Unpacked<'_, Compressed<'_>>, entry: &Entry) -> Result<(), Problem> {
    match unpacked.get_ref() {
        Compressed::Deflated(decoder) if decoder.total_in() != entry.compressed => {
            Err(damaged("its compressed data is shorter than announced"))
        }
        _ => Ok(()),
    }
}

/// An entry's data, decompressed as it is read.
enum Compressed<'f> {
    Stored(Packed<'f, Section<'f>>),
    Deflated(DeflateDecoder<BufReader<Packed<'f, Section<'f>>>>),
}

impl<'f> Compressed<'f> {
    fn new(data: Section<'f>, entry: &Entry, meter: &'f Meter<'f>) -> Result<Self, Problem> {
        let packed = meter.packed(data);
        match entry.method {
            0 if entry.size == entry.compressed => Ok(Self::Stored(packed)),
            0 => Err(damaged("two sizes, but it is stored uncompressed")),
            8 => Ok(Self::Deflated(DeflateDecoder::new(BufReader::with_capacity(PIECE, packed)))),
            method => Err(Problem::Unsupported {
                found: format!("compression method {method}"),
                expected: "0 (stored) or 8 (deflate)",
            }),
        }
    }
}

impl Read for Compressed<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Stored(data) => data.read(into),
            Self::Deflated(data) => data.read(into),
        }
    }
}

fn damaged(text: &str) -> Problem {
    Problem::Damaged(text.to_owned())
}
