//! Which folder the server's last start had for what is kept on disk. One that was out of use meanwhile does not know what has changed.

use std::{fs, path::Path};

/// Takes a folder, or none, into use; whether it was in use at the last start too. `data` is the server's data folder.
pub(crate) fn take(data: &Path, folder: Option<&Path>) -> bool {
    let file = data.join("proxy-cache.in-use");
    let now = folder.map(|it| it.display().to_string()).unwrap_or_default();
    let before = fs::read_to_string(&file).ok();
    if before.as_deref() == Some(&now) {
        return true;
    }
    // Who has never had one needs no file that says so.
    if before.is_some() || folder.is_some() {
        let _ = fs::remove_file(&file);
        let _ = fs::write(&file, &now);
    }
    false
}
