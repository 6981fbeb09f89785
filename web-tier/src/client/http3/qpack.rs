//! QPACK (RFC 9204) without a dynamic table: we allow none (`SETTINGS_QPACK_MAX_TABLE_CAPACITY` 0) and use none. So no section waits for
//! another one, and a connection holds nothing for it.

mod huffman;
mod static_table;

use bytes::BufMut;
use static_table::{FIELDS, Found};

/// What a field counts beyond its bytes (RFC 9114 §4.2.2).
const OVERHEAD: usize = 32;

/// The first byte of each representation of a field (RFC 9204 §4.5), and the bits in it that are the number's.
const INDEXED_STATIC: u8 = 0b1100_0000;
const NAMED_STATIC: u8 = 0b0101_0000;
const LITERAL: u8 = 0b0010_0000;

/// What is wrong with a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection can't go on (QPACK_DECOMPRESSION_FAILED).
    Invalid,
    /// It is larger than allowed.
    TooLarge,
}

impl From<huffman::Invalid> for Fault {
    fn from(_: huffman::Invalid) -> Self {
        Self::Invalid
    }
}

/// Reads the fields of a section, in their order, of which there may be `max` bytes as RFC 9114 §4.2.2 counts them.
///
/// # Errors
/// See [`Fault`], and what `take` says.
pub(super) fn decode<E: From<Fault>>(
    section: &[u8],
    max: usize,
    mut take: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut input = Input(section);
    // Nothing of a dynamic table is needed, which the first number says; to the second one nothing refers then.
    if input.number(8)? != 0 {
        return Err(Fault::Invalid.into());
    }
    input.number(7)?;
    let (mut size, mut name, mut value) = (0, Vec::new(), Vec::new());
    while let Some(first) = input.0.first().copied() {
        let (name, value) = if first & 0b1000_0000 != 0 {
            let (name, value) = input.of_table(first & 0b0100_0000 != 0, 6)?;
            (name.as_bytes(), value.as_bytes())
        } else if first & 0b0100_0000 != 0 {
            let (name, _) = input.of_table(first & 0b0001_0000 != 0, 4)?;
            (name.as_bytes(), input.string(7, &mut value)?)
        } else if first & LITERAL != 0 {
            (input.string(3, &mut name)?, input.string(7, &mut value)?)
        } else {
            // Of a dynamic table.
            return Err(Fault::Invalid.into());
        };
        size += name.len() + value.len() + OVERHEAD;
        if size > max {
            return Err(Fault::TooLarge.into());
        }
        take(name, value)?;
    }
    Ok(())
}

/// What is still to be read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// A number whose first `bits` are the last ones of the next byte (RFC 7541 §5.1).
    fn number(&mut self, bits: u32) -> Result<usize, Fault> {
        let mask = (1_usize << bits) - 1;
        let mut value = usize::from(self.byte()?) & mask;
        if value < mask {
            return Ok(value);
        }
        // No number here is larger than that: all are lengths and places of what is in memory.
        for shift in [0, 7, 14, 21] {
            let byte = usize::from(self.byte()?);
            value += (byte & 127) << shift;
            if byte & 128 == 0 {
                return Ok(value);
            }
        }
        Err(Fault::Invalid)
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        let (first, rest) = self.0.split_first().ok_or(Fault::Invalid)?;
        self.0 = rest;
        Ok(*first)
    }

    /// A string whose length has `bits` in its first byte, and before them whether it is in Huffman's code: that is put into `room`.
    fn string<'b>(&mut self, bits: u32, room: &'b mut Vec<u8>) -> Result<&'b [u8], Fault>
    where
        'a: 'b,
    {
        let packed = self.0.first().is_some_and(|first| first >> bits & 1 == 1);
        let length = self.number(bits)?;
        let (string, rest) = self.0.split_at_checked(length).ok_or(Fault::Invalid)?;
        self.0 = rest;
        if !packed {
            return Ok(string);
        }
        room.clear();
        huffman::decode(string, room)?;
        Ok(room)
    }

    /// The field of the static table whose number is next, if that is the table.
    fn of_table(&mut self, is_static: bool, bits: u32) -> Result<(&'static str, &'static str), Fault> {
        if !is_static {
            return Err(Fault::Invalid);
        }
        FIELDS.get(self.number(bits)?).copied().ok_or(Fault::Invalid)
    }
}

/// Begins a section.
pub(super) fn begin(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0]);
}

/// Appends a field. Values are not packed: that would save a client a few bytes, and cost each answer some time.
pub(super) fn put(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    match static_table::find(name, value) {
        Found::Field(number) => return put_number(out, INDEXED_STATIC, 6, number.into()),
        Found::Name(number) => put_number(out, NAMED_STATIC, 4, number.into()),
        Found::Nothing => {
            put_number(out, LITERAL, 3, name.len());
            out.extend_from_slice(name);
        }
    }
    put_number(out, 0, 7, value.len());
    out.extend_from_slice(value);
}

fn put_number(out: &mut Vec<u8>, first: u8, bits: u32, number: usize) {
    let mask = (1_usize << bits) - 1;
    if number < mask {
        return out.put_u8(first | number as u8);
    }
    out.put_u8(first | mask as u8);
    let mut rest = number - mask;
    while rest >= 128 {
        out.put_u8(rest as u8 | 128);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

#[cfg(test)]
mod tests;
