//! An object's content that can be addressed: in memory while it is small, in an unnamed temporary file when it is not.

use super::MEMORY_BYTES;
use crate::room::WhileRoom;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// An unpacked object.
#[derive(Debug)]
pub(crate) enum Content {
    Memory(Vec<u8>),
    File(File, u64),
}

impl Content {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(_, size) => *size,
        }
    }

    /// Fills the buffer from there; an error when there is less.
    pub(crate) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Self::Memory(bytes) => {
                let begin = usize::try_from(offset).ok();
                let part = begin.and_then(|it| bytes.get(it..)?.get(..buffer.len()));
                buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
            Self::File(file, _) => file.read_exact_at(buffer, offset),
        }
    }

    /// Reads `size` bytes to where they can be addressed; an error when there are fewer or more.
    pub(crate) fn unpack(input: &mut dyn Read, size: u64, folder: &Path) -> io::Result<Self> {
        let mut writer = ContentWriter::new(size, folder)?;
        let copied = io::copy(&mut input.take(size.saturating_add(1)), &mut writer)?;
        if copied == size { writer.finish() } else { Err(invalid("an object has another size than it says")) }
    }

    pub(crate) fn into_reader(self) -> ContentReader {
        ContentReader { content: self, offset: 0 }
    }
}

pub(super) fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Collects a content whose size is known.
#[derive(Debug)]
pub(super) enum ContentWriter {
    Memory(Vec<u8>),
    File(BufWriter<WhileRoom<File>>, u64),
}

impl ContentWriter {
    pub(super) fn new(size: u64, folder: &Path) -> io::Result<Self> {
        if size > MEMORY_BYTES {
            let file = WhileRoom::new(tempfile::tempfile_in(folder)?);
            return Ok(Self::File(BufWriter::with_capacity(64 << 10, file), 0));
        }
        // Grows as it is filled: a size that is only claimed costs nothing.
        Ok(Self::Memory(Vec::with_capacity(usize::try_from(size.min(64 << 10)).unwrap_or(0))))
    }

    pub(super) fn finish(self) -> io::Result<Content> {
        match self {
            Self::Memory(bytes) => Ok(Content::Memory(bytes)),
            Self::File(file, size) => Ok(Content::File(file.into_inner()?.into_inner(), size)),
        }
    }
}

impl Write for ContentWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Memory(all) => {
                all.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            Self::File(file, size) => {
                let count = file.write(bytes)?;
                *size += count as u64;
                Ok(count)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a content from its beginning.
#[derive(Debug)]
pub(crate) struct ContentReader {
    content: Content,
    offset: u64,
}

impl Read for ContentReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.content.len() - self.offset).unwrap_or(usize::MAX);
        let most = left.min(buffer.len());
        self.content.read_exact_at(&mut buffer[..most], self.offset)?;
        self.offset += most as u64;
        Ok(most)
    }
}
