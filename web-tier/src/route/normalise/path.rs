//! Paths: RFC 3986 §6.2.2 (escapes, dot segments), with backslashes read as slashes, as browsers do, and empty segments left out but
//! where a host wants them.

use std::borrow::Cow;

/// A normalised path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// It was normal.
    Same,
    /// Its normal form.
    Other(String),
}

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathError {
    /// `%` without two hexadecimal digits.
    Escape,
    /// `%00`.
    Nul,
    /// `..` above the root.
    AboveRoot,
    /// `..` next to an escaped separator or a `;`, escaped or not: an app that decodes late, or strips parameters, would climb with it.
    HiddenDots,
}

impl PathError {
    /// For the client.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Escape => "invalid percent-escape in the path",
            Self::Nul => "NUL in the path",
            Self::AboveRoot => "the path leads above the root",
            Self::HiddenDots => "the path hides a .. segment",
        }
    }
}

/// The normal form of a path that begins with `/`; `merges`: empty segments are left out. One that has it already costs one pass and no
/// allocation.
pub(crate) fn normalise(path: &str, merges: bool) -> Result<Path, PathError> {
    if !is_suspect(path) {
        return Ok(Path::Same);
    }
    let unescaped = unescape(path)?;
    let resolved = resolve(&unescaped, merges)?;
    Ok(if resolved == path { Path::Same } else { Path::Other(resolved) })
}

/// Whether a path that a rule has made has a `.` or `..` segment, or hides one that leads upwards.
pub(crate) fn has_dots(path: &str) -> bool {
    let name = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
    path.split('/').any(|segment| name(segment) || hides_dots(segment))
}

/// A normalised path with its escapes decoded, as rules see it. Bytes that are not UTF-8 become U+FFFD.
pub(crate) fn decoded(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        match escape(rest) {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether there may be something to do: an escape, a backslash, `//`, `/.` or `;` after a dot.
fn is_suspect(path: &str) -> bool {
    let mut before = 0;
    path.bytes().any(|byte| {
        let suspect = byte == b'%' || byte == b'\\' || (before == b'/' && (byte == b'/' || byte == b'.'));
        before = byte;
        suspect
    })
}

/// Escapes of unreserved characters decoded, others in upper case; backslashes turned.
pub(crate) fn unescape(path: &str) -> Result<String, PathError> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(character) = rest.chars().next() {
        let taken = match character {
            '%' => {
                match escape(rest.as_bytes()).ok_or(PathError::Escape)? {
                    0 => return Err(PathError::Nul),
                    byte if is_unreserved(byte) => out.push(char::from(byte)),
                    _ => out.extend(rest[..3].chars().map(|it| it.to_ascii_uppercase())),
                }
                3
            }
            '\\' => {
                out.push('/');
                1
            }
            other => {
                out.push(other);
                other.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    Ok(out)
}

/// The byte of the escape that `rest` begins with.
pub(super) fn escape(rest: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = rest else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// RFC 3986 §5.2.4, with empty segments left out if it `merges`.
fn resolve(path: &str, merges: bool) -> Result<String, PathError> {
    let mut out = String::with_capacity(path.len());
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." => {}
            "" if merges || last => {}
            ".." => {
                let parent = out.rfind('/').ok_or(PathError::AboveRoot)?;
                out.truncate(parent);
            }
            hidden if hides_dots(hidden) => return Err(PathError::HiddenDots),
            plain => {
                out.push('/');
                out.push_str(plain);
                continue;
            }
        }
        if last {
            out.push('/');
        }
    }
    if out.is_empty() {
        out.push('/');
    }
    Ok(out)
}

fn hides_dots(segment: &str) -> bool {
    if !segment.contains("..") {
        return false;
    }
    let name = |part: &str| part.split(';').next().and_then(|it| it.split("%3B").next()) == Some("..");
    segment.split("%2F").flat_map(|part| part.split("%5C")).any(name)
}

#[cfg(test)]
mod tests;
