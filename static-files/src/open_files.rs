//! Files that are being sent, by few descriptors. A download lasts as long as its client likes, so it owns none: it names its
//! file, and a table of a bounded size keeps those open that were read last, each once however many downloads it has. A file that
//! was closed for others is opened again when its download goes on, if it is still the same.

use crate::resource;
use rustix::{
    io::Errno,
    process::{Resource, getrlimit},
};
use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    fs::{File, Metadata},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

/// Descriptors that the table holds at most, and the part of the process's that it holds where that is less.
const OPEN_MAX: u64 = 256;
const OPEN_PART: u64 = 16;

/// Which file it is, and in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
    length: u64,
    /// In seconds, and nanoseconds.
    modified: (i64, i64),
}

impl From<&Metadata> for Identity {
    fn from(of: &Metadata) -> Self {
        Self { device: of.dev(), inode: of.ino(), length: of.len(), modified: (of.mtime(), of.mtime_nsec()) }
    }
}

/// The files that are being sent.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    /// Descriptors that it holds at most.
    max: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    files: HashMap<Identity, Place>,
    /// Those that are open, by when they were read last.
    open: BTreeMap<u64, Identity>,
    /// Counts the reads.
    reads: u64,
}

#[derive(Debug)]
struct Place {
    /// None: it was closed for others.
    file: Option<Arc<File>>,
    /// Its key in [`Table::open`].
    last: u64,
    downloads: usize,
}

/// A file that a download needs. The last one of a file that is dropped closes it.
#[derive(Debug)]
pub(crate) struct SentFile {
    all: Arc<OpenFiles>,
    identity: Identity,
    path: PathBuf,
}

impl OpenFiles {
    /// Holds `max` descriptors at most.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, table: Mutex::default() })
    }

    /// Those of this process: descriptors are the process's, whichever tier sends.
    pub(crate) fn of_process() -> &'static Arc<Self> {
        static ALL: LazyLock<Arc<OpenFiles>> = LazyLock::new(|| {
            let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
            let max = (limit / OPEN_PART).clamp(1, OPEN_MAX);
            OpenFiles::new(usize::try_from(max).unwrap_or(1))
        });
        &ALL
    }

    /// Opens a file. Where descriptors have run out, files that others wait with are closed for it. Blocks.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn open(&self, path: &Path) -> io::Result<File> {
        loop {
            match File::open(path) {
                Err(cause) if is_short_of_descriptors(&cause) && self.lock().close_oldest() => {}
                opened => return opened,
            }
        }
    }

    /// Takes over an open file of which a download is about to begin.
    pub(crate) fn keep(self: &Arc<Self>, file: File, identity: Identity, path: PathBuf) -> SentFile {
        let mut table = self.lock();
        let place = table.files.entry(identity).or_insert(Place { file: None, last: 0, downloads: 0 });
        place.downloads += 1;
        table.opened(identity, file, self.max);
        SentFile { all: self.clone(), identity, path }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// The file, if it is open: it is read now.
    fn read(&mut self, identity: Identity) -> Option<Arc<File>> {
        self.reads += 1;
        let place = self.files.get_mut(&identity)?;
        let file = place.file.clone()?;
        self.open.remove(&std::mem::replace(&mut place.last, self.reads));
        self.open.insert(self.reads, identity);
        Some(file)
    }

    /// The file has been opened; another download may have been faster.
    fn opened(&mut self, identity: Identity, file: File, max: usize) -> Arc<File> {
        if let Some(file) = self.read(identity) {
            return file;
        }
        let file = Arc::new(file);
        if let Some(place) = self.files.get_mut(&identity) {
            (place.file, place.last) = (Some(file.clone()), self.reads);
            self.open.insert(self.reads, identity);
        }
        while self.open.len() > max {
            self.close_oldest();
        }
        file
    }

    /// Closes the file that was not read for the longest time; whether there was one.
    fn close_oldest(&mut self) -> bool {
        let Some((_, identity)) = self.open.pop_first() else { return false };
        if let Some(place) = self.files.get_mut(&identity) {
            place.file = None;
        }
        true
    }

    /// A download has ended.
    fn ended(&mut self, identity: Identity) {
        let Entry::Occupied(mut entry) = self.files.entry(identity) else { return };
        entry.get_mut().downloads -= 1;
        if entry.get().downloads == 0 {
            let place = entry.remove();
            if place.file.is_some() {
                self.open.remove(&place.last);
            }
        }
    }
}

impl SentFile {
    /// Reads up to `length` bytes from `offset` on; fewer only at the file's end. Blocks.
    ///
    /// # Errors
    /// The disk's. The file was closed for others, and is another one by now.
    pub(crate) fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let open = self.all.lock().read(self.identity);
        let file = open.map_or_else(|| self.open_again(), Ok)?;
        let mut bytes = vec![0; length];
        let mut have = 0;
        while have < length {
            match file.read_at(&mut bytes[have..], offset + have as u64) {
                Ok(0) => break,
                Ok(count) => have += count,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(cause),
            }
        }
        bytes.truncate(have);
        Ok(bytes)
    }

    fn open_again(&self) -> io::Result<Arc<File>> {
        let found = resource::open(&self.all, &self.path)?;
        let same = found.filter(|(_, metadata)| Identity::from(metadata) == self.identity);
        let (file, _) = same.ok_or_else(|| {
            let message = format!("{} is another file since its download began", self.path.display());
            io::Error::new(io::ErrorKind::UnexpectedEof, message)
        })?;
        Ok(self.all.lock().opened(self.identity, file, self.all.max))
    }
}

impl Drop for SentFile {
    fn drop(&mut self) {
        self.all.lock().ended(self.identity);
    }
}

/// Of the process, or of the system.
fn is_short_of_descriptors(cause: &io::Error) -> bool {
    matches!(Errno::from_io_error(cause), Some(Errno::MFILE | Errno::NFILE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Files of eight letters each, and a table of two.
    struct Folder {
        all: Arc<OpenFiles>,
        dir: tempfile::TempDir,
    }

    impl Folder {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            for name in ["a", "b", "c"] {
                fs::write(dir.path().join(name), name.repeat(8)).unwrap();
            }
            Self { all: OpenFiles::new(2), dir }
        }

        fn download(&self, name: &str) -> SentFile {
            let path = self.dir.path().join(name);
            let file = self.all.open(&path).unwrap();
            let identity = Identity::from(&file.metadata().unwrap());
            self.all.keep(file, identity, path)
        }

        /// How many files are open, and how many are known.
        fn counts(&self) -> (usize, usize) {
            let table = self.all.lock();
            let open = table.files.values().filter(|it| it.file.is_some()).count();
            assert_eq!(open, table.open.len());
            (open, table.files.len())
        }
    }

    #[test]
    fn many_downloads_of_a_file_have_one_descriptor() {
        let folder = Folder::new();
        let downloads: Vec<_> = (0..128).map(|_| folder.download("a")).collect();
        assert_eq!(folder.counts(), (1, 1));
        for download in &downloads {
            assert_eq!(download.read(6, 9).unwrap(), b"aa", "up to the end");
        }
        drop(downloads);
        assert_eq!(folder.counts(), (0, 0), "nothing is held for nobody");
    }

    #[test]
    fn the_file_that_was_not_read_for_the_longest_time_is_closed_and_opened_again() {
        let folder = Folder::new();
        let [a, b] = ["a", "b"].map(|name| folder.download(name));
        assert_eq!(a.read(0, 1).unwrap(), b"a");
        let c = folder.download("c");
        assert_eq!(folder.counts(), (2, 3));
        assert!(folder.all.lock().read(b.identity).is_none(), "a was read after b");
        for (download, text) in [(&b, b"b"), (&a, b"a"), (&c, b"c"), (&b, b"b")] {
            assert_eq!(download.read(3, 1).unwrap(), text);
            assert_eq!(folder.counts(), (2, 3));
        }
        drop((a, b, c));
        assert_eq!(folder.counts(), (0, 0));
    }

    #[test]
    fn a_file_that_was_replaced_goes_on_while_it_is_open_and_breaks_off_when_it_was_closed() {
        let folder = Folder::new();
        let a = folder.download("a");
        let replace = |with: &str| {
            fs::write(folder.dir.path().join("new"), with).unwrap();
            fs::rename(folder.dir.path().join("new"), folder.dir.path().join("a")).unwrap();
        };
        replace("other");
        assert_eq!(a.read(0, 8).unwrap(), b"aaaaaaaa", "of the file that it began with");
        let _others = ["b", "c"].map(|name| folder.download(name));
        assert_eq!(a.read(0, 8).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        fs::remove_file(folder.dir.path().join("a")).unwrap();
        assert_eq!(a.read(0, 8).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
