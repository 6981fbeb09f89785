//! An app's own file, `app.yaml`, at the root of its folder.

use super::{
    app_rights::{self, AppLimits},
    bounds::{TIMEOUT, WAIT},
    declarations::{self, Declarations},
    decode::{Context, Fields},
    defaults::DEFAULTS,
    import::Importer,
    keys,
    load_options::LoadOptions,
    names,
    node::{Node, Value},
    problem::ConfigErrors,
    quoted::quoted,
    session,
    session_overrides::SessionOverrides,
    variables::Place,
};
use std::{
    collections::HashMap,
    path::{Component, Path, PathBuf},
    time::Duration,
};

/// What `app.yaml` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppYaml {
    /// `name`.
    pub name: Option<String>,
    /// `version`.
    pub version: Option<String>,
    /// `static`: the folder of files that the server itself serves, absolute, inside the app's folder.
    pub static_dir: Option<PathBuf>,
    /// `command`: the process and its arguments, with `${PORT}`, `${SOCKET}` and `${DATA}` for [`fill_placeholders`]; empty = static
    /// files only.
    pub command: Vec<String>,
    /// `listen`: where the process listens.
    pub listen: Listen,
    /// `env`: variables for the process, in file order, with placeholders as in `command`.
    pub env: Vec<(String, String)>,
    /// `health`.
    pub health: Health,
    /// `instances`: processes of the app a server, 1 to 64 (1).
    pub instances: usize,
    /// `stop-timeout` (15 s): from SIGTERM to SIGKILL.
    pub stop_timeout: Duration,
    /// `user`: whose processes the app's are, if the cluster's file has it in `app-users` and names no other.
    pub user: Option<String>,
    /// `memory-max` and its like, beneath what the cluster's file sets.
    pub limits: AppLimits,
    /// `prepare`: what is run once in the folder of a new version before it is started, with placeholders as in `command`.
    pub prepare: Vec<String>,
    /// `prepare-timeout` (5 min): how long that may take.
    pub prepare_timeout: Duration,
    /// `session`: the app's wishes; the cluster file's explicit keys win (`WebApp::session_with`).
    pub session: SessionOverrides,
    /// `queues`, `jobs` and the like.
    pub declared: Declarations,
    /// `declare-at-start` (false): its process tells them instead (`PUT /v1/app` of the local API).
    pub declare_at_start: bool,
}

/// `listen`: where an app's process listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// `tcp` (the default): on the loopback port `${PORT}`.
    Tcp,
    /// `unix`, also written `unix:${SOCKET}`: on the Unix socket `${SOCKET}`.
    Unix,
}

/// `health`: when a process counts as healthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// `path`: a GET of it answers 2xx; without one a process is healthy once its port accepts.
    pub path: Option<String>,
    /// `interval` (5 s): from one check to the next.
    pub interval: Duration,
    /// `start-timeout` (30 s): how long a start may take.
    pub start_timeout: Duration,
}

/// Reads and checks the `app.yaml` at `path`; of the options only the environment counts. Variables other than `${PORT}`,
/// `${SOCKET}` and `${DATA}` are replaced; those that are the server's own are refused.
///
/// # Errors
/// Everything that is wrong with the file, all at once.
pub fn load_app_yaml(path: &Path, options: &LoadOptions) -> Result<AppYaml, ConfigErrors> {
    let mut importer = Importer::new(&options.environment);
    let tree = importer.parse(path, None);
    let Importer { sources, report, .. } = importer;
    let app = tree.and_then(|tree| {
        let place = Place { app: Some(&options.servers_own), ..Place::default() };
        decode(Context::new(&report, &sources, &options.environment, place), &tree)
    });
    Ok(report.finish(&sources, app)?.0)
}

/// The `name` and `version` in the text of an `app.yaml`, where they can be read: what is wrong with it is told by who runs it.
pub fn app_names(text: &str) -> (Option<String>, Option<String>) {
    let environment = HashMap::new();
    let tree = Importer::new(&environment).text(Path::new("app.yaml"), text);
    let scalar = |key: &str| {
        let entries = tree.as_ref().and_then(Node::entries).unwrap_or_default();
        match &entries.iter().find(|entry| entry.key == key)?.value.value {
            Value::Scalar { text, .. } => Some(text.clone()),
            _ => None,
        }
    };
    (scalar("name"), scalar("version"))
}

/// Replaces the placeholders that [`load_app_yaml`] kept, such as `("PORT", "8123")`, and takes the escape `$${` off.
pub fn fill_placeholders(text: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, body) = (&rest[..at], &rest[at + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = body;
            continue;
        }
        out.push_str(before);
        let named =
            |(name, _): &&(&str, &str)| body.strip_prefix(name).is_some_and(|after| after.starts_with('}'));
        if let Some((name, value)) = values.iter().find(named) {
            out.push_str(value);
            rest = &body[name.len() + 1..];
        } else {
            out.push_str("${");
            rest = body;
        }
    }
    out.push_str(rest);
    out
}

pub(super) fn decode(context: Context<'_>, root: &Node) -> Option<AppYaml> {
    let fields = Fields::open(context, root, &keys::APP)?;
    let named = |key| fields.get(key).and_then(|node| context.checked(node, names::id));
    let command = words(&fields, "command", "[\"./app\", \"--port\", \"${PORT}\"]");
    let prepare = words(&fields, "prepare", "[\"npm\", \"ci\"]");
    let static_dir = fields.get("static").and_then(|node| inner_path(context, node));
    if fields.entry("command").or(fields.entry("static")).is_none() {
        context.error(root.span, "an app has a `command` to run, a `static` folder to serve, or both");
    }
    if command.is_empty() {
        let others = ["listen", "health", "instances", "env", "stop-timeout", "declare-at-start"];
        for key in others.into_iter().chain(declarations::KEYS) {
            if let (Some(entry), None) = (fields.entry(key), fields.entry("command")) {
                context.report.warning(entry.key_span, format!("`{key}` does nothing without a `command`"));
            }
        }
    }
    let declare_at_start = fields.boolean("declare-at-start").unwrap_or(false);
    for entry in
        declarations::KEYS.into_iter().filter(|_| declare_at_start).filter_map(|key| fields.entry(key))
    {
        let why = "its process declares them when it starts (`declare-at-start`): expected one or the other";
        context.error(entry.key_span, format!("`{}`: {why}", entry.key));
    }
    let session = fields.get("session").and_then(|node| session::decode(context, node, &keys::SESSION));
    Some(AppYaml {
        name: named("name"),
        version: named("version"),
        static_dir,
        command,
        listen: listen(&fields).unwrap_or(Listen::Tcp),
        env: env(&fields),
        health: health(&fields),
        instances: fields.integer("instances", 1..=64).unwrap_or(1),
        stop_timeout: fields.duration("stop-timeout", WAIT).unwrap_or(DEFAULTS.stop_timeout),
        user: app_rights::user(&fields),
        limits: app_rights::limits(&fields),
        prepare,
        prepare_timeout: fields.duration("prepare-timeout", TIMEOUT).unwrap_or(DEFAULTS.prepare_timeout),
        session: session.unwrap_or_default(),
        declared: declarations::decode(&fields),
        declare_at_start,
    })
}

/// A command line as a list.
pub(super) fn words(fields: &Fields<'_>, key: &str, example: &str) -> Vec<String> {
    let Some(node) = fields.get(key) else { return Vec::new() };
    let context = fields.context;
    let words: Vec<String> = context.items(node).iter().filter_map(|item| word(context, item)).collect();
    let empty_list = matches!(&node.value, Value::List(items) if items.is_empty()) || node.is_null();
    if empty_list || words.first().is_some_and(String::is_empty) {
        context.error(node.span, format!("`{key}` is empty: expected a list such as {example}"));
    }
    words
}

/// Text that an operating system takes as an argument or a variable.
fn word(context: Context<'_>, node: &Node) -> Option<String> {
    context.checked(node, |text| {
        if text.contains('\0') {
            Err("a NUL character can't be given to a process".to_owned())
        } else {
            Ok(())
        }
    })
}

/// A path inside the app's folder, made absolute.
fn inner_path(context: Context<'_>, node: &Node) -> Option<PathBuf> {
    let text = context.checked(node, |text| {
        let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        if !text.is_empty() && !text.contains('\0') && Path::new(text).components().all(inside) {
            return Ok(());
        }
        Err(format!(
            "expected a path inside the app's folder, relative and without `..`, found {}",
            quoted(text)
        ))
    })?;
    Some(context.absolute(Path::new(&text), node.span))
}

fn listen(fields: &Fields<'_>) -> Option<Listen> {
    let options = [("tcp", Listen::Tcp), ("unix", Listen::Unix), ("unix:${SOCKET}", Listen::Unix)];
    fields.choice("listen", &options)
}

fn env(fields: &Fields<'_>) -> Vec<(String, String)> {
    let (context, Some(node)) = (fields.context, fields.get("env")) else { return Vec::new() };
    let Some(entries) = node.entries() else {
        if !node.is_null() {
            context.error(node.span, "expected a mapping of variables to values");
        }
        return Vec::new();
    };
    let mut variables = Vec::new();
    for entry in entries {
        let name = entry.key.as_str();
        let starts = name.starts_with(|it: char| it.is_ascii_alphabetic() || it == '_');
        if !starts || !name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_') {
            let message =
                format!("expected a variable's name (letters, digits and _), found {}", quoted(name));
            context.error(entry.key_span, message);
        } else if matches!(name, "PORT" | "SOCKET" | "DATA") || name.starts_with("COPAL_") {
            context.error(entry.key_span, format!("`{name}` is set by the server: an app can't set it"));
        } else if let Some(value) = word(context, &entry.value) {
            variables.push((name.to_owned(), value));
        }
    }
    variables
}

fn health(fields: &Fields<'_>) -> Health {
    let node = fields.get("health");
    let health = node.and_then(|node| Fields::open(fields.context, node, &keys::HEALTH));
    let path =
        health.and_then(|it| it.get("path")).and_then(|node| fields.context.checked(node, health_path));
    let time = |key, default| health.and_then(|it| it.duration(key, TIMEOUT)).unwrap_or(default);
    Health {
        path,
        interval: time("interval", DEFAULTS.health_interval),
        start_timeout: time("start-timeout", DEFAULTS.start_timeout),
    }
}

/// A path for a request line: visible ASCII (RFC 9112 §3.2.1).
pub(super) fn health_path(text: &str) -> Result<(), String> {
    if text.starts_with('/') && text.bytes().all(|it| it.is_ascii_graphic()) {
        return Ok(());
    }
    Err(format!(
        "expected a path that begins with a slash, in visible ASCII characters, found {}",
        quoted(text)
    ))
}
