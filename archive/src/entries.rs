//! The entries so far, as a tree: which names are taken, by what.

use crate::{error::Problem, limits::Limits, name};
use std::collections::{HashMap, hash_map};

/// The top folder.
pub(crate) const ROOT: u32 = 0;

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Folder,
    File { size: u64 },
    Link { target: Box<str> },
}

#[derive(Debug)]
pub(crate) struct Node {
    /// The top folder is its own.
    pub(crate) parent: u32,
    pub(crate) name: Box<str>,
    pub(crate) kind: Kind,
    /// How many are in it.
    pub(crate) children: u32,
}

/// All entries and the folders that they imply.
#[derive(Debug)]
pub(crate) struct Entries<'l> {
    limits: &'l Limits,
    nodes: Vec<Node>,
    /// By folder and folded name.
    by_name: HashMap<(u32, Box<str>), u32>,
    /// Bytes of names so far.
    names: u64,
}

impl<'l> Entries<'l> {
    pub(crate) fn new(limits: &'l Limits) -> Self {
        let root = Node { parent: ROOT, name: "".into(), kind: Kind::Folder, children: 0 };
        Self { limits, nodes: vec![root], by_name: HashMap::new(), names: 0 }
    }

    /// Adds an entry and the folders above it. A folder may come again.
    ///
    /// # Errors
    /// Its name is taken, or a limit is reached.
    pub(crate) fn add(&mut self, parts: &[&str], kind: Kind) -> Result<(), Problem> {
        let Some((name, folders)) = parts.split_last() else { return Ok(()) };
        let mut at = ROOT;
        for folder in folders {
            at = self.step(at, folder)?;
        }
        if kind == Kind::Folder {
            return self.step(at, name).map(|_| ());
        }
        let (node, is_new) = self.place(at, name, kind)?;
        if is_new {
            return Ok(());
        }
        Err(match self.node(node).kind {
            Kind::Folder => Problem::FolderAndNot { path: self.path(node) },
            Kind::File { .. } | Kind::Link { .. } => Problem::Duplicate,
        })
    }

    /// The folder `name` in `at`, made if need be.
    fn step(&mut self, at: u32, name: &str) -> Result<u32, Problem> {
        let (node, _) = self.place(at, name, Kind::Folder)?;
        match self.node(node).kind {
            Kind::Folder => Ok(node),
            Kind::File { .. } => Err(Problem::FolderAndNot { path: self.path(node) }),
            Kind::Link { .. } => Err(Problem::BelowLink { link: self.path(node) }),
        }
    }

    /// The node `name` in `at`, and whether it was not there before.
    fn place(&mut self, at: u32, name: &str, kind: Kind) -> Result<(u32, bool), Problem> {
        let folded = name::folded(name);
        let target = if let Kind::Link { target } = &kind { target.len() } else { 0 };
        let more = (name.len().max(folded.len()) + target) as u64;
        let count = self.nodes.len() as u64;
        let vacant = match self.by_name.entry((at, folded.into())) {
            hash_map::Entry::Occupied(found) => {
                let node = *found.get();
                if *self.node(node).name != *name {
                    return Err(Problem::Clash { earlier: self.path(node) });
                }
                return Ok((node, false));
            }
            hash_map::Entry::Vacant(vacant) => vacant,
        };
        // The top folder is no entry.
        if count > self.limits.entries {
            return Err(Problem::entries(self.limits));
        }
        if self.names + more > self.limits.names {
            return Err(Problem::names(self.limits));
        }
        let node = u32::try_from(count).map_err(|_| Problem::entries(self.limits))?;
        vacant.insert(node);
        self.names += more;
        self.nodes.push(Node { parent: at, name: name.into(), kind, children: 0 });
        self.nodes[at as usize].children += 1;
        Ok((node, true))
    }

    /// The size of the file with exactly this path.
    pub(crate) fn file_size(&self, parts: &[&str]) -> Option<u64> {
        let node = parts.iter().try_fold(ROOT, |at, name| self.child(at, name))?;
        if let Kind::File { size } = self.node(node).kind { Some(size) } else { None }
    }

    /// The node `name`, written just so, in `at`.
    pub(crate) fn child(&self, at: u32, name: &str) -> Option<u32> {
        let node = *self.by_name.get(&(at, name::folded(name).into()))?;
        (*self.node(node).name == *name).then_some(node)
    }

    pub(crate) fn node(&self, node: u32) -> &Node {
        &self.nodes[node as usize]
    }

    /// All but the top folder.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u32, &Node)> {
        (0..).zip(&self.nodes).skip(1)
    }

    /// The whole path of a node.
    pub(crate) fn path(&self, mut node: u32) -> String {
        let mut parts = Vec::new();
        while node != ROOT {
            let it = self.node(node);
            parts.push(&*it.name);
            node = it.parent;
        }
        parts.reverse();
        parts.join("/")
    }
}
