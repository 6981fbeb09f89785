//! The lines: `common` and `combined` as Apache and nginx write them, `json` with all that is known, formats of one's own.

use super::{
    escape::{put_json, put_quoted},
    own_format,
    record::{Record, TcpRecord},
    stamp::Stamp,
};
use crate::http1::Version;
use common::config::AccessLogFormat;
use std::time::Instant;

/// What a line is made of.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) stamp: &'a Stamp,
    /// The client's address.
    pub(super) client: &'a [u8],
    pub(super) record: &'a Record,
    pub(super) now: Instant,
}

impl<'a> Line<'a> {
    /// Of a request that came from the address `peer`.
    pub(super) fn new(stamp: &'a Stamp, peer: &'a str, record: &'a Record, now: Instant) -> Self {
        let client = if record.client.is_empty() { peer.as_bytes() } else { &record.client };
        Self { stamp, client, record, now }
    }

    /// From the end of the request's head to `to`.
    pub(super) fn micros(&self, to: Instant) -> u64 {
        let since = self.record.started.unwrap_or(to);
        u64::try_from(to.saturating_duration_since(since).as_micros()).unwrap_or(u64::MAX)
    }
}

/// Appends a request's line.
pub(super) fn put(out: &mut Vec<u8>, format: &AccessLogFormat, line: &Line<'_>) {
    match format {
        AccessLogFormat::Common => put_common(out, line),
        AccessLogFormat::Combined => {
            put_common(out, line);
            for text in [&line.record.referer, &line.record.user_agent] {
                out.extend_from_slice(b" \"");
                put_or_dash(out, text);
                out.push(b'"');
            }
        }
        AccessLogFormat::Json => {
            put_object(out, line);
            out.push(b'}');
        }
        AccessLogFormat::Own(format) => own_format::put(out, format, line),
    }
    out.push(b'\n');
}

/// Appends the line of a request that failed, and how many of them were left out before it.
pub(super) fn put_error(out: &mut Vec<u8>, line: &Line<'_>, left_out: u64) {
    put_object(out, line);
    if left_out > 0 {
        put_key(out, "left-out", left_out);
    }
    out.extend_from_slice(b"}\n");
}

fn put_common(out: &mut Vec<u8>, &Line { stamp, client, record, .. }: &Line<'_>) {
    out.extend_from_slice(client);
    out.extend_from_slice(b" - - [");
    out.extend_from_slice(stamp.common.as_bytes());
    out.extend_from_slice(b"] \"");
    if let Some(tcp) = &record.tcp {
        put_connection(out, tcp, &record.host);
    } else if let Some(version) = record.version {
        out.extend_from_slice(record.method.as_str().as_bytes());
        out.push(b' ');
        put_quoted(out, &record.target);
        out.extend_from_slice(b" HTTP/");
        out.extend_from_slice(name(version).as_bytes());
    } else {
        put_or_dash(out, &record.target);
    }
    out.extend_from_slice(b"\" ");
    put_number(out, record.status().into());
    out.push(b' ');
    put_number(out, record.body_sent());
}

/// In the place of a request line.
pub(super) fn put_connection(out: &mut Vec<u8>, tcp: &TcpRecord, name: &[u8]) {
    out.extend_from_slice(b"TCP ");
    out.extend_from_slice(tcp.listener.as_bytes());
    out.push(b' ');
    put_or_dash(out, name);
}

fn put_or_dash(out: &mut Vec<u8>, text: &[u8]) {
    if text.is_empty() { out.push(b'-') } else { put_quoted(out, text) }
}

/// Without its closing brace. What is not known is left out.
fn put_object(out: &mut Vec<u8>, line: &Line<'_>) {
    let Line { stamp, client, record, now } = *line;
    out.extend_from_slice(b"{\"time\":\"");
    out.extend_from_slice(stamp.iso.as_bytes());
    out.push(b'"');
    put_text(out, "client", client);
    if let Some(tcp) = &record.tcp {
        put_text(out, "listener", tcp.listener.as_bytes());
        put_key(out, "received", tcp.received);
    } else if let Some(version) = record.version {
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
    put_key(out, "status", record.status().into());
    put_key(out, "bytes", record.body_sent());
    put_key(out, "duration-us", line.micros(now));
    if let Some(answered) = record.answered {
        put_key(out, "answer-us", line.micros(answered));
    }
    put_text(out, "end", record.end.word().as_bytes());
    if let Some(why) = &record.why {
        put_text(out, "why", why.as_bytes());
    }
    if let Some(server) = &record.server {
        put_text(out, "server", server.as_bytes());
    }
    put_key(out, "tries", record.tries.into());
    put_text(out, "request-id", &record.request_id);
    put_text(out, "trace-id", &record.trace);
    put_text(out, "referer", &record.referer);
    put_text(out, "user-agent", &record.user_agent);
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

pub(super) fn put_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// The number of a version.
pub(super) fn name(version: Version) -> &'static str {
    match version {
        Version::Http10 => "1.0",
        Version::Http11 => "1.1",
        Version::Http2 => "2.0",
        Version::Http3 => "3.0",
    }
}
