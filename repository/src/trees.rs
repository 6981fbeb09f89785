//! What is in a tree: listed, and found by its path.

use crate::error::RepositoryError;
use crate::objects::{Mode, ObjectError, TreeEntry, entries};
use crate::{Kind, ObjectId, ObjectReader, Repository};

/// A line of a folder's listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name; bytes that are not UTF-8 are shown as �.
    pub name: String,
    /// What it is.
    pub mode: Mode,
    /// Its blob or tree.
    pub id: ObjectId,
    /// Bytes of a file, or of where a link points to.
    pub size: Option<u64>,
}

/// An entry of a tree that was read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Child {
    pub(crate) name: Vec<u8>,
    pub(crate) mode: Mode,
    pub(crate) id: ObjectId,
}

impl Child {
    fn of(entry: &TreeEntry<'_>) -> Self {
        Self { name: entry.name.to_vec(), mode: entry.mode, id: entry.id }
    }
}

/// A path below another one.
pub(crate) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

/// As it is shown.
pub(crate) fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

impl Repository {
    /// A tree's entries, as they are stored.
    pub(crate) fn children(&self, tree: ObjectId) -> Result<Vec<Child>, RepositoryError> {
        let content = self.read(tree, Kind::Tree)?;
        let read: Result<_, ObjectError> = entries(&content).map(|it| Ok(Child::of(&it?))).collect();
        read.map_err(|cause| RepositoryError::Object { id: tree, cause })
    }

    /// What a path leads to; links are not followed. `None` for the tree itself, whose path is empty.
    pub(crate) fn find(&self, tree: ObjectId, path: &[u8]) -> Result<Option<Child>, RepositoryError> {
        let mut found: Option<Child> = None;
        for name in path.split(|it| *it == b'/').filter(|it| !it.is_empty()) {
            let folder = match &found {
                None => tree,
                Some(it) if it.mode == Mode::Folder => it.id,
                Some(_) => return Err(RepositoryError::NoPath(text(path))),
            };
            let child = self.children(folder)?.into_iter().find(|it| it.name == name);
            found = Some(child.ok_or_else(|| RepositoryError::NoPath(text(path)))?);
        }
        Ok(found)
    }

    /// Lists a folder of a tree, or the one file that the path names. The tree itself has the empty path.
    ///
    /// # Errors
    /// There is no such path; an object is missing or damaged.
    pub fn entries(&self, tree: ObjectId, path: &str) -> Result<Vec<Entry>, RepositoryError> {
        let listed = match self.find(tree, path.as_bytes())? {
            None => self.children(tree)?,
            Some(it) if it.mode == Mode::Folder => self.children(it.id)?,
            Some(file) => vec![file],
        };
        let entry = |it: Child| {
            let size = if it.mode == Mode::Folder { None } else { Some(self.header(it.id)?.1) };
            Ok(Entry { name: text(&it.name), mode: it.mode, id: it.id, size })
        };
        listed.into_iter().map(entry).collect()
    }

    /// Opens a file of a tree for reading; of a link, where it points to.
    ///
    /// # Errors
    /// There is no such path, or it is a folder; the object is missing or damaged.
    pub fn blob(&self, tree: ObjectId, path: &str) -> Result<ObjectReader, RepositoryError> {
        let found = self.find(tree, path.as_bytes())?;
        let id = found.map_or(tree, |it| it.id);
        let reader = self.reader(id)?;
        if reader.kind() == Kind::Blob {
            return Ok(reader);
        }
        Err(RepositoryError::Kind { id, found: reader.kind(), expected: Kind::Blob })
    }
}
