//! Counts what goes into a decoder and what comes out: decompression bombs end here.

use crate::{error::Problem, limits::Limits};
use std::{
    cell::Cell,
    io::{self, Read},
};

/// Bytes that are read from the disk at once.
pub(crate) const PIECE: usize = 64 * 1024;
/// Bytes of headers and padding that an entry may have, on average, beside its content.
const OVERHEAD: u64 = 4 * 1024;

/// The two counts of one archive.
#[derive(Debug)]
pub(crate) struct Meter<'l> {
    limits: &'l Limits,
    packed: Cell<u64>,
    unpacked: Cell<u64>,
}

impl<'l> Meter<'l> {
    pub(crate) fn new(limits: &'l Limits) -> Self {
        Self { limits, packed: Cell::new(0), unpacked: Cell::new(0) }
    }

    /// What a decoder reads.
    pub(crate) fn packed<R: Read>(&self, inner: R) -> Packed<'_, R> {
        Packed { count: &self.packed, inner }
    }

    /// What comes out of it.
    pub(crate) fn unpacked<R: Read>(&self, inner: R) -> Unpacked<'_, R> {
        Unpacked { meter: self, inner }
    }

    fn came_out(&self, more: usize) -> Result<(), Problem> {
        let unpacked = self.unpacked.get() + more as u64;
        self.unpacked.set(unpacked);
        let Limits { entries, bytes, ratio, ratio_from, .. } = *self.limits;
        let packed = self.packed.get();
        if unpacked > bytes.saturating_add(entries.saturating_mul(OVERHEAD)) {
            return Err(Problem::TooMany { what: "bytes when unpacked", max: bytes });
        }
        if unpacked > ratio_from && unpacked > packed.saturating_mul(ratio) {
            return Err(Problem::Bomb { packed, unpacked, max: ratio });
        }
        Ok(())
    }
}

/// Counts what is read.
#[derive(Debug)]
pub(crate) struct Packed<'m, R> {
    count: &'m Cell<u64>,
    inner: R,
}

impl<R: Read> Read for Packed<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.count.set(self.count.get() + read as u64);
        Ok(read)
    }
}

/// Counts what is read, and refuses too much of it.
#[derive(Debug)]
pub(crate) struct Unpacked<'m, R> {
    meter: &'m Meter<'m>,
    inner: R,
}

impl<R> Unpacked<'_, R> {
    pub(crate) fn get_ref(&self) -> &R {
        &self.inner
    }
}

impl<R: Read> Read for Unpacked<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.meter.came_out(read)?;
        Ok(read)
    }
}
