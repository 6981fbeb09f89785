//! Fills in a rule's target. What a client sent gets into it as it was sent, percent-encoded, and behind a single slash, so that it can add
//! neither a line, nor a host (`//evil.example`), nor a way up (`..`); and so that `%2F` stays what it was.

use super::{Decision, Rewritten, condition::Subject};
use crate::route::{
    host,
    normalise::{Source, has_dots, read, unescape},
};
use common::config::{HeaderEdit, Origin, Piece, RewriteTarget, Variable};
use regex::{Captures, Regex};
use std::{borrow::Cow, fmt::Write};

/// The longest path and query that a rule makes, in bytes: as long as a request's may be.
const LENGTH_MAX: usize = 16 * 1024;

/// What of a path needs no escape (RFC 3986 §3.3).
const PATH_PLAIN: &[u8] = b"-._~!$&'()*+,;=:@/";

/// The same for a value in a query: what would separate or mean something is escaped.
const QUERY_PLAIN: &[u8] = b"-._~/";

/// Why a target can't be filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum RewriteError {
    #[error("the path has a dot segment after a rule has changed it")]
    Dots,
    #[error("the address that a rule makes of it is longer than 16384 bytes")]
    Long,
    #[error("the request names no host")]
    NoHost,
}

impl RewriteError {
    /// The answer that says it.
    pub(super) fn decision(self) -> Decision<'static> {
        let (status, message) = match self {
            Self::Dots => (400, "the path has a dot segment after a rule has changed it"),
            Self::Long => (414, "the address that a rule makes of it is longer than 16384 bytes"),
            Self::NoHost => (400, "the request names no host"),
        };
        Decision::Error { status, message: Some(message) }
    }
}

/// The value of `Location`: graphic ASCII, and either a URL with an origin of the file's (or the request's host), or a path
/// that begins with one slash.
pub(super) fn location(
    target: &RewriteTarget,
    regexp: Option<&Regex>,
    subject: &Subject<'_>,
) -> Result<String, RewriteError> {
    let (path, query) = fill(target, regexp, subject)?;
    let mut location = match &target.origin {
        Some(origin) => written(origin, subject)?,
        None => String::with_capacity(path.len()),
    };
    location.push_str(&path);
    if let Some(query) = query {
        location.push('?');
        location.push_str(&query);
    }
    if let Some(fragment) = &target.fragment {
        location.push('#');
        location.push_str(fragment);
    }
    Ok(location)
}

/// The path and query with which the rules begin again.
pub(super) fn forward(
    target: &RewriteTarget,
    regexp: Option<&Regex>,
    subject: &Subject<'_>,
) -> Result<Rewritten, RewriteError> {
    let (path, query) = fill(target, regexp, subject)?;
    let seen = read(&path).into_owned();
    Ok(Rewritten { path, query, seen })
}

/// The value of a header; what a request does not have is nothing.
pub(super) fn header_value<'a>(
    edit: &'a HeaderEdit,
    regexp: Option<&Regex>,
    subject: &Subject<'_>,
) -> Result<Cow<'a, str>, RewriteError> {
    if let Some(fixed) = edit.fixed() {
        return Ok(Cow::Borrowed(fixed));
    }
    let filling = Filling::new(regexp, subject);
    let mut value = String::new();
    for piece in &edit.value {
        match piece {
            Piece::Text(text) => value.push_str(text),
            Piece::Group(number) => value.push_str(filling.group(*number)),
            Piece::Variable(Variable::Query) => value.push_str(subject.query.unwrap_or("")),
            Piece::Variable(variable) => match variable_of(*variable, subject) {
                Ok(text) => value.push_str(&text),
                Err(RewriteError::NoHost) => {}
                Err(cause) => return Err(cause),
            },
        }
        if value.len() > LENGTH_MAX {
            return Err(RewriteError::Long);
        }
    }
    Ok(Cow::Owned(value.trim_ascii().to_owned()))
}

fn written(origin: &Origin, subject: &Subject<'_>) -> Result<String, RewriteError> {
    let mut out = format!("{}://", origin.scheme.unwrap_or_else(|| scheme(subject)));
    match &origin.host {
        Some(host) => out.push_str(host),
        None => out.push_str(&request_host(subject)?),
    }
    if let Some(port) = origin.port {
        let _ = write!(out, ":{port}");
    }
    Ok(out)
}

/// The host that the request names, as a URL has it.
fn request_host<'a>(subject: &Subject<'a>) -> Result<Cow<'a, str>, RewriteError> {
    let name = host::name(subject.view.host);
    let is_name = |it: u8| it.is_ascii_alphanumeric() || b"-._".contains(&it);
    if !name.is_empty() && name.bytes().all(is_name) {
        return Ok(name);
    }
    match name.parse::<std::net::Ipv6Addr>() {
        Ok(ip) => Ok(Cow::Owned(format!("[{ip}]"))),
        Err(_) => Err(RewriteError::NoHost),
    }
}

fn scheme(subject: &Subject<'_>) -> &'static str {
    if subject.view.secure { "https" } else { "http" }
}

/// What a variable stands for, but for `$query`, which has its place.
fn variable_of<'a>(variable: Variable, subject: &Subject<'a>) -> Result<Cow<'a, str>, RewriteError> {
    let view = subject.view;
    Ok(match variable {
        Variable::Host => request_host(subject)?,
        Variable::Path => subject.raw_path.into(),
        Variable::Query => subject.query.unwrap_or("").into(),
        Variable::RemoteAddr => view.remote.to_string().into(),
        Variable::RequestUri => match view.query {
            Some(query) => format!("{}?{query}", view.path).into(),
            None => view.path.into(),
        },
        Variable::Scheme => scheme(subject).into(),
    })
}

/// What a target's pieces are filled in with.
struct Filling<'a, 's> {
    subject: &'a Subject<'s>,
    source: Source<'s>,
    /// `None`: a rule without an expression, which found the whole path.
    captures: Option<Captures<'s>>,
}

impl<'a, 's> Filling<'a, 's> {
    fn new(regexp: Option<&Regex>, subject: &'a Subject<'s>) -> Self {
        let captures = regexp.and_then(|regexp| regexp.captures(subject.path));
        Self { subject, source: Source::of(subject.raw_path), captures }
    }

    /// What a group found, percent-encoded.
    fn group(&self, number: usize) -> &'s str {
        match &self.captures {
            Some(captures) => captures.get(number).map_or("", |found| self.source.slice(found.range())),
            None => self.subject.raw_path,
        }
    }

    fn path(&self, target: &RewriteTarget) -> Result<String, RewriteError> {
        let seen = self.subject.path;
        let found = self.captures.as_ref().and_then(|captures| captures.get(0));
        let found = found.map_or(0..seen.len(), |it| it.range());
        let mut out = String::with_capacity(seen.len() + 32);
        // What stands before the match stays, but not before a whole URL.
        if target.keep_rest && target.origin.is_none() {
            put_encoded(self.source.slice(0..found.start), PATH_PLAIN, &mut out);
        }
        for piece in &target.path {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Group(number) => put_encoded(self.group(*number), PATH_PLAIN, &mut out),
                Piece::Variable(Variable::Path) => put_encoded(self.subject.raw_path, PATH_PLAIN, &mut out),
                Piece::Variable(Variable::RequestUri) => {
                    put_encoded(self.subject.view.path, PATH_PLAIN, &mut out);
                }
                Piece::Variable(variable) => {
                    put(&variable_of(*variable, self.subject)?, PATH_PLAIN, &mut out);
                }
            }
            check_length(&out)?;
        }
        if target.keep_rest {
            put_encoded(self.source.slice(found.end..seen.len()), PATH_PLAIN, &mut out);
        }
        Ok(out)
    }

    fn query(&self, target: &RewriteTarget) -> Result<String, RewriteError> {
        let mut out = String::new();
        for piece in &target.query {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Group(number) => put_encoded(self.group(*number), QUERY_PLAIN, &mut out),
                Piece::Variable(Variable::Query) => put_query(self.subject.query, &mut out),
                Piece::Variable(variable) => {
                    put(&variable_of(*variable, self.subject)?, QUERY_PLAIN, &mut out);
                }
            }
            check_length(&out)?;
        }
        let own = match target.path.last() {
            Some(Piece::Variable(Variable::RequestUri)) => self.subject.view.query,
            _ => self.subject.query.filter(|_| target.keep_query),
        };
        if own.is_some_and(|own| !own.is_empty()) {
            if !out.is_empty() {
                out.push('&');
            }
            put_query(own, &mut out);
        }
        Ok(out)
    }
}

/// Each piece is at most three times a request's target: this bounds what many of them come to.
fn check_length(out: &str) -> Result<(), RewriteError> {
    if out.len() > LENGTH_MAX { Err(RewriteError::Long) } else { Ok(()) }
}

/// Path and query, percent-encoded; the path normalised.
fn fill(
    target: &RewriteTarget,
    regexp: Option<&Regex>,
    subject: &Subject<'_>,
) -> Result<(String, Option<String>), RewriteError> {
    let filling = Filling::new(regexp, subject);
    let path = with_slash(&filling.path(target)?, subject.merges_slashes);
    // Escapes are whole: the file's are checked, and the request's too.
    let path = unescape(&path).unwrap_or(path);
    if has_dots(&path) {
        return Err(RewriteError::Dots);
    }
    let query = filling.query(target)?;
    if path.len() + query.len() >= LENGTH_MAX {
        return Err(RewriteError::Long);
    }
    Ok((path, (!query.is_empty()).then_some(query)))
}

/// With exactly one slash at its beginning, and none in a row if they are merged.
fn with_slash(path: &str, merges: bool) -> String {
    let path = path.trim_start_matches('/');
    let mut out = String::with_capacity(path.len() + 1);
    out.push('/');
    for it in path.chars() {
        if it != '/' || !merges || !out.ends_with('/') {
            out.push(it);
        }
    }
    out
}

/// Text that is percent-encoded already: its escapes stay, and what is not plain becomes one.
fn put_encoded(text: &str, plain: &[u8], out: &mut String) {
    for byte in text.bytes() {
        put_byte(byte, byte == b'%' || plain.contains(&byte), out);
    }
}

/// Any other text.
fn put(text: &str, plain: &[u8], out: &mut String) {
    text.bytes().for_each(|byte| put_byte(byte, plain.contains(&byte), out));
}

/// A query is passed on as it is.
fn put_query(query: Option<&str>, out: &mut String) {
    out.extend(query.unwrap_or("").bytes().filter(u8::is_ascii_graphic).map(char::from));
}

fn put_byte(byte: u8, plain: bool, out: &mut String) {
    if plain || byte.is_ascii_alphanumeric() {
        out.push(char::from(byte));
    } else {
        let _ = write!(out, "%{byte:02X}");
    }
}
