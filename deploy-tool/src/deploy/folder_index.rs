//! Where it is kept which files of a folder have which content, so that the next deployment of the folder need not read those that nobody has
//! touched: `$XDG_CACHE_HOME/copal/folders`, else `~/.cache/copal/folders`. It can be deleted at any time.

use std::{
    env, fs, io,
    os::unix::{ffi::OsStrExt, fs::DirBuilderExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Of a folder that was not deployed for so long nothing is kept.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// The file for a folder; `None` for anything else, or where there is no place for it.
pub(crate) fn of(source: &Path) -> Option<PathBuf> {
    let source = source.canonicalize().ok().filter(|it| it.is_dir())?;
    let home = || Some(PathBuf::from(env::var_os("HOME").filter(|it| !it.is_empty())?).join(".cache"));
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|it| it.is_absolute());
    let folder = cache.or_else(home)?.join("copal/folders");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).ok()?;
    let path = source.as_os_str().as_bytes();
    let name = repository::blob_id(path.len() as u64, path).ok()?;
    let file = folder.join(format!("{name}.index"));
    // What can't be removed now is removed another time.
    let _left = remove_old(&folder, &file);
    Some(file)
}

fn remove_old(folder: &Path, but: &Path) -> io::Result<()> {
    for file in fs::read_dir(folder)? {
        let file = file?;
        let age = SystemTime::now().duration_since(file.metadata()?.modified()?);
        if file.path() != but && age.is_ok_and(|age| age > KEPT) {
            fs::remove_file(file.path())?;
        }
    }
    Ok(())
}
