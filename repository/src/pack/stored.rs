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
    /// Where entries begin, in that order, each with its line of the index.
    places: OnceLock<Vec<(u64, usize)>>,
}

/// An object in a pack.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) pack: Arc<Pack>,
    pub(crate) line: Indexed,
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

    /// Follows deltas down to the whole object that they are upon.
    fn chain(&self, mut offset: u64, find: Find<'_>) -> io::Result<Chain> {
        let mut deltas = Vec::new();
        loop {
            let header = self.header(offset)?;
            let base = match header.kind {
                EntryKind::Whole(kind) => return Ok(Chain { deltas, whole: (offset, header), kind }),
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
        let chain = self.chain(offset, find)?;
        let Some((offset, header)) = chain.deltas.first() else {
            return Ok((chain.kind, chain.whole.1.size));
        };
        let (_, size) = delta::sizes(&mut self.inflate(*offset, header))?;
        Ok((chain.kind, size))
    }

    /// An object, unpacked.
    pub(super) fn content(&self, offset: u64, find: Find<'_>, folder: &Path) -> io::Result<(Kind, Content)> {
        let chain = self.chain(offset, find)?;
        let (offset, whole) = chain.whole;
        let mut content = Content::unpack(&mut self.inflate(offset, &whole), whole.size, folder)?;
        for (offset, header) in chain.deltas.iter().rev() {
            content = delta::apply(&content, self.inflate(*offset, header), u64::MAX, folder)?;
        }
        Ok((chain.kind, content))
    }
}

/// An entry with all that it is made of.
#[derive(Debug)]
struct Chain {
    /// From the entry down.
    deltas: Vec<(u64, EntryHeader)>,
    whole: (u64, EntryHeader),
    kind: Kind,
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
            places: OnceLock::new(),
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

    fn places(&self) -> &[(u64, usize)] {
        self.places.get_or_init(|| {
            let mut places: Vec<_> =
                self.index.iter().enumerate().map(|(line, it)| (it.offset, line)).collect();
            places.sort_unstable();
            places
        })
    }

    /// Where the entry that begins there ends.
    fn end_of(&self, offset: u64) -> u64 {
        let next = self.places().partition_point(|(begin, _)| *begin <= offset);
        self.places().get(next).map_or(self.file.end, |(begin, _)| *begin)
    }

    /// Which object begins there.
    fn id_at(&self, offset: u64) -> Option<ObjectId> {
        let place = self.places().binary_search_by_key(&offset, |(begin, _)| *begin).ok()?;
        Some(self.index.line(self.places()[place].1).id)
    }

    fn find(&self) -> impl Fn(&ObjectId) -> Option<u64> + '_ {
        |id| self.index.find(id).map(|it| it.offset)
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
        self.pack.file.size(self.line.offset, &self.pack.find())
    }

    pub(crate) fn content(&self, folder: &Path) -> io::Result<(Kind, Content)> {
        self.pack.file.content(self.line.offset, &self.pack.find(), folder)
    }

    /// A reader of a whole object; `None` for a delta.
    pub(crate) fn stream(&self) -> io::Result<Option<(Kind, u64, Inflate)>> {
        let header = self.pack.file.header(self.line.offset)?;
        let EntryKind::Whole(kind) = header.kind else { return Ok(None) };
        Ok(Some((kind, header.size, self.pack.file.inflate(self.line.offset, &header))))
    }

    /// Which object of the same pack it is a delta upon; `None` for a whole object.
    pub(crate) fn base(&self) -> io::Result<Option<ObjectId>> {
        let header = self.pack.file.header(self.line.offset)?;
        let base = match header.kind {
            EntryKind::Whole(_) => return Ok(None),
            EntryKind::OffsetDelta(distance) => {
                self.line.offset.checked_sub(distance).and_then(|it| self.pack.id_at(it))
            }
            EntryKind::ReferenceDelta(base) => Some(base),
        };
        base.map(Some).ok_or_else(|| invalid("its delta is upon nothing"))
    }

    /// Is it byte for byte what was stored?
    pub(crate) fn is_whole(&self) -> io::Result<bool> {
        let mut crc = Crc(crc32fast::Hasher::new());
        io::copy(&mut self.raw(0), &mut crc)?;
        Ok(crc.0.finalize() == self.line.crc)
    }

    /// Copies it as it is to another pack; `base` is what it is a delta upon.
    pub(crate) fn copy<W: Write>(&self, base: Option<ObjectId>, out: &mut PackWriter<W>) -> io::Result<()> {
        let header = self.pack.file.header(self.line.offset)?;
        let bytes = match (header.kind, base) {
            (EntryKind::Whole(kind), _) => EntryHeader::whole(kind, header.size),
            (_, Some(base)) => EntryHeader::reference_delta(base, header.size),
            (_, None) => return Err(invalid("its delta is upon nothing")),
        };
        out.copy(&bytes, &mut self.raw(header.len))
    }

    /// Its bytes in the pack, without the first ones.
    fn raw(&self, skip: usize) -> BufReader<Section<Arc<File>>> {
        let (begin, end) = (self.line.offset, self.pack.end_of(self.line.offset));
        Section::new(self.pack.file.file.clone(), begin + skip as u64, end)
            .buffered(end.saturating_sub(begin))
    }
}

/// The path of a pack's files without their extension, if it is one's.
pub(crate) fn stem_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name().and_then(OsStr::to_str)?;
    let known = ["pack", "idx", GARBAGE].iter().any(|it| path.extension() == Some(OsStr::new(it)));
    (known && name.starts_with("pack-")).then(|| path.with_extension(""))
}
