//! The files that a configuration came from: reads them with bounds, and knows the text of each line for the snippets of
//! errors, secrets masked.

use super::secrecy::mentions_secret;
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// The largest file that is read, in bytes.
const FILE_MAX: u64 = 16 << 20;

/// The most characters of a line that are shown.
const LINE_MAX: usize = 120;

/// How many of them stand before a fault far out in a long line.
const BEFORE: usize = 40;

/// A place in a file; places sort in reading order, imported files after the file that imports them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Span {
    /// The index of the file in [`Sources`].
    pub(super) file: usize,
    /// From 1; 0 = the file as a whole.
    pub(super) line: usize,
    /// From 1, in characters.
    pub(super) column: usize,
    /// The line on which it ends.
    pub(super) end_line: usize,
    /// The column after its last character.
    pub(super) end_column: usize,
}

impl Span {
    /// A file as a whole.
    pub(super) const fn file(file: usize) -> Self {
        Self { file, line: 0, column: 0, end_line: 0, end_column: 0 }
    }
}

/// The part of a line about a fault, with the columns to underline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snippet {
    /// The part, secrets replaced by `*`.
    pub(super) line: String,
    /// Whether the line goes on before it.
    pub(super) cut_before: bool,
    /// Whether the line goes on after it.
    pub(super) cut_after: bool,
    /// The first character of the part to underline, from 0.
    pub(super) start: usize,
    /// How many characters, at least 1.
    pub(super) length: usize,
}

/// Why a file can't be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("there is no such file")]
    Missing,
    #[error("it is a folder, a file was expected")]
    Folder,
    #[error("it is not a regular file")]
    Special,
    #[error("it is larger than 16 MiB")]
    Large,
    #[error("it is not UTF-8 text: byte 0x{byte:02x} on line {line}")]
    Encoding { byte: u8, line: usize },
    #[error("{0}")]
    Io(io::Error),
}

/// The text of the file at `path`: a regular file of at most 16 MiB in UTF-8, its byte order mark taken off.
pub(super) fn read(path: &Path) -> Result<String, ReadError> {
    read_bytes(path, FILE_MAX).and_then(decode)
}

/// The bytes of the regular file at `path`, at most `max` of them. Never waits on a pipe or a device.
pub(super) fn read_bytes(path: &Path, max: u64) -> Result<Vec<u8>, ReadError> {
    let kind = std::fs::metadata(path).map_err(|cause| match cause.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ReadError::Missing,
        _ => ReadError::Io(cause),
    })?;
    if kind.is_dir() {
        return Err(ReadError::Folder);
    }
    if !kind.is_file() {
        return Err(ReadError::Special);
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(ReadError::Io)?;
    file.take(max + 1).read_to_end(&mut bytes).map_err(ReadError::Io)?;
    if bytes.len() as u64 > max { Err(ReadError::Large) } else { Ok(bytes) }
}

fn decode(bytes: Vec<u8>) -> Result<String, ReadError> {
    let text = String::from_utf8(bytes).map_err(|cause| {
        let good = cause.utf8_error().valid_up_to();
        let bytes = cause.as_bytes();
        let line = 1 + bytes[..good].iter().filter(|byte| **byte == b'\n').count();
        ReadError::Encoding { byte: bytes.get(good).copied().unwrap_or_default(), line }
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Every file read for one configuration.
#[derive(Debug, Default)]
pub(super) struct Sources {
    files: Vec<Source>,
}

#[derive(Debug)]
struct Source {
    shown: PathBuf,
    directory: PathBuf,
    lines: Vec<String>,
    secrets: Secrets,
}

#[derive(Debug)]
enum Secrets {
    /// The text was not understood: guess by the words on a line.
    Guess,
    /// Where the secrets stand.
    At(Vec<Span>),
}

impl Sources {
    /// Adds a file, shown in errors as `shown`; `text` is empty when it could not be read.
    pub(super) fn add(&mut self, shown: &Path, text: &str) -> usize {
        let whole = std::path::absolute(shown).unwrap_or_else(|_| shown.to_owned());
        let directory = whole.parent().unwrap_or(&whole).components().collect();
        self.files.push(Source {
            shown: shown.to_owned(),
            directory,
            lines: lines(text),
            secrets: Secrets::Guess,
        });
        self.files.len() - 1
    }

    /// Tells where a file's secrets stand, now that it is parsed.
    pub(super) fn set_secrets(&mut self, file: usize, secrets: Vec<Span>) {
        if let Some(source) = self.files.get_mut(file) {
            source.secrets = Secrets::At(secrets);
        }
    }

    /// The path of a file as the user wrote it.
    pub(super) fn shown(&self, file: usize) -> &Path {
        self.files.get(file).map_or(Path::new(""), |source| &source.shown)
    }

    /// The absolute folder of a file.
    pub(super) fn directory(&self, file: usize) -> &Path {
        self.files.get(file).map_or(Path::new(""), |source| &source.directory)
    }

    /// The line of a place, with the columns to underline; `None` for a file as a whole.
    pub(super) fn snippet(&self, span: Span) -> Option<Snippet> {
        let source = self.files.get(span.file)?;
        // A place at the very end of a file stands on the line after the last.
        let line = source.lines.get(span.line.checked_sub(1)?).map_or("", |line| line.trim_end());
        let width = line.chars().count();
        let start = span.column.saturating_sub(1).min(width);
        let end =
            if span.end_line == span.line { span.end_column.saturating_sub(1).min(width) } else { width };
        let last = width.saturating_sub(LINE_MAX);
        let from = if start + BEFORE > LINE_MAX { last.min(start.saturating_sub(BEFORE)) } else { 0 };
        let part: String = line.chars().skip(from).take(LINE_MAX).collect();
        Some(Snippet {
            line: source.masked(span.line, line, part, from),
            cut_before: from > 0,
            cut_after: from + LINE_MAX < width,
            start: start - from,
            length: end.min(from + LINE_MAX).saturating_sub(start).max(1),
        })
    }
}

impl Source {
    /// `part`, which begins at the character `from` of `line`, without its secrets.
    fn masked(&self, number: usize, line: &str, part: String, from: usize) -> String {
        match &self.secrets {
            Secrets::Guess => match self.guess(number, line) {
                Some(secret) => mask(&part, secret.saturating_sub(from), usize::MAX),
                None => part,
            },
            Secrets::At(spans) => spans
                .iter()
                .filter(|span| (span.line..=span.end_line).contains(&number))
                .map(|span| {
                    let start = if span.line == number { span.column.saturating_sub(1) } else { 0 };
                    let end =
                        if span.end_line == number { span.end_column.saturating_sub(1) } else { usize::MAX };
                    (start.saturating_sub(from), end.saturating_sub(from))
                })
                // A long line may have very many.
                .filter(|(start, end)| *start < LINE_MAX && *end > 0)
                .fold(part, |part, (start, end)| mask(&part, start, end)),
        }
    }

    /// From where a line of a file whose structure is unknown may hold a secret: whatever follows a word such as
    /// `password`, there or on the line before.
    fn guess(&self, number: usize, line: &str) -> Option<usize> {
        if mentions_secret(line) {
            return Some(line.chars().position(|it| it == ':').map_or(0, |colon| colon + 1));
        }
        let before = &self.lines[..number.saturating_sub(1).min(self.lines.len())];
        let last = before.iter().rev().find(|line| !line.trim().is_empty());
        last.is_some_and(|last| mentions_secret(last)).then_some(0)
    }
}

/// Replaces the characters from `from` up to `to` by `*`.
fn mask(line: &str, from: usize, to: usize) -> String {
    let hidden = |(at, it): (usize, char)| if (from..to).contains(&at) { '*' } else { it };
    line.chars().enumerate().map(hidden).collect()
}

/// The lines of a text, broken where YAML breaks them: `\n`, `\r\n`, `\r`.
fn lines(text: &str) -> Vec<String> {
    text.replace("\r\n", "\n").split(['\n', '\r']).map(str::to_owned).collect()
}
