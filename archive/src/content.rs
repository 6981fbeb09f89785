//! The content of one file: as many bytes as were announced, and with their checksum, or an error.

use crate::error::Problem;
use crc32fast::Hasher;
use std::io::{self, Read};

/// Reads one file and remembers what went wrong, whatever its reader makes of the error.
pub(crate) struct Content<'r> {
    inner: &'r mut dyn Read,
    size: u64,
    left: u64,
    /// The CRC-32 that it has to have, where the archive has one.
    checksum: Option<(Hasher, u32)>,
    /// The end was seen and all was well.
    ended: bool,
    problem: Option<Problem>,
}

impl<'r> Content<'r> {
    /// `inner` has to end after `size` bytes.
    pub(crate) fn new(inner: &'r mut dyn Read, size: u64, checksum: Option<u32>) -> Self {
        let checksum = checksum.map(|expected| (Hasher::new(), expected));
        Self { inner, size, left: size, checksum, ended: false, problem: None }
    }

    /// Skips what is left.
    ///
    /// # Errors
    /// Whatever was wrong with the content, now or while it was read.
    pub(crate) fn finish(mut self) -> Result<(), Problem> {
        let mut piece = [0; 8 * 1024];
        while self.problem.is_none() && !self.ended {
            // Its error is in `problem`, but for an interruption.
            let _ = self.read(&mut piece);
        }
        self.problem.map_or(Ok(()), Err)
    }

    /// Whether an error was handed out.
    pub(crate) fn has_failed(&self) -> bool {
        self.problem.is_some()
    }

    fn read_checked(&mut self, into: &mut [u8]) -> Result<usize, io::Error> {
        if self.left == 0 {
            return self.end().map(|()| 0);
        }
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        let read = self.inner.read(&mut into[..room])?;
        if read == 0 {
            return Err(Problem::Size { found: "fewer", expected: self.size }.into());
        }
        self.left -= read as u64;
        if let Some((hasher, _)) = &mut self.checksum {
            hasher.update(&into[..read]);
        }
        Ok(read)
    }

    fn end(&mut self) -> Result<(), io::Error> {
        if self.ended {
            return Ok(());
        }
        if self.inner.read(&mut [0])? > 0 {
            return Err(Problem::Size { found: "more", expected: self.size }.into());
        }
        if let Some((hasher, expected)) = &self.checksum {
            let found = hasher.clone().finalize();
            if found != *expected {
                let text = format!("checksum {found:08x}, expected {expected:08x}");
                return Err(Problem::Damaged(text).into());
            }
        }
        self.ended = true;
        Ok(())
    }
}

impl Read for Content<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Some(problem) = &self.problem {
            return Err(io::Error::other(problem.to_string()));
        }
        if into.is_empty() {
            return Ok(0);
        }
        self.read_checked(into).map_err(|error| {
            if error.kind() == io::ErrorKind::Interrupted {
                return error;
            }
            let problem = self.problem.insert(error.into());
            io::Error::other(problem.to_string())
        })
    }
}
