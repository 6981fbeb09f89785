//! The lines: `common` and `combined` as Apache and nginx write them, `json` with all that is known.

use super::{
    escape::{put_json, put_quoted},
    record::Record,
    stamp::Stamp,
};
use crate::http1::Version;
use common::config::AccessLogFormat;
use std::time::Instant;

/// No answer was sent: the client went away, mostly (nginx's 499).
const NO_ANSWER: u16 = 499;

/// Appends a request's line.
pub(super) fn put(
    out: &mut Vec<u8>,
    format: AccessLogFormat,
    stamp: &Stamp,
    client: &str,
    record: &Record,
    now: Instant,
) {
    let client = if record.client.is_empty() { client.as_bytes() } else { &record.client };
    match format {
        AccessLogFormat::Common => put_common(out, stamp, client, record),
        AccessLogFormat::Combined => {
            put_common(out, stamp, client, record);
            for text in [&record.referer, &record.user_agent] {
                out.extend_from_slice(b" \"");
                put_or_dash(out, text);
                out.push(b'"');
            }
        }
        AccessLogFormat::Json => put_object(out, stamp, client, record, now),
    }
    out.push(b'\n');
}

fn put_common(out: &mut Vec<u8>, stamp: &Stamp, client: &[u8], record: &Record) {
    out.extend_from_slice(client);
    out.extend_from_slice(b" - - [");
    out.extend_from_slice(stamp.common.as_bytes());
    out.extend_from_slice(b"] \"");
    if let Some(version) = record.version {
        out.extend_from_slice(record.method.as_str().as_bytes());
        out.push(b' ');
        put_quoted(out, &record.target);
        out.extend_from_slice(b" HTTP/");
        out.extend_from_slice(name(version).as_bytes());
    } else {
        put_or_dash(out, &record.target);
    }
    out.extend_from_slice(b"\" ");
    put_number(out, status(record).into());
    out.push(b' ');
    put_number(out, record.body_sent());
}

fn put_or_dash(out: &mut Vec<u8>, text: &[u8]) {
    if text.is_empty() { out.push(b'-') } else { put_quoted(out, text) }
}

/// What is not known is left out.
fn put_object(out: &mut Vec<u8>, stamp: &Stamp, client: &[u8], record: &Record, now: Instant) {
    out.extend_from_slice(b"{\"time\":\"");
    out.extend_from_slice(stamp.iso.as_bytes());
    out.push(b'"');
    put_text(out, "client", client);
    if let Some(version) = record.version {
        put_text(out, "method", record.method.as_str().as_bytes());
        put_text(out, "target", &record.target);
        put_text(out, "version", name(version).as_bytes());
    } else {
        put_text(out, "unread", &record.target);
    }
    put_text(out, "host", &record.host);
    if let Some(version) = record.tls {
        put_text(out, "tls", version.as_bytes());
    }
    put_key(out, "status", status(record).into());
    put_key(out, "bytes", record.body_sent());
    let micros = |to: Instant| {
        let since = record.started.unwrap_or(to);
        u64::try_from(to.saturating_duration_since(since).as_micros()).unwrap_or(u64::MAX)
    };
    put_key(out, "duration-us", micros(now));
    if let Some(answered) = record.answered {
        put_key(out, "answer-us", micros(answered));
    }
    put_text(out, "end", record.end.word().as_bytes());
    if let Some(server) = &record.server {
        put_text(out, "server", server.as_bytes());
    }
    put_key(out, "tries", record.tries.into());
    put_text(out, "request-id", &record.request_id);
    put_text(out, "trace-id", &record.trace);
    put_text(out, "referer", &record.referer);
    put_text(out, "user-agent", &record.user_agent);
    out.push(b'}');
}

fn put_text(out: &mut Vec<u8>, key: &str, text: &[u8]) {
    if text.is_empty() {
        return;
    }
    put_name(out, key);
    out.push(b'"');
    put_json(out, text);
    out.push(b'"');
}

fn put_key(out: &mut Vec<u8>, key: &str, number: u64) {
    put_name(out, key);
    put_number(out, number);
}

fn put_name(out: &mut Vec<u8>, key: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

fn put_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn status(record: &Record) -> u16 {
    record.status.map_or(NO_ANSWER, |status| status.as_u16())
}

fn name(version: Version) -> &'static str {
    match version {
        Version::Http10 => "1.0",
        Version::Http11 => "1.1",
        Version::Http2 => "2.0",
    }
}
