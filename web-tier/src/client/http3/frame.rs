//! Frames of HTTP/3 (RFC 9114 §7) and QUIC's numbers (RFC 9000 §16), as far as a server reads and writes them.

/// Types of frames.
pub(super) const DATA: u64 = 0x0;
pub(super) const HEADERS: u64 = 0x1;
pub(super) const CANCEL_PUSH: u64 = 0x3;
pub(super) const SETTINGS: u64 = 0x4;
pub(super) const PUSH_PROMISE: u64 = 0x5;
pub(super) const GOAWAY: u64 = 0x7;
pub(super) const MAX_PUSH_ID: u64 = 0xd;

/// Types of unidirectional streams.
pub(super) const CONTROL: u64 = 0x0;
pub(super) const PUSH: u64 = 0x1;
pub(super) const QPACK_ENCODER: u64 = 0x2;
pub(super) const QPACK_DECODER: u64 = 0x3;

/// Settings.
pub(super) const MAX_FIELD_SECTION_SIZE: u64 = 0x6;
pub(super) const ENABLE_CONNECT_PROTOCOL: u64 = 0x8;

/// The largest number that a stream of a client can have (RFC 9114 §5.2).
pub(super) const LAST_REQUEST: u64 = (1 << 62) - 4;

/// Whether it is a frame of HTTP/2 that HTTP/3 does not have: nobody may send it (RFC 9114 §7.2.8).
pub(super) fn is_of_http2(kind: u64) -> bool {
    matches!(kind, 0x2 | 0x6 | 0x8 | 0x9)
}

/// Errors (RFC 9114 §8.1, RFC 9204 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Code {
    NoError = 0x100,
    Internal = 0x102,
    StreamCreation = 0x103,
    ClosedCriticalStream = 0x104,
    FrameUnexpected = 0x105,
    Frame = 0x106,
    ExcessiveLoad = 0x107,
    Id = 0x108,
    Settings = 0x109,
    MissingSettings = 0x10a,
    RequestRejected = 0x10b,
    RequestCancelled = 0x10c,
    RequestIncomplete = 0x10d,
    Message = 0x10e,
    QpackDecompression = 0x200,
    QpackEncoderStream = 0x201,
    QpackDecoderStream = 0x202,
}

impl From<Code> for quinn::VarInt {
    fn from(code: Code) -> Self {
        Self::from_u32(code as u32)
    }
}

/// The number that `input` begins with, and its length; `None` when it is not complete.
pub(super) fn number(input: &[u8]) -> Option<(u64, usize)> {
    let first = *input.first()?;
    let length = 1 << (first >> 6);
    let bytes = input.get(..length)?;
    let value = bytes[1..].iter().fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte));
    Some((value, length))
}

/// Appends a number that is below 2^62.
pub(super) fn put_number(out: &mut Vec<u8>, number: u64) {
    let bytes = number.to_be_bytes();
    match number {
        0..0x40 => out.push(bytes[7]),
        0x40..0x4000 => out.extend_from_slice(&[bytes[6] | 0x40, bytes[7]]),
        0x4000..0x4000_0000 => {
            out.push(bytes[4] | 0x80);
            out.extend_from_slice(&bytes[5..]);
        }
        _ => {
            out.push(bytes[0] | 0xc0);
            out.extend_from_slice(&bytes[1..]);
        }
    }
}

/// Appends the head of a frame.
pub(super) fn put_head(out: &mut Vec<u8>, kind: u64, length: usize) {
    put_number(out, kind);
    put_number(out, length as u64);
}

/// The head of a frame as it comes: type and length.
#[derive(Debug, Default)]
pub(super) struct FrameHead {
    bytes: [u8; 16],
    filled: u8,
}

impl FrameHead {
    /// Takes what belongs to the head off the beginning of `input`: how many bytes those are, and the head if it is complete.
    pub(super) fn take(&mut self, input: &[u8]) -> (usize, Option<(u64, u64)>) {
        for (taken, byte) in input.iter().enumerate() {
            self.bytes[usize::from(self.filled)] = *byte;
            self.filled += 1;
            if let Some(head) = self.read() {
                self.filled = 0;
                return (taken + 1, Some(head));
            }
        }
        (input.len(), None)
    }

    fn read(&self) -> Option<(u64, u64)> {
        let bytes = &self.bytes[..usize::from(self.filled)];
        let (kind, length) = number(bytes)?;
        Some((kind, number(&bytes[length..])?.0))
    }

    /// Whether nothing of a head is here.
    pub(super) fn is_empty(&self) -> bool {
        self.filled == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_standard() {
        // RFC 9000 §A.1.
        for (bytes, value) in [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ] {
            assert_eq!(number(bytes), Some((value, bytes.len())));
            assert_eq!(number(&bytes[..bytes.len() - 1]), None);
            let mut out = Vec::new();
            put_number(&mut out, value);
            assert_eq!(out, bytes);
        }
        assert_eq!(number(&[0x40, 0x25]), Some((37, 2)), "not the shortest form, which is allowed");
    }

    #[test]
    fn a_head_comes_in_any_pieces() {
        let mut bytes = Vec::new();
        put_head(&mut bytes, 0x21 + 0x1f * 1_000_000_000_000, 70_000);
        bytes.extend_from_slice(b"rest");
        let head = (0x21 + 0x1f * 1_000_000_000_000, 70_000);
        assert_eq!(FrameHead::default().take(&bytes), (bytes.len() - 4, Some(head)));
        let mut frame = FrameHead::default();
        assert!(frame.is_empty());
        for byte in &bytes[..bytes.len() - 5] {
            assert_eq!(frame.take(&[*byte]), (1, None));
            assert!(!frame.is_empty());
        }
        assert_eq!(frame.take(&bytes[bytes.len() - 5..]), (1, Some(head)));
        assert!(frame.is_empty());
    }
}
