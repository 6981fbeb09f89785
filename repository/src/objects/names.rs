//! Names that a tree may hold: what Git refuses on any system is refused here.

use gix_validate::path::component::{Mode, Options};

/// Linux's longest name (NAME_MAX).
const NAME_BYTES: usize = 255;

/// What is wrong with a name, if anything: `.git` and `.gitmodules` in any form that some file system takes for it (HFS+, NTFS), `..`, a slash.
pub(super) fn check(name: &[u8]) -> Result<(), &'static str> {
    if name.len() > NAME_BYTES {
        return Err("longer than 255 bytes");
    }
    component(name)?;
    // Windows takes a backslash for a slash, and Git looks behind each (fsck.c, `fsck_tree`).
    for part in name.split(|it| *it == b'\\').filter(|it| !matches!(*it, b"" | b"." | b"..")) {
        component(part)?;
    }
    Ok(())
}

fn component(name: &[u8]) -> Result<(), &'static str> {
    use gix_validate::path::component::Error;
    let options = Options { protect_windows: false, protect_hfs: true, protect_ntfs: true };
    // Submodules aren't followed, so a `.gitmodules` is refused as if it were the link that Git refuses.
    match gix_validate::path::component(name.into(), Some(Mode::Symlink), options) {
        Ok(_) => Ok(()),
        Err(Error::Empty) => Err("empty"),
        Err(Error::DotGitDir) => Err("a form of .git"),
        Err(Error::SymlinkedGitModules) => Err("a form of .gitmodules, and submodules are not supported"),
        Err(Error::Relative) => Err("relative"),
        Err(_) => Err("not a name of a file"),
    }
}
