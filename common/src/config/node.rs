//! The tree that a file is: values that know their places, and how two trees merge.

use super::{
    secrecy::{holds_secret, is_secret},
    source::Span,
};
use std::collections::HashMap;

/// A value and its place. A block mapping's place is its first key, so that an error can point at something.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) value: Value,
}

/// A YAML value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// A scalar: its text, and whether it was written without quotes.
    Scalar { text: String, plain: bool },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, its keys unique and in file order.
    Map(Vec<Entry>),
}

/// A key of a mapping and what it maps to.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Span,
    pub(super) value: Node,
}

impl Node {
    /// A value that is not there: nothing, `~` or `null` without quotes.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null"))
    }

    /// A list or mapping without anything in it, or nothing at all.
    pub(super) fn is_empty(&self) -> bool {
        match &self.value {
            Value::Scalar { .. } => self.is_null(),
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
        }
    }

    /// The entries of a mapping; `None` for anything else.
    pub(super) fn entries(&self) -> Option<&[Entry]> {
        if let Value::Map(entries) = &self.value { Some(entries) } else { None }
    }

    /// The nodes in it, itself too, and how deep they nest.
    pub(super) fn measure(&self) -> (usize, usize) {
        let add = |(nodes, depth): (usize, usize), child: &Self| {
            let (more, deep) = child.measure();
            (nodes + more, depth.max(deep))
        };
        let (nodes, depth) = match &self.value {
            Value::Scalar { .. } => return (1, 0),
            Value::List(items) => items.iter().fold((0, 0), add),
            Value::Map(entries) => entries.iter().map(|entry| &entry.value).fold((0, 0), add),
        };
        (nodes + 1, depth + 1)
    }
}

/// Puts `under` beneath `own`: keys that `own` lacks are added, mappings in both merge, anything else stays `own`'s.
pub(super) fn merge(own: &mut Vec<Entry>, under: &[Entry]) {
    let mut places: HashMap<String, usize> =
        own.iter().enumerate().map(|(at, entry)| (entry.key.clone(), at)).collect();
    for entry in under {
        let Some(at) = places.get(&entry.key) else {
            places.insert(entry.key.clone(), own.len());
            own.push(entry.clone());
            continue;
        };
        let Value::Map(deeper) = &entry.value.value else { continue };
        let mine = &mut own[*at].value;
        if let Value::Map(mine) = &mut mine.value {
            merge(mine, deeper);
        } else if mine.is_null() {
            *mine = entry.value.clone();
        }
    }
}

/// Where the secrets of a tree stand. A bare `${VAR}` is none.
pub(super) fn secrets(node: &Node) -> Vec<Span> {
    fn walk(node: &Node, secret: bool, found: &mut Vec<Span>) {
        match &node.value {
            Value::Scalar { text, .. } => {
                let reference = text.starts_with("${") && text.ends_with('}') && !text.contains(":-");
                if (secret || holds_secret(text)) && !reference {
                    found.push(node.span);
                }
            }
            Value::List(items) => {
                let mut follows = false;
                for item in items {
                    walk(item, secret || follows, found);
                    follows = names_secret(item);
                }
            }
            Value::Map(entries) => entries.iter().for_each(|entry| {
                // `cluster-key: {file: path}` names no secret.
                let inner = is_secret(&entry.key) && !matches!(entry.value.value, Value::Map(_));
                walk(&entry.value, inner, found);
            }),
        }
    }
    let mut found = Vec::new();
    walk(node, false, &mut found);
    found
}

/// Whether an argument of a command says that the next one is a secret: `--password`, `-token`.
fn names_secret(argument: &Node) -> bool {
    let Value::Scalar { text, .. } = &argument.value else { return false };
    text.starts_with('-') && !text.contains('=') && is_secret(text)
}
