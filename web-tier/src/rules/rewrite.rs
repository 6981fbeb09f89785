//! Fills in a rule's target. What a client sent gets into it percent-encoded and behind a single slash, so that it can add
//! neither a line, nor a host (`//evil.example`), nor a way up (`..`).

use super::{Decision, Rewritten, condition::Subject};
use crate::{host, normalise::decoded};
use common::config::{Origin, Piece, RewriteTarget};
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
    #[error("the path is not UTF-8")]
    NotText,
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
            Self::NotText => (400, "the path is not UTF-8"),
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
    let decoded = decoded(&path).into_owned();
    Ok(Rewritten { path, query, decoded })
}

fn written(origin: &Origin, subject: &Subject<'_>) -> Result<String, RewriteError> {
    let mut out = format!("{}://", origin.scheme);
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

/// What a target's pieces are filled in with.
struct Filling<'a, 's> {
    subject: &'a Subject<'s>,
    /// `None`: a rule without an expression, which found the whole path.
    captures: Option<Captures<'s>>,
}

impl Filling<'_, '_> {
    fn group(&self, number: usize) -> &str {
        match &self.captures {
            Some(captures) => captures.get(number).map_or("", |found| found.as_str()),
            None => self.subject.path,
        }
    }

    fn pieces(&self, pieces: &[Piece], plain: &[u8], out: &mut String) -> Result<(), RewriteError> {
        for piece in pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Group(number) => encode(self.group(*number), plain, out)?,
                Piece::Host => encode(&request_host(self.subject)?, plain, out)?,
            }
            // Each piece is at most three times a request's path: this bounds what many of them come to.
            if out.len() > LENGTH_MAX {
                return Err(RewriteError::Long);
            }
        }
        Ok(())
    }
}

/// Path and query, percent-encoded; the path normalised.
fn fill(
    target: &RewriteTarget,
    regexp: Option<&Regex>,
    subject: &Subject<'_>,
) -> Result<(String, Option<String>), RewriteError> {
    let path = subject.path;
    let captures = regexp.and_then(|regexp| regexp.captures(path));
    let found = captures.as_ref().and_then(|captures| captures.get(0)).map_or(0..path.len(), |it| it.range());
    let filling = Filling { subject, captures };
    let mut out = String::with_capacity(path.len() + 32);
    // What stands before the match stays, but not before a whole URL.
    if target.origin.is_none() {
        encode(&path[..found.start], PATH_PLAIN, &mut out)?;
    }
    filling.pieces(&target.path, PATH_PLAIN, &mut out)?;
    encode(&path[found.end..], PATH_PLAIN, &mut out)?;
    let path = one_slash(&out);
    if decoded(&path).split('/').any(is_dots) {
        return Err(RewriteError::Dots);
    }
    let mut query = String::new();
    filling.pieces(&target.query, QUERY_PLAIN, &mut query)?;
    if let Some(own) = subject.query.filter(|own| target.keep_query && !own.is_empty()) {
        if !query.is_empty() {
            query.push('&');
        }
        query.extend(own.bytes().filter(u8::is_ascii_graphic).map(char::from));
    }
    if path.len() + query.len() >= LENGTH_MAX {
        return Err(RewriteError::Long);
    }
    Ok((path, (!query.is_empty()).then_some(query)))
}

/// `.` and `..`, with or without the parameters that some servers strip.
fn is_dots(segment: &str) -> bool {
    matches!(segment.split(';').next(), Some("." | ".."))
}

/// With a slash at its beginning, and no two in a row.
fn one_slash(path: &str) -> String {
    let mut out = String::with_capacity(path.len() + 1);
    out.push('/');
    for it in path.chars() {
        if it != '/' || !out.ends_with('/') {
            out.push(it);
        }
    }
    out
}

fn encode(text: &str, plain: &[u8], out: &mut String) -> Result<(), RewriteError> {
    // Where the client sent bytes that are no text, the path that rules see is not the one that was asked for.
    if text.contains('\u{fffd}') {
        return Err(RewriteError::NotText);
    }
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    Ok(())
}
