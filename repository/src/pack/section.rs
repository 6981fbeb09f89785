//! Reading a part of a file that others read too.

use std::borrow::Borrow;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;

/// Reads a file from an offset to an end, without moving its cursor.
#[derive(Debug)]
pub(crate) struct Section<F> {
    file: F,
    offset: u64,
    end: u64,
}

impl<F: Borrow<File>> Section<F> {
    pub(crate) fn new(file: F, offset: u64, end: u64) -> Self {
        Self { file, offset, end }
    }

    /// With a buffer for `expected` bytes, if these are few.
    pub(crate) fn buffered(self, expected: u64) -> BufReader<Self> {
        let capacity = usize::try_from(expected.saturating_add(64).min(32 << 10)).unwrap_or(32 << 10);
        BufReader::with_capacity(capacity, self)
    }
}

impl<F: Borrow<File>> Read for Section<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let most = left.min(buffer.len());
        let count = self.file.borrow().read_at(&mut buffer[..most], self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}
