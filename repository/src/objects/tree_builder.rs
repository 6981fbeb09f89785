//! Trees from paths: what a deployment is made of.

use super::{Kind, Mode, TreeEntry, id_of, names};
use crate::ObjectId;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Folders within folders that a tree is built of at most.
const DEPTH: usize = 128;

/// Why no tree could be built, or checked out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A part of a path is no name that Git takes.
    #[error("{path:?} can't be in a tree: a part of it is {why}")]
    Name {
        /// The path.
        path: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A path is there twice, or as a file and as a folder.
    #[error("{0:?} is there twice, or as a file and as a folder")]
    Twice(String),
    /// Too many folders within folders.
    #[error("{path:?} is in more than {limit} folders")]
    Deep {
        /// The path.
        path: String,
        /// How many there may be.
        limit: usize,
    },
    /// A link that leads out of the tree, or in circles.
    #[error("the link {path:?} leads out of the tree or in circles: it points to {target:?}")]
    Link {
        /// The link.
        path: String,
        /// Where it points to.
        target: String,
    },
    /// A file's content has the SHA-1 of another one.
    #[error("a tree was made to collide with another one's SHA-1")]
    Collision,
}

/// Collects files by their paths, and makes Git's trees of them.
#[derive(Debug, Default)]
pub struct TreeBuilder {
    root: Folder,
    error: Option<TreeError>,
}

#[derive(Debug, Default)]
struct Folder(BTreeMap<String, Node>);

#[derive(Debug)]
enum Node {
    Leaf(Mode, ObjectId),
    Folder(Folder),
}

impl TreeBuilder {
    /// With nothing in it: Git's empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file; the path's parts are separated by `/`. What is wrong with it, `build` says.
    pub fn file(&mut self, path: &str, executable: bool, id: ObjectId) {
        self.add(path, if executable { Mode::Executable } else { Mode::File }, id);
    }

    /// Adds a symbolic link; `id` is the blob of where it points to.
    pub fn link(&mut self, path: &str, id: ObjectId) {
        self.add(path, Mode::Link, id);
    }

    fn add(&mut self, path: &str, mode: Mode, id: ObjectId) {
        if self.error.is_none() {
            self.error = self.root.add(path, mode, id).err();
        }
    }

    /// The root's id and all trees with their contents, each once, by id.
    ///
    /// # Errors
    /// The first path that was refused.
    #[expect(clippy::type_complexity, reason = "ids with their contents")]
    pub fn build(self) -> Result<(ObjectId, Vec<(ObjectId, Vec<u8>)>), TreeError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let mut trees = Vec::new();
        let root = self.root.build(&mut trees)?;
        trees.sort_by_key(|(id, _)| *id);
        trees.dedup_by_key(|(id, _)| *id);
        Ok((root, trees))
    }
}

impl Folder {
    fn add(&mut self, path: &str, mode: Mode, id: ObjectId) -> Result<(), TreeError> {
        let mut folder = self;
        let mut parts = path.split('/').peekable();
        for depth in 0.. {
            if depth > DEPTH {
                return Err(TreeError::Deep { path: path.to_owned(), limit: DEPTH });
            }
            let part = parts.next().unwrap_or_default();
            names::check(part.as_bytes()).map_err(|why| TreeError::Name { path: path.to_owned(), why })?;
            let entry = folder.0.entry(part.to_owned());
            if parts.peek().is_none() {
                let Entry::Vacant(place) = entry else { return Err(TreeError::Twice(path.to_owned())) };
                place.insert(Node::Leaf(mode, id));
                break;
            }
            match entry.or_insert_with(|| Node::Folder(Self::default())) {
                Node::Folder(inner) => folder = inner,
                Node::Leaf(..) => return Err(TreeError::Twice(path.to_owned())),
            }
        }
        Ok(())
    }

    fn build(self, trees: &mut Vec<(ObjectId, Vec<u8>)>) -> Result<ObjectId, TreeError> {
        let mut children = Vec::with_capacity(self.0.len());
        for (name, node) in self.0 {
            let (mode, id) = match node {
                Node::Leaf(mode, id) => (mode, id),
                Node::Folder(folder) => (Mode::Folder, folder.build(trees)?),
            };
            children.push((name, mode, id));
        }
        let mut entries: Vec<_> = children
            .iter()
            .map(|(name, mode, id)| TreeEntry { mode: *mode, name: name.as_bytes(), id: *id })
            .collect();
        entries.sort_by(TreeEntry::order);
        let mut content = Vec::new();
        entries.iter().for_each(|it| it.write(&mut content));
        let id = id_of(Kind::Tree, &content).map_err(|_| TreeError::Collision)?;
        trees.push((id, content));
        Ok(id)
    }
}
