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
    input: Box<[u8]>,
    output: Box<[u8]>,
}

impl Deflater {
    pub(super) fn new() -> Self {
        let buffer = || vec![0; BUFFER_BYTES].into_boxed_slice();
        Self { deflate: Compress::new(Compression::fast(), true), input: buffer(), output: buffer() }
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
        self.deflate.reset();
        // One byte more than expected would be noticed.
        let mut content = content.take(size.saturating_add(1));
        loop {
            let count = read(&mut content, &mut self.input)?;
            self.compress(count, out)?;
            if count == 0 {
                break;
            }
        }
        if self.deflate.total_in() == size {
            return Ok(());
        }
        let why = format!("an object has another size than the {size} bytes that were announced");
        Err(io::Error::new(io::ErrorKind::InvalidInput, why))
    }

    /// Compresses so many bytes of the input; none end the entry.
    fn compress(&mut self, count: usize, out: &mut dyn Write) -> io::Result<()> {
        let flush = if count == 0 { FlushCompress::Finish } else { FlushCompress::None };
        let begin = self.deflate.total_in();
        loop {
            let done = usize::try_from(self.deflate.total_in() - begin).unwrap_or(count);
            let before = self.deflate.total_out();
            let status = self.deflate.compress(&self.input[done..count], &mut self.output, flush);
            let status = status.map_err(io::Error::other)?;
            let made = usize::try_from(self.deflate.total_out() - before).unwrap_or(0);
            out.write_all(&self.output[..made])?;
            let all_in = self.deflate.total_in() - begin == count as u64;
            if (count > 0 && all_in) || status == Status::StreamEnd {
                return Ok(());
            }
        }
    }
}

fn read(input: &mut (impl Read + ?Sized), buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
