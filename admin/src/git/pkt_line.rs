//! Git's pkt-lines (gitprotocol-common): four hexadecimal digits of length, which count themselves, and what they are the length of.

/// The most that a line carries, in bytes.
pub(crate) const DATA_MAX: usize = 65_516;

/// Ends a list.
pub(crate) const FLUSH: &[u8] = b"0000";

/// Parts a list in two; in version 2 alone.
pub(crate) const DELIMITER: &[u8] = b"0001";

/// Bytes of the length.
const PREFIX: usize = 4;

/// A line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PktLine<D> {
    Data(D),
    Flush,
    Delimiter,
}

/// Why bytes are no pkt-lines.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PktError {
    #[error("a pkt-line begins with {0:?}: expected its length as four hexadecimal digits, at most fff0")]
    Length(String),
    #[error("the request ends within a pkt-line")]
    Cut,
}

/// What a line's first four bytes announce: so many bytes, or nothing at all.
///
/// # Errors
/// They are no length.
pub(crate) fn prefix(bytes: [u8; PREFIX]) -> Result<PktLine<usize>, PktError> {
    let wrong = || PktError::Length(String::from_utf8_lossy(&bytes).into_owned());
    let digit = |value: usize, byte: &u8| {
        let digit = char::from(*byte).to_digit(16)?;
        Some((value << 4) | usize::try_from(digit).ok()?)
    };
    match bytes.iter().try_fold(0, digit).ok_or_else(wrong)? {
        0 => Ok(PktLine::Flush),
        1 => Ok(PktLine::Delimiter),
        length @ PREFIX.. if length - PREFIX <= DATA_MAX => Ok(PktLine::Data(length - PREFIX)),
        _ => Err(wrong()),
    }
}

/// Takes the next line from `rest`; `None` at the end.
///
/// # Errors
/// What comes next is no line.
pub(crate) fn next<'a>(rest: &mut &'a [u8]) -> Result<Option<PktLine<&'a [u8]>>, PktError> {
    if rest.is_empty() {
        return Ok(None);
    }
    let (length, after) = rest.split_first_chunk::<PREFIX>().ok_or(PktError::Cut)?;
    let line = match prefix(*length)? {
        PktLine::Data(count) => {
            let (data, after) = after.split_at_checked(count).ok_or(PktError::Cut)?;
            *rest = after;
            return Ok(Some(PktLine::Data(data)));
        }
        PktLine::Flush => PktLine::Flush,
        PktLine::Delimiter => PktLine::Delimiter,
    };
    *rest = after;
    Ok(Some(line))
}

/// A line's text without the line feed that may end it.
pub(crate) fn text(data: &[u8]) -> &[u8] {
    data.strip_suffix(b"\n").unwrap_or(data)
}

/// Adds a line; of more than it carries, the rest is left out.
pub(crate) fn put(out: &mut Vec<u8>, data: &[u8]) {
    let data = &data[..data.len().min(DATA_MAX)];
    out.extend_from_slice(format!("{:04x}", data.len() + PREFIX).as_bytes());
    out.extend_from_slice(data);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_read_as_git_writes_them() {
        let mut rest = &b"000ahello\n00000001000400"[..];
        assert_eq!(next(&mut rest), Ok(Some(PktLine::Data(&b"hello\n"[..]))));
        assert_eq!(next(&mut rest), Ok(Some(PktLine::Flush)));
        assert_eq!(next(&mut rest), Ok(Some(PktLine::Delimiter)));
        assert_eq!(next(&mut rest), Ok(Some(PktLine::Data(&b""[..]))));
        assert_eq!(next(&mut rest), Err(PktError::Cut));
        assert_eq!(next(&mut &b""[..]), Ok(None));
        assert_eq!(text(b"hello\n"), b"hello");
    }

    #[test]
    fn what_is_no_length_is_refused() {
        for wrong in ["0002", "0003", "fff1", "ffff", "+004", "00 4", "PACK", "-001"] {
            let refused = prefix(wrong.as_bytes().try_into().unwrap());
            assert_eq!(refused, Err(PktError::Length(wrong.to_owned())));
        }
        assert_eq!(prefix(*b"FFF0"), Ok(PktLine::Data(DATA_MAX)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..10)) {
            let mut out = Vec::new();
            lines.iter().for_each(|it| put(&mut out, it));
            let mut rest = &out[..];
            for line in &lines {
                prop_assert_eq!(next(&mut rest), Ok(Some(PktLine::Data(&line[..]))));
            }
            prop_assert_eq!(next(&mut rest), Ok(None));
        }

        #[test]
        fn whatever_comes_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut rest = &bytes[..];
            while let Ok(Some(_)) = next(&mut rest) {}
        }
    }
}
