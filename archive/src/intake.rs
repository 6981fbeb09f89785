//! Where all readers bring their entries: names, limits and duplicates are judged here, once for every format.

use crate::{
    Sink, Summary,
    content::Content,
    entries::{Entries, Kind, ROOT},
    error::{Failure, Problem},
    format::Format,
    limits::Limits,
    links,
    name::{self, Of},
};
use std::fs::Metadata;

/// One archive on its way to the sink.
pub(crate) struct Intake<'a, S: Sink> {
    pub(crate) limits: &'a Limits,
    sink: &'a mut S,
    entries: Entries<'a>,
    /// Entries of the archive so far; a folder may come more than once.
    seen: u64,
    files: u64,
    links: u64,
    bytes: u64,
    /// What a folder left out.
    pub(crate) ignored: u64,
}

impl<'a, S: Sink> Intake<'a, S> {
    pub(crate) fn new(limits: &'a Limits, sink: &'a mut S) -> Self {
        let entries = Entries::new(limits);
        Self { limits, sink, entries, seen: 0, files: 0, links: 0, bytes: 0, ignored: 0 }
    }

    pub(crate) fn folder(&mut self, name: &[u8]) -> Result<(), Failure<S::Error>> {
        self.admit(name, Of::Folder, Kind::Folder).map(|_| ())
    }

    /// `content` is drained.
    pub(crate) fn file(
        &mut self,
        name: &[u8],
        executable: bool,
        size: u64,
        content: Content<'_>,
    ) -> Result<(), Failure<S::Error>> {
        let path = self.admit_file(name, size)?;
        self.content(name, &path, executable, size, content)
    }

    /// The normalised path of a file whose content follows.
    pub(crate) fn admit_file(&mut self, name: &[u8], size: u64) -> Result<String, Failure<S::Error>> {
        let path = self.admit(name, Of::File, Kind::File { size })?;
        self.count_bytes(size).map_err(|problem| Failure::at(name, problem))?;
        Ok(path)
    }

    /// Whether the content of a file on disk need not be read.
    pub(crate) fn knows(&mut self, path: &str, found: &Metadata) -> bool {
        self.sink.knows(path, found)
    }

    /// Of a file that was admitted; it is drained.
    pub(crate) fn content(
        &mut self,
        name: &[u8],
        path: &str,
        executable: bool,
        size: u64,
        mut content: Content<'_>,
    ) -> Result<(), Failure<S::Error>> {
        let taken = self.sink.file(path, executable, size, &mut content);
        if taken.is_ok() || content.has_failed() {
            content.finish().map_err(|problem| Failure::at(name, problem))?;
        }
        taken.map_err(Failure::Sink)
    }

    /// A hard link: only to an earlier file.
    pub(crate) fn copy(&mut self, name: &[u8], of: &[u8]) -> Result<(), Failure<S::Error>> {
        let earlier = name::parts(of, Of::File, self.limits).map_err(|problem| Failure::at(name, problem))?;
        let Some(size) = self.entries.file_size(&earlier) else {
            let of = String::from_utf8_lossy(of).into_owned();
            return Err(Failure::at(name, Problem::HardLink { of }));
        };
        let path = self.admit(name, Of::File, Kind::File { size })?;
        self.count_bytes(size).map_err(|problem| Failure::at(name, problem))?;
        self.sink.copy(&path, &earlier.join("/")).map_err(Failure::Sink)
    }

    pub(crate) fn link(&mut self, name: &[u8], target: &[u8]) -> Result<(), Failure<S::Error>> {
        let target = name::target(target, self.limits).map_err(|problem| Failure::at(name, problem))?;
        let path = self.admit(name, Of::Link, Kind::Link { target: target.into() })?;
        self.links += 1;
        self.sink.link(&path, target).map_err(Failure::Sink)
    }

    /// Judges the whole.
    pub(crate) fn finish(self, format: Format) -> Result<Summary, Failure<S::Error>> {
        if self.files + self.links == 0 {
            return Err(Problem::Empty.into());
        }
        links::check(&self.entries).map_err(|(path, problem)| Failure::at(path.as_bytes(), problem))?;
        let empty = |(_, node): &(_, &crate::entries::Node)| node.kind == Kind::Folder && node.children == 0;
        let top = self.entries.all().find(|(_, node)| node.parent == ROOT);
        let only = top.filter(|(_, node)| self.entries.node(ROOT).children == 1 && node.kind == Kind::Folder);
        Ok(Summary {
            format,
            files: self.files,
            links: self.links,
            bytes: self.bytes,
            ignored: self.ignored,
            empty_folders: self.entries.all().filter(empty).count() as u64,
            only_folder: only.map(|(_, node)| node.name.to_string()),
        })
    }

    /// The normalised path of a new entry.
    fn admit(&mut self, name: &[u8], of: Of, kind: Kind) -> Result<String, Failure<S::Error>> {
        self.place(name, of, kind).map_err(|problem| Failure::at(name, problem))
    }

    fn place(&mut self, name: &[u8], of: Of, kind: Kind) -> Result<String, Problem> {
        self.seen += 1;
        if self.seen > self.limits.entries {
            return Err(Problem::entries(self.limits));
        }
        let parts = name::parts(name, of, self.limits)?;
        self.entries.add(&parts, kind)?;
        Ok(parts.join("/"))
    }

    fn count_bytes(&mut self, size: u64) -> Result<(), Problem> {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > self.limits.bytes {
            return Err(Problem::TooMany { what: "bytes when unpacked", max: self.limits.bytes });
        }
        Ok(())
    }
}
