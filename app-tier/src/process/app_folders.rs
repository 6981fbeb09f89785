//! What an app may write to: `${DATA}`, which survives deployments, and its temporary folder, which is emptied when the server starts.

use super::{account::Account, confine::RightsError};
use common::private;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::process::geteuid;
use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

/// Folders of a server's data folder in which apps have folders that belong to users of their own.
pub const APP_FOLDERS: [&str; 4] = [DATA, TMP, "run", CHECKED_OUT];

/// The files of deployed apps, version by version.
pub(crate) const CHECKED_OUT: &str = "apps";

const DATA: &str = "app-data";
const TMP: &str = "app-tmp";

/// What a folder's name keeps of an app's key as it is.
const NAME: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// Others may go through a folder to one that is theirs.
const PASSAGE: u32 = 0o011;

/// The folders of one app.
#[derive(Debug, Clone)]
pub(crate) struct AppFolders {
    /// `${DATA}`.
    pub(crate) data: PathBuf,
    /// `TMPDIR`.
    pub(crate) tmp: PathBuf,
}

impl AppFolders {
    /// Makes them in a server's data folder, `user`'s if there is one; `key` is the app's, the same after every deployment.
    ///
    /// # Errors
    /// The system's, or [`RightsError::Foreign`].
    pub(crate) fn make(data_dir: &Path, key: &str, user: Option<&Account>) -> Result<Self, RightsError> {
        let name = utf8_percent_encode(key, &NAME).to_string();
        let folders = Self { data: data_dir.join(DATA).join(&name), tmp: data_dir.join(TMP).join(&name) };
        for path in [&folders.data, &folders.tmp] {
            private::make_folder(path).map_err(|cause| RightsError::folder(path, cause))?;
            give(path, user)?;
        }
        if let Some(user) = user {
            for path in [data_dir.parent(), Some(data_dir), folders.data.parent(), folders.tmp.parent()] {
                let Some(path) = path else { continue };
                open_passage(path).map_err(|cause| RightsError::folder(path, cause))?;
            }
            // What is above them is not this server's to open.
            let above = data_dir.ancestors().skip(2);
            if let Some(closed) = above.into_iter().find(|path| !lets_through(path, user)) {
                let path = closed.to_owned();
                return Err(RightsError::NoPassage { path, user: user.name.clone() });
            }
        }
        Ok(folders)
    }

    /// Removes what apps left in their temporary folders; none may run.
    pub(crate) fn empty_tmp(data_dir: &Path) {
        // What can't be removed stays: it is in nobody's way.
        let _ = fs::remove_dir_all(data_dir.join(TMP));
    }
}

/// Lets others go through a folder of ours, without a look at what is in it.
pub(crate) fn open_passage(path: &Path) -> io::Result<()> {
    let found = fs::metadata(path)?;
    if found.uid() == geteuid().as_raw() && found.mode() & PASSAGE != PASSAGE {
        fs::set_permissions(path, Permissions::from_mode((found.mode() & 0o7777) | PASSAGE))?;
    }
    Ok(())
}

/// Whether the user may go through a folder, by its mode.
fn lets_through(path: &Path, user: &Account) -> bool {
    let Ok(found) = fs::metadata(path) else { return true };
    let is_owner = found.uid() == user.uid;
    let shift = if is_owner {
        6
    } else if found.gid() == user.gid {
        3
    } else {
        0
    };
    (found.mode() >> shift) & 1 != 0
}

/// Makes the app the owner of its folder, whose parent is ours: nobody can have put a link in its place.
fn give(path: &Path, user: Option<&Account>) -> Result<(), RightsError> {
    let failed = |cause| RightsError::folder(path, cause);
    let found = fs::metadata(path).map_err(failed)?;
    let me = user.map_or(geteuid().as_raw(), |user| user.uid);
    if found.uid() != me {
        if fs::read_dir(path).map_err(failed)?.next().is_some() {
            return Err(RightsError::Foreign { path: path.to_owned(), owner: found.uid(), me });
        }
        chown(path, Some(me), user.map(|user| user.gid)).map_err(failed)?;
    }
    if found.mode() & 0o7777 != private::FOLDER {
        fs::set_permissions(path, Permissions::from_mode(private::FOLDER)).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn each_app_has_private_folders_of_its_own_that_stay() {
        let root = tempfile::tempdir().unwrap();
        let make = |key| AppFolders::make(root.path(), key, None).unwrap();
        let shop = make("app-tier|default|/shop");
        assert_eq!(shop.data.file_name().unwrap(), "app-tier%7Cdefault%7C%2Fshop");
        assert_eq!([mode(&shop.data), mode(&shop.tmp), mode(shop.data.parent().unwrap())], [0o700; 3]);
        fs::write(shop.data.join("kept"), "1").unwrap();
        fs::write(shop.tmp.join("gone"), "1").unwrap();
        // An app may do what it likes with its own.
        fs::set_permissions(&shop.data, Permissions::from_mode(0o777)).unwrap();
        AppFolders::empty_tmp(root.path());
        let again = make("app-tier|default|/shop");
        assert_eq!((again.data.as_path(), mode(&again.data)), (shop.data.as_path(), 0o700));
        assert!(again.data.join("kept").exists() && !again.tmp.join("gone").exists());
        for other in ["..", "/", "app-tier|default|/Shop", "app-tier|default%7C%2Fshop"] {
            let other = make(other).data;
            assert_ne!(other, shop.data);
            assert_eq!(other.parent(), shop.data.parent());
        }
    }

    #[test]
    fn a_user_gets_to_its_folders_and_no_further() {
        if !geteuid().is_root() {
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let data_dir = root.path().join("data/app-a");
        private::make_folder(&data_dir).unwrap();
        let user = Account { name: "4711".to_owned(), uid: 4711, gid: 4712 };
        fs::set_permissions(root.path(), Permissions::from_mode(0o700)).unwrap();
        let refused = AppFolders::make(&data_dir, "shop", Some(&user)).unwrap_err();
        assert!(matches!(&refused, RightsError::NoPassage { path, .. } if path == root.path()), "{refused}");
        fs::set_permissions(root.path(), Permissions::from_mode(0o711)).unwrap();
        let shop = AppFolders::make(&data_dir, "shop", Some(&user)).unwrap();
        for path in [&shop.data, &shop.tmp] {
            let found = fs::metadata(path).unwrap();
            assert_eq!((found.uid(), found.gid(), mode(path)), (4711, 4712, 0o700));
        }
        assert_eq!(
            [mode(&data_dir), mode(&data_dir.join(DATA)), mode(data_dir.parent().unwrap())],
            [0o711; 3]
        );
        fs::write(shop.data.join("kept"), "1").unwrap();
        let other = Account { uid: 4713, ..user };
        let refused = AppFolders::make(&data_dir, "shop", Some(&other)).unwrap_err().to_string();
        assert!(refused.contains("belongs to user 4711, and the app runs as user 4713"), "{refused}");
    }
}
