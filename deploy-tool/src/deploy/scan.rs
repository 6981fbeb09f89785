//! What is in an archive or a folder, each file by its content's hash.

use anyhow::Context;
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
pub(super) struct Scan {
    /// Of everything.
    pub(super) tree: ObjectId,
    /// Trees with their content.
    pub(super) trees: Vec<(ObjectId, Vec<u8>)>,
    /// Contents of files, and targets of links, each once, in the order in which they come.
    pub(super) blobs: Vec<(ObjectId, u64)>,
    /// What each file or link is, as they come.
    pub(super) order: Vec<ObjectId>,
    /// All is below this one.
    pub(super) only_folder: Option<String>,
    app_yaml: Option<String>,
}

/// What an app calls itself.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) name: Option<String>,
    pub(super) version: Option<String>,
}

impl Scan {
    pub(super) fn ids(&self) -> impl Iterator<Item = ObjectId> {
        self.blobs.iter().map(|(id, _)| *id).chain(self.trees.iter().map(|(id, _)| *id))
    }

    /// By its `app.yaml`, if that can be read: what is wrong with it the servers say.
    pub(super) fn names(&self) -> Names {
        let (name, version) = self.app_yaml.as_deref().map(app_names).unwrap_or_default();
        Names { name, version }
    }
}

/// Reads all of it.
pub(super) fn scan(source: &Path) -> anyhow::Result<Scan> {
    let mut found = Scanning::default();
    let summary = archive::read(source, &Limits::default(), &mut found)?;
    let (tree, trees) = found.tree.build().context("the files can't be put into one tree")?;
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
