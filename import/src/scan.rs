//! What is in an archive or a folder, each file by its content's hash.

use crate::ImportError;
use archive::{Format, Limits, Sink};
use common::config::app_names;
use repository::{Mode, NewIndex, ObjectId, TreeBuilder, WorktreeIndex, blob_id};
use std::{
    collections::{HashMap, HashSet},
    fs::Metadata,
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
    /// The trees, each once. Whoever has all that is below one has no need to be asked about more of it.
    pub fn trees(&self) -> Vec<ObjectId> {
        self.trees.iter().map(|(id, _)| *id).collect()
    }

    /// The files and links that are in those of the trees themselves, each once.
    pub fn blobs_in(&self, trees: &HashSet<ObjectId>) -> Vec<ObjectId> {
        let contents = self.trees.iter().filter(|(id, _)| trees.contains(id)).map(|(_, content)| content);
        let blobs: HashSet<_> = contents.flat_map(|content| repository::blobs_in(content)).collect();
        blobs.into_iter().collect()
    }

    /// By its `app.yaml`, if that can be read: what is wrong with it the servers say.
    pub fn has_app_yaml(&self) -> bool {
        self.app_yaml.is_some()
    }

    /// What the app calls itself.
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

/// Reads all of it. Of a folder, files that nobody has touched since its `index` was written are not read again; it is written anew then.
///
/// # Errors
/// It can't be read, or must not be deployed.
pub fn scan(source: &Path, index: Option<&Path>) -> Result<Scan, ImportError> {
    let mut found =
        Scanning { known: index.map(WorktreeIndex::read).unwrap_or_default(), ..Scanning::default() };
    let summary = archive::read(source, &Limits::default(), &mut found)?;
    let (tree, trees) = found.tree.build()?;
    if let Some(index) = index.filter(|_| summary.format == Format::Folder) {
        // Without it everything is read the next time.
        let _unwritten = found.index.write(index);
    }
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
    known: WorktreeIndex,
    index: NewIndex,
    /// What the file system says of the file that is read next.
    found: Option<Metadata>,
}

impl Scanning {
    fn blob(&mut self, id: ObjectId, size: u64) {
        self.order.push(id);
        if self.seen.insert(id) {
            self.blobs.push((id, size));
        }
    }

    fn add(&mut self, path: &str, executable: bool, id: ObjectId, size: u64) {
        self.blob(id, size);
        self.files.insert(path.to_owned(), (executable, id));
        self.tree.file(path, executable, id);
    }
}

impl Sink for Scanning {
    type Error = std::io::Error;

    fn knows(&mut self, path: &str, found: &Metadata) -> bool {
        let known = if path == APP_YAML { None } else { self.known.content(path.as_bytes(), found) };
        let Some((mode, id)) = known else {
            self.found = Some(found.clone());
            return false;
        };
        self.index.add(path.as_bytes().to_vec(), id, found);
        self.add(path, mode == Mode::Executable, id, found.len());
        true
    }

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
        if let Some(found) = self.found.take() {
            self.index.add(path.as_bytes().to_vec(), id, &found);
        }
        self.add(path, executable, id, size);
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
