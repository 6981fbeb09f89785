//! Which file of a folder has which content, as far as the file system's own record of it tells: Git's index (gitformat-index, version 2),
//! which spares reading files that nobody has touched. Real git reads it: `GIT_INDEX_FILE=… git status`.

use crate::ObjectId;
use crate::objects::{Hasher, Mode};
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tempfile::NamedTempFile;

const SIGNATURE: &[u8; 8] = b"DIRC\0\0\0\x02";

/// Bytes of the header, of an entry before its path, and of the checksum.
const HEADER: usize = 12;
const FIXED: usize = 62;
const CHECKSUM: usize = 20;

/// A path's length in an entry, at most: longer ones end at their zero.
const LENGTH_MAX: usize = 0xfff;

/// An extension of ours, which git skips: the run of the machine in which it was written. What was not synced before a power loss may look
/// as it did and have lost its content.
const RUN_OF_MACHINE: &[u8; 4] = b"BOOT";

/// An index larger than this is not read.
const BYTES_MAX: u64 = 1 << 30;

/// What was known of a folder's files when the index was written.
#[derive(Debug, Default)]
pub struct WorktreeIndex {
    bytes: Vec<u8>,
    /// Where each entry begins, by its path.
    entries: Vec<usize>,
    /// Seconds and nanoseconds: a file that has changed in this instant or later may have changed once more since.
    written: (i64, i64),
}

impl WorktreeIndex {
    /// Reads an index. One that is not there, damaged, of another version, or of an earlier run of the machine, knows nothing.
    pub fn read(path: &Path) -> Self {
        Self::try_read(path).unwrap_or_default()
    }

    fn try_read(path: &Path) -> Option<Self> {
        let about = fs::symlink_metadata(path).ok().filter(|it| it.is_file() && it.len() <= BYTES_MAX)?;
        let bytes = fs::read(path).ok()?;
        let end = bytes.len().checked_sub(CHECKSUM)?;
        let mut hasher = Hasher::new();
        hasher.update(&bytes[..end]);
        if bytes.get(..8)? != SIGNATURE || hasher.finish().ok()?.as_bytes() != &bytes[end..] {
            return None;
        }
        let (mut entries, mut at) = (Vec::new(), HEADER);
        for _ in 0..number(&bytes, 8)? {
            entries.push(at);
            at += padded(path_at(&bytes, at)?.len());
        }
        let run = bytes.get(at..end)?.strip_prefix(RUN_OF_MACHINE)?.get(4..)?;
        (run == run_of_machine().as_bytes()).then_some(())?;
        Some(Self { entries, bytes, written: (about.mtime(), about.mtime_nsec()) })
    }

    /// The content of the file or link at a path from the folder, if it is as it was when the index was written.
    pub fn content(&self, path: &[u8], found: &Metadata) -> Option<(Mode, ObjectId)> {
        let at = self.entries.binary_search_by(|at| path_at(&self.bytes, *at).unwrap_or_default().cmp(path));
        let at = self.entries[at.ok()?];
        let entry = self.bytes.get(at..at + FIXED)?;
        let changed = (found.ctime(), found.ctime_nsec()).max((found.mtime(), found.mtime_nsec()));
        let mode = mode_of(found)?;
        let same = entry[..40] == record(found, mode) && changed < self.written;
        same.then(|| ObjectId::from_bytes(&entry[40..60]).ok().map(|id| (mode, id)))?
    }
}

/// An index that is being made.
#[derive(Debug, Default)]
pub struct NewIndex {
    entries: Vec<(Vec<u8>, [u8; 40], ObjectId)>,
}

impl NewIndex {
    /// Adds a file or link that has just been written, or looked at.
    pub fn add(&mut self, path: Vec<u8>, id: ObjectId, found: &Metadata) {
        if let Some(mode) = mode_of(found) {
            self.entries.push((path, record(found, mode), id));
        }
    }

    /// Writes it, in place of the one before. It is not synced: after a power loss it would not be believed.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(mut self, path: &Path) -> io::Result<()> {
        self.entries.sort_unstable();
        let count = u32::try_from(self.entries.len()).map_err(io::Error::other)?;
        let mut bytes = [&SIGNATURE[..], &count.to_be_bytes()].concat();
        for (path, record, id) in self.entries {
            let from = bytes.len();
            bytes.extend_from_slice(&record);
            bytes.extend_from_slice(id.as_bytes());
            let length = path.len().min(LENGTH_MAX) as u16;
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(&path);
            bytes.resize(from + padded(path.len()), 0);
        }
        let run = run_of_machine();
        bytes.extend_from_slice(RUN_OF_MACHINE);
        bytes.extend_from_slice(&(run.len() as u32).to_be_bytes());
        bytes.extend_from_slice(run.as_bytes());
        let mut hasher = Hasher::new();
        hasher.update(&bytes);
        bytes.extend_from_slice(hasher.finish()?.as_bytes());
        let mut file = NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
        file.write_all(&bytes)?;
        file.persist(path)?;
        Ok(())
    }
}

/// What an entry says of a file before its content's id: times of change, device, number, mode, owner, size.
fn record(found: &Metadata, mode: Mode) -> [u8; 40] {
    let fields = [
        found.ctime() as u32,
        found.ctime_nsec() as u32,
        found.mtime() as u32,
        found.mtime_nsec() as u32,
        found.dev() as u32,
        found.ino() as u32,
        mode.bits(),
        found.uid(),
        found.gid(),
        found.size() as u32,
    ];
    let mut record = [0; 40];
    for (place, field) in record.chunks_exact_mut(4).zip(fields) {
        place.copy_from_slice(&field.to_be_bytes());
    }
    record
}

fn mode_of(found: &Metadata) -> Option<Mode> {
    match (found.is_symlink(), found.is_file(), found.mode() & 0o100 != 0) {
        (true, ..) => Some(Mode::Link),
        (_, true, true) => Some(Mode::Executable),
        (_, true, false) => Some(Mode::File),
        _ => None,
    }
}

/// Bytes of an entry: a multiple of eight, with a zero after the path at least.
fn padded(path: usize) -> usize {
    (FIXED + path + 8) & !7
}

fn path_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let path = bytes.get(at + FIXED..)?;
    let length = usize::from(u16::from_be_bytes([bytes[at + 60], bytes[at + 61]])) & LENGTH_MAX;
    match length {
        LENGTH_MAX => path.split(|it| *it == 0).next(),
        _ => path.get(..length),
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// By its kernel; empty where that does not tell, as it is then always.
fn run_of_machine() -> String {
    let mut id = String::new();
    let read = File::open("/proc/sys/kernel/random/boot_id")
        .and_then(|mut it| io::Read::read_to_string(&mut it, &mut id));
    if read.is_err() {
        id.clear();
    }
    id.trim().to_owned()
}
