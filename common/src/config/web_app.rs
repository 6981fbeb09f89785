//! A web-app: what answers at a path, and its settings.

use super::{
    app_rights,
    decode::{Context, Fields},
    deployment, keys,
    model::{Content, WebApp},
    names,
    node::Node,
    session,
    session_config::SessionConfig,
    source::Span,
};

/// Reads a web-app, with the place of its id; `None` without one.
pub(super) fn decode(context: Context<'_>, node: &Node) -> Option<(WebApp, Span)> {
    let fields = Fields::open(context, node, &keys::WEB_APP)?;
    let id_node = fields.required("id", "give its path, \"\" for the root");
    let id = id_node.and_then(|node| context.checked(node, names::web_app));
    let content = content(&fields);
    let explicit =
        fields.get("session-config").and_then(|node| session::decode(context, node, &keys::SESSION));
    let explicit = explicit.unwrap_or_default();
    let (versioning, rights) = (deployment::versioning(&fields), app_rights::rights(&fields));
    let web_app = WebApp {
        id: id?.trim_end_matches('/').to_owned(),
        content,
        versioning,
        rights,
        session: explicit.apply(&SessionConfig::default()),
        session_explicit: explicit,
    };
    Some((web_app, fields.span("id")))
}

/// A folder, a deployed app, or the administration; one alone.
fn content(fields: &Fields<'_>) -> Content {
    let admin = fields.get("admin").map(|node| fields.context.boolean(node));
    if admin == Some(Some(true)) {
        if let Some(entry) = fields.entry("root-directory") {
            let message = "`admin: true` and `root-directory` exclude each other: a web-app is either the administration or a folder";
            fields.context.error(entry.key_span, message);
        }
        return Content::Admin;
    }
    if let Some(name) = fields.get("deploy") {
        if let Some(entry) = fields.entry("root-directory") {
            let message = "`deploy` and `root-directory` exclude each other: a web-app is either a deployed app or a folder";
            fields.context.error(entry.key_span, message);
        }
        return Content::Deploy(fields.context.checked(name, deployment::app_name).unwrap_or_default());
    }
    // What is neither true nor false has been told.
    if admin != Some(None) {
        let hint = "name the folder of an app or of static files, or say `deploy: NAME` or `admin: true`";
        fields.required("root-directory", hint);
    }
    Content::Folder(fields.path("root-directory").unwrap_or_default())
}
