//! A private folder for Unix sockets whose path is short: the system takes no socket path above 107 bytes.

use super::{account::Account, app_folders::open_passage};
use crate::error::AppTierError;
use common::private;
use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, chown},
    path::{Path, PathBuf},
};

/// Longest path of a socket in the folder, with room for its own name.
const PATH_MAX: usize = 107;

/// Room for `/<name>.sock` below the folder.
const NAME_MAX: usize = 32;

/// In the data folder, names the folder of a process that was killed before it could clean up.
const RECORD: &str = "run-dir";

/// The folder; removed when dropped.
#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    record: PathBuf,
    /// Which one it is: a process that takes over makes another one at its place.
    inode: Option<u64>,
}

impl RunDir {
    /// Makes `data_dir/run`, or, where that is too long for sockets, a folder below the system's temporary folder. Nobody else
    /// may enter it. What a killed predecessor left is removed.
    ///
    /// # Errors
    /// [`AppTierError::Io`]: it can't be made.
    pub(crate) fn make(data_dir: &Path) -> Result<Self, AppTierError> {
        let record = data_dir.join(RECORD);
        remove_left_over(&record);
        let beside = data_dir.join("run");
        let path = if beside.as_os_str().len() + NAME_MAX <= PATH_MAX {
            beside
        } else {
            std::env::temp_dir().join(format!("copal-{:016x}", rand::random::<u64>()))
        };
        let failed = |what, path: &Path, cause| AppTierError::Io { what, path: path.to_owned(), cause };
        if path.as_os_str().len() + NAME_MAX > PATH_MAX {
            let cause = io::Error::new(io::ErrorKind::InvalidInput, "the path is too long for a Unix socket");
            return Err(failed("folder for sockets", &path, cause));
        }
        let _ = fs::remove_dir_all(data_dir.join("run"));
        // Fails when it exists: nobody can prepare the folder for us.
        DirBuilder::new()
            .mode(private::FOLDER)
            .create(&path)
            .map_err(|cause| failed("making folder", &path, cause))?;
        let text = path.as_os_str().as_encoded_bytes();
        private::write(&record, text).map_err(|cause| failed("writing", &record, cause))?;
        Ok(Self { inode: inode(&path), path, record })
    }

    /// Lets users of apps get to what is theirs in there, and to the socket of the app API.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn open_to_users(&self) -> io::Result<()> {
        open_passage(&self.path)
    }

    /// The folder for the sockets of one app, which no other app can put its own into; `name` has at most 20 bytes. It is `user`'s, if there
    /// is one.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn of_app(&self, name: &str, user: Option<&Account>) -> io::Result<PathBuf> {
        debug_assert!(name.len() + "/00.sock".len() < NAME_MAX, "name {name:?} is too long");
        let folder = self.path.join(name);
        private::make_folder(&folder)?;
        if let Some(user) = user {
            chown(&folder, Some(user.uid), Some(user.gid))?;
        }
        Ok(folder)
    }

    /// The path of a socket; `name` has at most 25 bytes.
    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        debug_assert!(name.len() + "/.sock".len() <= NAME_MAX, "socket name {name:?} is too long");
        self.path.join(format!("{name}.sock"))
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if self.inode == inode(&self.path) {
            let _ = fs::remove_dir_all(&self.path);
            let _ = fs::remove_file(&self.record);
        }
    }
}

fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|it| it.ino())
}

/// Only folders that bear our name are removed: the record is a file that someone could have edited.
fn remove_left_over(record: &Path) {
    let Ok(path) = fs::read_to_string(record) else { return };
    let path = Path::new(&path);
    let ours = path.parent() == Some(&std::env::temp_dir())
        && path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"copal-"));
    if ours {
        let _ = fs::remove_dir_all(path);
    }
    let _ = fs::remove_file(record);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn is_private_short_and_removed() {
        let data = tempfile::tempdir().unwrap();
        let long = data.path().join("x".repeat(90));
        fs::create_dir(&long).unwrap();
        for dir in [data.path(), &long] {
            let run = RunDir::make(dir).unwrap();
            assert_eq!(fs::metadata(&run.path).unwrap().permissions().mode() & 0o777, 0o700);
            let socket = run.socket("0123456789012345678901234");
            assert!(socket.as_os_str().len() <= PATH_MAX, "{}", socket.display());
            let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
            let path = run.path.clone();
            drop(run);
            assert!(!path.exists());
        }
    }

    #[test]
    fn removes_what_a_killed_process_left() {
        let data = tempfile::tempdir().unwrap();
        let long = data.path().join("x".repeat(90));
        fs::create_dir(&long).unwrap();
        let killed = std::mem::ManuallyDrop::new(RunDir::make(&long).unwrap());
        let left = killed.path.clone();
        let run = RunDir::make(&long).unwrap();
        assert!(!left.exists());
        drop(run);
        fs::write(long.join(RECORD), data.path().as_os_str().as_encoded_bytes()).unwrap();
        let _run = RunDir::make(&long).unwrap();
        assert!(data.path().exists(), "a foreign folder is not ours to remove");
    }
}
