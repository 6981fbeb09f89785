//! A folder on disk, without what its `.gitignore` and `.copalignore` files leave out.

use crate::{
    Sink,
    content::Content,
    error::{Failure, Problem},
    intake::Intake,
};
use gix_ignore::{Search, glob::pattern::Case, search::Ignore};
use std::{
    ffi::OsString,
    fs::{self, File, Metadata},
    io::{self, Read},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

/// The ignore files, those that win last. Both have the syntax of gitignore(5), and both may be in any folder.
const IGNORE_FILES: [&str; 2] = [".gitignore", ".copalignore"];
/// Bytes of one of them.
const IGNORE_MAX: u64 = 1 << 20;
/// Git's own, wherever it stands: a folder, or the file that stands for it in a submodule or a worktree.
const GIT: &[u8] = b".git";

/// Visits the files below `root`, sorted, folder by folder.
pub(crate) fn read<S: Sink>(root: &Path, intake: &mut Intake<'_, S>) -> Result<(), Failure<S::Error>> {
    let mut walk = Walk { root, ignore: Search::default(), intake };
    walk.folder(&[])
}

struct Walk<'w, 'a, S: Sink> {
    root: &'w Path,
    /// The ignore files of the folders on the way here.
    ignore: Search,
    intake: &'w mut Intake<'a, S>,
}

impl<S: Sink> Walk<'_, '_, S> {
    /// `path` is from the root; the depth of the recursion is bounded by [`crate::Limits::depth`].
    fn folder(&mut self, path: &[u8]) -> Result<(), Failure<S::Error>> {
        let lists = self.ignore.patterns.len();
        self.read_ignore_files(path).map_err(|problem| Failure::at(path, problem))?;
        let names = self.names(path).map_err(|problem| Failure::at(path, problem))?;
        for name in names {
            let child = if path.is_empty() { name } else { [path, b"/", &name].concat() };
            self.entry(&child)?;
        }
        self.ignore.patterns.truncate(lists);
        Ok(())
    }

    fn entry(&mut self, path: &[u8]) -> Result<(), Failure<S::Error>> {
        let on_disk = self.on_disk(path);
        let metadata = fs::symlink_metadata(&on_disk).map_err(|error| Failure::at(path, error))?;
        let is_git = path.rsplit(|byte| *byte == b'/').next() == Some(GIT);
        if is_git || self.is_ignored(path, metadata.is_dir()) {
            self.intake.ignored += 1;
            return Ok(());
        }
        let kind = metadata.file_type();
        if kind.is_dir() {
            self.intake.folder(path)?;
            self.folder(path)
        } else if kind.is_symlink() {
            let target = fs::read_link(&on_disk).map_err(|error| Failure::at(path, error))?;
            self.intake.link(path, target.as_os_str().as_bytes())
        } else if kind.is_file() {
            self.file(path, &on_disk, &metadata)
        } else {
            let found = if kind.is_fifo() {
                "a FIFO"
            } else if kind.is_socket() {
                "a socket"
            } else {
                "a device"
            };
            let expected = "files, folders and symbolic links alone; `.copalignore` leaves others out";
            Err(Failure::at(path, Problem::Unsupported { found: found.to_owned(), expected }))
        }
    }

    fn file(&mut self, name: &[u8], on_disk: &Path, found: &Metadata) -> Result<(), Failure<S::Error>> {
        let path = self.intake.admit_file(name, found.len())?;
        if self.intake.knows(&path, found) {
            return Ok(());
        }
        let open = || -> io::Result<(File, Metadata)> {
            let file = File::open(on_disk)?;
            let metadata = file.metadata()?;
            Ok((file, metadata))
        };
        let (mut file, metadata) = open().map_err(|error| Failure::at(name, error))?;
        if (metadata.dev(), metadata.ino()) != (found.dev(), found.ino()) {
            let problem = Problem::Damaged("another file took its place while it was read".to_owned());
            return Err(Failure::at(name, problem));
        }
        let executable = found.mode() & 0o100 != 0;
        let content = Content::new(&mut file, found.len(), None);
        self.intake.content(name, &path, executable, found.len(), content)
    }

    /// Sorted by their bytes.
    fn names(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, Problem> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.on_disk(path))? {
            names.push(entry?.file_name().into_vec());
            if names.len() as u64 > self.intake.limits.entries {
                return Err(Problem::entries(self.intake.limits));
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn read_ignore_files(&mut self, path: &[u8]) -> Result<(), Problem> {
        for name in IGNORE_FILES {
            let of_root = PathBuf::from(OsString::from_vec(path.to_vec())).join(name);
            let on_disk = self.root.join(&of_root);
            // Git does not follow a link here, either.
            if !fs::symlink_metadata(&on_disk).is_ok_and(|metadata| metadata.is_file()) {
                continue;
            }
            let mut rules = Vec::new();
            File::open(&on_disk)?.take(IGNORE_MAX + 1).read_to_end(&mut rules)?;
            if rules.len() as u64 > IGNORE_MAX {
                return Err(Problem::TooMany { what: "bytes in a file of ignore rules", max: IGNORE_MAX });
            }
            let syntax = Ignore { support_precious: false };
            self.ignore.add_patterns_buffer(&rules, of_root, Some(Path::new("")), syntax)?;
        }
        Ok(())
    }

    fn is_ignored(&self, path: &[u8], is_folder: bool) -> bool {
        let found = self.ignore.pattern_matching_relative_path(path.into(), Some(is_folder), Case::Sensitive);
        found.is_some_and(|found| !found.pattern.is_negative())
    }

    fn on_disk(&self, path: &[u8]) -> PathBuf {
        self.root.join(OsString::from_vec(path.to_vec()))
    }
}
