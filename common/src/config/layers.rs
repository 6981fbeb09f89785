//! The `…-default` mappings above a mapping, and how they are merged beneath it.

use super::{
    decode::{Context, Fields},
    node::{self, Node, Value},
    web_app,
};

/// The `…-default` mappings above a mapping, the nearest first.
#[derive(Debug, Default, Clone)]
pub(super) struct Layers<'a> {
    pub(super) server: Vec<&'a Node>,
    pub(super) host: Vec<&'a Node>,
    pub(super) web_app: Vec<&'a Node>,
}

impl<'a> Layers<'a> {
    /// Puts a mapping's own `web-app-default` above those that are there, once it was checked by itself.
    pub(super) fn add_web_app(&mut self, fields: &Fields<'a>) {
        if let Some(node) = fields.get("web-app-default") {
            refuse_id(fields.context, node);
            web_app::decode(fields.context.alone(), node);
            self.web_app.insert(0, node);
        }
    }
}

/// What is under a default goes to several mappings, and an id is one mapping's.
pub(super) fn refuse_id(context: Context<'_>, node: &Node) {
    if let Some(entry) = node.entries().unwrap_or_default().iter().find(|entry| entry.key == "id") {
        context.error(entry.key_span, "`id` has no default: it belongs to one alone");
    }
}

/// A copy of `node` with the defaults merged beneath it, the nearest first.
pub(super) fn layered(node: &Node, layers: &[&Node]) -> Node {
    let mut merged = node.clone();
    if merged.is_null() && layers.iter().any(|layer| layer.entries().is_some()) {
        merged.value = Value::Map(Vec::new());
    }
    if let Value::Map(own) = &mut merged.value {
        layers.iter().filter_map(|layer| layer.entries()).for_each(|layer| node::merge(own, layer));
    }
    merged
}
