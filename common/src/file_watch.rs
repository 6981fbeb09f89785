//! Files that are looked at now and then: whether they have changed since they were read, and whether whoever writes them is
//! done.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// What tells that a file is another one than before. A file that is replaced by `mv` has a new inode, one that is written in
/// place a new time or size; a symbolic link (certbot, Kubernetes) is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds since the Unix epoch.
    modified: (i64, i64),
}

impl Stamp {
    /// The stamp of a file; `None` when there is none, or it can't be seen.
    fn of(path: &Path) -> Option<Self> {
        let of = fs::metadata(path).ok()?;
        Some(Self {
            device: of.dev(),
            inode: of.ino(),
            size: of.size(),
            modified: (of.mtime(), of.mtime_nsec()),
        })
    }

    /// Whether the file was written so short before `now` (seconds since the Unix epoch) that it may be written again without
    /// a change of this: file systems count time in ticks. A second of the future is that of a file server whose clock is ahead;
    /// a time further on (an archive, a clock that was set back) is no trace of somebody who writes now.
    fn is_fresh(&self, now: i64) -> bool {
        (now.saturating_sub(1)..=now.saturating_add(1)).contains(&self.modified.0)
    }
}

/// What a look has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Nothing to do: nothing has changed, or somebody may still be writing.
    Still,
    /// They changed since they were read, and not since the last look: whoever wrote them is done.
    Changed,
    /// They are as they were when they were read, but had been written just before: they may have been written again without a
    /// trace. Read them once more and compare.
    Unsure,
}

/// Files, as they were when they were last read and last looked at.
#[derive(Debug)]
pub struct FileWatch {
    paths: Vec<PathBuf>,
    read: Vec<Option<Stamp>>,
    last: Vec<Option<Stamp>>,
    /// One of them was written just before it was read.
    fresh: bool,
}

impl FileWatch {
    /// These files are about to be read: a change while they are is found at the next look. Blocks on the file system, as all
    /// of this does.
    pub fn reading(paths: Vec<PathBuf>) -> Self {
        let (read, now) = (stamps(&paths), unix_now());
        let fresh = read.iter().flatten().any(|stamp| stamp.is_fresh(now));
        Self { paths, last: read.clone(), read, fresh }
    }

    /// Which files they are.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// The same files are about to be read again.
    pub fn reading_again(&mut self) {
        *self = Self::reading(std::mem::take(&mut self.paths));
    }

    /// Further files turned out to belong to these once they were read.
    pub fn add(&mut self, paths: impl IntoIterator<Item = PathBuf>) {
        for path in paths {
            if !self.paths.contains(&path) {
                let stamp = Stamp::of(&path);
                // It was read a moment ago, and what it looked like then is not known.
                self.fresh = true;
                self.read.push(stamp);
                self.last.push(stamp);
                self.paths.push(path);
            }
        }
    }

    /// The others do not belong to these any more.
    pub fn keep_only(&mut self, paths: &[PathBuf]) {
        let stays: Vec<bool> = self.paths.iter().map(|path| paths.contains(path)).collect();
        let keep = |list: &mut Vec<Option<Stamp>>| {
            let mut stays = stays.iter();
            list.retain(|_| stays.next().copied().unwrap_or(false));
        };
        keep(&mut self.read);
        keep(&mut self.last);
        self.paths.retain(|path| paths.contains(path));
    }

    /// Looks at the files. Whoever is told that they changed, or that it is not sure, reads them and says so before
    /// ([`reading_again`](Self::reading_again)).
    pub fn look(&mut self) -> Look {
        let now = stamps(&self.paths);
        let settled = now == self.last;
        self.last = now;
        if !settled {
            return Look::Still;
        }
        match self.last != self.read {
            true => Look::Changed,
            false if self.fresh => Look::Unsure,
            false => Look::Still,
        }
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Option<Stamp>> {
    paths.iter().map(|path| Stamp::of(path)).collect()
}

fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Write, time::Duration};

    /// Writes a file as if at this second.
    fn write(path: &Path, text: &str, second: u64) {
        let mut file = fs::File::create(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(second)).unwrap();
    }

    #[test]
    fn a_change_is_told_once_nobody_writes_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write(&path, "one", 1_000);
        let mut watch = FileWatch::reading(vec![path.clone()]);
        assert_eq!(watch.look(), Look::Still);
        write(&path, "two", 2_000);
        assert_eq!(watch.look(), Look::Still, "somebody may still be writing");
        write(&path, "two and more", 3_000);
        assert_eq!(watch.look(), Look::Still, "somebody was");
        assert_eq!(watch.look(), Look::Changed);
        watch.reading_again();
        assert_eq!(watch.look(), Look::Still);
        // An editor that renames: gone, then another one.
        fs::remove_file(&path).unwrap();
        assert_eq!(watch.look(), Look::Still);
        write(&path, "three", 4_000);
        assert_eq!(watch.look(), Look::Still);
        assert_eq!(watch.look(), Look::Changed);
    }

    #[test]
    fn what_was_written_just_before_it_was_read_is_not_sure() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "one").unwrap();
        let mut watch = FileWatch::reading(vec![path.clone()]);
        assert_eq!(watch.look(), Look::Unsure);
        write(&path, "one", 1_000);
        watch.reading_again();
        assert_eq!(watch.look(), Look::Still);
    }

    #[test]
    fn a_file_of_the_future_is_not_read_again_and_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let year = u64::try_from(unix_now()).unwrap() + 365 * 24 * 3600;
        write(&path, "one", year);
        let mut watch = FileWatch::reading(vec![path.clone()]);
        assert_eq!((watch.look(), watch.look()), (Look::Still, Look::Still));
        write(&path, "two", year + 1);
        assert_eq!(
            (watch.look(), watch.look()),
            (Look::Still, Look::Changed),
            "a change is found all the same"
        );
        let fresh = |second| Stamp { modified: (second, 0), ..Stamp::of(&path).unwrap() }.is_fresh(1_000);
        let seconds = [998, 999, 1_000, 1_001, 1_002, i64::MAX, i64::MIN];
        assert_eq!(seconds.map(fresh), [false, true, true, true, false, false, false]);
    }

    #[test]
    fn files_that_are_found_later_are_looked_at_too() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("a"), folder.path().join("b"));
        write(&first, "one", 1_000);
        let mut watch = FileWatch::reading(vec![first.clone()]);
        watch.add([first.clone(), second.clone()]);
        assert_eq!(watch.look(), Look::Unsure, "it may have changed since it was read");
        watch.reading_again();
        assert_eq!(watch.look(), Look::Still);
        write(&second, "now there is one", 2_000);
        assert_eq!((watch.look(), watch.look()), (Look::Still, Look::Changed));
        watch.reading_again();
        watch.keep_only(std::slice::from_ref(&second));
        fs::remove_file(&first).unwrap();
        assert_eq!((watch.look(), watch.look()), (Look::Still, Look::Still), "it is none of these any more");
        fs::remove_file(&second).unwrap();
        assert_eq!((watch.look(), watch.look()), (Look::Still, Look::Changed));
    }
}
