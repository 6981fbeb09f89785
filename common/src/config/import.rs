//! Reads a file and everything that it imports into one tree.

use super::{
    decode::Context,
    node::{self, Node, Value},
    problem::Report,
    source::{self, Sources, Span},
    variables::Place,
    yaml::{self, NODES_MAX},
};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

/// How many files may import each other in a chain.
const CHAIN_MAX: usize = 16;

/// How many files one configuration may import.
const IMPORTS_MAX: usize = 1000;

/// Reads files into trees.
#[derive(Debug)]
pub(super) struct Importer<'a> {
    pub(super) sources: Sources,
    pub(super) report: Report,
    environment: &'a HashMap<String, String>,
    /// The files that are being read, each imported by the one before it: real path, shown path.
    chain: Vec<(PathBuf, PathBuf)>,
    imports: usize,
    budget: usize,
    /// Every file that was read, or was to be.
    pub(super) files: Vec<PathBuf>,
}

impl<'a> Importer<'a> {
    pub(super) fn new(environment: &'a HashMap<String, String>) -> Self {
        Self {
            sources: Sources::default(),
            report: Report::default(),
            environment,
            chain: Vec::new(),
            imports: 0,
            budget: NODES_MAX,
            files: Vec::new(),
        }
    }

    /// The tree of the file at `path`, without imports. An empty file is an empty mapping.
    pub(super) fn parse(&mut self, path: &Path, importer: Option<Span>) -> Option<Node> {
        if !self.files.iter().any(|known| known == path) {
            self.files.push(path.to_owned());
        }
        match source::read(path) {
            Ok(text) => self.parse_text(path, &text),
            Err(cause) => {
                let message = format!("can't read `{}`: {cause}", path.display());
                let place = importer.unwrap_or_else(|| Span::file(self.sources.add(path, "")));
                self.report.error(place, message);
                None
            }
        }
    }

    pub(super) fn parse_text(&mut self, path: &Path, text: &str) -> Option<Node> {
        let file = self.sources.add(path, text);
        let tree = yaml::parse(text, file, &self.report, &mut self.budget);
        if let Some(tree) = &tree {
            self.sources.set_secrets(file, node::secrets(tree));
        }
        if tree.is_none() && self.report.has_errors() {
            return None;
        }
        let empty = || Node { span: Span::file(file), value: Value::Map(Vec::new()) };
        let tree = tree.filter(|tree| !tree.is_null()).unwrap_or_else(empty);
        if tree.entries().is_none() {
            self.report.error(tree.span, "expected a mapping of keys to values at the top of the file");
            return None;
        }
        Some(tree)
    }

    /// The tree of the file at `path`, everything imported merged in.
    pub(super) fn file(&mut self, path: &Path, importer: Option<Span>) -> Option<Node> {
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if let Some(place) = importer
            && !self.may_import(&real, path, place)
        {
            return None;
        }
        let tree = self.parse(path, importer)?;
        Some(self.expanded(tree, real, path))
    }

    /// The tree of `text`, everything imported merged in, as if it stood in a file at `path`.
    pub(super) fn text(&mut self, path: &Path, text: &str) -> Option<Node> {
        let tree = self.parse_text(path, text)?;
        Some(self.expanded(tree, path.to_owned(), path))
    }

    fn expanded(&mut self, mut tree: Node, real: PathBuf, path: &Path) -> Node {
        self.chain.push((real, path.to_owned()));
        self.expand(&mut tree);
        self.chain.pop();
        tree
    }

    fn may_import(&mut self, real: &Path, path: &Path, place: Span) -> bool {
        if let Some(at) = self.chain.iter().position(|(known, _)| known == real) {
            let mut shown: Vec<_> =
                self.chain[at..].iter().map(|(_, shown)| shown.display().to_string()).collect();
            shown.push(path.display().to_string());
            self.report.error(place, format!("a cycle of imports: {}", shown.join(" → ")));
            return false;
        }
        if self.chain.len() > CHAIN_MAX {
            self.report.error(place, format!("imports nest more than {CHAIN_MAX} deep"));
            return false;
        }
        self.imports += 1;
        if self.imports > IMPORTS_MAX {
            self.report.error(place, format!("more than {IMPORTS_MAX} imports"));
        }
        self.imports <= IMPORTS_MAX
    }

    /// Replaces every `import` of a tree by what it names: the mapping's own keys win, then the last import of a list.
    fn expand(&mut self, node: &mut Node) {
        match &mut node.value {
            Value::Scalar { .. } => {}
            Value::List(items) => items.iter_mut().for_each(|item| self.expand(item)),
            Value::Map(entries) => {
                let import =
                    entries.iter().position(|entry| entry.key == "import").map(|at| entries.remove(at));
                entries.iter_mut().for_each(|entry| self.expand(&mut entry.value));
                let Some(import) = import else { return };
                let paths = match import.value.value {
                    Value::List(items) => items,
                    _ => vec![import.value],
                };
                for path in paths.iter().rev() {
                    if let Some(Node { value: Value::Map(imported), .. }) = self.import(path) {
                        node::merge(entries, &imported);
                    }
                }
            }
        }
    }

    fn import(&mut self, node: &Node) -> Option<Node> {
        let path = {
            let context = Context::new(&self.report, &self.sources, self.environment, Place::default());
            context.string(node)?
        };
        if path.is_empty() {
            self.report.error(node.span, "expected the path of a file, found nothing");
            return None;
        }
        let folder = self.sources.shown(node.span.file).parent().unwrap_or(Path::new("")).to_owned();
        self.file(&folder.join(path), Some(node.span))
    }
}
