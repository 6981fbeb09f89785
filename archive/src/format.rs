//! Which archive a file is, by its first bytes.

use crate::{
    error::Problem,
    tar::{self, BLOCK},
};
use std::{fmt, fs::File, os::unix::fs::FileExt};

/// What is deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// POSIX.1-2001 (ustar, pax) and GNU tar.
    Tar,
    /// A tar in gzip (RFC 1952).
    TarGz,
    /// A tar in Zstandard (RFC 8878).
    TarZst,
    /// Zip (PKWARE's APPNOTE 6.3), stored or deflated.
    Zip,
    /// A folder on disk.
    Folder,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tar => "tar",
            Self::TarGz => "tar.gz",
            Self::TarZst => "tar.zst",
            Self::Zip => "zip",
            Self::Folder => "folder",
        })
    }
}

/// The start of other archives, which people try.
const OTHERS: [(&[u8], &str); 6] = [
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x04\x22\x4d\x18", "an LZ4 archive"),
    (b"!<arch>\n", "an ar archive or a Debian package"),
];

/// # Errors
/// [`Problem::NotAnArchive`], or the disk's.
pub(crate) fn of(file: &File) -> Result<Format, Problem> {
    let mut start = [0; BLOCK];
    let mut length = 0;
    while length < BLOCK {
        match file.read_at(&mut start[length..], length as u64)? {
            0 => break,
            more => length += more,
        }
    }
    let found = &start[..length];
    if found.starts_with(&[0x1f, 0x8b]) {
        Ok(Format::TarGz)
    } else if found.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || is_skippable(found) {
        Ok(Format::TarZst)
    } else if found.starts_with(b"PK\x03\x04") || found.starts_with(b"PK\x05\x06") {
        Ok(Format::Zip)
    } else if length == BLOCK && tar::is_start(&start) {
        Ok(Format::Tar)
    } else {
        let other = OTHERS.iter().find(|(magic, _)| found.starts_with(magic));
        let empty = if found.is_empty() { "an empty file" } else { "a single file, no archive" };
        Err(Problem::NotAnArchive { found: other.map_or(empty, |(_, name)| name) })
    }
}

/// A skippable frame of Zstandard (RFC 8878 §3.1.2), as some tools write first.
fn is_skippable(start: &[u8]) -> bool {
    matches!(start, [low, 0x2a, 0x4d, 0x18, ..] if low & 0xf0 == 0x50)
}
