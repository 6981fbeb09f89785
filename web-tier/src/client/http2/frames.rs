//! Frames found among the bytes of a connection, by their headers alone (RFC 9113 §4.1).

/// The length of the preface that a client begins with (§3.4), and of a frame's header.
const PREFACE: usize = 24;
const HEADER: usize = 9;

/// The types of frames that are looked at (§6).
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const WINDOW_UPDATE: u8 = 8;

/// `ACK` of `SETTINGS` and `PING`, and `END_STREAM` of `DATA` and `HEADERS`.
pub(super) const ACK_OR_END_STREAM: u8 = 1;

/// A frame, as its header says (§4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    /// Of the payload.
    pub(super) length: usize,
}

impl Frame {
    fn of(header: [u8; HEADER]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = header;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        // The first bit means nothing.
        Self { kind, flags, stream: u32::from_be_bytes(stream) & (u32::MAX >> 1), length }
    }
}

/// What is found among the bytes.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// A frame begins.
    Frame(Frame),
    /// More of its payload.
    Payload(&'a [u8]),
}

/// Finds the frames of one direction.
#[derive(Debug)]
pub(super) struct Frames {
    header: [u8; HEADER],
    /// How much of a header there is.
    have: usize,
    /// What is left of a payload, or of the preface.
    rest: usize,
}

impl Frames {
    /// Those that a client sends.
    pub(super) fn of_client() -> Self {
        Self { header: [0; HEADER], have: 0, rest: PREFACE }
    }

    /// Those that a server sends.
    pub(super) fn of_server() -> Self {
        Self { rest: 0, ..Self::of_client() }
    }

    /// Tells of the frames whose headers end in `bytes`, and of the payloads in it.
    pub(super) fn each<'a>(&mut self, mut bytes: &'a [u8], mut found: impl FnMut(Found<'a>)) {
        while !bytes.is_empty() {
            let payload;
            (payload, bytes) = bytes.split_at(self.rest.min(bytes.len()));
            if !payload.is_empty() {
                self.rest -= payload.len();
                found(Found::Payload(payload));
            }
            let count = (HEADER - self.have).min(bytes.len());
            self.header[self.have..self.have + count].copy_from_slice(&bytes[..count]);
            self.have += count;
            bytes = &bytes[count..];
            if self.have == HEADER {
                let frame = Frame::of(self.header);
                self.rest = frame.length;
                self.have = 0;
                found(Found::Frame(frame));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0x80, 0, 1, 2], payload].concat()
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let text = [
            frame(SETTINGS, 0, &[0; 6]),
            frame(SETTINGS, ACK_OR_END_STREAM, &[]),
            frame(HEADERS, 5, &[9; 300]),
            frame(DATA, 0, &[]),
            frame(DATA, 0, &[3; 70_000]),
            frame(0x3a, 0, &[]),
        ]
        .concat();
        let all = [(4, 0, 6), (4, 1, 0), (1, 5, 300), (0, 0, 0), (0, 0, 70_000), (0x3a, 0, 0)]
            .map(|(kind, flags, length)| Frame { kind, flags, stream: 0x102, length });
        for size in [1, 2, 9, 23, 24, 25, 1000, text.len()] {
            let client = [&[b'P'; PREFACE], &text[..]].concat();
            for (mut frames, bytes) in [(Frames::of_client(), &client), (Frames::of_server(), &text)] {
                let (mut found, mut payload) = (Vec::new(), Vec::new());
                for piece in bytes.chunks(size) {
                    frames.each(piece, |it| match it {
                        Found::Frame(frame) => found.push(frame),
                        Found::Payload(bytes) => payload.extend_from_slice(bytes),
                    });
                }
                assert_eq!(found, all, "in pieces of {size}");
                assert!(payload.ends_with(&[3; 70_000]) && payload.len() + 9 * all.len() == bytes.len());
                assert_eq!((frames.have, frames.rest), (0, 0));
            }
        }
    }
}
