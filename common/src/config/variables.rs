//! `${VAR}`, `${VAR:-default}`, `${__DIR__}`, `${server.id}`, `${cluster.id}` in scalars; `$${` is a plain `${`.

use super::servers_own::ServersOwn;
use std::{collections::HashMap, path::Path};

/// How deep defaults may hold variables.
const DEPTH_MAX: usize = 8;

/// What the variables of a place stand for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Variables<'a> {
    /// The environment.
    pub(super) environment: &'a HashMap<String, String>,
    /// The folder of the file in which the text stands.
    pub(super) directory: &'a Path,
    /// Where in the cluster the text stands.
    pub(super) place: Place<'a>,
}

/// Where in the cluster a text stands.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place<'a> {
    /// The server, inside one.
    pub(super) server: Option<&'a str>,
    /// The cluster, inside one.
    pub(super) cluster: Option<&'a str>,
    /// An app's file: `${PORT}`, `${SOCKET}` and `${DATA}` are kept for the app's start, these are out of reach.
    pub(super) app: Option<&'a ServersOwn>,
}

/// Why a text has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unresolved {
    #[error("the environment variable `{0}` is not set: set it, or give a default with `${{{0}:-default}}`")]
    Unset(String),
    #[error("`${{{0}}}` has a value only inside a {1}")]
    Elsewhere(&'static str, &'static str),
    #[error("`${{{0}}}` is the server's own and not for apps")]
    Reserved(String),
    #[error("`${{{0}}}` is not a variable: expected a name such as HOME, __DIR__, server.id or cluster.id")]
    NoName(String),
    #[error("`${{` without its `}}`: write `$${{` for the two characters themselves")]
    Open,
    #[error("variables nest more than {DEPTH_MAX} deep")]
    Deep,
}

/// The text with its variables replaced.
pub(super) fn resolve(text: &str, variables: &Variables<'_>) -> Result<String, Unresolved> {
    expand(text, variables, 0)
}

fn expand(text: &str, variables: &Variables<'_>, depth: usize) -> Result<String, Unresolved> {
    if depth > DEPTH_MAX {
        return Err(Unresolved::Deep);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, body) = (&rest[..at], &rest[at + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            // An app's text is filled in once more, by `fill_placeholders`, which takes the escape off.
            out.push_str(if variables.place.app.is_some() { "$${" } else { "${" });
            rest = body;
            continue;
        }
        let close = closing(body).ok_or(Unresolved::Open)?;
        out.push_str(before);
        let (name, default) = match body[..close].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&body[..close], None),
        };
        match (value(name, variables)?, default) {
            (Some(value), _) => out.push_str(&value),
            (None, Some(default)) => out.push_str(&expand(default, variables, depth + 1)?),
            (None, None) => return Err(Unresolved::Unset(name.to_owned())),
        }
        rest = &body[close + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// The names of the variables in a text, those in defaults too.
pub(super) fn names(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("${").filter(move |(at, _)| !text[..*at].ends_with('$')).map(move |(at, _)| {
        let name = &text[at + 2..];
        let end = name.find(|it: char| !it.is_ascii_alphanumeric() && it != '_');
        &name[..end.unwrap_or(name.len())]
    })
}

/// The byte of the `}` that ends a variable, those of variables inside it passed over.
fn closing(body: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut last = ' ';
    for (at, it) in body.char_indices() {
        match it {
            '{' if last == '$' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
        last = it;
    }
    None
}

/// A variable's value; `None` when it is not set or, as in a shell's `:-`, empty.
fn value(name: &str, variables: &Variables<'_>) -> Result<Option<String>, Unresolved> {
    let place = &variables.place;
    match name {
        "__DIR__" => return Ok(Some(variables.directory.to_string_lossy().into_owned())),
        "server.id" => return inside(place.server, "server.id", "server"),
        "cluster.id" => return inside(place.cluster, "cluster.id", "cluster"),
        "PORT" | "SOCKET" | "DATA" if place.app.is_some() => return Ok(Some(format!("${{{name}}}"))),
        _ => {}
    }
    let starts = name.starts_with(|it: char| it.is_ascii_alphabetic() || it == '_');
    if !starts || !name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_') {
        return Err(Unresolved::NoName(name.to_owned()));
    }
    let value = variables.environment.get(name).filter(|value| !value.is_empty());
    let Some(servers_own) = place.app else { return Ok(value.cloned()) };
    if servers_own.has(name.as_bytes(), value.map_or(&[], |value| value.as_bytes())) {
        return Err(Unresolved::Reserved(name.to_owned()));
    }
    Ok(value.map(|value| value.replace("${", "$${")))
}

fn inside(id: Option<&str>, name: &'static str, what: &'static str) -> Result<Option<String>, Unresolved> {
    id.map(|id| Some(id.to_owned())).ok_or(Unresolved::Elsewhere(name, what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str, place: Place<'_>) -> Result<String, String> {
        let environment =
            HashMap::from([("A", "1"), ("EMPTY", ""), ("B", "${A}")].map(|(k, v)| (k.into(), v.into())));
        let variables = Variables { environment: &environment, directory: Path::new("/etc/copal"), place };
        resolve(text, &variables).map_err(|error| error.to_string())
    }

    fn plain(text: &str) -> Result<String, String> {
        read(text, Place::default())
    }

    #[test]
    fn values_and_defaults() {
        assert_eq!(plain("x${A}y${A}").unwrap(), "x1y1");
        assert_eq!(plain("${__DIR__}/a").unwrap(), "/etc/copal/a");
        assert_eq!(plain("${NONE:-d}${EMPTY:-e}").unwrap(), "de");
        assert_eq!(plain("${NONE:-a${NONE:-b${A}}c}").unwrap(), "ab1c");
        assert_eq!(plain("${NONE:-}").unwrap(), "");
        assert_eq!(plain("$${A} $1 $$ $argon2id$").unwrap(), "${A} $1 $$ $argon2id$");
        assert_eq!(plain("${B}").unwrap(), "${A}", "a value is not read again");
    }

    #[test]
    fn places() {
        let place = Place { server: Some("app-a"), cluster: Some("app-tier"), app: None };
        assert_eq!(read("${cluster.id}/${server.id}", place).unwrap(), "app-tier/app-a");
        assert_eq!(plain("${server.id}").unwrap_err(), "`${server.id}` has a value only inside a server");
    }

    #[test]
    fn an_app_keeps_what_its_start_fills_in() {
        let servers_own = ServersOwn::default();
        let place = Place { app: Some(&servers_own), ..Place::default() };
        assert_eq!(
            read("${PORT} ${SOCKET} ${A} $${PORT} ${B}", place).unwrap(),
            "${PORT} ${SOCKET} 1 $${PORT} $${A}"
        );
        assert_eq!(
            read("${COPAL_CLUSTER_KEY}", place).unwrap_err(),
            "`${COPAL_CLUSTER_KEY}` is the server's own and not for apps"
        );
    }

    #[test]
    fn faults() {
        assert!(plain("${NONE}").unwrap_err().contains("`NONE` is not set"), "{:?}", plain("${NONE}"));
        assert!(plain("${A").unwrap_err().contains("without its `}`"));
        assert!(plain("${a b}").unwrap_err().contains("`${a b}` is not a variable"));
        assert!(plain("${}").unwrap_err().contains("not a variable"));
        let deep = "${N:-".repeat(20) + &"}".repeat(20);
        assert_eq!(plain(&deep).unwrap_err(), "variables nest more than 8 deep");
    }

    proptest! {
        #[test]
        fn any_text_has_an_answer(text in "[${}:A\\-_a.é]{0,40}") {
            let _ = plain(&text);
        }
    }
}
