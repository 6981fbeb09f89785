//! The header fields of a message, as one text: a proxy passes nearly all of them on, so that most of the work is one copy.

use super::name::Name;
use http::{HeaderMap, HeaderName, HeaderValue};

/// What ends a line.
const LINE_END: &[u8] = b"\r\n";

/// One field.
#[derive(Debug, Clone, Copy)]
struct Line {
    name: Name,
    /// Where it begins in the text.
    start: usize,
    name_length: usize,
    /// Where its value ends: two bytes before the next line.
    end: usize,
    kept: bool,
}

/// Fields in their order, with the names as they were written.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    /// `name: value\r\n` for each line, those that were removed too.
    text: Vec<u8>,
    lines: Vec<Line>,
    removed: bool,
}

/// A field, as [`Fields::iter`] gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    pub(crate) known: Name,
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
}

impl Fields {
    /// Removes all; the memory stays.
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.lines.clear();
        self.removed = false;
    }

    /// Makes them the same as `other`; the memory stays.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.text.clone_from(&other.text);
        self.lines.clone_from(&other.lines);
        self.removed = other.removed;
    }

    /// A copy without what was removed, no larger than it has to be.
    pub(crate) fn compact(&self) -> Self {
        let kept = || self.lines.iter().filter(|it| it.kept);
        let length = kept().map(|it| it.end + LINE_END.len() - it.start).sum();
        let (text, lines) = (Vec::with_capacity(length), Vec::with_capacity(kept().count()));
        let mut copy = Self { text, lines, removed: false };
        for line in kept() {
            let start = copy.text.len();
            copy.text.extend_from_slice(&self.text[line.start..line.end + LINE_END.len()]);
            copy.lines.push(Line { start, end: start + line.end - line.start, ..*line });
        }
        copy
    }

    /// Bytes of memory.
    pub(crate) fn size(&self) -> usize {
        self.text.capacity() + self.lines.capacity() * size_of::<Line>()
    }

    /// Adds a field. The caller vouches for the bytes: a token, and a value without CR, LF or NUL.
    pub(crate) fn push(&mut self, known: Name, name: &[u8], value: &[u8]) {
        let start = self.text.len();
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(b": ");
        self.text.extend_from_slice(value);
        let end = self.text.len();
        self.text.extend_from_slice(LINE_END);
        self.lines.push(Line { name: known, start, name_length: name.len(), end, kept: true });
    }

    /// Adds a field that is none of the known ones, whose value is in parts.
    pub(crate) fn push_parts(&mut self, name: &[u8], value: &[&[u8]]) {
        let start = self.text.len();
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(b": ");
        value.iter().for_each(|it| self.text.extend_from_slice(it));
        let end = self.text.len();
        self.text.extend_from_slice(LINE_END);
        self.lines.push(Line { name: Name::Other, start, name_length: name.len(), end, kept: true });
    }

    /// Adds a trailer, unless it is one that may not be passed on: none frames, routes, authenticates or changes what the body
    /// is (RFC 9110 §6.5.1).
    pub(crate) fn push_trailer(&mut self, name: &[u8], value: &[u8]) {
        const FORBIDDEN: [&[u8]; 9] = [
            b"age",
            b"authorization",
            b"cache-control",
            b"content-encoding",
            b"content-range",
            b"content-type",
            b"location",
            b"max-forwards",
            b"set-cookie",
        ];
        let known = Name::of(name);
        let forbidden = FORBIDDEN.iter().any(|it| it.eq_ignore_ascii_case(name));
        if matches!(known, Name::Other | Name::Date) && !forbidden {
            self.push(known, name, value);
        }
    }

    /// The trailers of a message of HTTP/2 that may be passed on; `None` if there are none of them.
    pub(crate) fn of_trailers(map: &HeaderMap) -> Option<Self> {
        let mut fields = Self::default();
        for (name, value) in map {
            fields.push_trailer(name.as_str().as_bytes(), value.as_bytes().trim_ascii());
        }
        (!fields.lines.is_empty()).then_some(fields)
    }

    /// Copies the fields, which were read from a connection and so are valid.
    pub(crate) fn put_into(&self, map: &mut HeaderMap) {
        map.reserve(self.iter().count() + 3);
        for field in self.iter() {
            let (name, value) = (HeaderName::from_bytes(field.name), HeaderValue::from_bytes(field.value));
            if let (Ok(name), Ok(value)) = (name, value) {
                map.append(name, value);
            }
        }
    }

    /// The fields.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.lines.iter().filter(|line| line.kept).map(|line| self.field(line))
    }

    fn field(&self, line: &Line) -> Field<'_> {
        let (name, rest) = self.text[line.start..line.end].split_at(line.name_length);
        Field { known: line.name, name, value: &rest[2..] }
    }

    /// The values of the fields with a known name.
    pub(crate) fn all(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        let lines = self.lines.iter().filter(move |line| line.kept && line.name == name);
        lines.map(|line| self.field(line).value)
    }

    /// The first value of a known name.
    pub(crate) fn first(&self, name: Name) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// The values of the fields with this name, in any case.
    pub(crate) fn named<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(|field| field.name.eq_ignore_ascii_case(name.as_bytes())).map(|field| field.value)
    }

    /// The value of a field between Copal's own servers; asked of each answer, which seldom has one.
    pub(crate) fn internal(&self, name: &str) -> Option<&[u8]> {
        let mut lines = self.lines.iter().filter(|line| line.kept && line.name == Name::Internal);
        let line = lines.find(|line| self.field(line).name.eq_ignore_ascii_case(name.as_bytes()))?;
        Some(self.field(line).value)
    }

    /// Removes the fields of which `gone` is true.
    pub(crate) fn remove_if(&mut self, mut gone: impl FnMut(Field<'_>) -> bool) {
        for place in 0..self.lines.len() {
            let line = self.lines[place];
            if line.kept && gone(self.field(&line)) {
                self.lines[place].kept = false;
                self.removed = true;
            }
        }
    }

    /// Appends `name: value\r\n` for each field.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        if !self.removed {
            return out.extend_from_slice(&self.text);
        }
        // Runs of lines that are kept go as one piece.
        let mut from = 0;
        for line in self.lines.iter().filter(|line| !line.kept) {
            out.extend_from_slice(&self.text[from..line.start]);
            from = line.end + 2;
        }
        out.extend_from_slice(&self.text[from..]);
    }
}
