//! The folders of checked-out versions: `STAGE/HOST/NAME[-VERSION]` in the server's `apps`, one an app. That of an app which was taken
//! away goes when nobody uses what is in it any more.

use common::app_tag::AppTag;
use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::runtime::Handle;

/// All of them.
#[derive(Debug)]
pub(crate) struct Checkouts {
    root: PathBuf,
    /// By path. Whoever moves a folder out of its place has this locked.
    held: Mutex<HashMap<PathBuf, Weak<AppFolder>>>,
}

/// The folder of one app. It is held by the app's task, and by each version until its last request has ended.
#[derive(Debug)]
pub(crate) struct AppFolder {
    path: PathBuf,
    /// The app was taken away: the last who holds this takes the folder away.
    gone: AtomicBool,
    all: Arc<Checkouts>,
}

impl Checkouts {
    /// Below `root`, which need not be there.
    pub(crate) fn new(root: PathBuf) -> Arc<Self> {
        Arc::new(Self { root, held: Mutex::default() })
    }

    /// The folder of an app that is to run here. One whose users are still to end stays then.
    pub(crate) fn hold(self: &Arc<Self>, tag: &AppTag) -> Arc<AppFolder> {
        let AppTag { stage, host, name, version } = tag;
        let version = version.iter().map(|it| format!("-{it}")).collect::<String>();
        let path = self.root.join(stage).join(host).join(format!("{name}{version}"));
        let mut held = self.lock();
        if let Some(known) = held.get(&path).and_then(Weak::upgrade) {
            known.gone.store(false, Ordering::Relaxed);
            return known;
        }
        let folder = AppFolder { path: path.clone(), gone: AtomicBool::new(false), all: self.clone() };
        let folder = Arc::new(folder);
        held.insert(path, Arc::downgrade(&folder));
        folder
    }

    /// Removes the folders that nobody holds: of apps that were taken away while this server was away, and what was half removed.
    /// Blocks.
    pub(crate) fn sweep(&self) {
        let hosts = folders_in(&self.root).into_iter().flat_map(|stage| folders_in(&stage));
        for path in hosts.flat_map(|host| folders_in(&host)) {
            if let Some(aside) = self.set_aside(&path) {
                tracing::info!(path = %path.display(), "removing the files of an app that is not deployed any more");
                remove(&aside);
            }
        }
    }

    /// Takes a folder out of its place, unless somebody holds it: whoever deploys the app again meanwhile gets a new one.
    fn set_aside(&self, path: &Path) -> Option<PathBuf> {
        let mut held = self.lock();
        if held.get(path).is_some_and(|it| it.strong_count() > 0) {
            return None;
        }
        held.remove(path);
        let name = path.file_name()?.to_str()?;
        // No app's name begins so: it was set aside when this server was killed.
        if name.starts_with('.') {
            return Some(path.to_owned());
        }
        let aside = path.with_file_name(format!(".{name}.{:016x}", rand::random::<u64>()));
        match fs::rename(path, &aside) {
            Ok(()) => Some(aside),
            Err(cause) => {
                if cause.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(path = %path.display(), %cause, "the files of an app that was taken away stay");
                }
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Weak<AppFolder>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AppFolder {
    /// Where it is, once something was checked out.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The app was taken away.
    pub(crate) fn gone(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }
}

impl Drop for AppFolder {
    fn drop(&mut self) {
        if !*self.gone.get_mut() {
            return;
        }
        // A server that has ended removes the rest when it starts.
        if let (Some(aside), Ok(runtime)) = (self.all.set_aside(&self.path), Handle::try_current()) {
            runtime.spawn_blocking(move || remove(&aside));
        }
    }
}

/// No link is followed.
fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.filter(|it| it.file_type().is_ok_and(|it| it.is_dir())).map(|it| it.path()).collect()
}

fn remove(path: &Path) {
    match fs::remove_dir_all(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %cause, "the files of an app that was taken away can't be removed");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn tag(text: &str) -> AppTag {
        AppTag::parse(&format!("production/webapp/default/{text}")).unwrap()
    }

    fn checked_out(folder: &AppFolder) -> PathBuf {
        let file = folder.path().join("0123/index.html");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "x").unwrap();
        file
    }

    async fn is_gone(path: &Path) {
        let gone = async {
            while fs::exists(path).unwrap() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), gone).await.expect("it is removed");
    }

    #[tokio::test]
    async fn a_folder_goes_with_the_last_who_holds_it_if_its_app_was_taken_away() {
        let root = tempfile::tempdir().unwrap();
        let checkouts = Checkouts::new(root.path().join("apps"));
        let (task, stays) = (checkouts.hold(&tag("shop-1.2")), checkouts.hold(&tag("shop")));
        assert!(task.path().ends_with("apps/production/default/shop-1.2"));
        let (file, other) = (checked_out(&task), checked_out(&stays));
        let draining = task.clone();
        task.gone();
        drop(task);
        assert!(fs::exists(&file).unwrap(), "requests go on with it");
        drop(draining);
        is_gone(file.parent().unwrap().parent().unwrap()).await;
        drop(stays);
        assert!(fs::exists(&other).unwrap(), "the server stops, and its app stays");
    }

    #[tokio::test]
    async fn an_app_that_is_deployed_again_keeps_its_folder() {
        let root = tempfile::tempdir().unwrap();
        let checkouts = Checkouts::new(root.path().to_owned());
        let first = checkouts.hold(&tag("shop"));
        let file = checked_out(&first);
        first.gone();
        let again = checkouts.hold(&tag("shop"));
        drop(first);
        drop(again);
        assert!(fs::exists(&file).unwrap());
        // Even when the last of the former ones is about to take it away.
        let last = checkouts.hold(&tag("shop"));
        assert_eq!(checkouts.set_aside(last.path()), None);
        last.gone();
        drop(last);
        is_gone(&file).await;
    }

    #[tokio::test]
    async fn what_nobody_holds_is_swept_away_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let checkouts = Checkouts::new(root.path().join("apps"));
        checkouts.sweep();
        let (held, left) = (checkouts.hold(&tag("shop")), checkouts.hold(&tag("old")));
        let (file, other) = (checked_out(&held), checked_out(&left));
        drop(left);
        let half = root.path().join("apps/test/default/.gone.0001/0123");
        fs::create_dir_all(&half).unwrap();
        let outside = root.path().join("outside/a/b");
        fs::create_dir_all(&outside).unwrap();
        std::os::unix::fs::symlink(root.path().join("outside"), root.path().join("apps/link")).unwrap();
        fs::write(root.path().join("apps/deployed"), "").unwrap();
        checkouts.sweep();
        assert!(fs::exists(&file).unwrap() && fs::exists(&outside).unwrap());
        assert!(fs::exists(root.path().join("apps/deployed")).unwrap());
        assert!(!fs::exists(&other).unwrap() && !fs::exists(&half).unwrap());
    }
}
