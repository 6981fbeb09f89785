//! Commits: written and read.

use super::{Kind, id_of, ident};
use crate::ObjectId;

/// Who made something, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Their name; `<`, `>` and control characters are left out when it is written.
    pub name: String,
    /// Their mail address, likewise; may be empty.
    pub email: String,
    /// Seconds since 1970, UTC. Never negative when it is written.
    pub time_s: i64,
}

/// A commit to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCommit {
    /// The tree of its files.
    pub tree: ObjectId,
    /// What came before it.
    pub parents: Vec<ObjectId>,
    /// Who made it: author and committer.
    pub author: Signature,
    /// Why.
    pub message: String,
}

impl NewCommit {
    /// Its id and its content.
    ///
    /// # Panics
    /// Never: a content that collides with another one's SHA-1 has binary blocks in it, and a commit is text without control characters.
    #[must_use]
    pub fn encode(&self) -> (ObjectId, Vec<u8>) {
        let mut text = format!("tree {}\n", self.tree);
        for parent in &self.parents {
            text += &format!("parent {parent}\n");
        }
        let author = ident::encode(&self.author);
        text += &format!("author {author}\ncommitter {author}\n\n");
        text.extend(
            self.message.trim_end().chars().filter(|it| !it.is_control() || matches!(it, '\n' | '\t')),
        );
        text.push('\n');
        let id =
            id_of(Kind::Commit, text.as_bytes()).expect("text without control characters never collides");
        (id, text.into_bytes())
    }
}

/// A commit as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) tree: ObjectId,
    pub(crate) parents: Vec<ObjectId>,
    pub(crate) author: Signature,
    pub(crate) committed_s: i64,
    pub(crate) message: String,
}

impl Commit {
    /// Reads it as strictly as `git fsck --strict` does (fsck.c, `fsck_commit`).
    pub(crate) fn parse(content: &[u8]) -> Result<Self, &'static str> {
        check_text(content)?;
        let mut rest = content;
        let tree = id_line(&mut rest, b"tree ").ok_or("it does not begin with its tree")?;
        let mut parents = Vec::new();
        while rest.starts_with(b"parent ") {
            parents.push(id_line(&mut rest, b"parent ").ok_or("a parent of it is not an object id")?);
        }
        let author = ident::parse(line(&mut rest, b"author ").ok_or("it has no author")?)?;
        if rest.starts_with(b"author ") {
            return Err("it has more than one author");
        }
        let committer = ident::parse(line(&mut rest, b"committer ").ok_or("it has no committer")?)?;
        Ok(Self { tree, parents, author, committed_s: committer.time_s, message: message(rest) })
    }
}

/// What commits and tags have in common (fsck.c, `verify_headers`).
pub(super) fn check_text(content: &[u8]) -> Result<(), &'static str> {
    if content.contains(&0) {
        return Err("it has a NUL in it");
    }
    let ended = content.ends_with(b"\n") || content.windows(2).any(|it| it == b"\n\n");
    if ended { Ok(()) } else { Err("its headers are cut off") }
}

/// What follows the headers' empty line.
fn message(mut rest: &[u8]) -> String {
    while !rest.is_empty() && !rest.starts_with(b"\n") {
        let Some(end) = rest.iter().position(|it| *it == b'\n') else { return String::new() };
        rest = &rest[end + 1..];
    }
    String::from_utf8_lossy(rest.strip_prefix(b"\n").unwrap_or(rest)).into_owned()
}

/// The rest of a line that begins so, without its end.
pub(super) fn line<'a>(rest: &mut &'a [u8], begin: &[u8]) -> Option<&'a [u8]> {
    let after = rest.strip_prefix(begin)?;
    let end = after.iter().position(|it| *it == b'\n')?;
    *rest = &after[end + 1..];
    Some(&after[..end])
}

pub(super) fn id_line(rest: &mut &[u8], begin: &[u8]) -> Option<ObjectId> {
    ObjectId::from_hex(line(rest, begin)?).ok().filter(|it| *it != ObjectId::NULL)
}
