//! A pack as it arrives: hashed, counted and written to a file while it is read.

use super::PackError;
use crate::ObjectId;
use crate::objects::Hasher;
use crate::room::WhileRoom;
use flate2::{Decompress, FlushDecompress, Status};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};

const BUFFER_BYTES: usize = 64 << 10;

/// Reads a pack and keeps a copy of what was read.
#[derive(Debug)]
pub(super) struct PackStream<'a, R> {
    input: R,
    copy: BufWriter<WhileRoom<&'a File>>,
    buffer: Box<[u8]>,
    begin: usize,
    end: usize,
    unpacked: Box<[u8]>,
    inflate: Decompress,
    hasher: Hasher,
    crc: crc32fast::Hasher,
    offset: u64,
    limit: u64,
}

impl<'a, R: Read> PackStream<'a, R> {
    /// Refuses more than `limit` bytes.
    pub(super) fn new(input: R, copy: &'a File, limit: u64) -> Self {
        let buffer = || vec![0; BUFFER_BYTES].into_boxed_slice();
        Self {
            input,
            copy: BufWriter::with_capacity(BUFFER_BYTES, WhileRoom::new(copy)),
            buffer: buffer(),
            begin: 0,
            end: 0,
            unpacked: buffer(),
            inflate: Decompress::new(true),
            hasher: Hasher::new(),
            crc: crc32fast::Hasher::new(),
            offset: 0,
            limit,
        }
    }

    /// Bytes that were consumed.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next bytes: at least so many, or all that are left.
    pub(super) fn peek(&mut self, least: usize) -> Result<&[u8], PackError> {
        if self.end - self.begin < least && self.begin > 0 {
            self.buffer.copy_within(self.begin..self.end, 0);
            self.end -= self.begin;
            self.begin = 0;
        }
        while self.end - self.begin < least {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(PackError::Read(error)),
            }
        }
        Ok(&self.buffer[self.begin..self.end])
    }

    /// Takes bytes that were peeked at.
    pub(super) fn consume(&mut self, count: usize) -> Result<(), PackError> {
        let bytes = &self.buffer[self.begin..self.begin + count];
        self.hasher.update(bytes);
        self.crc.update(bytes);
        self.copy.write_all(bytes).map_err(PackError::Disk)?;
        self.begin += count;
        self.offset += count as u64;
        if self.offset > self.limit {
            return Err(PackError::Limit { what: "bytes", found: self.offset, limit: self.limit });
        }
        Ok(())
    }

    /// Begins the checksum of an entry.
    pub(super) fn begin_crc(&mut self) {
        self.crc = crc32fast::Hasher::new();
    }

    pub(super) fn crc(&self) -> u32 {
        self.crc.clone().finalize()
    }

    /// Unpacks what follows into `sink`; refuses more or fewer bytes than `size`.
    pub(super) fn inflate(&mut self, size: u64, mut sink: impl FnMut(&[u8])) -> Result<(), PackError> {
        let offset = self.offset;
        let wrong = |why| PackError::Entry { offset, why };
        self.inflate.reset(true);
        loop {
            if self.peek(1)?.is_empty() {
                return Err(PackError::Truncated(self.offset));
            }
            let (read, made) = (self.inflate.total_in(), self.inflate.total_out());
            let input = &self.buffer[self.begin..self.end];
            let status = self.inflate.decompress(input, &mut self.unpacked, FlushDecompress::None);
            let status = status.map_err(|_| wrong("is not zlib's format"))?;
            let count = usize::try_from(self.inflate.total_in() - read).unwrap_or(0);
            let more = usize::try_from(self.inflate.total_out() - made).unwrap_or(0);
            if self.inflate.total_out() > size {
                return Err(wrong("unpacks to more bytes than it says"));
            }
            self.consume(count)?;
            sink(&self.unpacked[..more]);
            match status {
                Status::StreamEnd => break,
                _ if count == 0 && more == 0 => return Err(wrong("is not zlib's format")),
                Status::Ok | Status::BufError => {}
            }
        }
        if self.inflate.total_out() == size {
            Ok(())
        } else {
            Err(wrong("unpacks to fewer bytes than it says"))
        }
    }

    /// Reads the checksum and the end; the checksum.
    pub(super) fn finish(mut self) -> Result<ObjectId, PackError> {
        let offset = self.offset;
        let bytes = self.peek(21)?;
        let found = bytes.get(..20).and_then(|it| ObjectId::from_bytes(it).ok());
        let found = found.ok_or(PackError::Truncated(offset))?;
        if bytes.len() > 20 {
            return Err(PackError::Trailing);
        }
        let expected = self.hasher.finish().map_err(|it| PackError::Read(it.into()))?;
        if found != expected {
            return Err(PackError::Checksum { found, expected });
        }
        self.copy.write_all(found.as_bytes()).and_then(|()| self.copy.flush()).map_err(PackError::Disk)?;
        Ok(found)
    }
}
