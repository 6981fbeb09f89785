//! Why an archive is refused.

use crate::limits::Limits;
use std::{io, path::PathBuf};

/// Why [`read()`](crate::read()) ended early.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError<E> {
    /// The archive can't be read or must not be deployed.
    #[error("{}: {}{problem}", archive.display(), entry.as_deref().map(named).unwrap_or_default())]
    Refused {
        /// As it was given.
        archive: PathBuf,
        /// The entry's path as it stands in the archive; `None` if it is the archive as a whole.
        entry: Option<String>,
        /// What is wrong.
        problem: Problem,
    },
    /// The sink's own error.
    #[error(transparent)]
    Sink(E),
}

/// What is wrong with an archive or an entry.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It is none of those that are taken.
    #[error("{found}: expected a folder, or an archive of the kind tar, tar.gz, tar.zst or zip")]
    NotAnArchive {
        /// What it is, as far as that is known.
        found: &'static str,
    },
    /// Nothing to deploy.
    #[error("no file in it: expected at least one")]
    Empty,
    /// More than a limit allows.
    #[error("too many {what}: at most {max}")]
    TooMany {
        /// Entries, bytes, ….
        what: &'static str,
        /// The limit.
        max: u64,
    },
    /// [`Limits::ratio`].
    #[error("{unpacked} bytes came out of {packed}: at most {max} times as many are unpacked")]
    Bomb {
        /// Compressed bytes so far.
        packed: u64,
        /// What came of them.
        unpacked: u64,
        /// The limit.
        max: u64,
    },
    /// The entry's name.
    #[error(transparent)]
    Name(#[from] BadName),
    /// The same file twice.
    #[error("it is in the archive twice: expected each name once")]
    Duplicate,
    /// Two names that are one on macOS and Windows.
    #[error(
        "`{}` differs from it only in case or in how accents are written: expected names that differ otherwise",
        shown(earlier)
    )]
    Clash {
        /// The earlier one's path.
        earlier: String,
    },
    /// A file or link, and a folder, of one name.
    #[error("`{}` is both a folder and none: expected one of them", shown(path))]
    FolderAndNot {
        /// Its path.
        path: String,
    },
    /// The way to it leads through a link.
    #[error("it is below the link `{}`: expected links to have nothing below them", shown(link))]
    BelowLink {
        /// The link's path.
        link: String,
    },
    /// A link to the outside, itself or by way of others.
    #[error("the link to `{}` leads out of the archive: expected a target inside", shown(target))]
    LinkEscapes {
        /// Its target.
        target: String,
    },
    /// A link that leads to itself, or through more links than the system follows.
    #[error(
        "the link to `{}` leads in a circle or through too many others: expected a file or folder at its end",
        shown(target)
    )]
    LinkLoop {
        /// Its target.
        target: String,
    },
    /// A hard link to what is not there (yet).
    #[error("a hard link to `{}`: expected the name of an earlier file of the archive", shown(of))]
    HardLink {
        /// What it names.
        of: String,
    },
    /// A kind of entry or of archive that is not taken.
    #[error("{found}: expected {expected}")]
    Unsupported {
        /// What it is.
        found: String,
        /// What would do.
        expected: &'static str,
    },
    /// The file ends too early.
    #[error("cut off: expected more after its last byte")]
    Truncated,
    /// Bytes that make no sense, or a checksum that is wrong.
    #[error("damaged: {0}")]
    Damaged(String),
    /// More or fewer bytes than were announced.
    #[error("{found} bytes: expected {expected}, as announced")]
    Size {
        /// `more` or `fewer`.
        found: &'static str,
        /// The announced size in bytes.
        expected: u64,
    },
    /// The disk's error.
    #[error("can't be read: {0}")]
    Io(io::Error),
}

/// What is wrong with a name or with a link's target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Not UTF-8.
    #[error("the name is not UTF-8: expected UTF-8")]
    NotUtf8,
    /// Nothing but `/` and `.`.
    #[error("no name: expected one")]
    Empty,
    /// `/etc/passwd`.
    #[error("an absolute path: expected a relative one")]
    Absolute,
    /// `../x`.
    #[error("`..` in its path: expected one that stays inside")]
    Parent,
    /// `a\b`: a separator to Windows, part of the name elsewhere.
    #[error("`\\` in its name: expected `/` between folders")]
    Backslash,
    /// U+0000 to U+001F, U+007F to U+009F.
    #[error("a control character in its name: expected visible ones")]
    Control,
    /// [`Limits::path`].
    #[error("its path is longer than {0} bytes")]
    PathTooLong(usize),
    /// [`Limits::name`].
    #[error("a name in its path is longer than {0} bytes")]
    NameTooLong(usize),
    /// [`Limits::depth`].
    #[error("more than {0} folders deep")]
    TooDeep(usize),
    /// `.git`, or what some file system takes for it.
    #[error("a name that is Git's own, or that some system takes for it: expected a folder without `.git`")]
    DotGit,
    /// A link `.gitmodules`, which Git refuses.
    #[error("`.gitmodules` is a link: expected a file")]
    GitModules,
    /// A file `a/`.
    #[error("a folder's name for a file or link: expected one without `/` at its end")]
    Folder,
}

impl From<io::Error> for Problem {
    /// Problems travel as [`io::Error`] through readers; a decoder's own are told from the disk's by their kind.
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        error.downcast::<Self>().unwrap_or_else(|error| match error.kind() {
            UnexpectedEof => Self::Truncated,
            InvalidData | InvalidInput => Self::Damaged(error.to_string()),
            _ => Self::Io(error),
        })
    }
}

impl From<Problem> for io::Error {
    fn from(problem: Problem) -> Self {
        Self::other(problem)
    }
}

impl Problem {
    /// Too many entries.
    pub(crate) fn entries(limits: &Limits) -> Self {
        Self::TooMany { what: "entries", max: limits.entries }
    }

    /// Too many bytes of names.
    pub(crate) fn names(limits: &Limits) -> Self {
        Self::TooMany { what: "bytes of names", max: limits.names }
    }
}

/// Why a reader ended, before the archive's name is put to it.
#[derive(Debug)]
pub(crate) enum Failure<E> {
    Archive { entry: Option<String>, problem: Problem },
    Sink(E),
}

impl<E> Failure<E> {
    /// The problem of the entry with this name.
    pub(crate) fn at(name: &[u8], problem: impl Into<Problem>) -> Self {
        let entry = String::from_utf8_lossy(name).into_owned();
        Self::Archive { entry: Some(entry), problem: problem.into() }
    }
}

impl<E> From<Problem> for Failure<E> {
    fn from(problem: Problem) -> Self {
        Self::Archive { entry: None, problem }
    }
}

impl<E> From<io::Error> for Failure<E> {
    fn from(error: io::Error) -> Self {
        Problem::from(error).into()
    }
}

fn named(entry: &str) -> String {
    format!("`{}`: ", shown(entry))
}

/// A name from a stranger, fit for a terminal.
fn shown(name: &str) -> String {
    const MAX: usize = 200;
    let mut text: String = name.chars().take(MAX).flat_map(char::escape_debug).collect();
    if name.chars().nth(MAX).is_some() {
        text.push('…');
    }
    text
}
