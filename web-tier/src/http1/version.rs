//! The version of a message.

use super::head::HeadError;

/// The version of a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Version {
    Http10,
    #[default]
    Http11,
    /// Its fields came in frames.
    Http2,
    Http3,
}

impl Version {
    pub(super) fn of(minor: Option<u8>) -> Self {
        if minor == Some(0) { Self::Http10 } else { Self::Http11 }
    }
}

/// Where the minor version of a request line stands that is not of 1.0 or 1.1; `None` when the line is not complete, and could still
/// become valid (RFC 9112 §2.3).
pub(super) fn minor_version(input: &[u8]) -> Result<Option<usize>, HeadError> {
    const FORM: &[u8] = b"HTTP/1.1\r\n";
    let spaces = memchr::memchr_iter(b' ', input);
    let Some(start) = spaces.take(2).last().map(|space| space + 1) else {
        return Err(HeadError::Bad("invalid request line"));
    };
    let version = &input[start..input.len().min(start + FORM.len())];
    let fits = |(byte, form): (&u8, &u8)| byte == form || (form.is_ascii_digit() && byte.is_ascii_digit());
    if !version.iter().zip(FORM).all(fits) {
        return Err(HeadError::Bad("invalid HTTP version"));
    }
    match version.get(FORM.len() - 1).map(|_| version[5]) {
        None => Ok(None),
        Some(b'1') if version[7] != b'1' => Ok(Some(start + 7)),
        Some(_) => Err(HeadError::Version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_known_when_its_line_is_complete() {
        let line = b"GET / HTTP/1.2\r\n";
        for end in b"GET / ".len()..line.len() {
            assert_eq!(minor_version(&line[..end]), Ok(None));
        }
        assert_eq!(minor_version(line), Ok(Some(13)));
        for other in ["2.0", "0.9", "9.9", "3.0"] {
            assert_eq!(minor_version(format!("GET / HTTP/{other}\r\n").as_bytes()), Err(HeadError::Version));
        }
        for bad in [
            "th HTTP/1.1",
            "HTTP/1",
            "HTTP/01.01",
            "http/1.1",
            "FOO/1.1",
            "HTTP/2",
            "HTTP/1.20",
            "HTTP/a.b",
            "",
        ] {
            let refused = minor_version(format!("GET / {bad}\r\n").as_bytes());
            assert!(matches!(refused, Err(HeadError::Bad(_))), "{bad}: {refused:?}");
        }
    }
}
