//! Finds out what the decoder takes at a place of the file: it is given small trees with one value in them, and is listened to.

use super::{
    super::{
        app_yaml,
        decode::Context,
        keys::{self, Keys},
        load_options::LoadOptions,
        node::{Entry, Node, Value},
        problem::Report,
        root,
        source::{Sources, Span},
        variables::Place,
    },
    ask::Ask,
};
use std::path::Path;

/// A file that has a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaOf {
    /// The cluster's.
    Cluster,
    /// An app's own, `app.yaml`.
    App,
}

impl SchemaOf {
    /// Its own keys.
    pub(in super::super) fn keys(self) -> &'static Keys {
        match self {
            Self::Cluster => &keys::ROOT,
            Self::App => &keys::APP,
        }
    }
}

/// The way to a value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Key(&'static str),
    Item,
}

/// What the decoder takes at a place.
#[derive(Debug, Default)]
pub(in super::super) struct Taken {
    /// What it asked of the value itself.
    pub(in super::super) asks: Vec<Ask>,
    /// Whether a list may stand there, and what may be in it.
    pub(in super::super) item: Option<Box<Self>>,
    /// Whether a mapping with keys of one's own may stand there, and what may be behind them.
    pub(in super::super) own_keys: Option<Box<Self>>,
    /// Whether nothing may stand there.
    pub(in super::super) null: bool,
}

/// Lists are looked into so far.
const LISTS_MAX: usize = 3;

const OTHERS: Span = Span { file: 0, line: 1, column: 1, end_line: 1, end_column: 2 };
const PROBE: Span = Span { file: 0, line: 2, column: 1, end_line: 2, end_column: 2 };

/// What the decoder of a file takes at the end of `path`.
pub(super) fn taken(file: SchemaOf, path: &[Step]) -> Taken {
    let mut asks = Vec::new();
    for value in [scalar("probe"), Value::List(Vec::new()), Value::Map(Vec::new())] {
        asks.extend(decode(file, path, value).0);
    }
    let deeper = |step| taken(file, &[path, &[step]].concat());
    let asked = |it: &Taken| !it.asks.is_empty() || it.item.is_some();
    let lists = path.iter().rev().take_while(|it| matches!(it, Step::Item)).count();
    let item = (lists < LISTS_MAX).then(|| deeper(Step::Item)).filter(asked).map(Box::new);
    // Where nothing else is asked for.
    let own_keys = (asks.is_empty() && item.is_none() && !is_own(path)).then(|| deeper(Step::Key(OWN)));
    let own_keys = own_keys.filter(asked).map(Box::new);
    // Nothing in a list is a slip.
    let null = !matches!(path.last(), Some(Step::Item))
        && (!asks.is_empty() || own_keys.is_some())
        && decode(file, path, scalar("~")).1;
    Taken { asks, item, own_keys, null }
}

/// A key that nobody knows.
const OWN: &str = "PROBE";

fn is_own(path: &[Step]) -> bool {
    path.iter().any(|it| matches!(it, Step::Key(OWN)))
}

/// What is asked of `value` at the end of `path`, and whether nothing was wrong with it.
fn decode(file: SchemaOf, path: &[Step], value: Value) -> (Vec<Ask>, bool) {
    let tree = path.iter().rev().fold(Node { span: PROBE, value }, |inner, step| {
        let value = match step {
            Step::Key(key) => {
                Value::Map(vec![Entry { key: (*key).to_owned(), key_span: OTHERS, value: inner }])
            }
            Step::Item => Value::List(vec![inner]),
        };
        Node { span: OTHERS, value }
    });
    let (report, options) = (Report::listening(), LoadOptions::default());
    let mut sources = Sources::default();
    sources.add(Path::new("schema.yaml"), "");
    let context = Context::new(&report, &sources, &options.environment, Place::default());
    match file {
        SchemaOf::Cluster => drop(root::decode(context, &tree, Path::new("schema.yaml"), &options)),
        SchemaOf::App => drop(app_yaml::decode(context, &tree)),
    }
    (report.asked.at(PROBE), !report.has_error_at(PROBE))
}

fn scalar(text: &str) -> Value {
    Value::Scalar { text: text.to_owned(), plain: true }
}

impl Taken {
    /// What `import` takes, which is gone when the decoder comes: a path or a list of them.
    pub(super) fn import() -> Self {
        let path = || Self { asks: vec![Ask::Text], ..Self::default() };
        Self { item: Some(Box::new(path())), ..path() }
    }

    /// The kinds of mappings that may stand there, or in its lists.
    pub(super) fn mappings(&self, found: &mut Vec<(&'static Keys, Vec<Step>)>, path: &[Step]) {
        for ask in &self.asks {
            if let Ask::Mapping(keys) = ask {
                found.push((keys, path.to_owned()));
            }
        }
        if let Some(item) = &self.item {
            item.mappings(found, &[path, &[Step::Item]].concat());
        }
    }
}
