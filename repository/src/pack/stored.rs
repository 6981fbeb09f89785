//! Packs on disk, read by many at once.

use super::content::invalid;
use super::entry::{EntryHeader, EntryKind, HEADER_MAX};
use super::index::Indexed;
use super::writer::PackWriter;
use super::{Content, HEADER_BYTES, Index, Section, TRAILER_BYTES, delta};
use crate::{Kind, ObjectId};
use flate2::bufread::ZlibDecoder;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Unpacks an entry from its beginning.
pub(crate) type Inflate = ZlibDecoder<BufReader<Section<Arc<File>>>>;

/// Where the same pack has an object.
type Find<'a> = &'a dyn Fn(&ObjectId) -> Option<u64>;

/// Deltas upon deltas that are followed: more are a loop, which only damage makes.
const CHAIN: usize = 5000;

/// A pack without its index.
#[derive(Debug)]
pub(crate) struct PackFile {
    file: Arc<File>,
    /// Where its entries end.
    end: u64,
}

/// A pack with its index. Its files may be removed while it is read.
#[derive(Debug)]
pub(crate) struct Pack {
    /// Its path without an extension.
    stem: PathBuf,
    file: PackFile,
    index: Index,
    /// It holds what nothing reaches, until that is old enough.
    garbage: bool,
    offsets: OnceLock<Vec<u64>>,
}

/// An object in a pack.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) pack: Arc<Pack>,
    pub(crate) offset: u64,
}

impl PackFile {
    pub(super) fn of(file: &File, end: u64) -> Result<Self, super::PackError> {
        let file = file.try_clone().map_err(super::PackError::Disk)?;
        Ok(Self { file: Arc::new(file), end })
    }

    fn header(&self, offset: u64) -> io::Result<EntryHeader> {
        let mut bytes = [0; HEADER_MAX];
        let count = self.file.read_at(&mut bytes, offset)?;
        EntryHeader::parse(&bytes[..count]).ok_or_else(|| invalid("its entry has no header that Git knows"))
    }

    fn inflate(&self, offset: u64, header: &EntryHeader) -> Inflate {
        let begin = offset + header.len as u64;
        ZlibDecoder::new(Section::new(self.file.clone(), begin, self.end).buffered(header.size))
    }

    /// The deltas from there down, and the whole object that the lowest is upon.
    fn chain(
        &self,
        mut offset: u64,
        find: Find<'_>,
    ) -> io::Result<(Vec<(u64, EntryHeader)>, u64, EntryHeader, Kind)> {
        let mut deltas = Vec::new();
        loop {
            let header = self.header(offset)?;
            let base = match header.kind {
                EntryKind::Whole(kind) => return Ok((deltas, offset, header, kind)),
                EntryKind::OffsetDelta(distance) => offset.checked_sub(distance).filter(|_| distance > 0),
                EntryKind::ReferenceDelta(base) => find(&base),
            };
            deltas.push((offset, header));
            offset =
                base.filter(|_| deltas.len() < CHAIN).ok_or_else(|| invalid("its delta is upon nothing"))?;
        }
    }

    /// An object's kind and size, without unpacking it.
    fn size(&self, offset: u64, find: Find<'_>) -> io::Result<(Kind, u64)> {
        let (deltas, _, whole, kind) = self.chain(offset, find)?;
        let Some((offset, header)) = deltas.first() else { return Ok((kind, whole.size)) };
        let (_, size) = delta::sizes(&mut self.inflate(*offset, header))?;
        Ok((kind, size))
    }

    /// An object, unpacked.
    pub(super) fn content(&self, offset: u64, find: Find<'_>, folder: &Path) -> io::Result<(Kind, Content)> {
        let (deltas, offset, whole, kind) = self.chain(offset, find)?;
        let mut content = Content::unpack(&mut self.inflate(offset, &whole), whole.size, folder)?;
        for (offset, header) in deltas.iter().rev() {
            content = delta::apply(&content, self.inflate(*offset, header), u64::MAX, folder)?;
        }
        Ok((kind, content))
    }
}

impl Pack {
    /// Opens a pack and its index, and checks that they belong together.
    pub(crate) fn open(stem: PathBuf) -> io::Result<Self> {
        let index = Index::parse(fs::read(stem.with_extension("idx"))?).map_err(invalid)?;
        let file = File::open(stem.with_extension("pack"))?;
        let size = file.metadata()?.len();
        let end = size
            .checked_sub(TRAILER_BYTES)
            .filter(|it| *it >= HEADER_BYTES)
            .ok_or(invalid("it is cut off"))?;
        let garbage = stem.with_extension(GARBAGE).exists();
        Ok(Self {
            stem,
            file: PackFile { file: Arc::new(file), end },
            index,
            garbage,
            offsets: OnceLock::new(),
        })
    }

    pub(crate) fn stem(&self) -> &Path {
        &self.stem
    }

    pub(crate) fn is_garbage(&self) -> bool {
        self.garbage
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// Bytes of its file.
    pub(crate) fn bytes(&self) -> u64 {
        self.file.end + TRAILER_BYTES
    }

    pub(crate) fn file(&self) -> &File {
        &self.file.file
    }

    /// Its files: the index first, without which Git does not see the pack.
    pub(crate) fn files(&self) -> io::Result<Vec<PathBuf>> {
        let folder = self.stem.parent().unwrap_or(Path::new("."));
        let mut files = vec![self.stem.with_extension("idx"), self.stem.with_extension("pack")];
        for file in fs::read_dir(folder)? {
            let path = file?.path();
            if path.file_stem() == self.stem.file_name() && !files.contains(&path) {
                files.push(path);
            }
        }
        Ok(files)
    }

    /// Are the bytes around the entries those that were stored? The entries have checksums of their own.
    pub(crate) fn frame_is_whole(&self) -> io::Result<bool> {
        let (mut begin, mut end) = ([0; 12], [0; 20]);
        self.file.file.read_exact_at(&mut begin, 0)?;
        self.file.file.read_exact_at(&mut end, self.file.end)?;
        let count = u32::try_from(self.index.len()).unwrap_or(u32::MAX).to_be_bytes();
        Ok(begin[..8] == super::MAGIC && begin[8..] == count && end == self.index.pack())
    }

    /// Where the entry that begins there ends.
    fn end_of(&self, offset: u64) -> u64 {
        let offsets = self.offsets.get_or_init(|| {
            let mut offsets: Vec<u64> = self.index.iter().map(|it| it.offset).collect();
            offsets.sort_unstable();
            offsets
        });
        let next = offsets.partition_point(|it| *it <= offset);
        offsets.get(next).copied().unwrap_or(self.file.end)
    }

    fn find(&self) -> impl Fn(&ObjectId) -> Option<u64> + '_ {
        |id| self.index.find(id)
    }

    /// Is an entry byte for byte what was stored?
    pub(crate) fn crc_is_right(&self, line: &Indexed) -> io::Result<bool> {
        let mut section =
            Section::new(self.file.file.clone(), line.offset, self.end_of(line.offset)).buffered(32 << 10);
        let mut crc = Crc(crc32fast::Hasher::new());
        io::copy(&mut section, &mut crc)?;
        Ok(crc.0.finalize() == line.crc)
    }
}

/// The extension of the file beside a pack that holds garbage.
pub(crate) const GARBAGE: &str = "garbage";

#[derive(Debug)]
struct Crc(crc32fast::Hasher);

impl Write for Crc {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Entry {
    pub(crate) fn size(&self) -> io::Result<(Kind, u64)> {
        self.pack.file.size(self.offset, &self.pack.find())
    }

    pub(crate) fn content(&self, folder: &Path) -> io::Result<(Kind, Content)> {
        self.pack.file.content(self.offset, &self.pack.find(), folder)
    }

    /// A reader of a whole object; `None` for a delta.
    pub(crate) fn stream(&self) -> io::Result<Option<(Kind, u64, Inflate)>> {
        let header = self.pack.file.header(self.offset)?;
        let EntryKind::Whole(kind) = header.kind else { return Ok(None) };
        Ok(Some((kind, header.size, self.pack.file.inflate(self.offset, &header))))
    }

    /// Which object of the same pack it is a delta upon.
    pub(crate) fn base(&self) -> io::Result<Option<u64>> {
        let header = self.pack.file.header(self.offset)?;
        Ok(match header.kind {
            EntryKind::Whole(_) => None,
            EntryKind::OffsetDelta(distance) => self.offset.checked_sub(distance),
            EntryKind::ReferenceDelta(base) => self.pack.index.find(&base),
        })
    }

    /// Copies it as it is to another pack; `base` is what it is a delta upon.
    pub(crate) fn copy<W: Write>(&self, base: Option<ObjectId>, out: &mut PackWriter<W>) -> io::Result<()> {
        let header = self.pack.file.header(self.offset)?;
        let bytes = match (header.kind, base) {
            (EntryKind::Whole(kind), _) => EntryHeader::whole(kind, header.size),
            (_, Some(base)) => EntryHeader::reference_delta(base, header.size),
            (_, None) => return Err(invalid("its delta is upon nothing")),
        };
        let begin = self.offset + header.len as u64;
        let section = Section::new(self.pack.file.file.clone(), begin, self.pack.end_of(self.offset));
        out.copy(&bytes, &mut section.buffered(32 << 10))
    }
}

/// The path of a pack's files without their extension, if it is one's.
pub(crate) fn stem_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name().and_then(OsStr::to_str)?;
    let known = ["pack", "idx", GARBAGE].iter().any(|it| path.extension() == Some(OsStr::new(it)));
    (known && name.starts_with("pack-")).then(|| path.with_extension(""))
}
