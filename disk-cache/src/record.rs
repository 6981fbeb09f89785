//! A record as it is on disk: a header of 48 bytes, then key, meta and body. Numbers are little-endian.

use bytes::Bytes;

/// The length of a header, in bytes.
pub(crate) const HEADER: usize = 48;

/// How a record begins.
const MAGIC: [u8; 4] = *b"CPK1";

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A thing that is kept.
    Entry = 1,
    /// All of a group before it is forgotten.
    Forget = 2,
    /// A word of the user of this crate.
    Note = 3,
}

/// What stands before a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) group: u64,
    pub(crate) key_hash: u64,
    pub(crate) key: u32,
    pub(crate) meta: u32,
    pub(crate) body: u32,
    /// Seconds since 1970.
    pub(crate) expires: u32,
    /// Over all the rest of the record.
    pub(crate) crc: u32,
}

/// A thing that is kept, as it is handed in and out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// What it is found by, among others of its group.
    pub key: Bytes,
    /// What is known of it.
    pub meta: Bytes,
    /// The thing.
    pub body: Bytes,
    /// When nobody wants it any more, in seconds since 1970.
    pub expires: u32,
}

impl Header {
    /// Of a record on disk; `None`: it is none, or too long for what is left of its file.
    pub(crate) fn read(bytes: &[u8], left: u64) -> Option<Self> {
        let bytes: &[u8; HEADER] = bytes.get(..HEADER)?.try_into().ok()?;
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        let kind = match word(4) {
            1 => Kind::Entry,
            2 => Kind::Forget,
            3 => Kind::Note,
            _ => return None,
        };
        let header = Self {
            kind,
            group: long(8),
            key_hash: long(16),
            key: word(24),
            meta: word(28),
            body: word(32),
            expires: word(36),
            crc: word(40),
        };
        (bytes[..4] == MAGIC && word(44) == 0 && header.length() <= left).then_some(header)
    }

    /// Of the whole record, in bytes.
    pub(crate) fn length(&self) -> u64 {
        HEADER as u64 + u64::from(self.key) + u64::from(self.meta) + u64::from(self.body)
    }

    /// As it is on disk.
    pub(crate) fn bytes(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[..4].copy_from_slice(&MAGIC);
        let words = [
            (4, self.kind as u32),
            (24, self.key),
            (28, self.meta),
            (32, self.body),
            (36, self.expires),
            (40, self.crc),
        ];
        for (at, word) in words {
            out[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        out[8..16].copy_from_slice(&self.group.to_le_bytes());
        out[16..24].copy_from_slice(&self.key_hash.to_le_bytes());
        out
    }

    /// The sum over a record whose parts are these.
    fn sum(&self, parts: [&[u8]; 3]) -> u32 {
        let mut sum = crc32fast::Hasher::new();
        sum.update(&Self { crc: 0, ..*self }.bytes());
        parts.iter().for_each(|it| sum.update(it));
        sum.finalize()
    }

    /// Whether what stands behind it is what was written.
    pub(crate) fn fits(&self, rest: [&[u8]; 2]) -> bool {
        let length = HEADER + rest[0].len() + rest[1].len();
        length as u64 == self.length() && self.sum([rest[0], rest[1], &[]]) == self.crc
    }
}

/// Writes a record; `None`: it is too long for one.
pub(crate) fn put(
    kind: Kind,
    (group, key_hash): (u64, u64),
    record: &Record,
    out: &mut Vec<u8>,
) -> Option<Header> {
    let length = |part: &Bytes| u32::try_from(part.len()).ok().filter(|it| *it < 1 << 30);
    let mut header = Header {
        kind,
        group,
        key_hash,
        key: length(&record.key)?,
        meta: length(&record.meta)?,
        body: length(&record.body)?,
        expires: record.expires,
        crc: 0,
    };
    header.crc = header.sum([&record.key, &record.meta, &record.body]);
    out.clear();
    out.extend_from_slice(&header.bytes());
    [&record.key, &record.meta, &record.body].into_iter().for_each(|it| out.extend_from_slice(it));
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// It is read as it was written, and not at all if a bit of it is another one.
        #[test]
        fn a_record_is_what_was_written_or_none(key in "[a-z]{0,20}", meta in "[a-z]{0,20}", body in "[a-z]{0,200}", expires: u32, at: prop::sample::Index, bit in 0..8_u8) {
            let record = Record { key: key.into(), meta: meta.into(), body: body.into(), expires };
            let mut out = Vec::new();
            let header = put(Kind::Entry, (7, 8), &record, &mut out).unwrap();
            let read = |bytes: &[u8]| Header::read(bytes, bytes.len() as u64).filter(|it| it.fits([&bytes[HEADER..], &[]]));
            prop_assert_eq!(read(&out), Some(header));
            prop_assert_eq!(read(&out[..out.len() - 1]), None);
            let at = at.index(out.len());
            out[at] ^= 1 << bit;
            prop_assert_eq!(read(&out), None);
        }
    }
}
