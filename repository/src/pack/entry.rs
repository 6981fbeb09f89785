//! The header of an entry: its type, its size, and what it is a delta upon.

use crate::{Kind, ObjectId};

/// What an entry holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// An object as a whole.
    Whole(Kind),
    /// A delta upon the entry that begins so many bytes before.
    OffsetDelta(u64),
    /// A delta upon that object.
    ReferenceDelta(ObjectId),
}

/// The header as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EntryHeader {
    pub(crate) kind: EntryKind,
    /// Bytes of the object, or of the delta, unpacked.
    pub(crate) size: u64,
    /// Bytes of this header.
    pub(crate) len: usize,
}

/// The longest header.
pub(super) const HEADER_MAX: usize = 32;

const OFFSET_DELTA: u8 = 6;
const REFERENCE_DELTA: u8 = 7;

impl EntryHeader {
    /// Reads it from the beginning of `bytes`; `None` when it is cut off or no header.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.iter().copied();
        let first = rest.next()?;
        let (mut size, mut shift, mut byte) = (u64::from(first & 15), 4, first);
        while byte & 0x80 != 0 {
            byte = rest.next()?;
            let part = u64::from(byte & 0x7f);
            if shift > 60 || (part << shift) >> shift != part {
                return None;
            }
            size |= part << shift;
            shift += 7;
        }
        let kind = match (first >> 4) & 7 {
            1 => EntryKind::Whole(Kind::Commit),
            2 => EntryKind::Whole(Kind::Tree),
            3 => EntryKind::Whole(Kind::Blob),
            4 => EntryKind::Whole(Kind::Tag),
            OFFSET_DELTA => EntryKind::OffsetDelta(distance(&mut rest)?),
            REFERENCE_DELTA => {
                let begin = bytes.len() - rest.len();
                let id = ObjectId::from_bytes(bytes.get(begin..begin + 20)?).ok()?;
                return Some(Self { kind: EntryKind::ReferenceDelta(id), size, len: begin + 20 });
            }
            _ => return None,
        };
        Some(Self { kind, size, len: bytes.len() - rest.len() })
    }

    /// Writes the header of a whole object.
    pub(super) fn whole(kind: Kind, size: u64) -> Vec<u8> {
        let number = match kind {
            Kind::Commit => 1,
            Kind::Tree => 2,
            Kind::Blob => 3,
            Kind::Tag => 4,
        };
        sized(number, size)
    }

    /// Writes the header of a delta upon an object of the same pack.
    pub(super) fn reference_delta(base: ObjectId, size: u64) -> Vec<u8> {
        let mut header = sized(REFERENCE_DELTA, size);
        header.extend_from_slice(base.as_bytes());
        header
    }
}

fn distance(rest: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let mut byte = rest.next()?;
    let mut distance = u64::from(byte & 0x7f);
    while byte & 0x80 != 0 {
        byte = rest.next()?;
        distance = distance.checked_add(1)?.checked_mul(128)? | u64::from(byte & 0x7f);
    }
    Some(distance)
}

fn sized(number: u8, size: u64) -> Vec<u8> {
    let low = |it: u64| it.to_le_bytes()[0];
    let mut header = vec![(number << 4) | (low(size) & 15)];
    let mut rest = size >> 4;
    while rest > 0 {
        if let Some(last) = header.last_mut() {
            *last |= 0x80;
        }
        header.push(low(rest) & 0x7f);
        rest >>= 7;
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sizes_both_ways(size: u64) {
            let bytes = EntryHeader::whole(Kind::Blob, size);
            let header = EntryHeader::parse(&bytes).unwrap();
            prop_assert_eq!(header, EntryHeader { kind: EntryKind::Whole(Kind::Blob), size, len: bytes.len() });
            prop_assert_eq!(EntryHeader::parse(&bytes[..bytes.len() - 1]), None);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Some(header) = EntryHeader::parse(&bytes) {
                prop_assert!(header.len <= bytes.len() && header.len <= HEADER_MAX);
            }
        }
    }

    #[test]
    fn deltas() {
        let base = ObjectId::from([7; 20]);
        let bytes = EntryHeader::reference_delta(base, 300);
        let header = EntryHeader::parse(&bytes).unwrap();
        assert_eq!(
            header,
            EntryHeader { kind: EntryKind::ReferenceDelta(base), size: 300, len: bytes.len() }
        );
        // Git's offsets have no two forms: the second byte of two counts from 128.
        let header = EntryHeader::parse(&[0x61, 0x80, 0x00]).unwrap();
        assert_eq!(header.kind, EntryKind::OffsetDelta(128));
    }
}
