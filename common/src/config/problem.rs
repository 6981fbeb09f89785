//! What is wrong with a file, and how it is told: message, place, the line and carets under the fault, as rustc does.

use super::{
    schema::ask::Asked,
    source::{Snippet, Sources, Span},
};
use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    fmt,
    path::{Path, PathBuf},
};

/// The most problems that are printed; the rest are counted.
const SHOWN_MAX: usize = 100;

/// The most characters of a message.
const MESSAGE_MAX: usize = 1000;

/// The most problems that are kept.
const KEPT_MAX: usize = 10_000;

/// A fault in a file, or a warning about it. Its `Display` is several lines: message, place, snippet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    severity: Severity,
    message: String,
    file: PathBuf,
    line: usize,
    column: usize,
    snippet: Option<Snippet>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Severity {
    Error,
    Warning,
}

impl Problem {
    /// What is wrong, in one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The file, as its path was given or imported.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The line, from 1; 0 when it is about the file as a whole.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The column, from 1, in characters.
    pub fn column(&self) -> usize {
        self.column
    }

    /// Whether it is an error, not a warning.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Where a value stands in the file, for faults that are found once the file has been read: a certificate that it names is
/// no certificate.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Location {
    file: PathBuf,
    line: usize,
    column: usize,
    snippet: Option<Snippet>,
}

impl Location {
    pub(super) fn new(sources: &Sources, span: Span) -> Self {
        Self {
            file: sources.shown(span.file).to_owned(),
            line: span.line,
            column: span.column,
            snippet: sources.snippet(span),
        }
    }

    /// An error here.
    pub fn error(&self, message: &str) -> Problem {
        self.problem(Severity::Error, message)
    }

    /// A warning here.
    pub fn warning(&self, message: &str) -> Problem {
        self.problem(Severity::Warning, message)
    }

    fn problem(&self, severity: Severity, message: &str) -> Problem {
        let Self { file, line, column, snippet } = self.clone();
        Problem { severity, message: printable(message), file, line, column, snippet }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(f, "{severity}: {}", self.message)?;
        write!(f, " --> {}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        writeln!(f)?;
        let Some(snippet) = &self.snippet else { return Ok(()) };
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        let (line, before, under) = snippet.drawn();
        writeln!(f, "{margin} |\n{number} | {line}")?;
        writeln!(f, "{margin} | {}{}", " ".repeat(before), "^".repeat(under))
    }
}

impl Snippet {
    /// The line as a terminal shows it, and the columns before and under the carets.
    fn drawn(&self) -> (String, usize, usize) {
        let mut line = String::from(if self.cut_before { "…" } else { "" });
        let (mut before, mut under) = (line.chars().count(), 0);
        for (at, character) in self.line.chars().enumerate() {
            let width = draw(character, &mut line);
            if at < self.start {
                before += width;
            } else if at < self.start + self.length {
                under += width;
            }
        }
        if self.cut_after {
            line.push('…');
        }
        (line, before, under.max(1))
    }
}

/// Adds a character as it may be shown (tabs as four spaces, control characters as `�`); returns its columns.
fn draw(character: char, line: &mut String) -> usize {
    match character {
        '\t' => {
            line.push_str("    ");
            4
        }
        it if it.is_control() || is_invisible(it) => {
            line.push('\u{fffd}');
            1
        }
        it => {
            line.push(it);
            columns(it)
        }
    }
}

/// Characters that turn or hide text: a terminal must not obey them.
fn is_invisible(it: char) -> bool {
    matches!(u32::from(it), 0x200b | 0x200e..=0x200f | 0x202a..=0x202e | 0x2060..=0x2069 | 0xfeff)
}

/// Characters that take no column: combining marks, joiners, variation selectors (the main ranges of Unicode).
const NARROW: [(u32, u32); 12] = [
    (0x300, 0x36f),
    (0x483, 0x489),
    (0x591, 0x5bd),
    (0x610, 0x61a),
    (0x64b, 0x65f),
    (0x1ab0, 0x1aff),
    (0x1dc0, 0x1dff),
    (0x200c, 0x200d),
    (0x20d0, 0x20ff),
    (0xfe00, 0xfe0f),
    (0xfe20, 0xfe2f),
    (0xe0100, 0xe01ef),
];

/// Characters that take two columns (the main ranges of Unicode's UAX #11).
const WIDE: [(u32, u32); 16] = [
    (0x1100, 0x115f),
    (0x2e80, 0x303e),
    (0x3041, 0x33ff),
    (0x3400, 0x4dbf),
    (0x4e00, 0x9fff),
    (0xa000, 0xa4cf),
    (0xa960, 0xa97f),
    (0xac00, 0xd7a3),
    (0xf900, 0xfaff),
    (0xfe30, 0xfe6f),
    (0xff00, 0xff60),
    (0xffe0, 0xffe6),
    (0x1f300, 0x1f6ff),
    (0x1f900, 0x1f9ff),
    (0x1fa70, 0x1faff),
    (0x20000, 0x3fffd),
];

/// How many columns a terminal gives a character.
fn columns(it: char) -> usize {
    let among =
        |ranges: &[(u32, u32)]| ranges.iter().any(|(from, to)| (*from..=*to).contains(&u32::from(it)));
    if among(&NARROW) {
        0
    } else if among(&WIDE) {
        2
    } else {
        1
    }
}

/// Everything wrong with a configuration, in order of place. Its `Display` prints every problem and a count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    problems: Vec<Problem>,
    /// Errors that were counted and not kept.
    unkept: usize,
    files: Vec<PathBuf>,
}

impl ConfigErrors {
    /// The problems, in order of place; at least one, and of a hopeless file the first 10,000.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Every file that was read, or was to be and could not: a change of one of them may mend it. Only a file that was loaded as
    /// a whole (`load`) has any.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The same with the files that were read.
    pub(super) fn of_files(self, files: Vec<PathBuf>) -> Self {
        Self { files, ..self }
    }

    /// Parts problems that were found once the file had been read; what was found twice is told once.
    ///
    /// # Errors
    /// The errors among them, in the order in which they were found; the warnings when there is none.
    pub fn part(mut problems: Vec<Problem>) -> Result<Vec<Problem>, Self> {
        let mut told = HashSet::new();
        problems.retain(|it| told.insert(it.to_string()));
        let (errors, warnings): (Vec<_>, Vec<_>) = problems.into_iter().partition(Problem::is_error);
        if errors.is_empty() {
            Ok(warnings)
        } else {
            Err(Self { problems: errors, unkept: 0, files: Vec::new() })
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in self.problems.iter().take(SHOWN_MAX) {
            writeln!(f, "{problem}")?;
        }
        let count = self.problems.len() + self.unkept;
        if count > SHOWN_MAX {
            writeln!(f, "… and {} more\n", count - SHOWN_MAX)?;
        }
        write!(f, "{count} {}", if count == 1 { "error" } else { "errors" })
    }
}

impl std::error::Error for ConfigErrors {}

/// Where problems are gathered while a file is read.
#[derive(Debug, Default)]
pub(super) struct Report {
    found: RefCell<Vec<(Span, Severity, String)>>,
    unkept: Cell<usize>,
    /// Where values stand that were decoded as secrets.
    secrets: RefCell<HashSet<Span>>,
    /// Where values stand that may be one, by their kind.
    hidden: RefCell<HashSet<Span>>,
    /// Where paths stand, and what stands before them.
    paths: RefCell<HashMap<Span, &'static str>>,
    /// What the decoder asks of values.
    pub(super) asked: Asked,
}

impl Report {
    /// One that also notes what the decoder asks of values.
    pub(super) fn listening() -> Self {
        Self { asked: Asked::listening(), ..Self::default() }
    }

    /// Notes that what stands there is a secret: it is shown nowhere.
    pub(super) fn secret(&self, span: Span) {
        self.secrets.borrow_mut().insert(span);
    }

    /// Notes that what stands there is of a kind that may be a secret: it is not shown.
    pub(super) fn hide(&self, span: Span) {
        self.hidden.borrow_mut().insert(span);
    }

    /// Whether what stands there is of a kind that may be a secret, or is one.
    pub(super) fn is_hidden(&self, span: Span) -> bool {
        self.hidden.borrow().contains(&span) || self.is_secret(span)
    }

    /// Whether what stands there was decoded as a secret.
    pub(super) fn is_secret(&self, span: Span) -> bool {
        self.secrets.borrow().contains(&span)
    }

    /// Notes that what stands there is a path.
    pub(super) fn path(&self, span: Span) {
        self.path_behind(span, "");
    }

    /// The same of a path with a prefix, such as `unix:`.
    pub(super) fn path_behind(&self, span: Span, prefix: &'static str) {
        self.paths.borrow_mut().insert(span, prefix);
    }

    /// What stands before the path that was decoded there, if one was.
    pub(super) fn path_prefix(&self, span: Span) -> Option<&'static str> {
        self.paths.borrow().get(&span).copied()
    }

    /// Whether something is wrong with what stands there.
    pub(super) fn has_error_at(&self, span: Span) -> bool {
        self.found.borrow().iter().any(|(at, severity, _)| *at == span && *severity == Severity::Error)
    }

    /// Notes an error.
    pub(super) fn error(&self, span: Span, message: impl Into<String>) {
        let message = printable(&message.into());
        let mut found = self.found.borrow_mut();
        if found.len() < KEPT_MAX {
            found.push((span, Severity::Error, message));
        } else {
            self.unkept.set(self.unkept.get() + 1);
        }
    }

    /// Notes a warning.
    pub(super) fn warning(&self, span: Span, message: impl Into<String>) {
        let mut found = self.found.borrow_mut();
        if found.len() < KEPT_MAX {
            found.push((span, Severity::Warning, printable(&message.into())));
        }
    }

    /// Whether an error was noted.
    pub(super) fn has_errors(&self) -> bool {
        self.unkept.get() > 0
            || self.found.borrow().iter().any(|(_, severity, _)| *severity == Severity::Error)
    }

    /// `value` with the warnings, or all the errors. What was found twice, as a fault in a default is, is told once.
    pub(super) fn finish<T>(
        self,
        sources: &Sources,
        value: Option<T>,
    ) -> Result<(T, Vec<Problem>), ConfigErrors> {
        let (mut found, unkept) = (self.found.into_inner(), self.unkept.get());
        // A stable sort: problems of one place stay in the order in which they were found.
        found.sort_by_key(|(span, ..)| *span);
        let mut told = HashSet::new();
        found.retain(|it| told.insert(it.clone()));
        let (errors, warnings): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|(_, severity, _)| *severity == Severity::Error);
        // Lines are kept for what is printed alone: each may be as long as the file.
        let place = |found: Vec<(Span, Severity, String)>| {
            let placed = |(at, it): (usize, _)| placed(sources, it, at < SHOWN_MAX);
            found.into_iter().enumerate().map(placed).collect()
        };
        match value {
            Some(value) if errors.is_empty() && unkept == 0 => Ok((value, place(warnings))),
            None if errors.is_empty() && unkept == 0 => {
                let message = "the configuration could not be read".to_owned();
                Err(ConfigErrors {
                    problems: vec![placed(sources, (Span::file(0), Severity::Error, message), true)],
                    unkept,
                    files: Vec::new(),
                })
            }
            _ => Err(ConfigErrors { problems: place(errors), unkept, files: Vec::new() }),
        }
    }
}

/// A message on one line of bounded length, nothing in it that a terminal obeys.
fn printable(message: &str) -> String {
    let mut shown = String::with_capacity(message.len().min(MESSAGE_MAX));
    for it in message.chars().take(MESSAGE_MAX) {
        if it.is_control() || is_invisible(it) {
            shown.extend(it.escape_default());
        } else {
            shown.push(it);
        }
    }
    if message.chars().nth(MESSAGE_MAX).is_some() {
        shown.push('…');
    }
    shown
}

fn placed(sources: &Sources, (span, severity, message): (Span, Severity, String), shown: bool) -> Problem {
    Problem {
        severity,
        message,
        file: sources.shown(span.file).to_owned(),
        line: span.line,
        column: span.column,
        snippet: if shown { sources.snippet(span) } else { None },
    }
}
