//! What could not be translated.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    rc::Rc,
};

/// Something that could not be translated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The file in which it stands.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The directive or keyword.
    pub name: String,
    /// Why, and what to use.
    pub why: String,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file.display(), self.line, self.name, self.why)
    }
}

/// A place in a file.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Counts the files in the order in which they were read.
    pub(crate) number: usize,
    pub(crate) file: Rc<Path>,
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// More than this are not kept.
const LEFT_MAX: usize = 10_000;

/// Gathers what is left; a directive that goes to several hosts is told once.
#[derive(Debug, Default)]
pub(crate) struct Remarks {
    left: BTreeMap<(usize, usize, usize, String), Left>,
    /// How many lines there are of rules, and of backends in them.
    written: usize,
}

/// More lines of rules, and of backends in them, are not written: a file of Copal's has its bounds.
const WRITTEN_MAX: usize = 60_000;

/// What is said where there is no room for more.
pub(crate) const TOO_MUCH: &str = "it is too much for one file: this is closed";

impl Remarks {
    /// Notes that `name` is left. The comment for its place is handed back.
    pub(crate) fn leave(&mut self, place: &Place, name: &str, why: impl Into<String>) -> String {
        let why = why.into();
        let left = Left {
            file: place.file.to_path_buf(),
            line: place.line,
            column: place.column,
            name: printable(name),
            why: printable(&why),
        };
        let comment = shown(left.to_string().chars());
        if self.left.len() < LEFT_MAX {
            self.left.entry((place.number, place.line, place.column, why)).or_insert(left);
        }
        comment
    }

    /// Whether so many lines more may be written; then they are.
    pub(crate) fn takes(&mut self, lines: usize) -> bool {
        let fits = self.written.saturating_add(lines) <= WRITTEN_MAX;
        if fits {
            self.written += lines;
        }
        fits
    }

    pub(crate) fn into_left(self) -> Vec<Left> {
        self.left.into_values().collect()
    }
}

/// A text that stays on its line, of a bearable length.
fn printable(text: &str) -> String {
    shown(text.chars().take(300))
}

/// Characters that stay on their line, and may stand in a comment.
pub(crate) fn shown(text: impl Iterator<Item = char>) -> String {
    let marks = |it: char| matches!(it, '\u{feff}' | '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}');
    text.map(|it| if it.is_control() || marks(it) { '\u{fffd}' } else { it }).collect()
}
