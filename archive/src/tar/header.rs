//! A tar's header block: where its fields are (POSIX.1-2024, pax, "ustar Interchange Format"), and how numbers are written in them.

use super::{BLOCK, damaged};
use crate::error::Problem;
use std::ops::Range;

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const SIZE: Range<usize> = 124..136;
const CHECKSUM: Range<usize> = 148..156;
const KIND: usize = 156;
const TARGET: Range<usize> = 157..257;
/// `ustar\0` is POSIX's; GNU's is `ustar  \0`, and has other things where the prefix is.
const MAGIC: Range<usize> = 257..263;
const PREFIX: Range<usize> = 345..500;

#[derive(Debug)]
pub(crate) struct Header(pub(crate) [u8; BLOCK]);

impl Header {
    pub(crate) fn is_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    /// The sum of all bytes, the checksum itself taken for spaces.
    pub(crate) fn has_right_checksum(&self) -> bool {
        let sum = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        let spaces = CHECKSUM.len() as u64 * u64::from(b' ');
        let expected = sum(&self.0) - sum(&self.0[CHECKSUM]) + spaces;
        number(&self.0[CHECKSUM]) == Some(expected)
    }

    pub(crate) fn kind(&self) -> u8 {
        self.0[KIND]
    }

    pub(crate) fn path(&self) -> Vec<u8> {
        let name = text(&self.0[NAME]);
        let prefix = text(&self.0[PREFIX]);
        if &self.0[MAGIC] == b"ustar\0" && !prefix.is_empty() {
            return [prefix, b"/", name].concat();
        }
        name.to_vec()
    }

    pub(crate) fn target(&self) -> Vec<u8> {
        text(&self.0[TARGET]).to_vec()
    }

    pub(crate) fn size(&self) -> Result<u64, Problem> {
        number(&self.0[SIZE]).ok_or_else(|| damaged("the size in its header is no number"))
    }

    /// Git's rule: executable to its owner.
    pub(crate) fn is_executable(&self) -> Result<bool, Problem> {
        let mode = number(&self.0[MODE]).ok_or_else(|| damaged("the mode in its header is no number"))?;
        Ok(mode & 0o100 != 0)
    }
}

/// Up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Octal digits between spaces, up to a NUL; or, with the top bit set, GNU's binary.
fn number(field: &[u8]) -> Option<u64> {
    if let Some((0x80, binary)) = field.split_first() {
        return binary.iter().try_fold(0_u64, |sum, byte| Some(sum.checked_mul(256)? | u64::from(*byte)));
    }
    let digits = text(field).trim_ascii();
    let digit = |sum: u64, byte: &u8| match byte {
        b'0'..=b'7' => sum.checked_mul(8)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    };
    digits.iter().try_fold(0, digit)
}
