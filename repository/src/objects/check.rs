//! Is an object as `git fsck --strict` wants it? Asked before it is stored, so that the repository is clean at every instant.

use super::commit::{check_text, id_line, line};
use super::{Commit, Kind, Mode, entries, ident, names};
use crate::ObjectId;
use std::collections::HashSet;

/// What is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// It can't be read, or Git would refuse it.
    #[error("{0}")]
    Malformed(&'static str),
    /// A name that no tree may hold.
    #[error("its entry {name:?} is {why}")]
    Name {
        /// The entry.
        name: String,
        /// What it is.
        why: &'static str,
    },
    /// Neither a file, a link nor a folder.
    #[error(
        "its entry {name:?} has the mode {mode}, which is none of a file, a link or a folder (submodules are not supported)"
    )]
    Mode {
        /// The entry.
        name: String,
        /// Octal.
        mode: String,
    },
    /// Its content has another one's SHA-1.
    #[error("it was made to collide with another object's SHA-1")]
    Collision,
    /// The same name twice, or not in Git's order.
    #[error("its entry {0:?} is there twice or not in Git's order")]
    Order(String),
}

/// A `.gitattributes` that Git refuses has longer lines (attr.h).
const ATTRIBUTES_LINE_BYTES: usize = 2047;

/// Checks an object by itself, whatever it points to.
pub(crate) fn check(kind: Kind, content: &[u8]) -> Result<(), ObjectError> {
    match kind {
        Kind::Commit => Commit::parse(content).map(drop).map_err(ObjectError::Malformed),
        Kind::Tree => check_tree(content),
        Kind::Tag => tag_target(content).map(drop).map_err(ObjectError::Malformed),
        Kind::Blob => Ok(()),
    }
}

fn check_tree(content: &[u8]) -> Result<(), ObjectError> {
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    let mut before = None;
    let mut names = HashSet::new();
    for entry in entries(content) {
        let entry = entry?;
        names::check(entry.name).map_err(|why| ObjectError::Name { name: text(entry.name), why })?;
        if entry.id == ObjectId::NULL {
            return Err(ObjectError::Malformed("an entry of the tree has the id of nothing"));
        }
        // A file and a folder of one name need not be side by side.
        let sorted = before.is_none_or(|it: super::TreeEntry<'_>| it.order(&entry).is_lt());
        if !sorted || !names.insert(entry.name) {
            return Err(ObjectError::Order(text(entry.name)));
        }
        before = Some(entry);
    }
    Ok(())
}

/// What a tag names, read as strictly as Git does (fsck.c, `fsck_tag`).
pub(crate) fn tag_target(content: &[u8]) -> Result<(Kind, ObjectId), &'static str> {
    check_text(content)?;
    let mut rest = content;
    let id = id_line(&mut rest, b"object ").ok_or("the tag does not begin with its object")?;
    let kind = line(&mut rest, b"type ").and_then(Kind::from_name).ok_or("the tag has no type")?;
    line(&mut rest, b"tag ").filter(|it| !it.is_empty()).ok_or("the tag has no name")?;
    if rest.starts_with(b"tagger ") {
        ident::parse(line(&mut rest, b"tagger ").ok_or("its tagger is cut off")?)?;
    }
    Ok((kind, id))
}

/// Is it a `.gitattributes`, also in a form that some file system takes for it? Too many are taken for one, never too few.
pub(crate) fn is_attributes(mode: Mode, name: &[u8]) -> bool {
    let plain: Vec<u8> = name.iter().filter(|it| it.is_ascii()).map(u8::to_ascii_lowercase).collect();
    let shortened = plain.starts_with(b"gi") && plain.contains(&b'~');
    matches!(mode, Mode::File | Mode::Executable) && (plain.starts_with(b".gitattributes") || shortened)
}

/// Checks what Git refuses in a `.gitattributes` (fsck.c, `fsck_blob`).
pub(crate) fn check_attributes(content: &[u8]) -> Result<(), ObjectError> {
    let long = content.split(|it| *it == b'\n').any(|line| line.len() > ATTRIBUTES_LINE_BYTES);
    let error = ObjectError::Malformed("it is a .gitattributes with a line of more than 2047 bytes");
    if long { Err(error) } else { Ok(()) }
}
