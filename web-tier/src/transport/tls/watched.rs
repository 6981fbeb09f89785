//! What is made of files, and exchanged as a whole when they change.

use super::certificate::Hash;
use arc_swap::ArcSwap;
use common::{
    file_watch::{FileWatch, Look},
    tls_files::TlsError,
};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What files were made into.
pub(crate) trait OfFiles {
    /// The hash of what they hold: equal content needs no exchange.
    fn content(&self) -> &Hash;
}

/// Something made of files.
#[derive(Debug)]
pub(crate) struct Watched<T> {
    current: ArcSwap<T>,
    seen: Mutex<Seen>,
}

/// The files as they were seen.
#[derive(Debug)]
struct Seen {
    files: FileWatch,
    /// The error that was told last.
    told: Option<String>,
}

/// What another look at the files came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Changed {
    /// The files hold what they held.
    Nothing,
    /// New connections get what they hold now.
    Certificates,
}

impl<T: OfFiles> Watched<T> {
    /// Makes it for the first time, of `files`.
    ///
    /// # Errors
    /// What `read` has found.
    pub(crate) fn load(
        files: Vec<PathBuf>,
        read: impl FnOnce() -> Result<T, TlsError>,
    ) -> Result<Self, TlsError> {
        let seen = Seen { files: FileWatch::reading(files), told: None };
        Ok(Self { current: ArcSwap::from_pointee(read()?), seen: Mutex::new(seen) })
    }

    /// What the next connection is made with. Cheap, and without a lock.
    pub(crate) fn current(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// Makes it anew.
    ///
    /// # Errors
    /// What `read` has found; nothing is changed then.
    pub(crate) fn reload(&self, read: impl FnOnce() -> Result<T, TlsError>) -> Result<Changed, TlsError> {
        self.read_again(&mut self.seen(), read)
    }

    /// Makes it anew if the files changed since they were read, and not since the last look: whoever is writing them is done.
    /// `None` when there was nothing to do. Blocks on the file system.
    ///
    /// # Errors
    /// As [`reload`](Self::reload); told once for each change of the files.
    pub(crate) fn look(
        &self,
        read: impl FnOnce() -> Result<T, TlsError>,
    ) -> Option<Result<Changed, TlsError>> {
        let mut seen = self.seen();
        let changed = match seen.files.look() {
            Look::Still => return None,
            Look::Changed => true,
            Look::Unsure => false,
        };
        let told = seen.told.take().filter(|_| !changed);
        let result = self.read_again(&mut seen, read);
        let is_news = match &result {
            Ok(Changed::Nothing) => changed,
            Ok(Changed::Certificates) => true,
            Err(_) => told.is_none() || told != seen.told,
        };
        is_news.then_some(result)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_again(
        &self,
        seen: &mut Seen,
        read: impl FnOnce() -> Result<T, TlsError>,
    ) -> Result<Changed, TlsError> {
        seen.told = None;
        seen.files.reading_again();
        let new = read().inspect_err(|cause| seen.told = Some(cause.to_string()))?;
        if new.content() == self.current().content() {
            return Ok(Changed::Nothing);
        }
        self.current.store(Arc::new(new));
        Ok(Changed::Certificates)
    }
}
