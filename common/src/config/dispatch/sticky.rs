//! Reads `session-cookie` and `insert-cookie`: by what clients stay with servers that have their sessions in their own memory.

use super::super::{
    cookie_config::CookieConfig,
    decode::{Context, Fields},
    keys, names,
    node::{Node, Value},
    rule::StickyCookie,
    session,
};

/// Reads the one of both that is there.
pub(super) fn decode(fields: &Fields<'_>) -> StickyCookie {
    let context = fields.context;
    let session = fields.get("session-cookie").map(|node| context.checked(node, names::cookie_name));
    let inserted = fields.get("insert-cookie").map(|node| inserted(context, node));
    match (session, inserted) {
        (Some(_), Some(_)) => {
            let message =
                "`session-cookie` and `insert-cookie` are two ways to the same end: give one of them";
            context.error(fields.span("insert-cookie"), message);
            StickyCookie::None
        }
        (Some(name), None) => name.map_or(StickyCookie::None, StickyCookie::Session),
        (None, inserted) => inserted.flatten().unwrap_or(StickyCookie::None),
    }
}

/// A name, or a mapping of a name and attributes.
pub(super) fn inserted(context: Context<'_>, node: &Node) -> Option<StickyCookie> {
    if !matches!(node.value, Value::Map(_)) {
        let name = context.checked(node, names::cookie_name)?;
        return Some(StickyCookie::Inserted { name, attributes: CookieConfig::default() });
    }
    let fields = Fields::open(context, node, &keys::INSERT_COOKIE)?;
    let name = fields.required("name", "name the cookie that the web-tier adds");
    let name = name.and_then(|node| context.checked(node, names::cookie_name));
    let attributes = session::cookie_attributes(&fields).apply(&CookieConfig::default());
    Some(StickyCookie::Inserted { name: name?, attributes })
}
