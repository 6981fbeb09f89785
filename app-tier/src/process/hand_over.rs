//! Makes a checked-out folder one that an app's own user can read, or, for `prepare`, write. Only for folders that nothing but this server has
//! written to: nobody may be putting links in its way.

use super::account::Account;
use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{PermissionsExt, lchown},
    path::Path,
};

/// Folders within folders.
const DEPTH_MAX: usize = 128;

/// The user's group may read all of it; with `owner` it is the user's.
///
/// # Errors
/// The system's.
pub(super) fn hand_over(path: &Path, user: &Account, owner: bool) -> io::Result<()> {
    below(path, user, owner, DEPTH_MAX)
}

fn below(path: &Path, user: &Account, owner: bool, depth: usize) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if found.is_dir() {
        let depth = depth.checked_sub(1).ok_or_else(|| io::Error::other("folders are nested too deep"))?;
        for entry in fs::read_dir(path)? {
            below(&entry?.path(), user, owner, depth)?;
        }
    }
    if !found.is_symlink() {
        let mode = found.permissions().mode() & 0o777;
        // What its owner may read and execute, the group may.
        fs::set_permissions(path, Permissions::from_mode(mode | ((mode & 0o500) >> 3)))?;
    }
    // Last: from then on the user, of whom other processes may run, can put links into a folder.
    lchown(path, owner.then_some(user.uid), Some(user.gid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::geteuid;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn the_group_reads_and_links_are_not_followed() {
        if !geteuid().is_root() {
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let (folder, outside) = (root.path().join("app"), root.path().join("outside"));
        fs::create_dir_all(folder.join("inner")).unwrap();
        for (file, mode) in
            [(&outside, 0o600), (&folder.join("inner/tool"), 0o700), (&folder.join("text"), 0o644)]
        {
            fs::write(file, "").unwrap();
            fs::set_permissions(file, Permissions::from_mode(mode)).unwrap();
        }
        symlink(&outside, folder.join("link")).unwrap();
        let user = Account { name: "4711".to_owned(), uid: 4711, gid: 4712 };
        let of = |path: &Path| {
            let found = fs::symlink_metadata(path).unwrap();
            (found.uid(), found.gid(), found.mode() & 0o777)
        };
        hand_over(&folder, &user, false).unwrap();
        assert_eq!(of(&folder.join("inner/tool")), (0, 4712, 0o750));
        assert_eq!(of(&folder.join("text")), (0, 4712, 0o644));
        hand_over(&folder, &user, true).unwrap();
        assert_eq!((of(&folder.join("inner/tool")), of(&folder).0), ((4711, 4712, 0o750), 4711));
        assert_eq!(of(&outside), (0, 0, 0o600));
    }

    #[test]
    fn a_folder_is_given_away_after_what_is_in_it() {
        if !geteuid().is_root() {
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("app");
        fs::create_dir_all(folder.join("in/".repeat(DEPTH_MAX + 1))).unwrap();
        let user = Account { name: "4711".to_owned(), uid: 4711, gid: 4712 };
        let failed = hand_over(&folder, &user, true).unwrap_err().to_string();
        assert_eq!(failed, "folders are nested too deep");
        assert_eq!(fs::metadata(&folder).unwrap().uid(), 0, "nothing above what failed is the user's");
    }
}
