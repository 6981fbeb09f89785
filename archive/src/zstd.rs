//! Zstandard (RFC 8878): one frame after the other, with their checksums.

use crate::error::Problem;
use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};
use std::io::{self, BufRead, Read};

/// The largest window (RFC 8878 §3.1.1.1.2) in bytes, which is what a decoder has to hold: that of `zstd --ultra -20`. Levels up to
/// 19 take 8 MiB.
const WINDOW_MAX: u64 = 32 << 20;

/// Decodes all frames of a stream; skippable ones are skipped.
pub(crate) struct Decoder<R> {
    inner: R,
    frame: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> Decoder<R> {
    pub(crate) fn new(inner: R) -> Self {
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(WINDOW_MAX);
        Self { inner, frame, in_frame: false }
    }

    /// Whether there is another frame, and has its header read.
    fn next_frame(&mut self) -> io::Result<bool> {
        loop {
            if self.inner.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.frame.reset(&mut self.inner) {
                Ok(()) => {
                    self.in_frame = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    if io::copy(&mut self.inner.by_ref().take(length), &mut io::sink())? < length {
                        return Err(Problem::Truncated.into());
                    }
                }
                Err(error) => return Err(self.problem(&error)?.into()),
            }
        }
    }

    fn end_frame(&mut self) -> Result<(), Problem> {
        self.in_frame = false;
        let expected = self.frame.get_checksum_from_data();
        let found = self.frame.get_calculated_checksum();
        match (expected, found) {
            (Some(expected), Some(found)) if expected != found => Err(Problem::Damaged(format!(
                "checksum {found:08x} of a Zstandard frame, expected {expected:08x}"
            ))),
            _ => Ok(()),
        }
    }

    /// What an error of the decoder means.
    fn problem(&mut self, error: &FrameDecoderError) -> io::Result<Problem> {
        if let FrameDecoderError::WindowSizeTooBig { requested, .. } = error {
            return Ok(Problem::Unsupported {
                found: format!("a Zstandard window of {requested} bytes"),
                expected: "at most 32 MiB, as of `zstd -20` and without `--long`",
            });
        }
        // At the end of the file it is the end that is wrong.
        let ended = self.inner.fill_buf()?.is_empty();
        Ok(if ended { Problem::Truncated } else { Problem::Damaged(format!("Zstandard: {error}")) })
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.in_frame && !self.next_frame()? {
                return Ok(0);
            }
            while self.frame.can_collect() == 0 && !self.frame.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                if let Err(error) = self.frame.decode_blocks(&mut self.inner, one) {
                    return Err(self.problem(&error)?.into());
                }
            }
            let read = self.frame.read(into)?;
            if read > 0 || into.is_empty() {
                return Ok(read);
            }
            self.end_frame()?;
        }
    }
}
