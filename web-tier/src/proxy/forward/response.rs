//! An answer's head, on its way to the client.

use super::{is_nominated, nominations, put_field, put_number};
use crate::http1::{Name, ResponseHead};
use http::HeaderValue;

/// Set by an app-tier on a 503 when the app has not seen the request: it can be sent to another server.
pub(crate) const NOT_PROCESSED: &str = "copal-not-processed";

/// Its value when the app tier's machine is short of something: neither the server nor its app is to blame.
pub(crate) const SHORT: &[u8] = b"short";

/// Its value when an administrator has stopped the app, on all servers: this one is well, and another would say the same.
pub(crate) const STOPPED: &[u8] = b"stopped";

/// How the client learns where the answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is no body, whatever the head says.
    None,
    /// By `Content-Length`.
    Exact(u64),
    /// In chunks.
    Chunked,
    /// When the connection closes: an answer of unknown length to an HTTP/1.0 client.
    Close,
}

/// What of an answer's head depends on the client's connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ToClient<'a> {
    pub(crate) framing: Framing,
    /// The answer is our own: it came by nobody.
    pub(crate) local: bool,
    /// The connection closes after this answer.
    pub(crate) close: bool,
    /// The client speaks HTTP/1.0 and is told that the connection stays open.
    pub(crate) keep_alive: bool,
    /// What is said of HTTP/3, if anything (`Alt-Svc`, RFC 7838).
    pub(crate) alt_svc: Option<&'a HeaderValue>,
    /// The time now, for a server that has no clock (RFC 9110 §6.6.1).
    pub(crate) date: &'a [u8],
}

/// Appends the head as the client is to see it.
pub(crate) fn put_response(out: &mut Vec<u8>, head: &mut ResponseHead, to: ToClient<'_>) {
    prepare_response(head);
    if to.alt_svc.is_some() {
        // What a server says of itself is of no use to who came by us.
        head.fields.remove_if(|field| field.name.eq_ignore_ascii_case(b"alt-svc"));
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(head.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.reason.as_bytes());
    out.extend_from_slice(b"\r\n");
    head.fields.put(out);
    match to.framing {
        Framing::Exact(length) => put_number(out, b"content-length", length),
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        // To HEAD, and with 304, it says what GET would bring.
        Framing::None => {
            if let Some(length) = head.content_length() {
                put_number(out, b"content-length", length);
            }
        }
        Framing::Close => {}
    }
    if !head.status.is_informational() && head.fields.first(Name::Date).is_none() {
        put_field(out, b"date", to.date);
    }
    if let Some(alt_svc) = to.alt_svc.filter(|_| !head.status.is_informational()) {
        put_field(out, b"alt-svc", alt_svc.as_bytes());
    }
    if !to.local {
        out.extend_from_slice(b"via: 1.1 copal\r\n");
    }
    if to.close {
        out.extend_from_slice(b"connection: close\r\n");
    } else if to.keep_alive {
        out.extend_from_slice(b"connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Hop-by-hop fields go, and what is for the proxy alone.
pub(crate) fn prepare_response(head: &mut ResponseHead) {
    let named = if head.connection.nominates { nominations(&head.fields) } else { Vec::new() };
    // A change of protocols is between the ends: its words pass.
    let switching = head.status == http::StatusCode::SWITCHING_PROTOCOLS;
    head.fields.remove_if(|field| match field.known {
        Name::Upgrade | Name::Connection => !switching,
        Name::ContentLength | Name::HopByHop | Name::Internal | Name::Te | Name::TransferEncoding => true,
        Name::Cookie
        | Name::Date
        | Name::Expect
        | Name::Forwarded
        | Name::Host
        | Name::RequestId
        | Name::Trailer
        | Name::Via
        | Name::TraceParent
        | Name::TraceState
        | Name::Other => !named.is_empty() && is_nominated(&named, field.name),
    });
}
