//! Virtual hosts and their web-apps.

use super::{
    app_rights::{self, AppRights},
    check::Facts,
    cluster::{Layers, layered},
    decode::{Context, Fields, Regexp},
    deployment::{self, Versioning},
    dispatch, keys,
    model::{Content, Host, WebApp},
    names,
    node::{Node, Value},
    session,
    session_config::SessionConfig,
    session_overrides::SessionOverrides,
    source::Span,
};
use std::collections::HashSet;

/// Reads a host.
pub(super) fn decode(
    context: Context<'_>,
    node: &Node,
    layers: &Layers<'_>,
    facts: &mut Facts,
) -> Option<Host> {
    let fields = Fields::open(context, node, &keys::HOST)?;
    let regexp = fields.regexp("regexp");
    let id = id(&fields, regexp.as_ref());
    if let Some(id) = &id {
        facts.host_name(
            context,
            id,
            fields.entry("id").or(fields.entry("regexp")).map_or(node.span, |it| it.value.span),
        );
    }
    let mut aliases = Vec::new();
    for item in fields.items("aliases") {
        let Some(alias) = context.checked(item, names::host) else { continue };
        facts.host_name(context, &alias, item.span);
        aliases.push(alias);
    }
    let mut layers = layers.clone();
    layers.add_web_app(&fields);
    let web_apps = web_apps(&fields, &layers);
    let (session_default, rights_default, versioning_default) = web_app_default(context, node, &layers);
    let dispatch = dispatch::decode(&fields, !fields.items("web-apps").is_empty(), facts);
    if fields.items("web-apps").is_empty() && fields.items("dispatch").is_empty() && !context.in_default {
        let message = "this host has neither `web-apps` nor `dispatch`: every request to it is answered 404";
        context.report.warning(node.span, message);
    }
    Some(Host {
        id: id.unwrap_or_default(),
        aliases,
        regexp: regexp.and_then(|it| it.0),
        merge_slashes: fields.boolean("merge-slashes").unwrap_or(true),
        web_apps,
        session_default,
        rights_default,
        versioning_default,
        dispatch,
    })
}

/// What the defaults above this host say of apps that are deployed to it.
fn web_app_default(
    context: Context<'_>,
    node: &Node,
    layers: &Layers<'_>,
) -> (SessionOverrides, AppRights, Versioning) {
    let empty = Node { value: Value::Map(Vec::new()), ..node.clone() };
    let merged = layered(&empty, &layers.web_app);
    // Told of already, where each of them stands.
    let Some(fields) = Fields::open(context.alone(), &merged, &keys::WEB_APP) else {
        return Default::default();
    };
    let session = fields.get("session-config");
    let session = session.and_then(|it| session::decode(context.alone(), it, &keys::SESSION));
    (session.unwrap_or_default(), app_rights::rights(&fields), deployment::versioning(&fields))
}

/// A host's name; one that has only a `regexp` goes by its text.
fn id(fields: &Fields<'_>, regexp: Option<&Regexp>) -> Option<String> {
    if let Some(node) = fields.get("id") {
        return fields.context.checked(node, names::host);
    }
    if fields.get("regexp").is_none() {
        fields.required("id", "name the host (\"\" is the default host), or give a `regexp`");
        return None;
    }
    regexp.map(|it| it.0.as_ref().map_or_else(String::new, |regex| regex.as_str().to_owned()))
}

fn web_apps(fields: &Fields<'_>, layers: &Layers<'_>) -> Vec<WebApp> {
    let mut seen = HashSet::new();
    let mut web_apps = Vec::new();
    for item in fields.items("web-apps") {
        let merged = layered(item, &layers.web_app);
        let Some((web_app, span)) = web_app(fields.context, &merged) else { continue };
        if seen.insert(web_app.id.clone()) {
            web_apps.push(web_app);
        } else {
            let what = if web_app.id.is_empty() {
                "the root web-app".to_owned()
            } else {
                format!("the web-app `{}`", web_app.id)
            };
            fields.context.error(span, format!("{what} stands twice in this host"));
        }
    }
    web_apps
}

/// Reads a web-app, with the place of its id; `None` without one.
pub(super) fn web_app(context: Context<'_>, node: &Node) -> Option<(WebApp, Span)> {
    let fields = Fields::open(context, node, &keys::WEB_APP)?;
    let id_node = fields.required("id", "give its path, \"\" for the root");
    let id = id_node.and_then(|node| context.checked(node, names::web_app));
    let content = content(&fields);
    let explicit =
        fields.get("session-config").and_then(|node| session::decode(context, node, &keys::SESSION));
    let explicit = explicit.unwrap_or_default();
    let web_app = WebApp {
        id: id?.trim_end_matches('/').to_owned(),
        content,
        versioning: deployment::versioning(&fields),
        rights: app_rights::rights(&fields),
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
