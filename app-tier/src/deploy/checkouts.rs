//! The folders of checked-out versions: `STAGE/HOST/NAME[-VERSION]` in the server's `apps`, one an app. That of an app which was taken
//! away goes when nobody uses what is in it any more.

use common::{app_tag::AppTag, private};
use std::{
    collections::{HashMap, hash_map::Entry},
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
    /// Folders of versions that somebody uses, and by how many.
    used: Mutex<HashMap<PathBuf, usize>>,
    all: Arc<Checkouts>,
}

/// The folder of one version, which is left alone for as long as this is there.
#[derive(Debug)]
pub(crate) struct VersionFolder {
    path: PathBuf,
    app: Arc<AppFolder>,
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
        let (gone, used) = Default::default();
        let folder = Arc::new(AppFolder { path: path.clone(), gone, used, all: self.clone() });
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
    /// The folder of a version, which need not be there yet.
    pub(crate) fn version(self: &Arc<Self>, name: &str) -> Arc<VersionFolder> {
        let path = self.path.join(name);
        *self.used().entry(path.clone()).or_default() += 1;
        Arc::new(VersionFolder { path, app: self.clone() })
    }

    /// An old version's folder that nobody uses, if there are `keep` of them or more: it may become a new one's.
    pub(crate) fn spare(&self, keep: usize) -> Option<PathBuf> {
        let versions = self.versions();
        if versions.len() < keep.max(1) {
            return None;
        }
        let used = self.used();
        let spare = versions.into_iter().find(|it| !used.contains_key(it) && !is_others(it))?;
        let _none = fs::remove_file(spare.with_extension(PREPARED));
        Some(spare)
    }

    /// Takes the oldest folders that nobody uses out of their places, but for the newest `keep`, and what was half made or half removed when this
    /// server was killed: where they are now. Whoever wants one of the versions again gets a new one.
    pub(crate) fn set_aside_surplus(&self, keep: usize) -> Vec<PathBuf> {
        let versions = self.versions();
        let (surplus, used) = (versions.len().saturating_sub(keep.max(1)), self.used());
        let aside = |path: PathBuf| {
            let aside = path.with_extension("old");
            fs::rename(&path, &aside).ok()?;
            forget(&path);
            Some(aside)
        };
        let mut old: Vec<_> =
            folders_in(&self.path).into_iter().filter(|it| it.extension().is_some()).collect();
        let surplus = versions.into_iter().take(surplus).filter(|it| !used.contains_key(it));
        old.extend(surplus.filter_map(aside));
        old
    }

    /// The folders of versions, what was made first before others. What is no whole version has an ending.
    fn versions(&self) -> Vec<PathBuf> {
        let whole = folders_in(&self.path).into_iter().filter(|it| it.extension().is_none());
        let mut whole: Vec<_> =
            whole.filter_map(|it| Some((it.metadata().ok()?.modified().ok()?, it))).collect();
        whole.sort();
        whole.into_iter().map(|(_, path)| path).collect()
    }

    fn used(&self) -> MutexGuard<'_, HashMap<PathBuf, usize>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The app was taken away.
    pub(crate) fn gone(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }
}

impl VersionFolder {
    /// Where it is, once it was checked out.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// It was prepared, and need not be again.
    pub(crate) fn is_prepared(&self) -> bool {
        has(&self.path, PREPARED)
    }

    /// Says so, for when this server starts again.
    pub(crate) fn prepared(&self) -> io::Result<()> {
        private::write(&self.path.with_extension(PREPARED), KNOWN)
    }

    /// Something but this server could write to it, and something that was left running may still: nothing more is written to it with this server's
    /// rights, which might be led elsewhere by a link.
    pub(crate) fn is_others(&self) -> bool {
        is_others(&self.path)
    }

    /// Says so.
    pub(crate) fn given_to_others(&self) -> io::Result<()> {
        private::write(&self.path.with_extension(OTHERS), b"")
    }

    /// Takes the folder out of its place: it will be made anew. What runs in it goes on until the surplus is removed.
    pub(crate) fn discard(&self) -> io::Result<()> {
        let _none = fs::remove_file(self.path.with_extension(PREPARED));
        let aside = self.path.with_extension(format!("{:08x}", rand::random::<u32>()));
        fs::rename(&self.path, aside)?;
        forget(&self.path);
        Ok(())
    }
}

/// What is known of a version's folder is in files beside it.
const PREPARED: &str = "prepared";
const OTHERS: &str = "others";

/// What is in the first one. Where nothing is, a version wrote it that did not say whether somebody else could write to the folder.
const KNOWN: &[u8] = b"prepared\n";

fn is_others(folder: &Path) -> bool {
    let unsaid = fs::read(folder.with_extension(PREPARED)).is_ok_and(|it| it != KNOWN);
    unsaid || has(folder, OTHERS)
}

fn has(folder: &Path, mark: &str) -> bool {
    fs::exists(folder.with_extension(mark)).unwrap_or(true)
}

/// Of a folder that is not in its place any more.
fn forget(folder: &Path) {
    for beside in [PREPARED, OTHERS, "index"] {
        let _none = fs::remove_file(folder.with_extension(beside));
    }
}

impl Drop for VersionFolder {
    fn drop(&mut self) {
        if let Entry::Occupied(mut used) = self.app.used().entry(self.path.clone()) {
            *used.get_mut() -= 1;
            if *used.get() == 0 {
                used.remove();
            }
        }
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
        let file = folder.path.join("0123/index.html");
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
        assert!(task.path.ends_with("apps/production/default/shop-1.2"));
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

    #[test]
    fn the_oldest_version_that_nobody_uses_is_the_spare_one() {
        let root = tempfile::tempdir().unwrap();
        let checkouts = Checkouts::new(root.path().to_owned());
        let app = checkouts.hold(&tag("shop"));
        assert_eq!(app.spare(1), None);
        let made = |name: &str, age| {
            let path = app.path.join(name);
            fs::create_dir_all(&path).unwrap();
            let time = std::time::SystemTime::now() - Duration::from_secs(age);
            fs::File::open(&path).unwrap().set_modified(time).unwrap();
            fs::write(path.with_extension("prepared"), KNOWN).unwrap();
            path
        };
        let (oldest, old, new) = (made("a1", 30), made("c3", 20), made("b2", 10));
        fs::create_dir(app.path.join(".d4.partial")).unwrap();
        assert_eq!(app.spare(4), None);
        let (draining, again) = (app.version("a1"), app.version("a1"));
        assert_eq!(app.spare(3), Some(old.clone()));
        assert!(!fs::exists(old.with_extension("prepared")).unwrap());
        fs::write(old.with_extension(OTHERS), "").unwrap();
        assert_eq!(app.spare(3), Some(new.clone()), "an app could write to the older one");
        fs::write(new.with_extension("prepared"), "").unwrap();
        assert_eq!(app.spare(3), None, "that of a former version is not known to be the server's alone");
        drop(again);
        assert_eq!(app.set_aside_surplus(3), [app.path.join(".d4.partial")]);
        assert!(app.set_aside_surplus(2).len() == 1, "the oldest is in use");
        drop(draining);
        let aside = app.set_aside_surplus(1);
        assert!(aside.contains(&oldest.with_extension("old")) && aside.contains(&old.with_extension("old")));
        assert_eq!((app.versions(), app.used().len()), (vec![new], 0));
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
        assert_eq!(checkouts.set_aside(&last.path), None);
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
