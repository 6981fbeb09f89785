//! Files and folders that only this server's user can read: sessions, ids of live sessions and the processes of apps are in them.
//! Their modes are asked for as they are made, so that no umask decides.

use rustix::process::geteuid;
use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Folders: nobody else may enter them or list them.
pub const FOLDER: u32 = 0o700;
/// Files: nobody else may read them.
pub const FILE: u32 = 0o600;

/// Folders that others may go through to what is theirs.
const PASSAGE: u32 = 0o711;

/// Everything that others may do.
const OTHERS: u32 = 0o077;

/// How deep folders are looked through.
const DEPTH_MAX: usize = 16;

/// Why a folder can't be made private.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// Who owns it can read and change everything in it.
    #[error(
        "{} belongs to user {owner}, and this server runs as user {me}: run it as that user, or give it the folder with `chown -R {me}`",
        path.display()
    )]
    Foreign {
        /// The file or folder.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// This process's.
        me: u32,
    },
    /// The system does not let us.
    #[error("{} can't be made private: {cause}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

/// Makes a folder, and those above it that are missing.
///
/// # Errors
/// The system's. A folder that is there is none.
pub fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER).create(path)
}

/// How to open a file that may have to be made.
pub fn options() -> OpenOptions {
    let mut options = File::options();
    options.mode(FILE);
    options
}

/// Writes a whole file. One that is there becomes private too.
///
/// # Errors
/// The system's.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = options().write(true).create(true).truncate(true).open(path)?;
    if file.metadata()?.mode() & OTHERS != 0 {
        file.set_permissions(Permissions::from_mode(FILE))?;
    }
    file.write_all(bytes)
}

/// Takes from others what they may do with a file, or with a folder and everything in it. Links in it are left alone, and not followed.
/// Returns how many files and folders it has changed.
///
/// # Errors
/// See [`PrivateError`].
pub fn mend(path: &Path) -> Result<usize, PrivateError> {
    mend_but(path, &[])
}

/// [`mend`] for a folder in which some, by their names in it, hold what is others' and are left alone; others may go through the folder to
/// these, if they could before, and see nothing of it.
///
/// # Errors
/// See [`PrivateError`].
pub fn mend_but(path: &Path, others: &[&str]) -> Result<usize, PrivateError> {
    let real = path.canonicalize().map_err(|cause| PrivateError::Io { path: path.to_owned(), cause })?;
    mend_below(&real, 0, others)
}

fn mend_below(path: &Path, depth: usize, others: &[&str]) -> Result<usize, PrivateError> {
    let failed = |cause| PrivateError::Io { path: path.to_owned(), cause };
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        // Gone since it was listed.
        Err(cause) if cause.kind() == io::ErrorKind::NotFound && depth > 0 => return Ok(0),
        Err(cause) => return Err(failed(cause)),
    };
    if found.is_symlink() {
        return Ok(0);
    }
    let (owner, me) = (found.uid(), geteuid().as_raw());
    if owner != me {
        return Err(PrivateError::Foreign { path: path.to_owned(), owner, me });
    }
    let mode = found.mode() & 0o7777;
    let mut mended = 0;
    let is_passage = mode == PASSAGE && found.is_dir() && !others.is_empty();
    if mode & OTHERS != 0 && !is_passage {
        fs::set_permissions(path, Permissions::from_mode(mode & !OTHERS)).map_err(failed)?;
        mended = 1;
    }
    if found.is_dir() && depth < DEPTH_MAX {
        for entry in fs::read_dir(path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if !others.iter().any(|other| entry.file_name() == *other) {
                mended += mend_below(&entry.path(), depth + 1, &[])?;
            }
        }
    }
    Ok(mended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn what_is_made_is_private() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b");
        make_folder(&folder).unwrap();
        make_folder(&folder).unwrap();
        assert_eq!((mode(&folder), mode(folder.parent().unwrap())), (0o700, 0o700));
        let file = folder.join("file");
        fs::write(&file, "open to all").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        write(&file, b"one").unwrap();
        assert_eq!((mode(&file), fs::read_to_string(&file).unwrap().as_str()), (0o600, "one"));
        write(&folder.join("new"), b"").unwrap();
        options().create(true).append(true).open(folder.join("log")).unwrap();
        assert_eq!((mode(&folder.join("new")), mode(&folder.join("log"))), (0o600, 0o600));
    }

    #[test]
    fn what_is_there_is_mended_and_nothing_beside_it() {
        let root = tempfile::tempdir().unwrap();
        let (folder, outside) = (root.path().join("data"), root.path().join("outside"));
        fs::create_dir_all(folder.join("hub/log")).unwrap();
        for file in [&outside, &folder.join("hub/log/1.log"), &folder.join("tool")] {
            fs::write(file, "").unwrap();
            fs::set_permissions(file, Permissions::from_mode(0o755)).unwrap();
        }
        symlink(&outside, folder.join("link")).unwrap();
        symlink(folder.join("nothing"), folder.join("dangling")).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(folder.join("hub"), Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(folder.join("hub/log"), Permissions::from_mode(0o750)).unwrap();
        assert_eq!(mend(&folder).unwrap(), 4);
        let modes = ["", "hub", "hub/log", "hub/log/1.log", "tool"].map(|name| mode(&folder.join(name)));
        assert_eq!(modes, [0o700; 5]);
        assert_eq!(mode(&outside), 0o755);
        assert_eq!(mend(&folder).unwrap(), 0);
        // The folder itself may be on another disk.
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        symlink(&folder, root.path().join("elsewhere")).unwrap();
        assert_eq!((mend(&root.path().join("elsewhere")).unwrap(), mode(&folder)), (1, 0o700));
    }

    #[test]
    fn what_is_others_is_left_alone_and_the_way_to_it() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("data");
        for name in ["app-data/x", "hub/app-data"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        for (name, open) in
            [("app-data/x", 0o777), ("app-data", 0o711), ("hub/app-data", 0o711), ("hub", 0o711), ("", 0o711)]
        {
            fs::set_permissions(folder.join(name), Permissions::from_mode(open)).unwrap();
        }
        assert_eq!(mend_but(&folder, &["app-data", "run"]).unwrap(), 2);
        let modes =
            ["app-data/x", "app-data", "hub/app-data", "hub", ""].map(|name| mode(&folder.join(name)));
        assert_eq!(modes, [0o777, 0o711, 0o700, 0o700, 0o711]);
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        assert_eq!((mend_but(&folder, &["app-data"]).unwrap(), mode(&folder)), (1, 0o700));
    }

    #[test]
    fn what_belongs_to_somebody_else_is_refused() {
        // Somebody else's whoever runs this: the kernel's, or ours if nobody has made it so.
        let foreign = Path::new("/proc/1");
        if fs::metadata(foreign).unwrap().uid() == geteuid().as_raw() {
            let root = tempfile::tempdir().unwrap();
            let file = root.path().join("file");
            fs::write(&file, "").unwrap();
            if std::os::unix::fs::chown(&file, Some(65_534), None).is_err() {
                return;
            }
            let refused = mend(root.path()).unwrap_err().to_string();
            assert!(
                refused.contains("file belongs to user 65534, and this server runs as user"),
                "{refused}"
            );
        } else {
            assert!(matches!(mend(foreign), Err(PrivateError::Foreign { .. })));
        }
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(mend(&root.path().join("none")), Err(PrivateError::Io { .. })));
    }
}
