//! A request's head, on its way to a server.

use super::{is_nominated, nominations, put_field, put_number};
use crate::{
    http1::{Length, Name, RequestHead, Version},
    observe::trace_context::TraceParent,
    route::rules::Edit,
    transport::tls::{TlsConnection, is_client_certificate_field},
};
use common::{
    config::HeaderEditKind,
    hub_age::{AgeText, HUB_AGE},
    session_id::SESSION_URL,
};
use traces::RECORDED;

/// What the proxy knows of a request's client.
#[derive(Debug)]
pub(crate) struct Via<'a> {
    /// `X-Forwarded-For` and `X-Real-IP`.
    pub(crate) address: &'a [u8],
    /// `X-Forwarded-Port`.
    pub(crate) port: u16,
    /// `X-Forwarded-Proto`.
    pub(crate) scheme: &'a [u8],
    /// `X-Forwarded-Host`, if it is not the request's `Host`.
    pub(crate) host: Option<&'a [u8]>,
    /// `X-Request-Id`.
    pub(crate) request_id: &'a [u8],
    /// `copal-session-url`, if the rule takes sessions in URLs.
    pub(crate) session_url: Option<&'a str>,
    /// `copal-hub-age`.
    pub(crate) hub_age: Option<AgeText>,
    /// The client's TLS.
    pub(crate) tls: Option<&'a TlsConnection>,
    /// The trace that it is a part of.
    pub(crate) trace: Trace<'a>,
}

/// What becomes of a request's `traceparent` and `tracestate`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trace<'a> {
    /// They are the client's.
    Theirs,
    /// A new trace, in place of what the client sent.
    New(&'a TraceParent),
    /// This server's own span. `goes_on`: in the client's trace, whose `tracestate` stays; `ours`: to a server that is told that it is recorded.
    Span { parent: &'a TraceParent, goes_on: bool, ours: bool },
}

impl Trace<'_> {
    fn is_new(self) -> bool {
        matches!(self, Self::New(_) | Self::Span { goes_on: false, .. })
    }
}

/// Appends the head as the server is to see it; what is not for the server is gone from `head` afterwards.
pub(crate) fn put_request(out: &mut Vec<u8>, head: &mut RequestHead, via: &Via<'_>, edits: &[Edit<'_>]) {
    let trailers = head.fields.all(Name::Te).any(asks_for_trailers);
    let upgrade = upgrade(head).map(<[u8]>::to_vec);
    // A 101 is only taken for an answer to what was asked.
    head.connection.upgrade = upgrade.is_some();
    remove_hop_by_hop(head, via.trace);
    let host = head.fields.first(Name::Host).filter(|_| !edits.is_empty()).map(<[u8]>::to_vec);
    edit_request(head, edits);
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    head.fields.put(out);
    match head.length {
        Length::Exact(length) => put_number(out, b"content-length", length),
        Length::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        // A method with a meaning for a body says that there is none (RFC 9110 §8.6).
        Length::Empty if matches!(head.method.as_str(), "POST" | "PUT" | "PATCH") => {
            out.extend_from_slice(b"content-length: 0\r\n");
        }
        Length::Empty | Length::UntilClose => {}
    }
    if trailers {
        out.extend_from_slice(b"te: trailers\r\n");
    }
    out.extend_from_slice(via_line(head.version));
    if let Some(host) = via.host.or(host.as_deref()).or(head.fields.first(Name::Host)) {
        put_field(out, b"x-forwarded-host", host);
    }
    put_field(out, b"x-forwarded-for", via.address);
    put_field(out, b"x-forwarded-proto", via.scheme);
    put_number(out, b"x-forwarded-port", via.port.into());
    put_field(out, b"x-real-ip", via.address);
    put_field(out, b"x-request-id", via.request_id);
    if let Trace::New(parent) | Trace::Span { parent, .. } = via.trace {
        put_field(out, b"traceparent", parent.as_bytes());
    }
    if let Trace::Span { ours: true, .. } = via.trace {
        put_field(out, RECORDED.as_bytes(), b"1");
    }
    if let Some(age) = &via.hub_age {
        put_field(out, HUB_AGE.as_bytes(), age.as_bytes());
    }
    if let Some(session) = via.session_url {
        put_field(out, SESSION_URL.as_bytes(), session.as_bytes());
    }
    for (name, value) in via.tls.iter().flat_map(|tls| tls.client_fields()) {
        put_field(out, name.as_bytes(), value.as_bytes());
    }
    // What is for this connection alone is named (RFC 9110 §7.6.1), `TE` too (§10.1.4).
    match (&upgrade, trailers) {
        (Some(_), true) => out.extend_from_slice(b"connection: upgrade, te\r\n"),
        (Some(_), false) => out.extend_from_slice(b"connection: upgrade\r\n"),
        (None, true) => out.extend_from_slice(b"connection: te\r\n"),
        (None, false) => {}
    }
    if let Some(protocol) = upgrade {
        put_field(out, b"upgrade", &protocol);
    }
    out.extend_from_slice(b"\r\n");
}

/// Says by which version of HTTP the request has come (RFC 9110 §7.6.3).
fn via_line(version: Version) -> &'static [u8] {
    match version {
        Version::Http10 => b"via: 1.0 copal\r\n",
        Version::Http11 => b"via: 1.1 copal\r\n",
        Version::Http2 => b"via: 2.0 copal\r\n",
        Version::Http3 => b"via: 3.0 copal\r\n",
    }
}

/// The protocol that the client asks to change to, unless it is one that only this connection could (RFC 9113 §3.1: cleartext
/// HTTP/2 through an upgrade is how requests are hidden from a proxy).
fn upgrade(head: &RequestHead) -> Option<&[u8]> {
    if !head.connection.upgrade || head.version == Version::Http10 {
        return None;
    }
    let mut lines = head.fields.all(Name::Upgrade);
    let protocol = lines.next()?;
    let plain = |token: &[u8]| !token.trim_ascii().to_ascii_lowercase().starts_with(b"h2");
    let alone = lines.next().is_none() && protocol.split(|byte| *byte == b',').all(plain);
    alone.then_some(protocol)
}

/// Hop-by-hop fields (RFC 9110 §7.6.1), and those that only a proxy of ours may set.
fn remove_hop_by_hop(head: &mut RequestHead, trace: Trace<'_>) {
    let named = if head.connection.nominates { nominations(&head.fields) } else { Vec::new() };
    head.fields.remove_if(|field| match field.known {
        Name::Connection
        | Name::ContentLength
        | Name::Forwarded
        | Name::HopByHop
        | Name::Internal
        | Name::RequestId
        | Name::Te
        | Name::TransferEncoding
        | Name::Upgrade => true,
        Name::TraceParent => !matches!(trace, Trace::Theirs),
        Name::TraceState => trace.is_new(),
        Name::Cookie | Name::Date | Name::Expect | Name::Host | Name::Trailer | Name::Via | Name::Other => {
            is_client_certificate_field(field.name) || (!named.is_empty() && is_nominated(&named, field.name))
        }
    });
}

/// Takes away what `Connection` names before fields are added that the client has no say in: they would go with it.
pub(crate) fn remove_nominated(head: &mut RequestHead) {
    if !std::mem::take(&mut head.connection.nominates) {
        return;
    }
    let named = nominations(&head.fields);
    head.fields.remove_if(|field| {
        matches!(
            field.known,
            Name::Cookie
                | Name::Date
                | Name::Expect
                | Name::Trailer
                | Name::Via
                | Name::Other
                | Name::TraceParent
                | Name::TraceState
        ) && is_nominated(&named, field.name)
    });
}

/// Changes the request as the rules on its way say. The client's own `Host` is still told, in `X-Forwarded-Host`.
fn edit_request(head: &mut RequestHead, edits: &[Edit<'_>]) {
    for edit in edits.iter().filter(|edit| edit.kind() == HeaderEditKind::SetOnRequest) {
        let name = edit.name().as_bytes();
        // Every request has a `Host`, if an empty one.
        if name == b"host" && edit.value.is_empty() {
            continue;
        }
        // A server may read the client's `X_User` for the `X-User` that the rule vouches for.
        head.fields.remove_if(|field| Name::is_alike(field.name, name));
        if !edit.value.is_empty() {
            head.fields.push(Name::of(name), name, edit.value.as_bytes());
        }
    }
}

fn asks_for_trailers(line: &[u8]) -> bool {
    line.split(|byte| *byte == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}
