//! What requests have in common that go to one server, or are counted together.

use super::{
    decode::{Context, Fields},
    keys::Keys,
    names,
    node::{Node, Value},
};

/// What of a request is its key. One that does not have it has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestKey {
    /// `remote-addr`: the client's IPv4 address, or its IPv6 network (/64), as one customer has a whole one.
    RemoteAddr,
    /// `path`: the normalised path.
    Path,
    /// `all`: every request has the same.
    All,
    /// `{header: NAME}`, in lower case: its first value.
    Header(String),
    /// `{cookie: NAME}`: its first value.
    Cookie(String),
}

/// Reads one; `keys` are those of the mapping of `header` or `cookie`.
pub(super) fn decode(context: Context<'_>, node: &Node, keys: &'static Keys) -> Option<RequestKey> {
    if !matches!(node.value, Value::Map(_)) {
        let words = [("remote-addr", 0), ("path", 1), ("all", 2)];
        return Some(match context.choice(node, &words)? {
            0 => RequestKey::RemoteAddr,
            1 => RequestKey::Path,
            _ => RequestKey::All,
        });
    }
    let fields = Fields::open(context, node, keys)?;
    match (fields.get("header"), fields.get("cookie")) {
        (Some(node), None) => context
            .checked(node, names::header_name)
            .map(|name| RequestKey::Header(name.to_ascii_lowercase())),
        (None, Some(node)) => context.checked(node, names::cookie_name).map(RequestKey::Cookie),
        _ => {
            context.error(node.span, "expected `header` or `cookie`, one of them, and its name");
            None
        }
    }
}
