//! A client's bytes in a line: nothing it sends ends the line, closes a quotation, or commands the terminal of who reads it.

const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

/// Bytes that stand for themselves, in quotes and in JSON.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        plain[byte] = byte != b'"' as usize && byte != b'\\' as usize;
        byte += 1;
    }
    plain
};

/// Appends text as nginx does between quotes: `\xXX` for quotes, backslashes, control and non-ASCII bytes.
pub(super) fn put_quoted(out: &mut Vec<u8>, text: &[u8]) {
    put_runs(out, text, |out, rest| {
        put_byte(out, rest[0]);
        1
    });
}

/// The same of text that stands without quotes: spaces and `separators` too.
pub(super) fn put_word(out: &mut Vec<u8>, text: &[u8], separators: &[u8]) {
    for &byte in text {
        if byte == b' ' || separators.contains(&byte) || !PLAIN[usize::from(byte)] {
            put_byte(out, byte);
        } else {
            out.push(byte);
        }
    }
}

/// `\xXX`
fn put_byte(out: &mut Vec<u8>, byte: u8) {
    let (high, low) = (byte >> 4, byte & 15);
    out.extend_from_slice(&[b'\\', b'x', DIGITS[usize::from(high)], DIGITS[usize::from(low)]]);
}

/// Appends text as the inside of a JSON string (RFC 8259 §7), in ASCII alone. Bytes that are not UTF-8 become U+FFFD.
pub(super) fn put_json(out: &mut Vec<u8>, text: &[u8]) {
    put_runs(out, text, |out, rest| match rest[0] {
        byte @ (b'"' | b'\\') => {
            out.extend_from_slice(&[b'\\', byte]);
            1
        }
        byte if byte.is_ascii() => {
            put_unit(out, byte.into());
            1
        }
        _ => put_character(out, rest),
    });
}

/// Copies plain runs as one piece; `other` puts what begins with another byte, and says how many it took.
fn put_runs(out: &mut Vec<u8>, text: &[u8], other: impl Fn(&mut Vec<u8>, &[u8]) -> usize) {
    let mut rest = text;
    loop {
        let run = rest.iter().position(|byte| !PLAIN[usize::from(*byte)]).unwrap_or(rest.len());
        out.extend_from_slice(&rest[..run]);
        rest = &rest[run..];
        if rest.is_empty() {
            return;
        }
        rest = &rest[other(out, rest)..];
    }
}

/// Puts the character, or the invalid sequence, that `text` begins with; its length in bytes.
fn put_character(out: &mut Vec<u8>, text: &[u8]) -> usize {
    // No character is longer than four bytes.
    let start = &text[..text.len().min(4)];
    let Some(chunk) = start.utf8_chunks().next() else { return 0 };
    let (character, length) = match chunk.valid().chars().next() {
        Some(character) => (character, character.len_utf8()),
        None => (char::REPLACEMENT_CHARACTER, chunk.invalid().len()),
    };
    character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| put_unit(out, *unit));
    length
}

/// `\uXXXX`
fn put_unit(out: &mut Vec<u8>, unit: u16) {
    out.extend_from_slice(b"\\u");
    out.extend([12, 8, 4, 0].map(|shift| DIGITS[usize::from(unit >> shift & 15)]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn quoted(text: &[u8]) -> String {
        let mut out = Vec::new();
        put_quoted(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    fn json(text: &[u8]) -> String {
        let mut out = Vec::new();
        put_json(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    /// The inverse of [`quoted`].
    fn unquoted(text: &str) -> Vec<u8> {
        let mut pieces = text.split("\\x");
        let mut out = pieces.next().unwrap().as_bytes().to_vec();
        for piece in pieces {
            out.push(u8::from_str_radix(&piece[..2], 16).unwrap());
            out.extend_from_slice(&piece.as_bytes()[2..]);
        }
        out
    }

    #[test]
    fn examples() {
        assert_eq!(quoted(b"/a?b=c d"), "/a?b=c d");
        assert_eq!(quoted(b"\"\\\n\x1b[2J\x7f\xc3\xa9"), r"\x22\x5C\x0A\x1B[2J\x7F\xC3\xA9");
        assert_eq!(json(b"/a\"\\\n\x7f"), r#"/a\"\\\u000A\u007F"#);
        assert_eq!(json("é€𝄞".as_bytes()), r"\u00E9\u20AC\uD834\uDD1E");
        assert_eq!(json(b"a\xffb\xe2\x82"), r"a\uFFFDb\uFFFD");
    }

    proptest! {
        #[test]
        fn a_quotation_is_one_line_of_ascii_and_loses_nothing(text: Vec<u8>) {
            let quoted = quoted(&text);
            prop_assert!(quoted.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b'"'));
            prop_assert_eq!(unquoted(&quoted), text);
        }

        #[test]
        fn json_reads_back_what_was_written(text: Vec<u8>) {
            let json = json(&text);
            prop_assert!(json.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
            let read: String = serde_json::from_str(&format!("\"{json}\"")).unwrap();
            prop_assert_eq!(read, String::from_utf8_lossy(&text));
        }

        #[test]
        fn json_keeps_every_character(text: String) {
            let read: String = serde_json::from_str(&format!("\"{}\"", json(text.as_bytes()))).unwrap();
            prop_assert_eq!(read, text);
        }
    }
}
