//! Virtual hosts, with the lists of their web-apps and rules.

use super::{
    app_rights::{self, AppRights},
    check::Facts,
    decode::{Context, Fields, Regexp},
    deployment::{self, Versioning},
    dispatch, error_pages, keys,
    layers::{Layers, layered},
    model::{Host, WebApp},
    names,
    node::{Node, Value},
    session,
    session_overrides::SessionOverrides,
    source::Span,
    web_app,
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
        error_pages: error_pages::decode(&fields),
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
    // It stands nowhere in the file.
    let empty = Node { value: Value::Map(Vec::new()), span: Span::file(node.span.file) };
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
        let Some((web_app, span)) = web_app::decode(fields.context, &merged) else { continue };
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
