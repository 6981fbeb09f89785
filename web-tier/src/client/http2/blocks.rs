//! What `h2` drops from header blocks without a word, and what makes a request malformed (RFC 9113 §8.1, §8.3.1): a pseudo-field in
//! trailers, a fragment in `:path`. A block is looked at as far as that goes without a table of HPACK's own (RFC 7541): whoever put
//! such a field into the table first was found then, and what refers to it is dropped as before. No server sees any of it.

use super::frames::{Frame, HEADERS};

/// Flags of `HEADERS` (RFC 9113 §6.2).
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

/// The longest frame that `h2` takes.
const FRAME_MAX: usize = 16 * 1024;

/// The entries of HPACK's static table that are pseudo-fields, those of `:path`, and the last of all (RFC 7541 appendix A).
const PSEUDO: std::ops::RangeInclusive<usize> = 1..=14;
const PATH: std::ops::RangeInclusive<usize> = 4..=5;
const STATIC_LAST: usize = 61;

/// Watches a client's header blocks, of each the first frame.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// The one that is being read, and whether it is of trailers.
    frame: Option<(Frame, bool)>,
    /// Its payload, where that comes in parts.
    part: Vec<u8>,
    /// The highest stream that a request has had: a block of another one is of trailers.
    highest: u32,
}

impl Blocks {
    /// A frame begins.
    pub(super) fn begin(&mut self, frame: Frame) {
        if frame.kind == HEADERS {
            let trailers = frame.stream <= self.highest;
            self.highest = self.highest.max(frame.stream);
            self.frame = (frame.length <= FRAME_MAX).then_some((frame, trailers));
        }
    }

    /// Its payload comes. Which stream's message is malformed, if one is found to be.
    pub(super) fn payload(&mut self, bytes: &[u8]) -> Option<u32> {
        let (frame, trailers) = self.frame?;
        if bytes.len() < frame.length {
            self.part.extend_from_slice(bytes);
            if self.part.len() < frame.length {
                return None;
            }
        }
        let part = std::mem::take(&mut self.part);
        self.frame = None;
        let payload = if part.is_empty() { bytes } else { &part };
        is_malformed(block(payload, frame.flags)?, trailers).then_some(frame.stream)
    }
}

/// What of a frame's payload is of the block.
fn block(payload: &[u8], flags: u8) -> Option<&[u8]> {
    let (padding, rest) = match payload.split_first() {
        Some((padding, rest)) if flags & PADDED != 0 => (usize::from(*padding), rest),
        _ => (0, payload),
    };
    let rest = if flags & PRIORITY != 0 { rest.get(5..)? } else { rest };
    rest.get(..rest.len().checked_sub(padding)?)
}

/// Whether the pseudo-fields that the block begins with may not be there, or not be so. (`h2` refuses those behind other fields.)
fn is_malformed(mut block: &[u8], trailers: bool) -> bool {
    while let Some(field) = Field::read(&mut block) {
        let (pseudo, path) = match field.name {
            // In the table, or only its size.
            Name::Unknown => continue,
            Name::Static(place) => (PSEUDO.contains(&place), PATH.contains(&place)),
            Name::Literal(name) => (name.begins_with_a_colon(), name.is_path()),
        };
        if !pseudo {
            return false;
        }
        if trailers || (path && field.value.is_some_and(|value| value.has_a_number_sign())) {
            return true;
        }
    }
    false
}

/// A field, as it is represented (RFC 7541 §6).
struct Field<'a> {
    name: Name<'a>,
    /// If it is not in a table.
    value: Option<Text<'a>>,
}

enum Name<'a> {
    Unknown,
    Static(usize),
    Literal(Text<'a>),
}

impl<'a> Field<'a> {
    /// The next one; `None` at the end, or where this makes no sense.
    fn read(block: &mut &'a [u8]) -> Option<Self> {
        let first = *block.first()?;
        let known = |place| if place <= STATIC_LAST { Name::Static(place) } else { Name::Unknown };
        let bits = match first.leading_zeros() {
            // Both name and value are in a table.
            0 => return Some(Self { name: known(number(block, 7)?), value: None }),
            1 => 6,
            2 => {
                number(block, 5)?;
                return Some(Self { name: Name::Unknown, value: None });
            }
            _ => 4,
        };
        let name = match number(block, bits)? {
            0 => Name::Literal(Text::read(block)?),
            place => known(place),
        };
        Some(Self { name, value: Some(Text::read(block)?) })
    }
}

/// A number of which the first byte has so many bits (RFC 7541 §5.1).
fn number(block: &mut &[u8], bits: u8) -> Option<usize> {
    let (first, mut rest) = block.split_first()?;
    let most = (1 << bits) - 1;
    let mut number = usize::from(first & most);
    if number == usize::from(most) {
        for shift in (0..28).step_by(7) {
            let (next, after) = rest.split_first()?;
            rest = after;
            number += usize::from(next & 0x7f) << shift;
            if next & 0x80 == 0 {
                *block = rest;
                return Some(number);
            }
        }
        return None;
    }
    *block = rest;
    Some(number)
}

/// A string (RFC 7541 §5.2).
#[derive(Clone, Copy)]
struct Text<'a> {
    /// It is in Huffman's code.
    coded: bool,
    bytes: &'a [u8],
}

impl<'a> Text<'a> {
    fn read(block: &mut &'a [u8]) -> Option<Self> {
        let coded = block.first()? & 0x80 != 0;
        let length = number(block, 7)?;
        let (bytes, rest) = block.split_at_checked(length)?;
        *block = rest;
        Some(Self { coded, bytes })
    }

    fn begins_with_a_colon(&self) -> bool {
        const CODED: u8 = 0x5c;
        self.bytes.first().is_some_and(|first| if self.coded { first >> 1 == CODED } else { *first == b':' })
    }

    fn is_path(&self) -> bool {
        const CODED: &[u8] = &[0xb9, 0x58, 0xd3, 0x3f];
        self.bytes == if self.coded { CODED } else { b":path" }
    }

    fn has_a_number_sign(&self) -> bool {
        const CODED: u32 = 0xffa;
        if self.coded {
            codes(self.bytes).any(|(code, length)| length == 12 && code >> 20 == CODED)
        } else {
            memchr::memchr(b'#', self.bytes).is_some()
        }
    }
}

/// The codes of a string in Huffman's code, each at the beginning of 32 bits, with its length. The padding may be the last one.
fn codes(bytes: &[u8]) -> impl Iterator<Item = (u32, u32)> {
    /// Codes of each length but the longest, and what follows the last of them: the code is canonical (RFC 7541 appendix B).
    const ENDS: [(u32, u32); 20] = [
        (5, 0xa),
        (6, 0x2e),
        (7, 0x7c),
        (8, 0xfe),
        (10, 0x3fd),
        (11, 0x7fd),
        (12, 0xffc),
        (13, 0x1ffe),
        (14, 0x3ffe),
        (15, 0x7fff),
        (19, 0x7_fff3),
        (20, 0xf_ffee),
        (21, 0x1f_ffe9),
        (22, 0x3f_ffec),
        (23, 0x7f_fff5),
        (24, 0xff_fff6),
        (25, 0x1ff_fff0),
        (26, 0x3ff_ffef),
        (27, 0x7ff_fff1),
        (28, 0xfff_ffff),
    ];
    let (mut bits, mut have, mut rest) = (0_u64, 0_u32, bytes);
    std::iter::from_fn(move || {
        while have <= 32
            && let Some((next, after)) = rest.split_first()
        {
            (bits, have, rest) = (bits | u64::from(*next) << (56 - have), have + 8, after);
        }
        if have == 0 {
            return None;
        }
        // Ones stand behind the last code.
        let window = (bits >> 32) as u32 | u32::MAX.checked_shr(have).unwrap_or(0);
        let length = ENDS.iter().find(|(length, end)| window >> (32 - length) < *end).map_or(30, |it| it.0);
        let taken = length.min(have);
        (bits, have) = (bits << taken, have - taken);
        Some((window, length))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes of letters: with their lengths, `(code, length)`.
    fn coded(text: &str) -> Vec<u8> {
        let code = |letter| match letter {
            '/' => (0x18, 6),
            ':' => (0x5c, 7),
            'a' => (0x3, 5),
            'h' => (0x27, 6),
            'p' => (0x2b, 6),
            't' => (0x9, 5),
            '#' => (0xffa, 12),
            '>' => (0xffb, 12),
            '|' => (0x7ffc, 15),
            '\\' => (0x7_fff0, 19),
            '\u{1}' => (0x7f_ffd8, 23),
            '\n' => (0x3fff_fffc, 30),
            other => panic!("{other:?}"),
        };
        let mut bits = String::new();
        for (code, length) in text.chars().map(code) {
            bits.push_str(&format!("{code:0length$b}"));
        }
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        bits.as_bytes()
            .chunks(8)
            .map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap())
            .collect()
    }

    fn string(bytes: &[u8], flag: u8) -> Vec<u8> {
        [&[flag | u8::try_from(bytes.len()).unwrap()], bytes].concat()
    }

    fn plain(text: &str) -> Vec<u8> {
        string(text.as_bytes(), 0)
    }

    #[test]
    fn a_number_sign_is_found_at_the_beginning_of_a_code_alone() {
        for (text, has) in [
            ("/a#t", true),
            ("#", true),
            ("/|\\\u{1}\n#", true),
            ("/a>t", false),
            ("/|\\\u{1}\n>", false),
            ("", false),
            // The bits of 0xffa stand across these.
            ("\na", false),
            ("/aathhpt/tap", false),
        ] {
            let bytes = coded(text);
            assert_eq!(Text { coded: true, bytes: &bytes }.has_a_number_sign(), has, "{text:?}");
        }
        // "www.example.com", RFC 7541 §C.4.1.
        let bytes = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(codes(&bytes).filter(|it| it.0 != u32::MAX).count(), 15);
    }

    #[test]
    fn a_path_with_a_fragment_is_malformed_in_each_form() {
        let path = coded(":path");
        assert_eq!(path, [0xb9, 0x58, 0xd3, 0x3f]);
        let coded = string(&coded("/a#t"), 0x80);
        for (name, value, is) in [
            (vec![0x04], plain("/a#b"), true),
            (vec![0x44], coded.clone(), true),
            (vec![0x15], plain("#"), true),
            ([vec![0x40], plain(":path")].concat(), coded, true),
            ([vec![0], string(&path, 0x80)].concat(), plain("/#"), true),
            (vec![0x44], plain("/a?b"), false),
            // `:authority` and a field that is none of these.
            (vec![0x01], plain("a#b"), false),
            ([vec![0], plain("x")].concat(), plain("#"), false),
            (vec![0x0f, 0x0f], plain("#"), false),
            // A name of the table that a client has filled may be any.
            (vec![0x7f, 0x01], plain("#"), false),
        ] {
            // Behind the table's size, GET, and something of the table.
            let block = [&[0x20, 0x82, 0xff, 0x01][..], &name, &value].concat();
            assert_eq!(is_malformed(&block, false), is, "{block:x?}");
        }
    }

    #[test]
    fn a_pseudo_field_in_trailers_is_malformed_in_each_form() {
        for (block, is) in [
            (vec![0x82], true),
            ([vec![0x04], plain("/")].concat(), true),
            ([vec![0x00], plain(":any"), plain("")].concat(), true),
            (vec![0xbe, 0x88], true),
            ([vec![0x40], string(&coded(":t"), 0x80), plain("")].concat(), true),
            ([vec![0x00], plain("x"), plain(":")].concat(), false),
            (vec![0x90, 0x82], false),
            (vec![], false),
            (vec![0x04], false),
            (vec![0xff; 12], false),
            (vec![0x00, 0x7f], false),
        ] {
            assert_eq!(is_malformed(&block, true), is, "{block:x?}");
        }
    }

    #[test]
    fn frames_are_looked_at_however_they_come() {
        let padded = [&[2, 0, 0, 0, 0, 9][..], &[0x82, 0x44, 2, b'/', b'#'], &[0, 0]].concat();
        for size in 1..=padded.len() {
            let mut blocks = Blocks::default();
            let mut found = Vec::new();
            for stream in [1, 3] {
                let frame = Frame { kind: HEADERS, flags: PADDED | PRIORITY, stream, length: padded.len() };
                blocks.begin(frame);
                found.extend(padded.chunks(size).filter_map(|piece| blocks.payload(piece)));
            }
            assert_eq!((found, blocks.part.capacity()), (vec![1, 3], 0), "in pieces of {size}");
        }
        let mut blocks = Blocks::default();
        for (stream, found) in [(1, None), (3, None), (1, Some(1))] {
            blocks.begin(Frame { kind: HEADERS, flags: 0, stream, length: 1 });
            assert_eq!(blocks.payload(&[0x82]), found);
        }
    }
}
