//! Virtual hosts, their web-apps and their rules.

use super::{
    check::Facts,
    cluster::{Layers, layered},
    decode::{Context, Fields, Regexp},
    keys,
    model::{Action, Host, LoadBalance, Rule, SessionConfig, Strategy, WebApp},
    names,
    node::Node,
    session,
    source::Span,
};
use crate::id::ClusterId;
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
    let dispatch = dispatch(&fields, facts);
    if fields.items("web-apps").is_empty() && fields.items("dispatch").is_empty() && !context.in_default {
        let message = "this host has neither `web-apps` nor `dispatch`: every request to it is answered 404";
        context.report.warning(node.span, message);
    }
    Some(Host { id: id.unwrap_or_default(), aliases, regexp: regexp.and_then(|it| it.0), web_apps, dispatch })
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
    let hint = "name the folder of an app or of static files";
    fields.required("root-directory", hint);
    let root_directory = fields.path("root-directory");
    let explicit =
        fields.get("session-config").and_then(|node| session::decode(context, node, &keys::SESSION));
    let explicit = explicit.unwrap_or_default();
    let web_app = WebApp {
        id: id?.trim_end_matches('/').to_owned(),
        root_directory: root_directory.unwrap_or_default(),
        session: explicit.apply(&SessionConfig::default()),
        session_explicit: explicit,
    };
    Some((web_app, fields.span("id")))
}

fn dispatch(fields: &Fields<'_>, facts: &mut Facts) -> Vec<Rule> {
    let context = fields.context;
    let mut rules = Vec::new();
    let mut caught_all = false;
    for item in fields.items("dispatch") {
        if caught_all {
            context
                .report
                .warning(item.span, "this rule is never reached: the one before it matches every path");
            caught_all = false;
        }
        let Some(rule) = rule(context, item, facts) else { continue };
        caught_all = rule.regexp.is_none();
        rules.push(rule);
    }
    rules
}

fn rule(context: Context<'_>, node: &Node, facts: &mut Facts) -> Option<Rule> {
    let fields = Fields::open(context, node, &keys::RULE)?;
    let entries = node.entries().unwrap_or_default();
    if entries.len() != 1 {
        let message = format!("a rule of `dispatch` has exactly one key, this one has {}", entries.len());
        context.error(node.span, message);
        return None;
    }
    load_balance(context, fields.get("load-balance")?, facts)
}

fn load_balance(context: Context<'_>, node: &Node, facts: &mut Facts) -> Option<Rule> {
    let fields = Fields::open(context, node, &keys::LOAD_BALANCE)?;
    let regexp = match fields.get("regexp") {
        Some(node) => context.regexp(node),
        None => Some(Regexp(None)),
    };
    let cluster_node = fields.required("cluster", "name the cluster whose servers answer");
    let cluster = cluster_node.and_then(|node| context.checked(node, names::id));
    if let (Some(cluster), Some(node)) = (&cluster, cluster_node) {
        facts.balance(cluster, node.span);
    }
    let strategies = [
        ("adaptive", Strategy::Adaptive),
        ("least-connection", Strategy::LeastConnection),
        ("round-robin", Strategy::RoundRobin),
    ];
    let action = LoadBalance {
        cluster: ClusterId::from(cluster.unwrap_or_default()),
        strategy: fields.choice("strategy", &strategies).unwrap_or(Strategy::Adaptive),
        sticky_sessions: fields.boolean("sticky-sessions").unwrap_or(true),
    };
    // A rule whose expression is wrong must not be taken for one that matches everything.
    Some(Rule { regexp: regexp?.0, action: Action::LoadBalance(action) })
}
