//! What is in an archive or a folder, each file by its content's hash.

use crate::ImportError;
use archive::{Limits, Sink};
use common::config::app_names;
use repository::{ObjectId, TreeBuilder, blob_id};
use std::{
    collections::{HashMap, HashSet},
    io::Read,
    path::Path,
};

/// The file that describes an app, and how much of it is read.
const APP_YAML: &str = "app.yaml";
const APP_YAML_MAX: u64 = 1 << 20;

/// What has been found.
#[derive(Debug)]
pub struct Scan {
    /// Of everything.
    pub tree: ObjectId,
    /// Trees with their content.
    pub(crate) trees: Vec<(ObjectId, Vec<u8>)>,
    /// Contents of files, and targets of links, each once, in the order in which they come.
    pub(crate) blobs: Vec<(ObjectId, u64)>,
    /// What each file or link is, as they come.
    pub(crate) order: Vec<ObjectId>,
    /// All is below this one.
    pub only_folder: Option<String>,
    app_yaml: Option<String>,
}

/// What an app calls itself.
#[derive(Debug, Default)]
pub struct Names {
    /// `name` of its `app.yaml`.
    pub name: Option<String>,
    /// `version` of its `app.yaml`.
    pub version: Option<String>,
}

impl Scan {
    /// Every object, each once.
    pub fn ids(&self) -> impl Iterator<Item = ObjectId> {
        self.blobs.iter().map(|(id, _)| *id).chain(self.trees.iter().map(|(id, _)| *id))
    }

    /// By its `app.yaml`, if that can be read: what is wrong with it the servers say.
    pub fn names(&self) -> Names {
        let (name, version) = self.app_yaml.as_deref().map(app_names).unwrap_or_default();
        Names { name, version }
    }

    /// Bytes of those objects before they are compressed.
    pub fn bytes_of(&self, ids: &HashSet<ObjectId>) -> u64 {
        let blobs = self.blobs.iter().filter(|(id, _)| ids.contains(id)).map(|(_, size)| *size);
        let trees = self.trees.iter().filter(|(id, _)| ids.contains(id)).map(|(_, it)| it.len() as u64);
        blobs.chain(trees).sum()
    }
}

/// Reads all of it.
///
/// # Errors
/// It can't be read, or must not be deployed.
pub fn scan(source: &Path) -> Result<Scan, ImportError> {
    let mut found = Scanning::default();
    let summary = archive::read(source, &Limits::default(), &mut found)?;
    let (tree, trees) = found.tree.build()?;
    Ok(Scan {
        tree,
        trees,
        blobs: found.blobs,
        order: found.order,
        only_folder: summary.only_folder,
        app_yaml: found.app_yaml,
    })
}

#[derive(Default)]
struct Scanning {
    tree: TreeBuilder,
    blobs: Vec<(ObjectId, u64)>,
    seen: HashSet<ObjectId>,
    order: Vec<ObjectId>,
    /// For hard links.
    files: HashMap<String, (bool, ObjectId)>,
    app_yaml: Option<String>,
}

impl Scanning {
    fn blob(&mut self, id: ObjectId, size: u64) {
        self.order.push(id);
        if self.seen.insert(id) {
            self.blobs.push((id, size));
        }
    }
}

impl Sink for Scanning {
    type Error = std::io::Error;

    fn file(
        &mut self,
        path: &str,
        executable: bool,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), Self::Error> {
        let id = if path == APP_YAML && size <= APP_YAML_MAX {
            let mut text = Vec::new();
            content.read_to_end(&mut text)?;
            let id = blob_id(size, &text[..])?;
            self.app_yaml = String::from_utf8(text).ok();
            id
        } else {
            blob_id(size, content)?
        };
        self.blob(id, size);
        self.files.insert(path.to_owned(), (executable, id));
        self.tree.file(path, executable, id);
        Ok(())
    }

    fn copy(&mut self, path: &str, of: &str) -> Result<(), Self::Error> {
        if let Some((executable, id)) = self.files.get(of) {
            self.tree.file(path, *executable, *id);
        }
        Ok(())
    }

    fn link(&mut self, path: &str, target: &str) -> Result<(), Self::Error> {
        let size = target.len() as u64;
        let id = blob_id(size, target.as_bytes())?;
        self.blob(id, size);
        self.tree.link(path, id);
        Ok(())
    }
}
