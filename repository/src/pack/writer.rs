//! Writing a pack of whole objects as it streams.

use super::MAGIC;
use super::entry::EntryHeader;
use crate::objects::Hasher;
use crate::{Kind, ObjectId};
use flate2::{Compress, Compression, FlushCompress, Status};
use std::io::{self, Read, Write};

/// Writes a pack of version 2: a header, `count` objects, a checksum.
#[derive(Debug)]
pub struct PackWriter<W> {
    out: Checksummed<W>,
    left: u32,
    deflater: Deflater,
}

/// Counts and hashes what is written.
#[derive(Debug)]
struct Checksummed<W> {
    out: W,
    hasher: Hasher,
    /// Of the entry.
    crc: crc32fast::Hasher,
    written: u64,
}

impl<W: Write> Write for Checksummed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write_all(bytes)?;
        self.hasher.update(bytes);
        self.crc.update(bytes);
        self.written += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

const BUFFER_BYTES: usize = 32 << 10;

impl<W: Write> PackWriter<W> {
    /// Begins a pack of so many objects, compressed a little.
    ///
    /// # Errors
    /// What writing says.
    pub fn new(out: W, count: u32) -> io::Result<Self> {
        let mut out = Checksummed { out, hasher: Hasher::new(), crc: crc32fast::Hasher::new(), written: 0 };
        out.write_all(&MAGIC)?;
        out.write_all(&count.to_be_bytes())?;
        Ok(Self { out, left: count, deflater: Deflater::new() })
    }

    /// Adds an object of `size` bytes. The pack is of no use after an error.
    ///
    /// # Errors
    /// What reading and writing say; `InvalidInput` when the content has another size, or more objects come than were announced.
    pub fn add(&mut self, kind: Kind, size: u64, content: &mut dyn Read) -> io::Result<()> {
        self.count()?;
        self.deflater.entry(kind, size, content, &mut self.out)
    }

    /// Adds an entry that another pack has, as it is: its header, then its compressed bytes.
    pub(super) fn copy(&mut self, header: &[u8], compressed: &mut dyn Read) -> io::Result<()> {
        self.count()?;
        self.out.write_all(header)?;
        io::copy(compressed, &mut self.out).map(drop)
    }

    /// Begins an entry.
    fn count(&mut self) -> io::Result<()> {
        self.out.crc = crc32fast::Hasher::new();
        let more = "more objects than were announced";
        self.left = self.left.checked_sub(1).ok_or(io::Error::new(io::ErrorKind::InvalidInput, more))?;
        Ok(())
    }

    /// The checksum of the entry that was added last, as an index has it.
    pub(crate) fn crc(&self) -> u32 {
        self.out.crc.clone().finalize()
    }

    /// Bytes so far: where the next entry begins.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.out.written
    }

    /// Ends the pack; its checksum and what it was written to.
    ///
    /// # Errors
    /// What writing says; `InvalidInput` when fewer objects came than were announced.
    pub fn finish(mut self) -> io::Result<(ObjectId, W)> {
        if self.left > 0 {
            let why = format!("{} objects fewer than were announced", self.left);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let checksum = self.out.hasher.finish()?;
        self.out.out.write_all(checksum.as_bytes())?;
        self.out.out.flush()?;
        Ok((checksum, self.out.out))
    }
}

/// Compresses objects to entries, with buffers that serve for many.
#[derive(Debug)]
pub(super) struct Deflater {
    deflate: Compress,
    /// For what does not get smaller: pictures, archives. Ten times as quick.
    store: Compress,
    input: Box<[u8]>,
    output: Box<[u8]>,
}

impl Deflater {
    pub(super) fn new() -> Self {
        let buffer = || vec![0; BUFFER_BYTES].into_boxed_slice();
        // The quickest level makes what is random larger by a twentieth; this one does not, and is little slower.
        let deflate = Compress::new(Compression::new(2), true);
        Self { deflate, store: Compress::new(Compression::none(), true), input: buffer(), output: buffer() }
    }

    /// Writes a whole object's header and its compressed content.
    pub(super) fn entry(
        &mut self,
        kind: Kind,
        size: u64,
        content: &mut dyn Read,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        out.write_all(&EntryHeader::whole(kind, size))?;
        // One byte more than expected would be noticed.
        let mut content = content.take(size.saturating_add(1));
        let mut count = fill(&mut content, &mut self.input)?;
        let shrinks = count < BUFFER_BYTES || self.shrinks()?;
        let Self { deflate, store, input, output } = self;
        let compress = if shrinks { deflate } else { store };
        compress.reset();
        loop {
            deflate_part(compress, &input[..count], output, out)?;
            if count == 0 {
                break;
            }
            count = fill(&mut content, input)?;
        }
        if compress.total_in() == size {
            return Ok(());
        }
        let why = format!("an object has another size than the {size} bytes that were announced");
        Err(io::Error::new(io::ErrorKind::InvalidInput, why))
    }

    /// Tries it on the beginning of a large object.
    fn shrinks(&mut self) -> io::Result<bool> {
        self.deflate.reset();
        deflate_part(&mut self.deflate, &self.input, &mut self.output, &mut io::sink())?;
        deflate_part(&mut self.deflate, &[], &mut self.output, &mut io::sink())?;
        Ok(self.deflate.total_out() < BUFFER_BYTES as u64 * 97 / 100)
    }
}

/// Compresses a part; an empty one ends the entry.
fn deflate_part(
    compress: &mut Compress,
    part: &[u8],
    buffer: &mut [u8],
    out: &mut dyn Write,
) -> io::Result<()> {
    let flush = if part.is_empty() { FlushCompress::Finish } else { FlushCompress::None };
    let begin = compress.total_in();
    loop {
        let done = usize::try_from(compress.total_in() - begin).unwrap_or(part.len());
        let before = compress.total_out();
        let status = compress.compress(&part[done..], buffer, flush).map_err(io::Error::other)?;
        let made = usize::try_from(compress.total_out() - before).unwrap_or(0);
        out.write_all(&buffer[..made])?;
        let all_in = !part.is_empty() && compress.total_in() - begin == part.len() as u64;
        if all_in || status == Status::StreamEnd {
            return Ok(());
        }
    }
}

/// Fills a buffer as far as the input goes.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
