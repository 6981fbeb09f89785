//! Trees as they are stored: entries of `MODE NAME\0ID`.

use super::check::ObjectError;
use crate::ObjectId;
use std::cmp::Ordering;

/// What an entry of a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// A file.
    File,
    /// A file that may be run.
    Executable,
    /// A symbolic link; its blob is where it points to.
    Link,
    /// A folder.
    Folder,
}

impl Mode {
    /// As Git writes it, octal.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "100644",
            Self::Executable => "100755",
            Self::Link => "120000",
            Self::Folder => "40000",
        }
    }

    /// As Git's index has it.
    pub(crate) const fn bits(self) -> u32 {
        match self {
            Self::File => 0o100_644,
            Self::Executable => 0o100_755,
            Self::Link => 0o120_000,
            Self::Folder => 0o040_000,
        }
    }

    fn from_octal(digits: &[u8]) -> Option<Self> {
        [Self::File, Self::Executable, Self::Link, Self::Folder]
            .into_iter()
            .find(|it| it.as_str().as_bytes() == digits)
    }
}

/// One entry of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TreeEntry<'a> {
    pub(crate) mode: Mode,
    pub(crate) name: &'a [u8],
    pub(crate) id: ObjectId,
}

impl TreeEntry<'_> {
    /// Git's order: by bytes, a folder's name as if it ended with `/`.
    pub(crate) fn order(&self, other: &TreeEntry<'_>) -> Ordering {
        let end = |mode| (mode == Mode::Folder).then_some(b'/');
        self.name.iter().copied().chain(end(self.mode)).cmp(other.name.iter().copied().chain(end(other.mode)))
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.mode.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.name);
        out.push(0);
        out.extend_from_slice(self.id.as_bytes());
    }
}

/// The files and links of a tree, by its content; not those of the trees below. What can't be read ends them.
pub fn blobs_in(content: &[u8]) -> impl Iterator<Item = ObjectId> {
    entries(content).map_while(Result::ok).filter(|it| it.mode != Mode::Folder).map(|it| it.id)
}

/// A tree's entries, one after the other; the first that can't be read ends them with an error.
pub(crate) fn entries(content: &[u8]) -> impl Iterator<Item = Result<TreeEntry<'_>, ObjectError>> {
    let mut rest = content;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let entry = next(&mut rest);
        if entry.is_err() {
            rest = &[];
        }
        Some(entry)
    })
}

fn next<'a>(rest: &mut &'a [u8]) -> Result<TreeEntry<'a>, ObjectError> {
    const CUT: ObjectError = ObjectError::Malformed("an entry of the tree is cut off");
    let space = rest.iter().take(8).position(|it| *it == b' ').ok_or(CUT)?;
    let (digits, after) = (&rest[..space], &rest[space + 1..]);
    let end = after.iter().position(|it| *it == 0).ok_or(CUT)?;
    let name = &after[..end];
    let id = after.get(end + 1..end + 21).ok_or(CUT)?;
    *rest = &after[end + 21..];
    let mode = Mode::from_octal(digits).ok_or_else(|| ObjectError::Mode {
        name: String::from_utf8_lossy(name).into_owned(),
        mode: String::from_utf8_lossy(digits).into_owned(),
    })?;
    let id = ObjectId::from_bytes(id).map_err(|_| CUT)?;
    Ok(TreeEntry { mode, name, id })
}
