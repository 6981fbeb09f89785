//! What a path may be to those who serve it. RFC 3986 leaves it to them whether `%2F` separates segments, and whether what follows a `;`
//! is a parameter or a part of the name: nginx, PHP and Node take the one way, Tomcat and its kin another. Rules decide by what all of
//! them can make of it; what is forwarded stays as it was asked for.

use super::path::escape;
use std::borrow::Cow;

/// One way to read a path.
#[derive(Debug, Clone, Copy)]
struct Reading {
    /// Escaped slashes and backslashes separate segments.
    separates: bool,
    parameters: Parameters,
}

/// What `;` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parameters {
    /// Itself.
    None,
    /// It ends a segment's name (RFC 3986 §3.3), as servlets have it: looked for before escapes are decoded.
    Literal,
    /// The same, looked for afterwards: a proxy between decodes and does not escape it again.
    Decoded,
}

/// How rules read: escapes decoded, parameters left out.
const OF_RULES: Reading = Reading { separates: true, parameters: Parameters::Literal };

/// The other ways.
const OTHERS: [Reading; 5] = [
    Reading { separates: true, parameters: Parameters::None },
    Reading { separates: true, parameters: Parameters::Decoded },
    Reading { separates: false, parameters: Parameters::None },
    Reading { separates: false, parameters: Parameters::Literal },
    Reading { separates: false, parameters: Parameters::Decoded },
];

/// A normalised path as rules see it: decoded, without parameters, every separator a slash, none of them doubled, no `.` segment. Bytes
/// that are not UTF-8 are U+FFFD.
pub(crate) fn read(path: &str) -> Cow<'_, str> {
    if is_plain(path) { Cow::Borrowed(path) } else { Cow::Owned(Read::new(path, OF_RULES).text) }
}

/// What other servers may make of the same path: for rules that refuse, which are to hold whoever it is that answers.
pub(crate) fn other_readings(path: &str) -> Vec<String> {
    if is_plain(path) {
        return Vec::new();
    }
    let mut readings: Vec<String> = Vec::new();
    for reading in OTHERS {
        let text = Read::new(path, reading).text;
        if !readings.contains(&text) {
            readings.push(text);
        }
    }
    readings
}

/// [`read`], and where each byte of it comes from: what a rule has found in the one can be taken out of the other as it was asked for.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    path: &'a str,
    /// Where in `path` each byte begins; `None`: in the same place.
    places: Option<Vec<usize>>,
}

impl<'a> Source<'a> {
    pub(crate) fn of(path: &'a str) -> Self {
        Self { path, places: (!is_plain(path)).then(|| Read::new(path, OF_RULES).places) }
    }

    /// What a range of [`read`] was: with the parameters of its segments, and with what separates them, however often.
    pub(crate) fn slice(&self, range: std::ops::Range<usize>) -> &'a str {
        let place = |at: usize| match &self.places {
            Some(places) => places.get(at).copied().unwrap_or(self.path.len()),
            None => at,
        };
        &self.path[place(range.start)..place(range.end)]
    }
}

/// Whether all read it alike, and as it stands there.
fn is_plain(path: &str) -> bool {
    memchr::memchr2(b'%', b';', path.as_bytes()).is_none() && !path.contains("//")
}

/// A path that has been read.
struct Read {
    text: String,
    places: Vec<usize>,
}

/// A byte of a path, or an escape that stays one.
enum Unit {
    Separator,
    /// Here a segment's parameters begin.
    Parameters,
    Byte(u8),
    /// An escaped slash that is none.
    Escape,
}

impl Read {
    fn new(path: &str, reading: Reading) -> Self {
        let (mut bytes, mut places) = (Vec::with_capacity(path.len()), Vec::with_capacity(path.len()));
        let mut in_parameters = false;
        let mut at = 0;
        while at < path.len() {
            let (unit, length) = reading.unit(&path.as_bytes()[at..]);
            match unit {
                Unit::Separator
                    if !(in_parameters && length > 1 && reading.parameters == Parameters::Literal) =>
                {
                    in_parameters = false;
                    close_segment(&mut bytes, &mut places);
                    if bytes.last() != Some(&b'/') {
                        bytes.push(b'/');
                        places.push(at);
                    }
                }
                _ if in_parameters => {}
                Unit::Separator => {}
                Unit::Parameters => in_parameters = true,
                Unit::Byte(byte) => {
                    bytes.push(byte);
                    places.push(at);
                }
                Unit::Escape => {
                    bytes.extend_from_slice(b"%2F");
                    places.extend([at; 3]);
                }
            }
            at += length;
        }
        close_segment(&mut bytes, &mut places);
        Self::of_text(&bytes, &places)
    }

    /// What is no text becomes U+FFFD.
    fn of_text(bytes: &[u8], from: &[usize]) -> Self {
        let (mut text, mut places) = (String::with_capacity(bytes.len()), Vec::with_capacity(bytes.len()));
        let mut at = 0;
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            places.extend_from_slice(&from[at..at + chunk.valid().len()]);
            at += chunk.valid().len();
            if !chunk.invalid().is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
                places.extend([from[at]; char::REPLACEMENT_CHARACTER.len_utf8()]);
                at += chunk.invalid().len();
            }
        }
        Self { text, places }
    }
}

/// A `.` segment is none. (`..` does not come here: what hides one is refused.)
fn close_segment(bytes: &mut Vec<u8>, places: &mut Vec<usize>) {
    if bytes.ends_with(b"/.") {
        bytes.pop();
        places.pop();
    }
}

impl Reading {
    /// What a path goes on with, and its length.
    fn unit(self, rest: &[u8]) -> (Unit, usize) {
        match rest[0] {
            b'/' => (Unit::Separator, 1),
            b';' if self.parameters != Parameters::None => (Unit::Parameters, 1),
            byte => match escape(rest) {
                Some(b'/' | b'\\') if self.separates => (Unit::Separator, 3),
                Some(b'/') => (Unit::Escape, 3),
                Some(b';') if self.parameters == Parameters::Decoded => (Unit::Parameters, 3),
                Some(decoded) => (Unit::Byte(decoded), 3),
                None => (Unit::Byte(byte), 1),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rules_see_what_any_server_may_serve() {
        for (path, seen) in [
            ("/a/b", "/a/b"),
            ("/a%20b", "/a b"),
            ("/%2Fprivate/x", "/private/x"),
            ("/.%2Fprivate", "/private"),
            ("/%2F.%2F%2Fprivate", "/private"),
            ("/a/.%5Cprivate", "/a/private"),
            ("/private%2Fx", "/private/x"),
            ("/private%5Cx", "/private/x"),
            ("/private;a=1/x", "/private/x"),
            ("/private;a=1", "/private"),
            ("/.;a=1/private", "/private"),
            ("/;a=1/private", "/private"),
            ("/;jsessionid=1", "/"),
            ("/a/;jsessionid=1", "/a/"),
            ("/a;b=%2F..%3B/c", "/a/c"),
            ("/a%3Bb/c", "/a;b/c"),
            ("/a/b%2F", "/a/b/"),
            ("/a%2F.", "/a/"),
            ("/a//b", "/a/b"),
            ("/api/a%2Fb/c", "/api/a/b/c"),
            ("/proxy/https%3A%2F%2Fx.org%2Fa", "/proxy/https:/x.org/a"),
            ("/caf%E9", "/caf\u{fffd}"),
            ("/a/...", "/a/..."),
            ("/.a/b.", "/.a/b."),
            ("*", "*"),
        ] {
            assert_eq!(read(path), seen, "{path}");
        }
        assert!(matches!(read("/a.b/c"), Cow::Borrowed(_)));
    }

    #[test]
    fn what_others_make_of_it_differs() {
        assert_eq!(other_readings("/a/b.php"), [""; 0]);
        assert_eq!(other_readings("/x;.php"), ["/x;.php", "/x"]);
        assert_eq!(other_readings("/private%3Ba/x"), ["/private;a/x", "/private/x"]);
        assert_eq!(other_readings("/users/a%2Fb/secret"), ["/users/a/b/secret", "/users/a%2Fb/secret"]);
        assert_eq!(other_readings("/a%5Cb"), ["/a/b", "/a\\b"]);
        assert_eq!(other_readings("/a;%2Fb/c"), ["/a;/b/c", "/a/b/c", "/a;%2Fb/c", "/a/c"]);
    }

    #[test]
    fn what_was_found_is_taken_as_it_was_asked_for() {
        let slice = |path: &str, found: &str| {
            let seen = read(path).into_owned();
            let start = seen.find(found).unwrap();
            Source::of(path).slice(start..start + found.len()).to_owned()
        };
        for (path, found, was) in [
            ("/a/b", "/b", "/b"),
            ("/x/caf%E9%2Fa%3Bb", "caf\u{fffd}/a;b", "caf%E9%2Fa%3Bb"),
            ("/x/https%3A%2F%2Fy.org", "https:/y.org", "https%3A%2F%2Fy.org"),
            ("/go/%2Fevil.example", "evil.example", "evil.example"),
            ("/item/7;v=1/x", "7", "7;v=1"),
            ("/item/7;v=1/x", "/x", "/x"),
            ("/a//b", "/a/b", "/a//b"),
            ("/%C3%BC/x", "ü", "%C3%BC"),
        ] {
            assert_eq!(slice(path, found), was, "{path}");
        }
    }

    proptest! {
        /// The promise of docs/rules.md.
        #[test]
        fn nothing_that_is_seen_hides_a_segment(path in "/([a-c./;%]|%2F|%5C|%2e|%3B|%20|%E9){0,16}") {
            prop_assume!(crate::route::normalise::normalise(&path, true).is_ok());
            let path = match crate::route::normalise::normalise(&path, true).unwrap() {
                crate::route::normalise::Path::Same => path,
                crate::route::normalise::Path::Other(normal) => normal,
            };
            for seen in std::iter::once(read(&path).into_owned()).chain(other_readings(&path)) {
                prop_assert!(seen.starts_with('/') && !seen.contains("//"), "{} {}", path, seen);
                let dots = |it: &str| matches!(it, "." | "..");
                prop_assert!(!seen.split('/').any(dots), "{} {}", path, seen);
            }
            prop_assert!(!read(&path).contains(';') || path.contains("%3B"));
        }

        /// Whatever is found, its source is a part of the path, and all parts together are the path.
        #[test]
        fn sources_are_whole(path in "/([a-c./;]|%2F|%5C|%3B|%20|%E9|%C3%BC){0,16}", cut in 0_usize..20) {
            let seen = read(&path).into_owned();
            let cut = (0..=cut.min(seen.len())).rev().find(|at| seen.is_char_boundary(*at)).unwrap();
            let source = Source::of(&path);
            prop_assert_eq!(format!("{}{}", source.slice(0..cut), source.slice(cut..seen.len())), path);
        }
    }
}
