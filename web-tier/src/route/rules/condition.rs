//! Whether a rule's conditions hold for a request.

use super::{
    RequestView,
    file_exists::SeenFiles,
    share::{self, Draws},
    site::Sites,
};
use crate::route::host;
use common::config::{Condition, FileExists, Named, ServerName};
use regex::Regex;
use std::borrow::Cow;

/// A request as the rules see it now, after any `forward`, and where its host's files are.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) view: &'a RequestView<'a>,
    /// As rules see it, by [`read`](crate::route::normalise::read).
    pub(super) path: &'a str,
    /// The same, percent-encoded.
    pub(super) raw_path: &'a str,
    /// Whether slashes in a row become one.
    pub(super) merges_slashes: bool,
    pub(super) query: Option<&'a str>,
    pub(super) sites: &'a Sites,
    pub(super) seen_files: &'a SeenFiles,
    pub(super) draws: &'a Draws,
}

/// Whether a condition holds. Conditions nest no deeper than the file may.
pub(super) fn holds(condition: &Condition, subject: &Subject<'_>) -> bool {
    let view = subject.view;
    match condition {
        Condition::Header(named) => has_header(named, subject),
        Condition::Cookie(named) => has_cookie(named, subject),
        Condition::QueryParam(named) => has_parameter(named, subject.query.unwrap_or("")),
        Condition::Method(methods) => methods.iter().any(|method| method == view.method),
        Condition::RemoteAddr(networks) => networks.iter().any(|network| network.contains(view.remote)),
        Condition::Secure(secure) => *secure == view.secure,
        Condition::ServerName(ServerName::OneOf(names)) => {
            let name = host::name(view.host);
            names.iter().any(|it| *it == *name)
        }
        Condition::ServerName(ServerName::Matching(regexp)) => regexp.is_match(&host::name(view.host)),
        Condition::LocalPort(ports) => ports.contains(&view.local_port),
        Condition::FileExists(FileExists::Requested(expected)) => {
            *expected == file_exists(&crate::route::normalise::decoded(subject.raw_path), subject)
        }
        Condition::FileExists(FileExists::At(path)) => file_exists(path, subject),
        Condition::Cron(cron) => cron.holds(view.now),
        Condition::Share(share) => share::has(share, subject),
        Condition::And(all) => all.iter().all(|it| holds(it, subject)),
        Condition::Or(either) => either.iter().any(|it| holds(it, subject)),
        Condition::Not(not) => !holds(not, subject),
    }
}

fn file_exists(path: &str, subject: &Subject<'_>) -> bool {
    subject.seen_files.exists(subject.sites, path, subject.view.now)
}

fn has_header(named: &Named, subject: &Subject<'_>) -> bool {
    let Some(regexp) = &named.regexp else { return subject.view.headers.get(&named.name).is_some() };
    let mut found = false;
    subject.view.headers.for_each(&named.name, &mut |value| found = found || matches(regexp, value));
    found
}

/// A value that is not UTF-8 is looked at with U+FFFD in the place of what is not.
fn matches(regexp: &Regex, value: &[u8]) -> bool {
    regexp.is_match(&String::from_utf8_lossy(value))
}

/// RFC 6265 §4.2.1, read as leniently as servers do; quotes around a value are none of it.
fn has_cookie(named: &Named, subject: &Subject<'_>) -> bool {
    let mut found = false;
    subject.view.headers.for_each("cookie", &mut |line| {
        found = found || line.split(|it| *it == b';').any(|pair| is_cookie(named, pair.trim_ascii()));
    });
    found
}

fn is_cookie(named: &Named, pair: &[u8]) -> bool {
    let Some(at) = pair.iter().position(|it| *it == b'=') else { return false };
    let (name, value) = (pair[..at].trim_ascii_end(), pair[at + 1..].trim_ascii_start());
    let value = value.strip_prefix(b"\"").and_then(|it| it.strip_suffix(b"\"")).unwrap_or(value);
    name == named.name.as_bytes() && named.regexp.as_ref().is_none_or(|regexp| matches(regexp, value))
}

/// Parameters as forms write them (WHATWG URL §5.1): `&` between them, `+` for a space.
fn has_parameter(named: &Named, query: &str) -> bool {
    query.split('&').filter(|pair| !pair.is_empty()).any(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        parameter(name) == named.name && named.regexp.as_ref().is_none_or(|it| it.is_match(&parameter(value)))
    })
}

fn parameter(text: &str) -> Cow<'_, str> {
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        return Cow::Owned(crate::route::normalise::decoded(&spaced).into_owned());
    }
    crate::route::normalise::decoded(text)
}
