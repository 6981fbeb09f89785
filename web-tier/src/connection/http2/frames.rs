//! Frames found among the bytes of a connection, by their headers alone (RFC 9113 §4.1).

/// The length of the preface that a client begins with (§3.4), and of a frame's header.
const PREFACE: usize = 24;
const HEADER: usize = 9;

/// The types of frames that are looked at (§6).
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const WINDOW_UPDATE: u8 = 8;

/// `ACK` of `SETTINGS` and `PING`, and `END_STREAM` of `DATA` and `HEADERS`.
pub(super) const ACK_OR_END_STREAM: u8 = 1;

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

    /// Tells of the frames whose headers end in `bytes`: type, flags, and the payload's length.
    pub(super) fn each(&mut self, mut bytes: &[u8], mut found: impl FnMut(u8, u8, usize)) {
        while !bytes.is_empty() {
            let payload = self.rest.min(bytes.len());
            self.rest -= payload;
            bytes = &bytes[payload..];
            let count = (HEADER - self.have).min(bytes.len());
            self.header[self.have..self.have + count].copy_from_slice(&bytes[..count]);
            self.have += count;
            bytes = &bytes[count..];
            if self.have == HEADER {
                let [a, b, c, kind, flags, ..] = self.header;
                self.rest = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                self.have = 0;
                found(kind, flags, self.rest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
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
        let all = [(4, 0, 6), (4, 1, 0), (1, 5, 300), (0, 0, 0), (0, 0, 70_000), (0x3a, 0, 0)];
        for size in [1, 2, 9, 23, 24, 25, 1000, text.len()] {
            let client = [&[b'P'; PREFACE], &text[..]].concat();
            for (mut frames, bytes) in [(Frames::of_client(), &client), (Frames::of_server(), &text)] {
                let mut found = Vec::new();
                for piece in bytes.chunks(size) {
                    frames.each(piece, |kind, flags, length| found.push((kind, flags, length)));
                }
                assert_eq!(found, all, "in pieces of {size}");
                assert_eq!((frames.have, frames.rest), (0, 0));
            }
        }
    }
}
