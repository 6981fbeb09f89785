//! Names in an archive: what a path may be, and which two are one on some file system.

use crate::{error::BadName, limits::Limits};
use gix_validate::path::component;
use std::str;
use unicode_normalization::UnicodeNormalization;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    Folder,
    File,
    Link,
}

/// The parts of an entry's path; none for the archive's own top folder (`./`).
pub(crate) fn parts<'n>(name: &'n [u8], of: Of, limits: &Limits) -> Result<Vec<&'n str>, BadName> {
    let text = text(name, limits)?;
    if of != Of::Folder && (text.ends_with('/') || text.ends_with("/.")) {
        return Err(BadName::Folder);
    }
    let parts: Vec<_> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    for (index, part) in parts.iter().enumerate() {
        let is_link = of == Of::Link && index + 1 == parts.len();
        check(part, is_link, limits)?;
    }
    if parts.len() > limits.depth {
        return Err(BadName::TooDeep(limits.depth));
    }
    if parts.is_empty() && of != Of::Folder {
        return Err(BadName::Empty);
    }
    Ok(parts)
}

/// A link's target: relative, and otherwise such as a name may be; `..` is for [`crate::links`] to judge.
pub(crate) fn target<'n>(name: &'n [u8], limits: &Limits) -> Result<&'n str, BadName> {
    let text = text(name, limits)?;
    for part in text.split('/').filter(|part| !matches!(*part, "" | "." | "..")) {
        check(part, false, limits)?;
    }
    Ok(text)
}

fn text<'n>(name: &'n [u8], limits: &Limits) -> Result<&'n str, BadName> {
    if name.len() > limits.path {
        return Err(BadName::PathTooLong(limits.path));
    }
    let text = str::from_utf8(name).map_err(|_| BadName::NotUtf8)?;
    match text {
        "" => Err(BadName::Empty),
        _ if text.starts_with('/') => Err(BadName::Absolute),
        _ if text.contains('\\') => Err(BadName::Backslash),
        _ if text.contains(char::is_control) => Err(BadName::Control),
        _ => Ok(text),
    }
}

/// One part of a path. What Git's checkout refuses (`verify_path` with `core.protectHFS` and `core.protectNTFS`) is refused.
fn check(part: &str, is_link: bool, limits: &Limits) -> Result<(), BadName> {
    if part.len() > limits.name {
        return Err(BadName::NameTooLong(limits.name));
    }
    let options = component::Options { protect_windows: false, protect_hfs: true, protect_ntfs: true };
    let mode = is_link.then_some(component::Mode::Symlink);
    match component(part.into(), mode, options) {
        Ok(_) => Ok(()),
        Err(component::Error::Relative) => Err(BadName::Parent),
        Err(component::Error::SymlinkedGitModules) => Err(BadName::GitModules),
        Err(_) => Err(BadName::DotGit),
    }
}

/// The same for all names that are one on a file system without case, as on macOS and Windows: canonical caseless matching
/// (Unicode §3.13, D145), with case folding as lower, upper and lower case in turn, which agrees with `CaseFolding.txt` but for
/// the dotless i; that has no other case here, as there.
pub(crate) fn folded(name: &str) -> String {
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    let mut folded = String::with_capacity(name.len());
    for letter in name.nfd() {
        if letter == 'ı' {
            folded.push(letter);
        } else {
            let upper = letter.to_lowercase().flat_map(char::to_uppercase);
            folded.extend(upper.flat_map(char::to_lowercase));
        }
    }
    folded.nfd().collect()
}
