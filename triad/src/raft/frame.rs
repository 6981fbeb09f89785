//! Records on disk: `length (4) · CRC-32 (4) · kind (1) · payload`, little-endian. The length counts kind and payload, and
//! so does the sum.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

/// Bytes before the kind.
pub(crate) const HEAD: usize = 8;

/// No record is larger: a length beyond it is damage.
pub(crate) const RECORD_MAX: usize = 256 << 20;

/// Appends a record; returns where its payload begins in `out`.
pub(crate) fn put(out: &mut BytesMut, kind: u8, payload: &impl Message) -> usize {
    let start = out.len();
    out.put_bytes(0, HEAD);
    out.put_u8(kind);
    payload.encode(out).expect("a buffer grows as needed");
    finish(out, start)
}

/// Appends a record of raw bytes.
pub(crate) fn put_raw(out: &mut BytesMut, kind: u8, payload: &[u8]) -> usize {
    let start = out.len();
    out.put_bytes(0, HEAD);
    out.put_u8(kind);
    out.put_slice(payload);
    finish(out, start)
}

fn finish(out: &mut BytesMut, start: usize) -> usize {
    let body = out.len() - start - HEAD;
    let sum = crc32fast::hash(&out[start + HEAD..]);
    let length = u32::try_from(body).expect("a record is smaller than 4 GiB: entries are bounded");
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + HEAD].copy_from_slice(&sum.to_le_bytes());
    start + HEAD + 1
}

/// A record that was read.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// Its kind.
    pub(crate) kind: u8,
    /// Its payload.
    pub(crate) payload: Bytes,
    /// Where it ends.
    pub(crate) end: usize,
}

/// Why there is no record at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// The bytes end inside it.
    #[error("a record ends in its middle")]
    Short,
    /// Its length is zero or beyond any record's.
    #[error("a record of {0} bytes is impossible")]
    Length(u32),
    /// Its sum differs.
    #[error("a record's checksum is wrong: {found:08x}, expected {expected:08x}")]
    Sum {
        /// What its bytes sum to.
        found: u32,
        /// What it says.
        expected: u32,
    },
}

/// Reads a head: body length and sum.
pub(crate) fn head(head: [u8; HEAD]) -> Result<(usize, u32), FrameError> {
    let [a, b, c, d, e, f, g, h] = head;
    let length = u32::from_le_bytes([a, b, c, d]);
    match length as usize {
        body if body > 0 && body <= RECORD_MAX => Ok((body, u32::from_le_bytes([e, f, g, h]))),
        _ => Err(FrameError::Length(length)),
    }
}

/// Checks a body against its sum and splits off the kind.
pub(crate) fn body(mut body: Bytes, expected: u32) -> Result<(u8, Bytes), FrameError> {
    let found = crc32fast::hash(&body);
    if found != expected {
        return Err(FrameError::Sum { found, expected });
    }
    let payload = body.split_off(1);
    Ok((body[0], payload))
}

/// Reads the record at `offset`; `None` at the end of the bytes.
pub(crate) fn read(bytes: &Bytes, offset: usize) -> Result<Option<Record>, FrameError> {
    let rest = &bytes[offset..];
    if rest.is_empty() {
        return Ok(None);
    }
    let (length, sum) = head(*rest.first_chunk::<HEAD>().ok_or(FrameError::Short)?)?;
    let start = offset + HEAD;
    if bytes.len() - start < length {
        return Err(FrameError::Short);
    }
    let (kind, payload) = body(bytes.slice(start..start + length), sum)?;
    Ok(Some(Record { kind, payload, end: start + length }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_put_is_read(records in proptest::collection::vec((0u8..9, proptest::collection::vec(any::<u8>(), 0..50)), 0..20)) {
            let mut out = BytesMut::new();
            for (kind, payload) in &records {
                put_raw(&mut out, *kind, payload);
            }
            let bytes = out.freeze();
            let (mut offset, mut found) = (0, Vec::new());
            while let Some(record) = read(&bytes, offset).unwrap() {
                offset = record.end;
                found.push((record.kind, record.payload.to_vec()));
            }
            prop_assert_eq!(found, records);
        }

        #[test]
        fn any_flipped_bit_is_found(payload in proptest::collection::vec(any::<u8>(), 1..50), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut out = BytesMut::new();
            put_raw(&mut out, 1, &payload);
            let place = at.index(out.len());
            out[place] ^= 1 << bit;
            prop_assert!(read(&out.freeze(), 0).is_err());
        }

        #[test]
        fn garbage_never_panics(garbage in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(&Bytes::from(garbage), 0);
        }
    }
}
