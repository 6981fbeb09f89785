//! Lines in a format of an operator's own. docs/access-log.md has what its variables are.

use super::{
    escape::{put_json, put_quoted, put_word},
    format::{Line, name, put_connection, put_number},
};
use crate::route::host;
use common::config::{LogFormat, LogPiece, LogStyle, LogVariable};
use std::{borrow::Cow, io::Write};

/// What a line has of a request.
enum Value<'a> {
    Text(Cow<'a, [u8]>),
    Number(u64),
    /// Microseconds, written as seconds.
    Seconds(u64),
}

/// Appends a request's line, without its end.
pub(super) fn put(out: &mut Vec<u8>, format: &LogFormat, line: &Line<'_>) {
    for piece in &format.pieces {
        match piece {
            LogPiece::Text(text) => out.extend_from_slice(text.as_bytes()),
            LogPiece::Value(variable, quoted) => {
                // What is empty is as good as not known.
                let value = value(variable, line);
                let value = value.filter(|it| !matches!(it, Value::Text(text) if text.is_empty()));
                match &format.style {
                    LogStyle::Json => put_as_json(out, value, *quoted),
                    LogStyle::Text(separators) => {
                        put_as_text(out, value, (!quoted).then_some(&separators[..]));
                    }
                }
            }
        }
    }
}

/// `separators`: outside of quotes.
fn put_as_text(out: &mut Vec<u8>, value: Option<Value<'_>>, separators: Option<&[u8]>) {
    match (value, separators) {
        (None, _) => out.push(b'-'),
        (Some(Value::Text(text)), None) => put_quoted(out, &text),
        (Some(Value::Text(text)), Some(separators)) => put_word(out, &text, separators),
        (Some(number), _) => put_digits(out, &number),
    }
}

fn put_as_json(out: &mut Vec<u8>, value: Option<Value<'_>>, quoted: bool) {
    match (value, quoted) {
        (None, false) => out.extend_from_slice(b"null"),
        (None, true) => {}
        (Some(Value::Text(text)), true) => put_json(out, &text),
        (Some(Value::Text(text)), false) => {
            out.push(b'"');
            put_json(out, &text);
            out.push(b'"');
        }
        (Some(number), _) => put_digits(out, &number),
    }
}

fn put_digits(out: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::Number(number) => put_number(out, *number),
        Value::Seconds(micros) => {
            // Memory takes it all.
            let _ = write!(out, "{}.{:06}", micros / 1_000_000, micros % 1_000_000);
        }
        Value::Text(_) => {}
    }
}

fn value<'a>(variable: &LogVariable, line: &Line<'a>) -> Option<Value<'a>> {
    let record = line.record;
    let text = |bytes: &'a [u8]| Some(Value::Text(Cow::Borrowed(bytes)));
    let known = |it: Option<&'a str>| it.map(|it| Value::Text(Cow::Borrowed(it.as_bytes())));
    let target = |at: usize| record.version.and(record.target.splitn(2, |it| *it == b'?').nth(at));
    match variable {
        LogVariable::AnswerUs => record.answered.map(|it| Value::Number(line.micros(it))),
        LogVariable::Bytes => Some(Value::Number(record.body_sent())),
        LogVariable::Cache => known(record.cache),
        LogVariable::Duration => Some(Value::Seconds(line.micros(line.now))),
        LogVariable::DurationUs => Some(Value::Number(line.micros(line.now))),
        LogVariable::End => known(Some(record.end.word())),
        LogVariable::Header(name) => text(record.named(name)),
        LogVariable::Host => Some(Value::Text(lower_host(&record.host))),
        LogVariable::Method => known(record.version.map(|_| record.method.as_str())),
        LogVariable::Path => target(0).and_then(text),
        LogVariable::Protocol => record.version.map(|it| Value::Text(protocol(name(it)))),
        LogVariable::Query => target(1).and_then(text),
        LogVariable::Referer => text(&record.referer),
        LogVariable::RemoteAddr => text(line.client),
        LogVariable::Request => Some(Value::Text(request_line(line))),
        LogVariable::RequestId => text(&record.request_id),
        LogVariable::RequestUri => record.version.and_then(|_| text(&record.target)),
        LogVariable::Scheme if record.tcp.is_some() => known(Some("tcp")),
        LogVariable::Scheme => known(Some(if record.tls.is_some() { "https" } else { "http" })),
        LogVariable::Server => known(record.server.as_deref()),
        LogVariable::Status => Some(Value::Number(record.status().into())),
        LogVariable::Time => known(Some(&line.stamp.iso)),
        LogVariable::TimeCommon => known(Some(&line.stamp.common)),
        LogVariable::Tls => known(record.tls),
        LogVariable::TraceId => text(&record.trace),
        LogVariable::Tries => Some(Value::Number(record.tries.into())),
        LogVariable::UserAgent => text(&record.user_agent),
        LogVariable::Why => known(record.why.as_deref()),
    }
}

/// As rules see it.
fn lower_host(host: &[u8]) -> Cow<'_, [u8]> {
    match str::from_utf8(host) {
        Ok(text) => match host::name(text) {
            Cow::Borrowed(name) => Cow::Borrowed(name.as_bytes()),
            Cow::Owned(name) => Cow::Owned(name.into_bytes()),
        },
        Err(_) => Cow::Borrowed(host),
    }
}

fn protocol(version: &str) -> Cow<'static, [u8]> {
    [b"HTTP/", version.as_bytes()].concat().into()
}

/// What could be read of it.
fn request_line<'a>(line: &Line<'a>) -> Cow<'a, [u8]> {
    let record = line.record;
    if let Some(tcp) = &record.tcp {
        let mut text = Vec::new();
        put_connection(&mut text, tcp, &record.host);
        return text.into();
    }
    match record.version {
        None => Cow::Borrowed(&record.target),
        Some(version) => {
            let parts = [record.method.as_str().as_bytes(), &record.target, &protocol(name(version))];
            parts.join(&b' ').into()
        }
    }
}
